//! Streams to ports inside the guest.
//!
//! ```text
//! connect ──► connecting (127.0.0.1, then ::1, then the interface's addresses) ──► open ──► both sides ended
//!                  └── nobody listens: the request fails, the stream is reset       └── reset by either side
//! ```

use mvm_wire::{Connection, Direction, Failure, FailureKind, Reply, ResetReason, StreamId, Transport};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{set_tcp_nodelay, socket_error};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, connect, recv, send, shutdown,
    socket_with,
};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};

/// Streams at one time; processes need some too.
const MAX_FORWARDS: usize = 200;
/// Bytes moved from one socket before the others get their turn.
const CHUNK: usize = 64 * 1024;
/// Longest datagram, with its length before it.
const MAX_DATAGRAM: usize = 2 + 65_535;

/// What came of a request.
pub(super) type Answer = (u64, Result<Reply, Failure>);

/// All streams to ports.
#[derive(Debug, Default)]
pub(super) struct Forwards {
    forwards: Vec<Forward>,
    /// The addresses of the guest's interfaces.
    own: Vec<IpAddr>,
    answers: Vec<Answer>,
}

#[derive(Debug)]
struct Forward {
    stream: StreamId,
    transport: Transport,
    state: State,
    /// From the host, not written yet. The stream's window bounds it; for datagrams, the longest one.
    to_socket: VecDeque<u8>,
    /// A datagram on its way to the host, its length before it.
    to_host: VecDeque<u8>,
    host_ended: bool,
    /// The host's end was passed on.
    shut: bool,
    socket_ended: bool,
}

#[derive(Debug)]
enum State {
    /// Waits for an answer of the one that is connected to, with further addresses to try.
    Connecting {
        socket: OwnedFd,
        request: u64,
        rest: Vec<SocketAddr>,
    },
    Open(OwnedFd),
}

impl Forward {
    fn socket(&self) -> &OwnedFd {
        match &self.state {
            State::Connecting { socket, .. } | State::Open(socket) => socket,
        }
    }

    fn interest(&self, wire: &Connection) -> PollFlags {
        let mut flags = PollFlags::empty();
        if matches!(self.state, State::Connecting { .. }) {
            return PollFlags::OUT;
        }
        let room = match self.transport {
            Transport::Tcp => wire.sendable(self.stream) > 0,
            Transport::Udp => self.to_host.is_empty(),
        };
        flags.set(PollFlags::IN, !self.socket_ended && room);
        flags.set(PollFlags::OUT, !self.to_socket.is_empty());
        flags
    }

    /// Says whether there is something to do that no socket tells of.
    fn is_due(&self, wire: &Connection) -> bool {
        let ends = self.host_ended && self.to_socket.is_empty() && !self.shut;
        ends || (!self.to_host.is_empty() && wire.sendable(self.stream) > 0)
    }
}

impl Forwards {
    /// Makes a set for a guest whose interfaces have these addresses.
    pub(super) fn new(own: Vec<IpAddr>) -> Self {
        Self { own, ..Self::default() }
    }

    /// Begins to connect a stream to a port; the answer comes when that is done.
    pub(super) fn connect(
        &mut self,
        wire: &mut Connection,
        request: u64,
        (port, transport, stream): (u16, Transport, StreamId),
    ) {
        if let Err(failure) = self.begin(wire, request, (port, transport, stream)) {
            self.answers.push((request, Err(failure)));
        }
    }

    fn begin(
        &mut self,
        wire: &mut Connection,
        request: u64,
        (port, transport, stream): (u16, Transport, StreamId),
    ) -> Result<(), Failure> {
        let invalid = |message| Failure { kind: FailureKind::Invalid, message };
        wire.accept(stream, Direction::Both).map_err(|error| invalid(error.to_string()))?;
        let failed = |wire: &mut Connection, failure| {
            wire.reset(stream, ResetReason::Refused);
            Err(failure)
        };
        if port == 0 {
            return failed(wire, invalid("port is 0, expected 1 to 65535".to_owned()));
        }
        if self.forwards.len() >= MAX_FORWARDS {
            let message = format!("{MAX_FORWARDS} ports are connected to, which is the limit");
            return failed(wire, Failure { kind: FailureKind::Limit, message });
        }
        let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
        let mut rest: Vec<SocketAddr> =
            loopback.iter().chain(&self.own).rev().map(|address| SocketAddr::new(*address, port)).collect();
        if transport == Transport::Udp {
            // Nobody answers, so that there is no telling which address is served.
            rest.drain(..rest.len() - 1);
        }
        let (state, answer) = match attempt(transport, rest, request) {
            Ok(state) => state,
            Err(error) => return failed(wire, refused(port, error)),
        };
        if answer {
            self.answers.push((request, Ok(Reply::Done {})));
        }
        self.forwards.push(Forward {
            stream,
            transport,
            state,
            to_socket: VecDeque::new(),
            to_host: VecDeque::new(),
            host_ended: false,
            shut: false,
            socket_ended: false,
        });
        Ok(())
    }

