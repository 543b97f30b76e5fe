//! The agent: what the host asks, and what processes say.
//!
//! ```text
//! serving ── the main process ends ──► main ended ── 5 s ──────────────────────┐
//!    │                                     │ stop                              ▼
//!    └── stop ──► stopping ── grace over ──► killing ── no process left, 2 s ──► over
//!                     └── no process left ───────────────────────────────────────▲
//! ```
//!
//! A host that hangs up ends it at once.

mod files;
mod forwards;
mod health;
mod processes;
mod requests;
mod secrets;
mod services;
mod streams;
mod words;

use crate::cgroup::Tree;
use crate::{boot, console, end};
use forwards::Forwards;
use health::Checks;
use mvm_wire::{
    BootFacts, BootStage, Connection, Event, ExitStatus, GuestDocument, GuestEvent, Hello, Limits, Message,
    ProtocolError, Request, Role, SendError, VersionError, negotiate,
};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use processes::Processes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus, wait};
use secrets::Secrets;
use services::Services;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How long the host may take to stop the machine after the main process ended.
const MAIN_ENDED_WAIT: Duration = Duration::from_secs(5);
/// How long killed processes may take to go.
const KILL_WAIT: Duration = Duration::from_secs(2);
/// How long the host may take to read the last words.
const FLUSH_WAIT: Duration = Duration::from_secs(2);
/// Bytes taken from the port before processes get their turn.
const TURN: usize = 256 * 1024;
/// Bytes that are worth sending at once.
const ENOUGH: usize = 64 * 1024;

