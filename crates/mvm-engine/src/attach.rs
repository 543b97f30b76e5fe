//! A client of a supervisor: starts or executes a command and is its terminal until it ends.

mod ask;
mod detach;

use crate::error::EngineError;
use crate::link::{Link, LinkError};
use crate::supervisor::MAIN;
pub use detach::{DetachKeys, DetachKeysError};
use mvm_wire::{
    Direction, Event, Failure, GuestEvent, Hello, Message, Process, Reply, Request, ResetReason, Role,
    SendError, StreamError, StreamId, Streams, WindowSize,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A connected control socket of a VM.
#[derive(Debug)]
pub struct ControlConnection(Link);

/// Which command to attach to.
#[derive(Debug)]
pub enum Target {
    /// The VM's main process, which this starts.
    Main,
    /// The VM's main process, which runs already.
    Running,
    /// A further process.
    Exec(Box<Process>),
}

/// Tells of signals that this process gets.
pub trait SignalSource {
    /// Returns a descriptor that is readable while signals wait.
    fn descriptor(&self) -> BorrowedFd<'_>;
    /// Takes the waiting signals.
    fn take(&mut self) -> Vec<i32>;
}

/// What is attached to the command.
pub struct Attachment<'a> {
    /// Read for the command's stdin; without it the command reads `/dev/null`.
    pub stdin: Option<BorrowedFd<'a>>,
    /// Gets the command's stdout, and all its output when it has a terminal.
    pub stdout: BorrowedFd<'a>,
    /// Gets the command's stderr.
    pub stderr: BorrowedFd<'a>,
    /// Says how large the terminal is; its presence gives the command one.
    pub terminal: Option<&'a dyn Fn() -> WindowSize>,
    /// Keys that leave a main process which has a terminal.
    pub keys: DetachKeys,
    /// Signals to pass on.
    pub signals: &'a mut dyn SignalSource,
}