    /// Takes the answers to requests that are done.
    pub(super) fn take_answers(&mut self) -> Vec<Answer> {
        std::mem::take(&mut self.answers)
    }

    /// Adds what the streams wait for.
    pub(super) fn add_interests<'a>(&'a self, wire: &Connection, fds: &mut Vec<PollFd<'a>>) {
        for forward in &self.forwards {
            let flags = forward.interest(wire);
            if !flags.is_empty() {
                fds.push(PollFd::from_borrowed_fd(forward.socket().as_fd(), flags));
            }
        }
    }

    /// Says whether the stream is one of these.
    pub(super) fn has(&self, stream: StreamId) -> bool {
        self.forwards.iter().any(|forward| forward.stream == stream)
    }

    /// Takes data from the host.
    pub(super) fn take_data(&mut self, wire: &mut Connection, stream: StreamId, bytes: &[u8]) {
        let Some(forward) = self.forwards.iter_mut().find(|forward| forward.stream == stream) else { return };
        forward.to_socket.extend(bytes);
        if forward.transport == Transport::Udp {
            wire.consumed(stream, bytes.len());
            forward.send_datagrams();
        }
    }

    /// Takes the end of what the host sends.
    pub(super) fn take_eof(&mut self, stream: StreamId) {
        if let Some(forward) = self.forwards.iter_mut().find(|forward| forward.stream == stream) {
            forward.host_ended = true;
        }
    }

    /// Takes the host's giving up of a stream: whoever is connected gets a reset too.
    pub(super) fn take_reset(&mut self, stream: StreamId) {
        if let Some(index) = self.forwards.iter().position(|forward| forward.stream == stream) {
            let forward = self.forwards.swap_remove(index);
            abort(forward.socket());
        }
    }

    /// Moves what can be moved, a chunk of each; returns whether something went to the host.
    pub(super) fn pump(&mut self, wire: &mut Connection) -> bool {
        if self.forwards.is_empty() {
            return false;
        }
        let mut fds: Vec<PollFd<'_>> = self
            .forwards
            .iter()
            .map(|forward| PollFd::from_borrowed_fd(forward.socket().as_fd(), forward.interest(wire)))
            .collect();
        // What could not be asked is found out by trying.
        let asked = poll(&mut fds, Some(&Timespec::default())).is_ok();
        let ready: Vec<bool> = fds.iter().map(|fd| !asked || !fd.revents().is_empty()).collect();
        let mut moved = false;
        let mut ready = ready.into_iter();
        let answers = &mut self.answers;
        self.forwards.retain_mut(|forward| {
            let ready = ready.next().unwrap_or(true);
            if !ready && !forward.is_due(wire) {
                return true;
            }
            match forward.pump(wire, answers) {
                Ok(some) => {
                    moved |= some;
                    !(forward.shut && forward.socket_ended)
                }
                Err(reason) => {
                    wire.reset(forward.stream, reason);
                    false
                }
            }
        });
        moved
    }
}

impl Forward {
    /// Moves what can be moved; returns whether something went to the host, or why the stream is to be given up.
    fn pump(&mut self, wire: &mut Connection, answers: &mut Vec<Answer>) -> Result<bool, ResetReason> {
        if let State::Connecting { .. } = self.state {
            return self.go_on_connecting(answers).map(|()| false);
        }
        match self.transport {
            Transport::Tcp => {
                self.write(wire)?;
                self.read(wire)
            }
            Transport::Udp => Ok(self.pump_datagrams(wire)),
        }
    }

    fn go_on_connecting(&mut self, answers: &mut Vec<Answer>) -> Result<(), ResetReason> {
        let State::Connecting { socket, request, rest } = &mut self.state else { return Ok(()) };
        let request = *request;
        let error = match socket_error(&*socket) {
            Ok(Ok(())) => None,
            Ok(Err(error)) | Err(error) => Some(error),
        };
        let next = match error {
            None => {
                let flags = PollFlags::OUT;
                let mut fds = [PollFd::new(&*socket, flags)];
                // Woken for nothing, it is not connected yet.
                if !matches!(poll(&mut fds, Some(&Timespec::default())), Ok(1)) {
                    return Ok(());
                }
                answers.push((request, Ok(Reply::Done {})));
                let Ok(socket) = socket.try_clone() else { return Err(ResetReason::Refused) };
                State::Open(socket)
            }
            Some(error) => match attempt(self.transport, std::mem::take(rest), request) {
                Ok((state, connected)) => {
                    if connected {
                        answers.push((request, Ok(Reply::Done {})));
                    }
                    state
                }
                Err(_) => {
                    answers.push((request, Err(refused(0, error))));
                    return Err(ResetReason::Refused);
                }
            },
        };
        self.state = next;
        Ok(())
    }

