//! A builder that runs: commands in it, one after the other, and its end.

use super::environment;
use super::error::BuilderError;
use super::record::BuilderRecord;
use crate::attach::{AttachError, ControlConnection};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::journal::OutputStream;
use crate::link::{Link, LinkError};
use crate::progress::Cancel;
use crate::pull::Pulled;
use mvm_plan::audit::Event as AuditEvent;
use mvm_plan::signal::Signal;
use mvm_ref::{Digest, VmName};
use mvm_store::BuilderLock;
use mvm_wire::{
    Direction, Event, ExitStatus, GuestEvent, Message, Process, Reply, Request, ResetReason, StreamId,
    Streams,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

/// How often a wait looks whether it was called off.
const LOOK: Duration = Duration::from_millis(100);
/// How long a command may take to end after it was asked to.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the output of a command that ended may be kept open by what it left running.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long the VM may take to bring its volume into a clean state and end.
const END_LIMIT: Duration = Duration::from_secs(60);
/// What is kept of the words of commands that are run on the builder's own behalf.
const WORDS: usize = 4096;
/// How long what commands left running may take to end, in milliseconds.
const GRACE_MS: u64 = 1000;
const SIGINT: i32 = 2;
const SIGKILL: i32 = 9;

/// A builder that runs, and is the caller's alone. Its VM ends with it.
#[derive(Debug)]
pub struct BuilderSession<'a> {
    engine: &'a Engine,
    link: Link,
    next_request: u64,
    record: BuilderRecord,
    image: Pulled,
    name: VmName,
    plan: Digest,
    env: Vec<String>,
    /// What the supervisor said of the VM's end.
    ended: Option<String>,
    /// When its end is not waited for any longer.
    deadline: Option<Instant>,
    // Last, so that it outlives all else.
    lock: BuilderLock,
}

/// What a builder's VM was launched as.
pub(super) struct Started {
    pub name: VmName,
    pub plan: Digest,
    pub env: Vec<String>,
    pub connection: ControlConnection,
}

/// What there is left in a builder, and whether it had too little.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BuilderState {
    /// Bytes that are free in its store.
    pub store_free: u64,
    /// Bytes that are free for what builds write meanwhile.
    pub scratch_free: u64,
    /// Processes that the guest's kernel has ended for want of memory.
    pub killed_for_memory: u64,
}

impl<'a> BuilderSession<'a> {
    /// Waits until the builder can take commands.
    pub(super) fn begin(
        engine: &'a Engine,
        started: Started,
        (record, image): (BuilderRecord, Pulled),
        lock: BuilderLock,
        cancel: &Cancel,
    ) -> Result<Self, EngineError> {
        let mut link = started.connection.into_link();
        link.wire.send(&Message::Request { id: 1, request: Request::Hold {} }).map_err(AttachError::from)?;
        let mut session = Self {
            engine,
            link,
            next_request: 2,
            record,
            image,
            name: started.name,
            plan: started.plan,
            env: started.env,
            ended: None,
            deadline: None,
            lock,
        };
        loop {
            if cancel.requested() {
                return Err(BuilderError::Interrupted.into());
            }
            for event in session.hear()? {
                match event {
                    Event::Message(Message::Response { id: 1, result: Ok(_) }) => return Ok(session),
                    Event::Message(Message::Response { id: 1, result: Err(failure) }) => {
                        return Err(BuilderError::NotReady(failure.to_string()).into());
                    }
                    _ => {}
                }
            }
            if session.over() {
                return Err(BuilderError::NotReady(session.ended.clone().unwrap_or_default()).into());
            }
        }
    }

    /// Makes the volume ready for Nix, where it may not be.
    pub(super) fn prepare(&mut self, cancel: &Cancel) -> Result<(), EngineError> {
        let prepared = self.capture(&["/bin/sh", "-c", environment::PREPARE], WORDS, cancel);
        let words = match prepared {
            Ok((ExitStatus::Code(0), ..)) => return Ok(()),
            Ok((_, _, err)) => String::from_utf8_lossy(&err).trim().to_owned(),
            Err(EngineError::Attach(AttachError::Refused(failure))) => failure.to_string(),
            Err(error) => return Err(error),
        };
        Err(BuilderError::NotReady(words).into())
    }

    /// Returns the version of Nix in the builder.
    pub fn nix_version(&self) -> &str {
        &self.record.nix_version
    }

    /// Returns what is known of the builder.
    pub fn record(&self) -> &BuilderRecord {
        &self.record
    }

    /// Puts down what the builder is.
    pub(super) fn set_record(&self, record: &BuilderRecord) -> Result<(), EngineError> {
        let scope = self.engine.settings.scope.clone();
        let bytes = record.to_bytes().map_err(|source| BuilderError::Record { scope, source })?;
        Ok(self.lock.set_record(&bytes)?)
    }

    /// Returns the builder's image.
    pub fn image(&self) -> &Pulled {
        &self.image
    }

    /// Returns the name of the builder's VM.
    pub fn vm(&self) -> &VmName {
        &self.name
    }

