//! Forwarded ports: what comes to a port of the host goes over the agent connection to a port inside the guest.
//!
//! ```text
//! TCP or UDP ── forwarder (a thread) ── control protocol ── supervisor ── agent ── 127.0.0.1:PORT
//! ```
//!
//! The guest needs no network for it. The ports are taken before the machine starts. The forwarder is one of the
//! supervisor's clients, with a connection of its own, so that windows bound what a guest or a peer can have it hold.

mod datagrams;
mod stream;

use super::clients::Clients;
use super::hello;
use crate::link::Link;
use datagrams::Datagrams;
use mvm_plan::plan::{Port, Protocol};
use mvm_wire::{
    Direction, Event, GuestEvent, Limits, Message, Request, ResetReason, Role, StreamId, Transport,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd as _, BorrowedFd};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};
use stream::{Flow, State};

/// Connections at one time; further ones wait until one of these ends.
const MAX_STREAMS: usize = 160;
/// Senders of datagrams at one time.
const MAX_SENDERS: usize = 32;
/// What is held back for the peers of connections, by the forwarder and as much by the supervisor. With what
/// [`super::GUEST_LIMITS`] allows it is 10 MiB in the worst case: a guest and its peers together may have it hold 16 MiB.
const LIMITS: Limits = Limits {
    streams: 256,
    window: 128 * 1024,
    windows: 1024 * 1024,
    window_floor: 8 * 1024,
    output: 256 * 1024,
    output_hard: 2 * 1024 * 1024,
};
/// How long peers may take to read the last words of a guest that has ended.
const LINGER: Duration = Duration::from_secs(2);

/// Says why a port can't be forwarded.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// Another program has the port.
    #[error("{protocol} port {address} is in use")]
    InUse {
        /// The host's address and port.
        address: SocketAddr,
        /// What was to be forwarded.
        protocol: Protocol,
    },
    /// The port can't be listened on.
    #[error("listen on {protocol} port {address}")]
    Listen {
        /// The host's address and port.
        address: SocketAddr,
        /// What was to be forwarded.
        protocol: Protocol,
        /// Why not.
        source: io::Error,
    },
    /// The forwarder can't be started.
    #[error("start the forwarding of ports")]
    Start(#[source] io::Error),
}

/// Ports of the host that are taken.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    ports: Vec<Port>,
    tcp: Vec<(TcpListener, u16)>,
    udp: Vec<(UdpSocket, u16)>,
}

impl Listeners {
    /// Takes all ports, or none.
    pub fn bind(ports: &[Port]) -> Result<Self, ForwardError> {
        let mut listeners = Self::default();
        for &port in ports {
            let address = SocketAddr::new(port.address, port.host);
            let bound = listeners.bind_one(address, port);
            let actual = bound.map_err(|source| match source.kind() {
                io::ErrorKind::AddrInUse => ForwardError::InUse { address, protocol: port.protocol },
                _ => ForwardError::Listen { address, protocol: port.protocol, source },
            })?;
            listeners.ports.push(Port { host: actual, ..port });
        }
        Ok(listeners)
    }

    fn bind_one(&mut self, address: SocketAddr, port: Port) -> io::Result<u16> {
        match port.protocol {
            Protocol::Tcp => {
                let listener = TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                let actual = listener.local_addr()?.port();
                self.tcp.push((listener, port.guest));
                Ok(actual)
            }
            Protocol::Udp => {
                let socket = UdpSocket::bind(address)?;
                socket.set_nonblocking(true)?;
                let actual = socket.local_addr()?.port();
                self.udp.push((socket, port.guest));
                Ok(actual)
            }
        }
    }

    /// Returns the ports, those that were to be any with their numbers.
    pub fn ports(&self) -> &[Port] {
        &self.ports
    }

    /// Starts to forward, as the first of a supervisor's clients. Does nothing where there are no ports.
    pub fn start(self) -> Result<(Clients, Forwarder), ForwardError> {
        let mut clients = Clients::default();
        if self.ports.is_empty() {
            return Ok((clients, Forwarder(None)));
        }
        let (theirs, socket) = UnixStream::pair().map_err(ForwardError::Start)?;
        clients.add(theirs, LIMITS).map_err(ForwardError::Start)?;
        let mut link = Link::with_limits(socket, Role::Host, LIMITS)
            .map_err(|error| ForwardError::Start(io::Error::other(error)))?;
        link.wire.send(&hello()).map_err(|error| ForwardError::Start(io::Error::other(error)))?;
        let worker = Worker::new(self, link);
        let thread = Builder::new().name("forwards".to_owned()).spawn(move || worker.run());
        Ok((clients, Forwarder(Some(thread.map_err(ForwardError::Start)?))))
    }
}

