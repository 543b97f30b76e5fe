//! Between a process's pipes or terminal and the connection's streams.

use mvm_wire::{Connection, ResetReason, StreamId};
use rustix::io::{Errno, read, write};
use rustix::termios::{SpecialCodeIndex, tcgetattr};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// Most bytes moved from one process before the others get their turn.
const CHUNK: usize = 64 * 1024;

/// Carries a stream to a process's standard input.
#[derive(Debug)]
pub(super) struct Sink {
    pub(super) stream: StreamId,
    pub(super) fd: Rc<OwnedFd>,
    pub(super) terminal: bool,
    /// Received and not written; the connection's window bounds it.
    pub(super) pending: VecDeque<u8>,
    pub(super) eof: bool,
}

impl Sink {
    /// Writes what the process takes; returns whether there is more to come.
    pub(super) fn pump(&mut self, wire: &mut Connection) -> bool {
        while !self.pending.is_empty() {
            let (front, _) = self.pending.as_slices();
            match write(&*self.fd, front) {
                Ok(count) => {
                    self.pending.drain(..count);
                    wire.consumed(self.stream, count);
                }
                Err(Errno::AGAIN) => return true,
                Err(Errno::INTR) => {}
                // The process reads no more.
                Err(_) => {
                    wire.reset(self.stream, ResetReason::Closed);
                    return false;
                }
            }
        }
        if !self.eof {
            return true;
        }
        if self.terminal { self.end_terminal() } else { false }
    }

    /// A terminal's input ends by its end-of-file character, not by closing; returns whether that must wait.
    fn end_terminal(&self) -> bool {
        let Ok(settings) = tcgetattr(&*self.fd) else {
            return false;
        };
        let end = settings.special_codes[SpecialCodeIndex::VEOF];
        end != 0 && write(&*self.fd, &[end]) == Err(Errno::AGAIN)
    }
}

/// Carries a process's output to a stream.
#[derive(Debug)]
pub(super) struct Source {
    /// None where nobody listens: output is then read and dropped, so that whoever writes it isn't disturbed.
    pub(super) stream: Option<StreamId>,
    pub(super) fd: Rc<OwnedFd>,
}

/// What became of an attempt to move output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pumped {
    /// Some was moved.
    Some,
    /// There is none now.
    Empty,
    /// The host takes no more now.
    Blocked,
    /// There will never be more.
    End,
}

impl Source {
    /// Returns whether output that is there can be moved.
    pub(super) fn is_ready(&self, wire: &Connection) -> bool {
        self.stream.is_none_or(|stream| wire.sendable(stream) > 0)
    }

    /// Moves output, a chunk at most.
    pub(super) fn pump(&self, wire: &mut Connection) -> Pumped {
        let mut buffer = [0; CHUNK];
        let limit = self.stream.map_or(CHUNK, |stream| wire.sendable(stream).min(CHUNK));
        if limit == 0 {
            return Pumped::Blocked;
        }
        match read(&*self.fd, &mut buffer[..limit]) {
            Ok(0) => self.end(wire),
            Ok(count) => {
                if let Some(stream) = self.stream {
                    wire.send_data(stream, &buffer[..count]);
                }
                Pumped::Some
            }
            Err(Errno::AGAIN | Errno::INTR) => Pumped::Empty,
            // A terminal that nobody has open any more reads as an input/output error.
            Err(_) => self.end(wire),
        }
    }

    /// Ends the stream.
    pub(super) fn end(&self, wire: &mut Connection) -> Pumped {
        if let Some(stream) = self.stream {
            wire.send_eof(stream);
        }
        Pumped::End
    }
}

#[cfg(test)]
#[path = "streams_tests.rs"]
mod tests;