/// Why the agent gave up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    #[error("the host hung up")]
    HungUp,
    #[error("the host broke the protocol")]
    Protocol(#[from] ProtocolError),
    #[error("sending to the host failed")]
    Send(#[from] SendError),
    #[error("the host can't be spoken to")]
    Version(#[from] Box<VersionError>),
    #[error("{act} failed")]
    Io {
        act: &'static str,
        #[source]
        source: io::Error,
    },
}

/// Where the agent is in its life.
#[derive(Debug, Clone, Copy)]
enum Phase {
    Serving,
    MainEnded { until: Instant },
    Stopping { until: Instant },
    Killing { until: Instant },
    Over,
}

struct Agent {
    wire: Connection,
    port: OwnedFd,
    document: GuestDocument,
    processes: Processes,
    secrets: Secrets,
    /// Streams to ports.
    forwards: Forwards,
    copies: files::Copies,
    /// Which processes of the document were started, by index.
    started: BTreeSet<usize>,
    /// The control groups, or why there are none.
    groups: Result<Tree, String>,
    services: Services,
    checks: Checks,
    phase: Phase,
    hello: Hello,
}

/// Serves the host until the machine should end.
pub(crate) fn serve(port: OwnedFd, document: GuestDocument) -> Result<(), AgentError> {
    let signals = watch_children()
        .map_err(|error| AgentError::Io { act: "watching processes", source: error.into() })?;
    let own = document.interface.iter().flat_map(|interface| &interface.addresses);
    let own = own.map(|address| address.address).collect();
    let groups = Tree::make(!document.processes.is_empty(), !document.services.is_empty())
        .map_err(|error| console::chain(&error));
    let mut agent = Agent {
        groups,
        services: Services::new(&document, Instant::now()),
        checks: Checks::new(&document),
        wire: Connection::new(Role::Guest, Limits::default()),
        port,
        document,
        processes: Processes::default(),
        secrets: Secrets::default(),
        forwards: Forwards::new(own),
        copies: files::Copies::default(),
        started: BTreeSet::new(),
        phase: Phase::Serving,
        hello: hello(),
    };
    agent.wire.send(&Message::Hello(agent.hello.clone()))?;
    agent.wire.send(&Message::Event { event: GuestEvent::Ready { facts: facts() } })?;
    let served = agent.run(&signals);
    match served {
        Ok(()) | Err(AgentError::Version(_)) => flush(&mut agent.wire, &agent.port)?,
        Err(_) => {}
    }
    served
}

/// Tells the host that the guest can't boot, if it can be told.
pub(crate) fn report_failure(stage: BootStage, message: String) {
    let Ok(port) = boot::open_port(Duration::from_secs(1)) else {
        return;
    };
    let mut wire = Connection::new(Role::Guest, Limits::default());
    let sent = wire
        .send(&Message::Hello(hello()))
        .and_then(|()| wire.send(&Message::Event { event: GuestEvent::Failed { stage, message } }));
    if let Err(error) = sent.map_err(AgentError::from).and_then(|()| flush(&mut wire, &port)) {
        console::say(&console::chain(&error));
    }
}

impl Agent {
    fn run(&mut self, signals: &SignalFd) -> Result<(), AgentError> {
        self.write()?;
        loop {
            self.advance_phase();
            if matches!(self.phase, Phase::Over) {
                return Ok(());
            }
            let (port, children) = self.wait(signals)?;
            if children {
                self.reap(signals)?;
            }
            // What the host sent before it hung up has no more meaning: there is nobody to tell.
            if port.contains(PollFlags::HUP) {
                return Err(AgentError::HungUp);
            }
            if port.contains(PollFlags::IN) {
                self.read()?;
            }
            let now = Instant::now();
            self.services.advance(now);
            self.checks.advance(&mut self.services, now);
            self.checks.take_output();
            self.gather();
            for (id, result) in self.forwards.take_answers() {
                self.wire.send(&Message::Response { id, result })?;
            }
            for answer in self.copies.pump(&mut self.wire) {
                self.respond(Some(answer))?;
            }
            for (handle, status, main) in self.processes.take_ended(&mut self.wire) {
                self.wire.send(&Message::Event { event: GuestEvent::Exited { handle, status } })?;
                if main && matches!(self.phase, Phase::Serving) {
                    self.phase = Phase::MainEnded { until: Instant::now() + MAIN_ENDED_WAIT };
                }
            }
            self.tell_changes()?;
            self.write()?;
        }
    }

    /// Moves what can be moved. A process that writes little at a time gets to write more before it is sent: a turn
    /// of the loop and the host's attention cost far more than the bytes.
    fn gather(&mut self) {
        loop {
            let processes = self.processes.pump(&mut self.wire);
            let services = self.services.pump(&mut self.wire);
            let forwards = self.forwards.pump(&mut self.wire);
            if !(processes || services || forwards) || self.wire.output().len() >= ENOUGH {
                break;
            }
            std::thread::yield_now();
        }
    }

    /// Tells what changed of services and health checks; as much as the host takes, so that what changes faster is
    /// told less often.
    fn tell_changes(&mut self) -> Result<(), AgentError> {
        let now = Instant::now();
        while !self.wire.is_congested() {
            let services: Vec<_> = self.services.take_changed(now).into_iter().collect();
            let health: Vec<_> = self.checks.take_changed(now).into_iter().collect();
            if services.is_empty() && health.is_empty() {
                break;
            }
            self.wire.send(&Message::Event { event: GuestEvent::Changed { services, health } })?;
        }
        Ok(())
    }

    /// Sleeps until something can be done; returns what the port is ready for, and whether a process ended.
    fn wait(&mut self, signals: &SignalFd) -> Result<(PollFlags, bool), AgentError> {
        let mut wanted = PollFlags::empty();
        wanted.set(PollFlags::IN, !self.wire.is_congested());
        wanted.set(PollFlags::OUT, !self.wire.output().is_empty());
        let mut fds = vec![PollFd::new(&self.port, wanted), PollFd::new(signals, PollFlags::IN)];
        self.processes.add_interests(&self.wire, &mut fds);
        self.forwards.add_interests(&self.wire, &mut fds);
        self.services.add_interests(&self.wire, &mut fds);
        self.checks.add_interests(&mut fds);
        self.copies.add_interests(&self.wire, &mut fds);
        let timeout = self.timeout();
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(AgentError::Io { act: "waiting for events", source: error.into() }),
        }
        let port = fds[0].revents();
        let children = !fds[1].revents().is_empty();
        Ok((port, children))
    }

    fn timeout(&self) -> Option<Timespec> {
        let now = Instant::now();
        let phase = match self.phase {
            Phase::Serving => None,
            Phase::MainEnded { until } | Phase::Stopping { until } | Phase::Killing { until } => Some(until),
            Phase::Over => Some(now),
        };
        let wakes = [phase, self.services.wakes(now), self.checks.wakes()];
        let left = wakes.into_iter().flatten().min()?.saturating_duration_since(now);
        Some(Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        })
    }

    fn advance_phase(&mut self) {
        let now = Instant::now();
        self.phase = match self.phase {
            Phase::Stopping { .. } | Phase::Killing { .. }
                if self.processes.is_empty() && self.services.is_empty() =>
            {
                Phase::Over
            }
            Phase::MainEnded { until } | Phase::Killing { until } if now >= until => Phase::Over,
            Phase::Stopping { until } if now >= until => {
                end::kill_all();
                Phase::Killing { until: now + KILL_WAIT }
            }
            same => same,
        };
    }

    /// Takes the end of every process that has ended, its own and the orphans that PID 1 inherits.
    fn reap(&mut self, signals: &SignalFd) -> Result<(), AgentError> {
        let error = |error: nix::Error| AgentError::Io { act: "reading a signal", source: error.into() };
        while signals.read_signal().map_err(error)?.is_some() {}
        let now = Instant::now();
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.note_end(pid, status, now),
                Ok(None) | Err(Errno::CHILD) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => {
                    return Err(AgentError::Io { act: "waiting for a process", source: error.into() });
                }
            }
        }
    }

    fn note_end(&mut self, pid: Pid, status: WaitStatus, now: Instant) {
        let status = match (status.exit_status(), status.terminating_signal()) {
            // An exit status has eight bits.
            (Some(code), _) => ExitStatus::Code(u8::try_from(code & 0xff).unwrap_or(u8::MAX)),
            (None, Some(signal)) => ExitStatus::Signal(signal),
            (None, None) => return,
        };
        if !self.services.reaped(pid, status, now) && !self.checks.reaped(pid, status, now) {
            self.processes.reaped(pid, status);
        }
    }

    fn read(&mut self) -> Result<(), AgentError> {
        let mut buffer = [0; 64 * 1024];
        let mut taken = 0;
        while taken < TURN && !self.wire.is_congested() {
            match rustix::io::read(&self.port, &mut buffer) {
                Ok(0) => return Err(AgentError::HungUp),
                Ok(count) => {
                    taken += count;
                    self.wire.receive(&buffer[..count])?;
                    while let Some(event) = self.wire.next_event() {
                        self.handle(event)?;
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::NODEV) => return Err(AgentError::HungUp),
                Err(error) => return Err(AgentError::Io { act: "reading the port", source: error.into() }),
            }
        }
        Ok(())
    }

    /// Gives an answer that was ready only now.
    fn respond(&mut self, answer: Option<secrets::Answer>) -> Result<(), AgentError> {
        match answer {
            Some((id, result)) => Ok(self.wire.send(&Message::Response { id, result })?),
            None => Ok(()),
        }
    }

    fn write(&mut self) -> Result<(), AgentError> {
        write_some(&mut self.wire, &self.port)
    }

    fn handle(&mut self, event: Event) -> Result<(), AgentError> {
        match event {
            Event::Message(Message::Request { id, request: Request::Secret { name, stream } }) => {
                let begun = match self.started.is_empty() && self.processes.is_empty() {
                    true => self.secrets.begin(&mut self.wire, &self.document, (id, name, stream)),
                    false => Err(requests::invalid("something was started already".to_owned())),
                };
                self.respond(begun.err().map(|failure| (id, Err(failure))))
            }
            Event::Message(Message::Request {
                id,
                request: Request::Connect { port, transport, stream },
            }) => {
                self.forwards.connect(&mut self.wire, id, (port, transport, stream));
                Ok(())
            }
            Event::Message(Message::Request { id, request: Request::Unpack { path, owners, stream } }) => {
                let begun = self.copies.unpack(&mut self.wire, id, (&path, owners, stream));
                self.respond(begun.err().map(|failure| (id, Err(failure))))
            }
            Event::Message(Message::Request { id, request }) => {
                let result = self.answer(request);
                Ok(self.wire.send(&Message::Response { id, result })?)
            }
            Event::Message(Message::Hello(theirs)) => match negotiate(&self.hello, &theirs) {
                Ok(_) => Ok(()),
                Err(error) => {
                    let (stage, message) = (BootStage::Agent, error.to_string());
                    self.wire.send(&Message::Event { event: GuestEvent::Failed { stage, message } })?;
                    Err(AgentError::Version(Box::new(error)))
                }
            },
            Event::Message(Message::Response { .. } | Message::Event { .. }) => {
                console::say("the host sent a message that only guests send");
                Ok(())
            }
            Event::Data { stream, bytes } if self.secrets.has(stream) => {
                let answer = self.secrets.take_data(&mut self.wire, &bytes);
                self.respond(answer)
            }
            Event::Eof { stream } if self.secrets.has(stream) => {
                let answer = self.secrets.take_eof(&self.document);
                self.respond(answer)
            }
            Event::Reset { stream, .. } if self.secrets.has(stream) => {
                let answer = self.secrets.take_reset();
                self.respond(answer)
            }
            Event::Data { stream, bytes } if self.forwards.has(stream) => {
                self.forwards.take_data(&mut self.wire, stream, &bytes);
                Ok(())
            }
            Event::Eof { stream } if self.forwards.has(stream) => {
                self.forwards.take_eof(stream);
                Ok(())
            }
            Event::Reset { stream, .. } if self.forwards.has(stream) => {
                self.forwards.take_reset(stream);
                Ok(())
            }
            Event::Data { stream, bytes } => {
                if self.copies.take_data(&mut self.wire, stream, &bytes) {
                    return Ok(());
                }
                self.processes.take_data(&mut self.wire, stream, &bytes);
                Ok(())
            }
            Event::Eof { stream } => {
                self.copies.take_eof(stream);
                self.processes.take_eof(stream);
                Ok(())
            }
            Event::Reset { stream, .. } => {
                self.copies.take_reset(stream);
                self.processes.take_reset(&mut self.wire, stream);
                self.services.take_reset(stream);
                Ok(())
            }
            // A request names the stream; credit is looked at before each wait.
            Event::Opened { .. } | Event::Credit { .. } => Ok(()),
        }
    }
}