    /// Writes what came from the host, and its end.
    fn write(&mut self, wire: &mut Connection) -> Result<(), ResetReason> {
        while !self.to_socket.is_empty() {
            let (front, _) = self.to_socket.as_slices();
            match send(self.socket(), front, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(count) => {
                    self.to_socket.drain(..count);
                    wire.consumed(self.stream, count);
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(_) => return Err(ResetReason::Closed),
            }
        }
        if self.host_ended && !self.shut {
            self.shut = true;
            // One that has ended by itself needs no telling.
            if !matches!(shutdown(self.socket(), Shutdown::Write), Ok(()) | Err(Errno::NOTCONN)) {
                return Err(ResetReason::Closed);
            }
        }
        Ok(())
    }

    /// Reads what goes to the host, and its end.
    fn read(&mut self, wire: &mut Connection) -> Result<bool, ResetReason> {
        let limit = wire.sendable(self.stream).min(CHUNK);
        if limit == 0 || self.socket_ended {
            return Ok(false);
        }
        let mut buffer = [0; CHUNK];
        match recv(self.socket(), &mut buffer[..limit], RecvFlags::DONTWAIT) {
            Ok((0, _)) => {
                self.socket_ended = true;
                wire.send_eof(self.stream);
                Ok(false)
            }
            Ok((count, _)) => {
                wire.send_data(self.stream, &buffer[..count]);
                Ok(true)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            Err(_) => Err(ResetReason::Closed),
        }
    }

    /// Sends the datagrams that are there as a whole. What the socket does not take is lost, as datagrams are.
    fn send_datagrams(&mut self) {
        while let (Some(&high), Some(&low)) = (self.to_socket.front(), self.to_socket.get(1)) {
            let length = usize::from(u16::from_be_bytes([high, low]));
            if self.to_socket.len() < 2 + length {
                return;
            }
            let datagram: Vec<u8> = self.to_socket.drain(..2 + length).skip(2).collect();
            send(self.socket(), &datagram, SendFlags::NOSIGNAL | SendFlags::DONTWAIT).ok();
        }
    }

    fn pump_datagrams(&mut self, wire: &mut Connection) -> bool {
        if self.host_ended {
            // Whatever was sent before has gone, and no answer is waited for.
            wire.send_eof(self.stream);
            (self.shut, self.socket_ended) = (true, true);
            return true;
        }
        if self.to_host.is_empty() {
            let mut buffer = vec![0; MAX_DATAGRAM];
            // An error tells that nobody served the port when the last one came; somebody may later.
            if let Ok((count, _)) = recv(self.socket(), &mut buffer[2..], RecvFlags::DONTWAIT) {
                let length = u16::try_from(count).unwrap_or(u16::MAX);
                buffer[..2].copy_from_slice(&length.to_be_bytes());
                buffer.truncate(2 + usize::from(length));
                self.to_host = buffer.into();
            }
        }
        let count = wire.send_data(self.stream, self.to_host.make_contiguous());
        self.to_host.drain(..count);
        count > 0
    }
}

/// Begins to connect to the last of the addresses that lets itself be connected to. Says whether that is done already.
fn attempt(transport: Transport, mut rest: Vec<SocketAddr>, request: u64) -> Result<(State, bool), Errno> {
    let mut last = Errno::CONNREFUSED;
    while let Some(address) = rest.pop() {
        match begin_to(transport, address) {
            Ok((socket, true)) => return Ok((State::Open(socket), true)),
            Ok((socket, false)) => return Ok((State::Connecting { socket, request, rest }, false)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Begins to connect to an address; says whether that is done already.
fn begin_to(transport: Transport, address: SocketAddr) -> Result<(OwnedFd, bool), Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = match transport {
        Transport::Tcp => SocketType::STREAM,
        Transport::Udp => SocketType::DGRAM,
    };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    if transport == Transport::Tcp {
        set_tcp_nodelay(&socket, true)?;
    }
    match connect(&socket, &address) {
        Ok(()) => Ok((socket, true)),
        Err(Errno::INPROGRESS) => Ok((socket, false)),
        Err(error) => Err(error),
    }
}

fn refused(port: u16, error: Errno) -> Failure {
    let error = std::io::Error::from(error);
    let message = match port {
        0 => format!("nobody answers at the port: {error}"),
        port => format!("nobody answers at port {port}: {error}"),
    };
    Failure { kind: FailureKind::NotFound, message }
}

/// Has the one at the other end of a connection see that it broke, when the socket is closed.
fn abort(socket: &OwnedFd) {
    // A socket that takes no such setting ends in order, which is the next best.
    rustix::net::sockopt::set_socket_linger(socket, Some(std::time::Duration::ZERO)).ok();
}

#[cfg(test)]
#[path = "forwards_tests.rs"]
mod tests;