/// Says why a command's exit code is not known.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The command could not be started.
    #[error(transparent)]
    Refused(#[from] Failure),
    /// The VM ended without telling how the command did.
    #[error("the VM ended: {0}")]
    Ended(String),
    /// The supervisor is gone.
    #[error("the VM's supervisor is gone")]
    Gone,
    /// An answer did not come in time.
    #[error("no answer within {} seconds", limit.as_secs())]
    NoAnswer {
        /// The limit.
        limit: Duration,
    },
    /// The user interrupted before the command ran.
    #[error("interrupted")]
    Interrupted,
    /// The connection broke.
    #[error("the VM's supervisor")]
    Link(#[from] LinkError),
    /// A message doesn't fit.
    #[error("send to the VM's supervisor")]
    Send(#[from] SendError),
    /// No stream could be opened.
    #[error("open a stream to the command")]
    Stream(#[from] StreamError),
    /// One of the caller's own streams failed.
    #[error("{act}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// Signals that are the command's business. `SIGWINCH` becomes a resize.
const WINDOW_CHANGED: i32 = 28;
/// `SIGINT` and `SIGTERM`: after this many, whoever sends them wants more than to tell the command.
const ENOUGH: u32 = 3;
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
const START: u64 = 1;

impl ControlConnection {
    /// Returns the connection, for another dialogue.
    pub(crate) fn into_link(self) -> Link {
        self.0
    }

    /// Greets a supervisor on a connected socket.
    pub fn new(socket: UnixStream) -> Result<Self, AttachError> {
        let mut link = Link::new(socket, Role::Host)?;
        let software = concat!("mvm client ", env!("CARGO_PKG_VERSION"));
        link.wire.send(&Message::Hello(Hello::current(software)))?;
        Ok(Self(link))
    }

    /// Asks the supervisor to stop the VM and waits until it has gone. Returns whether it heard that: one that is about to launch
    /// the VM again may hang up before.
    pub fn stop(mut self, grace: Duration) -> Result<bool, AttachError> {
        let mut heard = false;
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.0.wire.send(&Message::Request { id: START, request: Request::Stop { grace_ms } })?;
        while !self.0.closed() {
            self.0.send()?;
            let flags = if self.0.has_output() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            wait(&mut [PollFd::from_borrowed_fd(self.0.as_fd(), flags)])?;
            self.0.receive()?;
            while let Some(event) = self.0.wire.next_event() {
                heard |= matches!(event, Event::Message(Message::Response { id: START, result: Ok(_) }));
            }
        }
        Ok(heard)
    }
}

/// An output stream of the command and the descriptor that it goes to.
struct Output<'a> {
    stream: StreamId,
    to: BorrowedFd<'a>,
    /// What one write may hold without blocking once `to` polls writable.
    piece: usize,
    held: VecDeque<u8>,
    ended: bool,
    /// Nobody reads any more; what still comes is dropped.
    deaf: bool,
}

struct Session<'a> {
    link: Link,
    outputs: Vec<Output<'a>>,
    stdin: Option<(StreamId, BorrowedFd<'a>)>,
    /// Keys that leave the command; only the main one goes on without anyone.
    keys: Option<DetachKeys>,
    terminal: Option<&'a dyn Fn() -> WindowSize>,
    handle: Option<u32>,
    /// Signals that came before the command had a handle.
    early: Vec<i32>,
    next_request: u64,
    /// How many signals came that ask a process to end.
    insisted: u32,
    /// How the command ended, or nothing if it was left.
    outcome: Option<Result<Option<u8>, AttachError>>,
    /// Whether the VM ends with the command.
    is_main: bool,
    /// Whether the command ran already.
    joined: bool,
}

/// Runs a command to its end with the caller's streams attached, and returns its exit code; nothing if keys left a main
/// process, which goes on.
pub fn attach(
    connection: ControlConnection,
    target: Target,
    to: Attachment<'_>,
) -> Result<Option<u8>, EngineError> {
    Ok(session(connection, target, to)?)
}

fn session(
    connection: ControlConnection,
    target: Target,
    to: Attachment<'_>,
) -> Result<Option<u8>, AttachError> {
    let mut link = connection.0;
    let stdin = match to.stdin {
        Some(descriptor) => Some((link.wire.open_stream(Direction::Send)?, descriptor)),
        None => None,
    };
    let mut outputs = vec![output(&mut link, to.stdout)?];
    if to.terminal.is_none() {
        outputs.push(output(&mut link, to.stderr)?);
    }
    let streams = Streams {
        stdin: stdin.map(|(stream, _)| stream),
        stdout: outputs.first().map(|output| output.stream),
        stderr: outputs.get(1).map(|output| output.stream),
        terminal: to.terminal.map(|size| size()),
    };
    let is_main = matches!(target, Target::Main);
    let leaves = to.terminal.is_some() && !matches!(target, Target::Exec(_));
    let joined = matches!(target, Target::Running);
    let request = match target {
        Target::Main => Request::Start { process: MAIN.to_owned(), streams },
        Target::Running => Request::Attach { process: MAIN.to_owned(), streams },
        Target::Exec(process) => Request::Exec { process: *process, streams },
    };
    link.wire.send(&Message::Request { id: START, request })?;
    let session = Session {
        link,
        outputs,
        stdin,
        keys: leaves.then_some(to.keys),
        terminal: to.terminal,
        handle: None,
        early: Vec::new(),
        next_request: START + 1,
        insisted: 0,
        outcome: None,
        is_main,
        joined,
    };
    session.run(to.signals)
}

fn output<'a>(link: &mut Link, to: BorrowedFd<'a>) -> Result<Output<'a>, AttachError> {
    let regular =
        rustix::fs::fstat(to).is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file());
    // A pipe that polls writable takes PIPE_BUF bytes; a file never blocks for long.
    let piece = if regular { 1 << 20 } else { 4096 };
    let stream = link.wire.open_stream(Direction::Receive)?;
    Ok(Output { stream, to, piece, held: VecDeque::new(), ended: false, deaf: false })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Link,
    Signals,
    Stdin,
    Output(usize),
}