/// The thread that forwards. It ends with the guest.
#[derive(Debug, Default)]
pub(super) struct Forwarder(Option<JoinHandle<()>>);

impl Forwarder {
    /// Waits until the last words of the guest are passed on, which takes two seconds at most. The guest has ended.
    pub fn finish(self) {
        if let Some(thread) = self.0 {
            // One that panicked has ended too.
            drop(thread.join());
        }
    }
}

/// What became ready.
#[derive(Clone, Copy)]
enum Source {
    Link,
    Listener(usize),
    Datagrams(usize),
    Flow(StreamId),
}

struct Worker {
    link: Link,
    listeners: Vec<(TcpListener, u16)>,
    flows: BTreeMap<StreamId, Flow>,
    datagrams: Vec<Datagrams>,
    /// The streams that requests are about which are under way.
    requests: BTreeMap<u64, StreamId>,
    next_request: u64,
    /// The guest has ended; what is left is passed on until then.
    until: Option<Instant>,
}

impl Worker {
    fn new(listeners: Listeners, link: Link) -> Self {
        let datagrams =
            listeners.udp.into_iter().map(|(socket, port)| Datagrams::new(socket, port)).collect();
        Self {
            link,
            listeners: listeners.tcp,
            flows: BTreeMap::new(),
            datagrams,
            requests: BTreeMap::new(),
            next_request: 1,
            until: None,
        }
    }

    /// Forwards until the supervisor hangs up, or the guest has ended and nothing is left to pass on.
    fn run(mut self) {
        loop {
            if self.link.send().is_err() || self.over() {
                return;
            }
            let Ok(ready) = self.wait() else { return };
            for source in ready {
                match source {
                    Source::Link => {
                        if !self.hear() {
                            return;
                        }
                    }
                    Source::Listener(index) => self.accept(index),
                    Source::Datagrams(index) => self.take_datagrams(index),
                    Source::Flow(stream) => self.pump(stream),
                }
            }
            self.pump_waiting();
            for datagrams in &mut self.datagrams {
                datagrams.drop_silent(&mut self.link.wire, Instant::now());
            }
        }
    }

    fn over(&self) -> bool {
        self.link.closed()
            || self
                .until
                .is_some_and(|until| self.flows.values().all(Flow::is_passed_on) || Instant::now() >= until)
    }

    /// Says whether one more stream can be opened.
    fn has_room(&self) -> bool {
        self.until.is_none() && self.flows.len() < MAX_STREAMS
    }

    fn wait(&self) -> io::Result<Vec<Source>> {
        let mut flags = PollFlags::IN;
        flags.set(PollFlags::OUT, self.link.has_output());
        let mut watched: Vec<(Source, BorrowedFd<'_>, PollFlags)> =
            vec![(Source::Link, self.link.as_fd(), flags)];
        if self.has_room() {
            let listeners = self.listeners.iter().enumerate();
            watched.extend(
                listeners.map(|(index, (it, _))| (Source::Listener(index), it.as_fd(), PollFlags::IN)),
            );
        }
        if self.until.is_none() {
            let datagrams = self.datagrams.iter().enumerate();
            watched
                .extend(datagrams.map(|(index, it)| (Source::Datagrams(index), it.as_fd(), PollFlags::IN)));
        }
        for (&stream, flow) in &self.flows {
            if let Some(flags) = flow.interest(self.link.wire.sendable(stream)) {
                watched.push((Source::Flow(stream), flow.as_fd(), flags));
            }
        }
        let mut polled: Vec<PollFd<'_>> =
            watched.iter().map(|&(_, fd, flags)| PollFd::from_borrowed_fd(fd, flags)).collect();
        let silence = self.datagrams.iter().filter_map(Datagrams::next_silence).min();
        let timeout = [silence, self.until].into_iter().flatten().min().map(|at| {
            let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() }
        });
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = watched.iter().zip(&polled).filter(|(_, polled)| !polled.revents().is_empty());
        Ok(ready.map(|(&(source, ..), _)| source).collect())
    }