    /// Runs a command as root in the builder, and hands over what it prints as it comes.
    ///
    /// A cancelled command is asked to end, and killed if it doesn't; the builder stays.
    pub fn run(
        &mut self,
        argv: &[&str],
        output: &mut dyn FnMut(OutputStream, &[u8]),
        cancel: &Cancel,
    ) -> Result<ExitStatus, EngineError> {
        let stdout = self.link.wire.open_stream(Direction::Receive).map_err(AttachError::from)?;
        let stderr = self.link.wire.open_stream(Direction::Receive).map_err(AttachError::from)?;
        let argv: Vec<String> = argv.iter().map(|&word| word.to_owned()).collect();
        let program = argv.first().cloned().unwrap_or_default();
        self.record_command(&argv)?;
        let process = Process {
            name: "exec".to_owned(),
            root: mvm_launch::ROOT.to_owned(),
            argv,
            env: self.env.clone(),
            working_dir: "/".to_owned(),
            user: "0:0".to_owned(),
            stop_signal: Signal::TERM.number(),
            terminal: false,
        };
        let streams = Streams { stdin: None, stdout: Some(stdout), stderr: Some(stderr), terminal: None };
        let id = self.request(Request::Exec { process, streams })?;
        let mut command = Command { id, streams: [Some(stdout), Some(stderr)], ..Command::default() };
        loop {
            for event in self.hear()? {
                command.take(event, output, &mut self.link)?;
            }
            if let Some(status) = command.over() {
                command.abandon(&mut self.link);
                return if command.asked.is_some() { Err(EngineError::Interrupted) } else { Ok(status) };
            }
            if self.over() {
                let message = self.ended.clone().unwrap_or_else(|| "its supervisor is gone".to_owned());
                return Err(BuilderError::Ended { command: program, message }.into());
            }
            self.check_deadline()?;
            if let Some(handle) = command.handle
                && let Some(signal) = command.next_signal(cancel)
            {
                self.request(Request::Signal { handle, signal })?;
            }
        }
    }

    /// Runs a command like [`BuilderSession::run`], and returns what it printed: the first `limit` bytes of its standard
    /// output, and of its standard error the last.
    pub fn capture(
        &mut self,
        argv: &[&str],
        limit: usize,
        cancel: &Cancel,
    ) -> Result<(ExitStatus, Vec<u8>, Vec<u8>), EngineError> {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut take = |stream, bytes: &[u8]| match stream {
            OutputStream::Stderr => {
                err.extend_from_slice(bytes);
                let extra = err.len().saturating_sub(limit);
                err.drain(..extra);
            }
            _ => out.extend(bytes.iter().take(limit.saturating_sub(out.len()))),
        };
        let status = self.run(argv, &mut take, cancel)?;
        Ok((status, out, err))
    }

    /// Looks at what the builder has left, for whoever wants to tell why a build failed.
    pub fn state(&mut self, cancel: &Cancel) -> Result<BuilderState, EngineError> {
        const LOOK_AROUND: &str = "df -P -k /nix /tmp | tail -n 2; grep '^oom_kill ' /proc/vmstat";
        let (_, out, _) = self.capture(&["/bin/sh", "-c", LOOK_AROUND], WORDS, cancel)?;
        Ok(parse_state(&String::from_utf8_lossy(&out)))
    }

    /// Ends the builder's VM, its volume in a clean state.
    pub fn close(mut self) -> Result<(), EngineError> {
        self.deadline = Some(Instant::now() + END_LIMIT);
        // The volume is in a clean state after that, whatever becomes of the VM.
        let synced = self.capture(&["sync"], WORDS, &Cancel::default());
        if !self.over() {
            self.request(Request::Stop { grace_ms: GRACE_MS })?;
        }
        while !self.over() {
            self.check_deadline()?;
            self.hear()?;
        }
        if matches!(synced, Ok((ExitStatus::Code(0), ..))) {
            // Where it can't be noted, the next one begins with caches that are empty; what was done here is done all the same.
            drop(self.lock.set_clean());
        }
        Ok(())
    }

    fn over(&self) -> bool {
        self.link.closed()
    }

    fn check_deadline(&self) -> Result<(), BuilderError> {
        if self.deadline.is_none_or(|at| Instant::now() <= at) {
            return Ok(());
        }
        let message = format!("it did not end within {} seconds", END_LIMIT.as_secs());
        Err(BuilderError::Ended { command: "its end".to_owned(), message })
    }

    fn request(&mut self, request: Request) -> Result<u64, EngineError> {
        let id = self.next_request;
        self.next_request += 1;
        self.link.wire.send(&Message::Request { id, request }).map_err(AttachError::from)?;
        Ok(id)
    }

    fn record_command(&self, argv: &[String]) -> Result<(), EngineError> {
        let program: String = argv.first().map_or("", String::as_str).chars().take(1024).collect();
        let command = mvm_plan::canonical::to_vec(&argv)
            .map_err(|source| EngineError::Plan { act: "extend", source: source.into() })?;
        let (vm, plan, command) = (self.name.clone(), self.plan, Digest::of(&command));
        let sent = AuditEvent::Exec { vm, plan, program, command };
        Ok(self.engine.audit.append(&self.engine.settings.scope, vec![sent])?)
    }

