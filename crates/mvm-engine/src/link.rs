//! A wire connection over a Unix socket that never blocks.

use mvm_wire::{Connection, Limits, ProtocolError, Role};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// A socket and the state machine of what passes over it.
#[derive(Debug)]
pub struct Link {
    socket: UnixStream,
    /// What the bytes mean.
    pub wire: Connection,
    closed: bool,
    /// The peer reads no more; its last words may still wait to be read.
    deaf: bool,
}

/// Says how a link broke.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The socket failed.
    #[error("{act} the connection")]
    Io {
        /// What was tried.
        act: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The peer doesn't keep to the protocol.
    #[error("the peer broke the protocol")]
    Protocol(#[from] ProtocolError),
}

impl Link {
    /// Takes over a connected socket.
    pub fn new(socket: UnixStream, role: Role) -> Result<Self, LinkError> {
        Self::with_limits(socket, role, Limits::default())
    }

    /// Takes over a connected socket, with its own limits of what this side holds.
    pub fn with_limits(socket: UnixStream, role: Role, limits: Limits) -> Result<Self, LinkError> {
        socket.set_nonblocking(true).map_err(|source| LinkError::Io { act: "set up", source })?;
        Ok(Self { socket, wire: Connection::new(role, limits), closed: false, deaf: false })
    }

    /// Receives what is there, up to 64 KiB. Returns whether the peer is still there.
    pub fn receive(&mut self) -> Result<bool, LinkError> {
        let mut buffer = [0; 64 * 1024];
        match rustix::io::read(&self.socket, &mut buffer) {
            Ok(0) => self.closed = true,
            Ok(count) => self.wire.receive(&buffer[..count])?,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::CONNRESET | Errno::PIPE) => self.closed = true,
            Err(error) => return Err(LinkError::Io { act: "read from", source: error.into() }),
        }
        Ok(!self.closed)
    }

    /// Sends what waits to be sent, as far as the socket takes it.
    pub fn send(&mut self) -> Result<(), LinkError> {
        while self.has_output() {
            match rustix::net::send(&self.socket, self.wire.output(), rustix::net::SendFlags::NOSIGNAL) {
                Ok(count) => self.wire.advance(count),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => self.deaf = true,
                Err(error) => return Err(LinkError::Io { act: "write to", source: error.into() }),
            }
        }
        Ok(())
    }

    /// Returns whether the peer is gone and all that it said has been received.
    pub fn closed(&self) -> bool {
        self.closed
    }

    /// Returns whether there is something to send.
    pub fn has_output(&self) -> bool {
        !self.closed && !self.deaf && !self.wire.output().is_empty()
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
pub(crate) mod tests;