impl Session<'_> {
    fn run(mut self, signals: &mut dyn SignalSource) -> Result<Option<u8>, AttachError> {
        loop {
            self.link.send()?;
            if matches!(self.outcome, Some(Ok(None))) && !self.link.has_output() {
                return Ok(None);
            }
            let said_all = self
                .outputs
                .iter()
                .all(|output| output.held.is_empty() && (output.ended || self.link.closed()));
            // The main process takes its VM with it: wait until the supervisor hangs up, so that whatever the
            // caller does next finds the VM gone.
            let goes_on = self.is_main || (self.joined && matches!(self.outcome, Some(Ok(_))));
            if said_all && (self.link.closed() || (!goes_on && self.outcome.is_some())) {
                return self.outcome.unwrap_or(Err(AttachError::Gone));
            }
            for source in self.wait(signals.descriptor())? {
                match source {
                    Source::Link => self.hear()?,
                    Source::Signals => self.pass_on(&signals.take())?,
                    Source::Stdin => self.read_stdin()?,
                    Source::Output(index) => self.write_output(index)?,
                }
            }
        }
    }

    fn wait(&self, signals: BorrowedFd<'_>) -> Result<Vec<Source>, AttachError> {
        let mut watched = vec![(Source::Signals, signals, PollFlags::IN)];
        if !self.link.closed() {
            let flags = if self.link.has_output() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            watched.push((Source::Link, self.link.as_fd(), flags));
        }
        if let Some((stream, descriptor)) = self.stdin
            && self.link.wire.sendable(stream) > self.room_for_keys()
        {
            watched.push((Source::Stdin, descriptor, PollFlags::IN));
        }
        for (index, output) in self.outputs.iter().enumerate() {
            if !output.held.is_empty() {
                watched.push((Source::Output(index), output.to, PollFlags::OUT));
            }
        }
        let mut polled: Vec<PollFd<'_>> = watched
            .iter()
            .map(|&(_, descriptor, flags)| PollFd::from_borrowed_fd(descriptor, flags))
            .collect();
        wait(&mut polled)?;
        let ready = watched.iter().zip(&polled).filter(|(_, polled)| !polled.revents().is_empty());
        Ok(ready.map(|(&(source, ..), _)| source).collect())
    }

    fn hear(&mut self) -> Result<(), AttachError> {
        self.link.receive()?;
        while let Some(event) = self.link.wire.next_event() {
            match event {
                Event::Message(message) => self.hear_message(message)?,
                Event::Data { stream, bytes } => {
                    match self.outputs.iter_mut().find(|output| output.stream == stream) {
                        Some(output) if !output.deaf => output.held.extend(bytes),
                        _ => self.link.wire.consumed(stream, bytes.len()),
                    }
                }
                Event::Eof { stream } => self.output_ended(stream),
                Event::Reset { stream, .. } => {
                    self.output_ended(stream);
                    self.stdin.take_if(|(stdin, _)| *stdin == stream);
                }
                Event::Opened { .. } | Event::Credit { .. } => {}
            }
        }
        Ok(())
    }

    fn output_ended(&mut self, stream: StreamId) {
        for output in &mut self.outputs {
            output.ended |= output.stream == stream;
        }
    }

    fn hear_message(&mut self, message: Message) -> Result<(), AttachError> {
        match message {
            Message::Response { id: START, result: Ok(Reply::Started { handle, .. }) } => {
                self.handle = Some(handle);
                let mut early = std::mem::take(&mut self.early);
                if self.joined {
                    // Its terminal has the size of somebody else's.
                    early.push(WINDOW_CHANGED);
                }
                self.pass_on(&early)?;
            }
            Message::Response { id: START, result: Err(failure) } => {
                self.outcome = Some(Err(AttachError::Refused(failure)));
                for output in &mut self.outputs {
                    output.ended = true;
                }
            }
            Message::Event { event: GuestEvent::Exited { handle, status } }
                if self.handle == Some(handle) =>
            {
                self.outcome = Some(Ok(Some(status.exit_code())));
                self.stdin = None;
            }
            Message::Event { event: GuestEvent::Ended { message } } => {
                self.outcome.get_or_insert(Err(AttachError::Ended(message)));
            }
            // Answers to signals and resizes: the process may have ended meanwhile, which is no error.
            _ => {}
        }
        Ok(())
    }

    /// Passes signals on to the command; before it runs, those that end a process end the VM, if it is the main one.
    fn pass_on(&mut self, signals: &[i32]) -> Result<(), AttachError> {
        for &signal in signals {
            self.insisted += u32::from(matches!(signal, SIGINT | SIGTERM));
            let request = match (self.handle, signal) {
                // The command doesn't end, or nothing in the guest answers any more.
                (Some(_), SIGINT | SIGTERM) if self.is_main && self.insisted >= ENOUGH => {
                    self.outcome.get_or_insert(Err(AttachError::Interrupted));
                    Request::Stop { grace_ms: 0 }
                }
                (Some(handle), WINDOW_CHANGED) => match self.terminal {
                    Some(size) => {
                        let WindowSize { rows, cols } = size();
                        Request::Resize { handle, rows, cols }
                    }
                    None => continue,
                },
                (Some(handle), signal) => Request::Signal { handle, signal },
                (None, WINDOW_CHANGED) => {
                    self.early.push(signal);
                    continue;
                }
                // The VM is not this command's: hang up, and leave it running.
                (None, _) if !self.is_main => {
                    self.outcome.get_or_insert(Err(AttachError::Interrupted));
                    for output in &mut self.outputs {
                        output.ended = true;
                    }
                    return Ok(());
                }
                (None, _) => {
                    self.outcome.get_or_insert(Err(AttachError::Interrupted));
                    Request::Stop { grace_ms: 0 }
                }
            };
            let id = self.next_request;
            self.next_request += 1;
            self.link.wire.send(&Message::Request { id, request })?;
        }
        Ok(())
    }

    /// Returns how many bytes may have to be sent beside those that are read.
    fn room_for_keys(&self) -> usize {
        self.keys.as_ref().map_or(0, DetachKeys::room)
    }

    fn read_stdin(&mut self) -> Result<(), AttachError> {
        let Some((stream, descriptor)) = self.stdin else { return Ok(()) };
        let mut buffer = [0; 32 * 1024];
        let room = self.link.wire.sendable(stream).saturating_sub(self.room_for_keys()).min(buffer.len());
        match rustix::io::read(descriptor, &mut buffer[..room]) {
            Ok(0) => {
                self.link.wire.send_eof(stream);
                self.stdin = None;
            }
            Ok(count) => {
                let (typed, left) = match &mut self.keys {
                    Some(keys) => keys.filter(&buffer[..count]),
                    None => (buffer[..count].to_vec(), false),
                };
                // All of it: no more was read than can be sent.
                self.link.wire.send_data(stream, &typed);
                if left {
                    // Closed, not ended: the command's input stays open for whoever comes next.
                    self.link.wire.reset(stream, ResetReason::Closed);
                    self.stdin = None;
                    self.outcome = Some(Ok(None));
                }
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            // A terminal that is gone, or one that this process may not read in the background.
            Err(Errno::IO) => {
                self.link.wire.send_eof(stream);
                self.stdin = None;
            }
            Err(error) => return Err(AttachError::Io { act: "read stdin", source: error.into() }),
        }
        Ok(())
    }

    fn write_output(&mut self, index: usize) -> Result<(), AttachError> {
        let output = &mut self.outputs[index];
        let held = output.held.make_contiguous();
        let piece = held.len().min(output.piece);
        match rustix::io::write(output.to, &held[..piece]) {
            Ok(count) => {
                output.held.drain(..count);
                self.link.wire.consumed(output.stream, count);
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            // Nobody reads: the command's next write fails as it would here.
            Err(Errno::PIPE) => {
                output.deaf = true;
                output.ended = true;
                output.held.clear();
                self.link.wire.reset(output.stream, ResetReason::Closed);
            }
            Err(error) => {
                return Err(AttachError::Io { act: "write the command's output", source: error.into() });
            }
        }
        Ok(())
    }
}

fn wait(polled: &mut [PollFd<'_>]) -> Result<(), AttachError> {
    wait_until(polled, None)
}

/// Waits, at most so long, until something can be read or written.
fn wait_until(polled: &mut [PollFd<'_>], left: Option<Duration>) -> Result<(), AttachError> {
    let left = left
        .map(|left| Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() });
    match poll(polled, left.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(AttachError::Io { act: "wait for the command", source: error.into() }),
    }
}

#[cfg(test)]
mod tests;