    /// Sends what waits, waits a moment for something to come, and returns it.
    fn hear(&mut self) -> Result<Vec<Event>, EngineError> {
        let link_failed = |error: LinkError| EngineError::from(AttachError::from(error));
        self.link.send().map_err(link_failed)?;
        let flags = if self.link.has_output() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let wait = Timespec { tv_sec: 0, tv_nsec: LOOK.subsec_nanos().into() };
        match poll(&mut [PollFd::from_borrowed_fd(self.link.as_fd(), flags)], Some(&wait)) {
            Ok(0) | Err(Errno::INTR) => return Ok(Vec::new()),
            Ok(_) => {}
            Err(error) => {
                let source = error.into();
                return Err(AttachError::Io { act: "wait for the builder", source }.into());
            }
        }
        self.link.receive().map_err(link_failed)?;
        let mut events = Vec::new();
        while let Some(event) = self.link.wire.next_event() {
            match event {
                Event::Message(Message::Event { event: GuestEvent::Ended { message } }) => {
                    self.ended = Some(message);
                }
                event => events.push(event),
            }
        }
        self.link.send().map_err(link_failed)?;
        Ok(events)
    }
}

impl Drop for BuilderSession<'_> {
    fn drop(&mut self) {
        // It ends by itself when this connection is gone; this spares it the wait for processes. Whether that arrives is
        // nothing that could be told here.
        if !self.over() && self.request(Request::Stop { grace_ms: 0 }).is_ok() {
            drop(self.link.send());
        }
    }
}

/// A command that runs in the builder.
#[derive(Default)]
struct Command {
    id: u64,
    handle: Option<u32>,
    streams: [Option<StreamId>; 2],
    /// How it ended, and until when its output may go on.
    status: Option<(ExitStatus, Instant)>,
    /// When it was asked to end.
    asked: Option<Instant>,
    killed: bool,
}

impl Command {
    fn take(
        &mut self,
        event: Event,
        output: &mut dyn FnMut(OutputStream, &[u8]),
        link: &mut Link,
    ) -> Result<(), AttachError> {
        match event {
            Event::Message(Message::Response { id, result }) if id == self.id => match result {
                Ok(Reply::Started { handle, .. }) => self.handle = Some(handle),
                Ok(_) => {}
                Err(failure) => return Err(failure.into()),
            },
            Event::Message(Message::Event { event: GuestEvent::Exited { handle, status } })
                if self.handle == Some(handle) =>
            {
                self.status = Some((status, Instant::now() + LAST_WORDS));
            }
            Event::Data { stream, bytes } => {
                link.wire.consumed(stream, bytes.len());
                if self.streams[0] == Some(stream) {
                    output(OutputStream::Stdout, &bytes);
                } else if self.streams[1] == Some(stream) {
                    output(OutputStream::Stderr, &bytes);
                }
            }
            Event::Eof { stream } | Event::Reset { stream, .. } => {
                for own in &mut self.streams {
                    own.take_if(|own| *own == stream);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns how the command ended, when its output has ended too or has had its time.
    fn over(&self) -> Option<ExitStatus> {
        let (status, until) = self.status?;
        (Instant::now() > until || self.streams == [None, None]).then_some(status)
    }

    /// Gives up what is still open.
    fn abandon(&mut self, link: &mut Link) {
        for stream in self.streams.iter_mut().filter_map(Option::take) {
            link.wire.reset(stream, ResetReason::Closed);
        }
    }

    /// Returns the signal that it is to get now.
    fn next_signal(&mut self, cancel: &Cancel) -> Option<i32> {
        match self.asked {
            None if cancel.requested() => {
                self.asked = Some(Instant::now());
                Some(SIGINT)
            }
            Some(asked) if !self.killed && asked.elapsed() > PATIENCE => {
                self.killed = true;
                Some(SIGKILL)
            }
            _ => None,
        }
    }
}

/// Parses two lines of `df -P -k` and one of `/proc/vmstat`; what is not understood counts as nothing.
fn parse_state(text: &str) -> BuilderState {
    let mut state = BuilderState::default();
    let mut free = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["oom_kill", count] => state.killed_for_memory = count.parse().unwrap_or(0),
            [_, _, _, available, _, _] => {
                free.push(available.parse::<u64>().unwrap_or(0).saturating_mul(1024))
            }
            _ => {}
        }
    }
    state.store_free = free.first().copied().unwrap_or(0);
    state.scratch_free = free.get(1).copied().unwrap_or(0);
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left() {
        let text = "/dev/.volume-0 20511312 1024 20493904 1% /nix\noverlay 16777216 4096 15728640 1% /\noom_kill 2\n";
        let expected = BuilderState {
            store_free: 20_493_904 << 10,
            scratch_free: 15_728_640 << 10,
            killed_for_memory: 2,
        };
        assert_eq!(parse_state(text), expected);
        assert_eq!(parse_state("nonsense\n"), BuilderState::default());
    }
}