    /// Takes what the supervisor sent; says whether it is still there.
    fn hear(&mut self) -> bool {
        if !self.link.receive().unwrap_or(false) {
            return false;
        }
        while let Some(event) = self.link.wire.next_event() {
            match event {
                Event::Message(Message::Response { id, result }) => {
                    let Some(stream) = self.requests.remove(&id) else { continue };
                    if result.is_err() {
                        self.give_up(stream);
                    } else if let Some(flow) = self.flows.get_mut(&stream) {
                        flow.connected();
                    }
                }
                Event::Message(Message::Event { event: GuestEvent::Ended { .. } }) => {
                    self.until = Some(Instant::now() + LINGER);
                }
                Event::Data { stream, bytes } => self.take_data(stream, &bytes),
                Event::Eof { stream } => {
                    if let Some(flow) = self.flows.get_mut(&stream) {
                        flow.guest_ended();
                        self.pump(stream);
                    }
                }
                Event::Reset { stream, .. } => self.give_up(stream),
                Event::Message(_) | Event::Opened { .. } | Event::Credit { .. } => {}
            }
        }
        true
    }

    fn take_data(&mut self, stream: StreamId, bytes: &[u8]) {
        if let Some(flow) = self.flows.get_mut(&stream) {
            flow.take(bytes);
            self.pump(stream);
        } else {
            for datagrams in &mut self.datagrams {
                datagrams.take(stream, bytes);
            }
            self.link.wire.consumed(stream, bytes.len());
        }
    }

    /// Ends a connection whose stream is gone, or is not to be.
    fn give_up(&mut self, stream: StreamId) {
        if let Some(flow) = self.flows.remove(&stream) {
            flow.abort();
        }
        for datagrams in &mut self.datagrams {
            datagrams.forget(stream);
        }
        self.link.wire.reset(stream, ResetReason::Closed);
    }

    fn accept(&mut self, index: usize) {
        while self.has_room() {
            // Errors are those of a peer that has gone already, or pass; a full table of descriptors is waited out.
            let Ok((socket, _)) = self.listeners[index].0.accept() else { return };
            let Ok(flow) = Flow::new(socket) else { continue };
            match self.connect(self.listeners[index].1, Transport::Tcp) {
                Some(stream) => drop(self.flows.insert(stream, flow)),
                None => flow.abort(),
            }
        }
    }

    /// Asks for a stream to a port of the guest.
    fn connect(&mut self, port: u16, transport: Transport) -> Option<StreamId> {
        let stream = self.link.wire.open_stream(Direction::Both).ok()?;
        let (id, request) = (self.next_request, Request::Connect { port, transport, stream });
        self.next_request += 1;
        if self.link.wire.send(&Message::Request { id, request }).is_err() {
            self.link.wire.reset(stream, ResetReason::Closed);
            return None;
        }
        self.requests.insert(id, stream);
        Some(stream)
    }

    fn take_datagrams(&mut self, index: usize) {
        for _ in 0..64 {
            let Some((from, datagram)) = self.datagrams[index].receive() else { return };
            let known = self.datagrams[index].stream_of(from);
            let stream = match known {
                Some(stream) => stream,
                None => {
                    let senders: usize = self.datagrams.iter().map(Datagrams::senders).sum();
                    if senders >= MAX_SENDERS {
                        continue;
                    }
                    let port = self.datagrams[index].port();
                    let Some(stream) = self.connect(port, Transport::Udp) else { continue };
                    self.datagrams[index].add(from, stream);
                    stream
                }
            };
            self.datagrams[index].send(&mut self.link.wire, stream, &datagram, Instant::now());
        }
    }

    /// Moves what waits for the connection to the guest to take it.
    fn pump_waiting(&mut self) {
        for datagrams in &mut self.datagrams {
            datagrams.pump(&mut self.link.wire);
        }
    }

    /// Moves what one connection has, both ways.
    fn pump(&mut self, stream: StreamId) {
        let Some(flow) = self.flows.get_mut(&stream) else { return };
        match flow.pump(&mut self.link.wire, stream) {
            State::Open => {}
            State::Ended => drop(self.flows.remove(&stream)),
            State::Broken => self.give_up(stream),
        }
    }
}