/// Writes what waits to be sent, as far as the port takes it.
fn write_some(wire: &mut Connection, port: &OwnedFd) -> Result<(), AgentError> {
    while !wire.output().is_empty() {
        match rustix::io::write(port, wire.output()) {
            Ok(count) => wire.advance(count),
            Err(Errno::AGAIN) => break,
            Err(Errno::INTR) => {}
            Err(Errno::PIPE | Errno::NODEV) => return Err(AgentError::HungUp),
            Err(error) => return Err(AgentError::Io { act: "writing to the port", source: error.into() }),
        }
    }
    Ok(())
}

/// Writes everything that waits to be sent, within a limit of time.
fn flush(wire: &mut Connection, port: &OwnedFd) -> Result<(), AgentError> {
    let until = Instant::now() + FLUSH_WAIT;
    loop {
        write_some(wire, port)?;
        if wire.output().is_empty() || Instant::now() >= until {
            return Ok(());
        }
        let mut fds = [PollFd::new(port, PollFlags::OUT)];
        match poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 100_000_000 })) {
            Ok(_) if fds[0].revents().contains(PollFlags::HUP) => return Err(AgentError::HungUp),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(AgentError::Io { act: "waiting for the port", source: error.into() }),
        }
    }
}

/// Turns the signal for a process's end into something to read.
fn watch_children() -> nix::Result<SignalFd> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.thread_block()?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}

fn hello() -> Hello {
    Hello::current(concat!("mvm-guest ", env!("CARGO_PKG_VERSION")))
}

fn facts() -> BootFacts {
    let name = rustix::system::uname();
    let memory = rustix::system::sysinfo();
    BootFacts {
        kernel: name.release().to_string_lossy().into_owned(),
        machine: name.machine().to_string_lossy().into_owned(),
        boot_ms: uptime_ms(),
        cpus: std::thread::available_parallelism()
            .map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX)),
        memory_kib: memory.totalram.saturating_mul(memory.mem_unit.into()) / 1024,
    }
}

/// Returns the time since the kernel started.
fn uptime_ms() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(time.tv_sec * 1000 + time.tv_nsec / 1_000_000).unwrap_or(0)
}
