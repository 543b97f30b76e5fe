//! One forwarded connection.

use mvm_wire::{Connection, StreamId};
use rustix::event::PollFlags;
use rustix::fd::{AsFd, BorrowedFd};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// Bytes that are moved before the others get their turn.
const CHUNK: usize = 64 * 1024;

/// How a connection fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Open,
    /// Both sides have ended.
    Ended,
    /// The peer has gone.
    Broken,
}

/// A connection of a peer, and what of the guest's is on its way to it.
#[derive(Debug)]
pub(super) struct Flow {
    socket: TcpStream,
    /// Not written yet; the stream's window bounds it.
    to_peer: VecDeque<u8>,
    connected: bool,
    guest_ended: bool,
    /// The guest's end was passed on.
    shut: bool,
    peer_ended: bool,
}

impl AsFd for Flow {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Flow {
    pub fn new(socket: TcpStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        Ok(Self {
            socket,
            to_peer: VecDeque::new(),
            connected: false,
            guest_ended: false,
            shut: false,
            peer_ended: false,
        })
    }

    /// Notes that the guest's side is connected, so that there is somebody to send to.
    pub fn connected(&mut self) {
        self.connected = true;
    }

    /// Returns what to wait for, with so much room towards the guest: be it only that the connection breaks, which one
    /// that has been ended on this side tells of no more.
    pub fn interest(&self, room: usize) -> Option<PollFlags> {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, self.connected && !self.peer_ended && room > 0);
        flags.set(PollFlags::OUT, !self.to_peer.is_empty());
        (!flags.is_empty() || !self.shut).then_some(flags)
    }

    /// Takes bytes from the guest.
    pub fn take(&mut self, bytes: &[u8]) {
        self.to_peer.extend(bytes);
    }

    /// Notes that the guest sends no more.
    pub fn guest_ended(&mut self) {
        self.guest_ended = true;
    }

    /// Says whether all that the guest sent has been passed on, and its end.
    pub fn is_passed_on(&self) -> bool {
        self.shut
    }

    /// Moves what can be moved, both ways.
    pub fn pump(&mut self, wire: &mut Connection, stream: StreamId) -> State {
        if self.write(wire, stream).is_err() || self.read(wire, stream).is_err() {
            return State::Broken;
        }
        if self.shut && self.peer_ended { State::Ended } else { State::Open }
    }

    fn write(&mut self, wire: &mut Connection, stream: StreamId) -> io::Result<()> {
        while !self.to_peer.is_empty() {
            match (&self.socket).write(self.to_peer.as_slices().0) {
                Ok(count) => {
                    self.to_peer.drain(..count);
                    wire.consumed(stream, count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.guest_ended && !self.shut {
            self.shut = true;
            match self.socket.shutdown(Shutdown::Write) {
                Err(error) if error.kind() != ErrorKind::NotConnected => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn read(&mut self, wire: &mut Connection, stream: StreamId) -> io::Result<()> {
        let limit = wire.sendable(stream).min(CHUNK);
        if limit == 0 || self.peer_ended || !self.connected {
            return self.socket.take_error()?.map_or(Ok(()), Err);
        }
        let mut buffer = [0; CHUNK];
        match (&self.socket).read(&mut buffer[..limit]) {
            Ok(0) => {
                self.peer_ended = true;
                wire.send_eof(stream);
            }
            Ok(count) => drop(wire.send_data(stream, &buffer[..count])),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Has the peer see that the connection broke, unless it has.
    pub fn abort(self) {
        // A socket that takes no such setting ends in order, which is the next best.
        rustix::net::sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO)).ok();
    }
}
