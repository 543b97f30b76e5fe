//! Requests to a guest and streams with it, one step after the other.

use super::CopyError;
use crate::attach::AttachError;
use crate::link::{Link, LinkError};
use crate::progress::Cancel;
use mvm_wire::{
    Direction, Event, Failure, GuestEvent, Message, Reply, Request, SendError, StreamError, StreamId,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::AsFd as _;

/// How long a wait goes on before it looks whether the user has interrupted.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// Two blocks of zeros end an archive.
const END_MARK: usize = 1024;

/// A client that waits for what it asks.
pub(super) struct Dialogue<'a> {
    link: Link,
    cancel: &'a Cancel,
    next_request: u64,
    answer: Option<Result<Reply, Failure>>,
    /// What came on the one stream that is read.
    held: VecDeque<u8>,
    ended: bool,
    given_up: bool,
}

impl<'a> Dialogue<'a> {
    /// Takes over a connection on which the greeting was sent.
    pub fn new(link: Link, cancel: &'a Cancel) -> Self {
        let (answer, held) = (None, VecDeque::new());
        Self { link, cancel, next_request: 1, answer, held, ended: false, given_up: false }
    }

    /// Opens a stream.
    pub fn open(&mut self, direction: Direction) -> Result<StreamId, CopyError> {
        self.link.wire.open_stream(direction).map_err(|error: StreamError| AttachError::from(error).into())
    }

    /// Sends a request.
    pub fn begin(&mut self, request: Request) -> Result<(), CopyError> {
        let id = self.next_request;
        self.next_request += 1;
        self.answer = None;
        let sent = self.link.wire.send(&Message::Request { id, request });
        sent.map_err(|error: SendError| AttachError::from(error).into())
    }

    /// Sends a request and waits for what comes of it.
    pub fn ask(&mut self, request: Request) -> Result<Reply, CopyError> {
        self.begin(request)?;
        self.wait_for_answer()
    }

    fn wait_for_answer(&mut self) -> Result<Reply, CopyError> {
        loop {
            match self.answer.take() {
                Some(answer) => return answer.map_err(|failure| CopyError::Guest(failure.message)),
                None => self.step(None)?,
            }
        }
    }

    /// Returns what reads a stream that was opened to receive.
    pub fn reader(self, stream: StreamId) -> Incoming<'a> {
        Incoming { dialogue: self, stream, zeros: 0 }
    }

    /// Returns what writes a stream that was opened to send.
    pub fn writer(self, stream: StreamId) -> Outgoing<'a> {
        Outgoing { dialogue: self, stream }
    }

    /// Sends, waits for something to happen, and takes it in. Where something is to be sent, `stream` having room for it
    /// is enough.
    fn step(&mut self, stream: Option<StreamId>) -> Result<(), CopyError> {
        let broken = |error: LinkError| CopyError::from(AttachError::from(error));
        self.link.send().map_err(broken)?;
        if self.cancel.requested() {
            return Err(CopyError::Interrupted);
        }
        if stream.is_some_and(|stream| self.link.wire.sendable(stream) > 0) {
            return Ok(());
        }
        let flags = if self.link.has_output() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        match poll(&mut [PollFd::from_borrowed_fd(self.link.as_fd(), flags)], Some(&TICK)) {
            Ok(0) | Err(Errno::INTR) => return Ok(()),
            Ok(_) => {}
            Err(error) => {
                return Err(AttachError::Io { act: "wait for the VM", source: error.into() }.into());
            }
        }
        let alive = self.link.receive().map_err(broken)?;
        while let Some(event) = self.link.wire.next_event() {
            match event {
                Event::Message(Message::Response { id, result }) if id + 1 == self.next_request => {
                    self.answer = Some(result);
                }
                Event::Message(Message::Event { event: GuestEvent::Ended { message } }) => {
                    return Err(CopyError::Ended(message));
                }
                Event::Data { bytes, .. } => self.held.extend(bytes),
                Event::Eof { .. } => self.ended = true,
                Event::Reset { .. } => self.given_up = true,
                Event::Message(_) | Event::Opened { .. } | Event::Credit { .. } => {}
            }
        }
        if alive { Ok(()) } else { Err(AttachError::Gone.into()) }
    }
}

/// An archive that comes from a guest.
pub(super) struct Incoming<'a> {
    dialogue: Dialogue<'a>,
    stream: StreamId,
    /// How many bytes at the end of what was read are zero, up to the length of the mark.
    zeros: usize,
}

impl Incoming<'_> {
    /// Says whether all that was read ends as an archive does.
    pub fn check_complete(&self) -> Result<(), CopyError> {
        if self.zeros >= END_MARK { Ok(()) } else { Err(CopyError::BrokeOff) }
    }
}

impl Read for Incoming<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.dialogue.held.is_empty() {
            if self.dialogue.ended {
                return Ok(0);
            }
            if self.dialogue.given_up {
                return Err(io::Error::other(CopyError::BrokeOff));
            }
            self.dialogue.step(None).map_err(io::Error::other)?;
        }
        let count = self.dialogue.held.read(buffer)?;
        self.dialogue.link.wire.consumed(self.stream, count);
        let zeros = buffer[..count].iter().rev().take_while(|byte| **byte == 0).count();
        self.zeros = if zeros == count { (self.zeros + zeros).min(END_MARK) } else { zeros.min(END_MARK) };
        Ok(count)
    }
}

/// An archive that goes to a guest.
pub(super) struct Outgoing<'a> {
    dialogue: Dialogue<'a>,
    stream: StreamId,
}

impl Outgoing<'_> {
    /// Ends the archive, if all of it was `packed`, and waits for what the guest says to it.
    pub fn finish(mut self, packed: Result<(), CopyError>) -> Result<(), CopyError> {
        match packed {
            Ok(()) => self.dialogue.link.wire.send_eof(self.stream),
            // The guest's own words are better than that it takes no more.
            Err(CopyError::BrokeOff) => {}
            Err(error) => return Err(error),
        }
        self.dialogue.wait_for_answer().map(drop)
    }
}

impl Write for Outgoing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            if self.dialogue.given_up || self.dialogue.answer.is_some() {
                return Err(io::Error::other(CopyError::BrokeOff));
            }
            match self.dialogue.link.wire.send_data(self.stream, bytes) {
                0 if !bytes.is_empty() => self.dialogue.step(Some(self.stream)).map_err(io::Error::other)?,
                count => {
                    let sent = self.dialogue.link.send();
                    sent.map_err(|error| io::Error::other(CopyError::from(AttachError::from(error))))?;
                    return Ok(count);
                }
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
