//! The supervisor: the one process that owns a VM.
//!
//! ```text
//!             agent answers           main process exits, or stop
//!  booting ─────────────────► running ───────────────────────────► stopping ──► ended
//!     │                          │                                    │
//!     └──── hypervisor ends, deadline passes, protocol broken ────────┴───────► ended (killed)
//! ```
//!
//! One thread polls the agent, the clients, the guest's console and the hypervisor. Clients speak the guest's own
//! protocol; the supervisor renumbers their requests and streams and passes them on.

mod clients;
mod dialogue;
mod directories;
mod door;
mod forward;
mod joining;
mod log;
mod network;
mod notify;
mod pausing;
mod relay;
mod restart;
mod secrets;
mod services;
mod start;

pub use forward::ForwardError;
pub use notify::Notifier;
pub use restart::{Mode, supervise};
pub use start::Handshake;

use crate::journal::{EventLog, Happening, Journal, Origin, OutputStream};
use crate::link::{Link, LinkError};
use crate::vm::{Phase, State, VmDirectory, VmError};
use clients::Clients;
use forward::Forwarder;
use joining::Joining;
use log::BoundedLog;
use mvm_launch::Machine;
use mvm_wire::{
    Direction, Event, ExitStatus, Failure, FailureKind, GuestEvent, Limits, Message, Reply, Request,
    ResetReason, SendError, StreamError, StreamId, Streams, VersionError, WindowSize,
};
use relay::{Connections, Peer, Relay};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use secrets::{Delivery, DeliveryError};
use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

/// Name of the document's process whose end ends the VM.
pub use mvm_launch::MAIN_PROCESS as MAIN;
/// How long a guest may take to boot; emulation on a busy machine is slow.
const BOOT_LIMIT: Duration = Duration::from_secs(180);
/// How long after the end of grace a guest may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// How long a guest that is ready waits for someone to start its main process, and how long it may take to do so.
const START_LIMIT: Duration = Duration::from_secs(30);
/// What `SIGTERM` to the supervisor gives the guest's processes.
const TERM_GRACE: Duration = Duration::from_secs(10);
const CONSOLE_LIMIT: u64 = 1 << 20;
/// What is held of a guest's streams, each a pipe to somebody who may not read.
const GUEST_LIMITS: Limits = Limits {
    streams: 256,
    window: 256 * 1024,
    windows: 2 * 1024 * 1024,
    window_floor: 8 * 1024,
    output: 256 * 1024,
    output_hard: 4 * 1024 * 1024,
};
/// How much of the console's end is looked at for words on how the guest ended, and how much of a line is told.
const CONSOLE_END: u64 = 64 << 10;
const CONSOLE_LINE: usize = 512;

/// Says why a VM ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// The agent's pipe failed or the agent broke the protocol.
    #[error("the guest's agent")]
    Agent(#[from] LinkError),
    /// The agent speaks another protocol.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// The guest said that it can't boot.
    #[error("the guest can't boot (stage {stage}): {message}")]
    GuestFailed {
        /// What it was doing.
        stage: String,
        /// What it said.
        message: String,
    },
    /// The hypervisor ended while the guest should have been running.
    #[error("the hypervisor ended unexpectedly ({status}){}", words(said))]
    HypervisorEnded {
        /// How it ended.
        status: String,
        /// What it wrote to stderr, and the end of the console.
        said: String,
    },
    /// The guest's kernel gave up.
    #[error("the guest's kernel panicked: {}", console.trim())]
    GuestPanicked {
        /// What the console says of it.
        console: String,
    },
    /// Nobody serves a directory of the host any more, for which the guest would wait for ever.
    #[error("{0}")]
    DirectoryLost(String),
    /// The guest did not answer in time.
    #[error("the guest {what} within {} seconds{}", limit.as_secs(), words(console))]
    Deadline {
        /// What it did not do.
        what: &'static str,
        /// The limit.
        limit: Duration,
        /// The end of the console.
        console: String,
    },
    /// A secret did not get into the guest.
    #[error(transparent)]
    Secret(#[from] DeliveryError),
    /// A message doesn't fit.
    #[error("send to the guest")]
    Send(#[from] SendError),
    /// A system call failed that has no reason to.
    #[error("{act}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A port can't be forwarded.
    #[error(transparent)]
    Forward(#[from] ForwardError),
    /// The VM's directory could not be used.
    #[error(transparent)]
    Vm(#[from] VmError),
}

/// A VM and all who talk to it.
struct Supervisor {
    directory: VmDirectory,
    state: State,
    machine: Machine,
    guest: Link,
    console: Option<OwnedFd>,
    console_log: BoundedLog,
    /// What the main process and services write.
    journal: Journal,
    events: EventLog,
    listener: UnixListener,
    clients: Clients,
    forwarder: Forwarder,
    relay: Relay,
    /// Requests under way to the guest, by the number that the guest knows them by.
    pending: BTreeMap<u64, Pending>,
    next_request: u64,
    /// Requests that came before the guest was ready.
    early: Vec<(u32, u64, Request)>,
    /// Which clients hear of a process's end.
    owners: BTreeMap<u32, Vec<u32>>,
    /// Whether there is, or is to be, a main process.
    has_main: bool,
    /// The client for whom it runs without its main process.
    holder: Option<u32>,
    /// Whether the plan has health checks.
    has_checks: bool,
    main: Option<u32>,
    main_pid: u32,
    /// The guest's streams of the main process.
    main_streams: Streams,
    joining: Vec<Joining>,
    main_exit: Option<ExitStatus>,
    ready: bool,
    secrets: Delivery,
    /// What is to be said once the main process runs, if it starts by itself.
    announcement: Option<Handshake>,
    /// Whether its main process starts by itself.
    detached: bool,
    /// How its main process runs when nobody is attached; absent if it has none.
    unattended: Option<Unattended>,
    /// When the guest is killed unless it has got further by then, and how that is put into words.
    deadline: Option<(Instant, &'static str, Duration)>,
    stopping: bool,
    /// Whether somebody wants it to end, other than itself.
    asked: bool,
    paused: bool,
    services: services::Services,
    signals: UnixStream,
    /// Who wants to hear when it is up.
    notifier: Option<Notifier>,
}

/// What the plan gives a main process that nobody is attached to.
#[derive(Clone, Copy, Debug, Default)]
struct Unattended {
    terminal: bool,
    stdin: bool,
}

struct Pending {
    /// The client and its own number for the request; `None` for the supervisor's own.
    from: Option<(u32, u64)>,
    starts_main: bool,
}

/// What became readable.
#[derive(Clone, Copy)]
enum Source {
    Guest,
    Console,
    Machine,
    Directory,
    Listener,
    Signals,
    Client(u32),
}

struct Peers<'a> {
    guest: &'a mut Link,
    clients: &'a mut Clients,
}

impl Connections for Peers<'_> {
    fn connection(&mut self, peer: Peer) -> Option<&mut mvm_wire::Connection> {
        match peer {
            Peer::Guest => (!self.guest.closed()).then_some(&mut self.guest.wire),
            Peer::Client(id) => self.clients.link(id).map(|link| &mut link.wire),
        }
    }
}

impl Supervisor {
    /// Runs until the hypervisor has ended.
    fn run(&mut self) -> Result<(), SupervisorError> {
        self.guest.wire.send(&hello())?;
        self.deadline = Some((Instant::now() + BOOT_LIMIT, "did not boot", BOOT_LIMIT));
        let outcome = self.serve();
        // Whatever happened: from here on nothing of the VM may be left running, nor be about to end.
        self.machine.kill().and_then(|()| self.machine.wait()).map_err(io_error("end the hypervisor"))?;
        self.read_console()?;
        outcome
    }

    fn serve(&mut self) -> Result<(), SupervisorError> {
        loop {
            self.flush()?;
            self.notify();
            for source in self.wait()? {
                match source {
                    Source::Machine => return self.hypervisor_ended(),
                    Source::Directory => self.directory_ended()?,
                    Source::Guest => self.hear_guest()?,
                    Source::Console => self.read_console()?,
                    Source::Listener => {
                        self.clients.accept(&self.listener).map_err(io_error("accept a client"))?
                    }
                    Source::Signals => {
                        self.take_signals()?;
                        self.asked = true;
                        self.stop(TERM_GRACE)?;
                    }
                    Source::Client(client) => self.hear_client(client)?,
                }
            }
            self.write_told();
            if let Some((at, what, limit)) = self.deadline
                && Instant::now() >= at
            {
                return Err(SupervisorError::Deadline { what, limit, console: self.console_end() });
            }
        }
    }

    /// Pumps all pipes and sends all that waits to be sent.
    fn flush(&mut self) -> Result<(), SupervisorError> {
        let mut peers = Peers { guest: &mut self.guest, clients: &mut self.clients };
        self.relay.pump(&mut peers, &mut self.journal);
        self.secrets.pump(&mut self.guest.wire);
        self.guest.send()?;
        for gone in self.clients.send() {
            self.client_gone(gone)?;
        }
        Ok(())
    }

    /// Waits until something can be read, and says what.
    fn wait(&self) -> Result<Vec<Source>, SupervisorError> {
        let read = PollFlags::IN;
        let both = PollFlags::IN | PollFlags::OUT;
        let mut watched: Vec<(Source, BorrowedFd<'_>, PollFlags)> = vec![
            (Source::Listener, self.listener.as_fd(), read),
            (Source::Signals, self.signals.as_fd(), read),
        ];
        if self.guest.closed() {
            // Its last words are in; now the hypervisor's own end counts.
            watched.push((Source::Machine, self.machine.pidfd(), read));
        } else {
            let mut flags = if self.guest.has_output() { PollFlags::OUT } else { PollFlags::empty() };
            if !self.guest.wire.is_congested() {
                flags |= read;
            }
            watched.push((Source::Guest, self.guest.as_fd(), flags));
        }
        if let Some(console) = &self.console {
            watched.push((Source::Console, console.as_fd(), read));
        }
        watched.extend(self.machine.directory_pidfds().map(|pidfd| (Source::Directory, pidfd, read)));
        for (id, link) in self.clients.links() {
            watched.push((Source::Client(id), link.as_fd(), if link.has_output() { both } else { read }));
        }
        let mut polled: Vec<PollFd<'_>> = watched
            .iter()
            .map(|&(_, descriptor, flags)| PollFd::from_borrowed_fd(descriptor, flags))
            .collect();
        let due = [self.deadline.map(|(at, ..)| at), self.services.due()].into_iter().flatten().min();
        let timeout =
            due.map(|at| timespec(at.saturating_duration_since(Instant::now()) + Duration::from_millis(1)));
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(io_error("wait for the guest")(error.into())),
        }
        let readable = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        let ready = watched.iter().zip(&polled).filter(|(_, polled)| polled.revents().intersects(readable));
        Ok(ready.map(|(&(source, ..), _)| source).collect())
    }

    /// Asks the guest to end, or ends it at once when it can't be asked.
    fn stop(&mut self, grace: Duration) -> Result<(), SupervisorError> {
        let limit = grace + STOP_LIMIT;
        let at = Instant::now() + limit;
        if self.deadline.is_none_or(|(sooner, ..)| !self.stopping || at < sooner) {
            self.deadline = Some((at, "did not stop", limit));
        }
        if !self.stopping {
            self.stopping = true;
            if self.asked {
                self.tell(Happening::Stopping {});
            }
            if let Some(notifier) = &mut self.notifier {
                notifier.stopping();
            }
        }
        if !self.ready {
            return self.machine.kill().map_err(io_error("end the hypervisor"));
        }
        // One that doesn't run can't be asked.
        self.resume()?;
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.ask_guest(Request::Stop { grace_ms }, None, false)
    }

    /// Notes in the store's events what happens to the VM.
    fn tell(&mut self, what: Happening) {
        self.events.tell(&self.directory.name(), what);
    }

    /// Sends a request to the guest and remembers who wants the answer.
    fn ask_guest(
        &mut self,
        request: Request,
        from: Option<(u32, u64)>,
        starts_main: bool,
    ) -> Result<(), SupervisorError> {
        let id = self.next_request;
        self.next_request += 1;
        if starts_main && !self.stopping {
            self.deadline = Some((Instant::now() + START_LIMIT, "did not start its command", START_LIMIT));
        }
        self.pending.insert(id, Pending { from, starts_main });
        Ok(self.guest.wire.send(&Message::Request { id, request })?)
    }

    /// Returns the exit code of the main process, if that has ended.
    fn exit_code(&self) -> Option<u8> {
        self.main_exit.map(ExitStatus::exit_code)
    }

    /// Gives the clients the last of what is theirs, then hangs up; those that don't take it within `patience` lose it.
    fn hang_up(&mut self, words: &str, patience: Option<Duration>) -> Result<(), SupervisorError> {
        // The guest's streams end with it.
        self.relay.source_gone(Peer::Guest);
        let until = patience.map(|patience| Instant::now() + patience);
        self.clients.tell_all(&Message::Event { event: GuestEvent::Ended { message: words.to_owned() } });
        loop {
            self.flush()?;
            if self.relay.drained() && self.clients.links().all(|(_, link)| !link.has_output()) {
                return Ok(());
            }
            let mut polled: Vec<PollFd<'_>> = self
                .clients
                .links()
                .map(|(_, link)| {
                    let flags =
                        if link.has_output() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
                    PollFd::from_borrowed_fd(link.as_fd(), flags)
                })
                .collect();
            let left = match until.map(|until| until.checked_duration_since(Instant::now())) {
                Some(None) => return Ok(()),
                Some(Some(left)) => Some(timespec(left)),
                None => None,
            };
            match poll(&mut polled, left.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(io_error("wait for clients")(error.into())),
            }
            let clients: Vec<u32> = self.clients.links().map(|(id, _)| id).collect();
            for client in clients {
                self.hear_leaving(client);
            }
        }
    }

    /// Takes what says that a signal came, so that it is acted on once.
    fn take_signals(&self) -> Result<(), SupervisorError> {
        match rustix::io::read(&self.signals, &mut [0; 64]) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(io_error("take a signal")(error.into())),
        }
    }

    fn hypervisor_ended(&mut self) -> Result<(), SupervisorError> {
        self.read_console()?;
        if self.stopping || self.main_exit.is_some() {
            return Ok(());
        }
        if let Some(words) = self.machine.failed_directory() {
            return Err(SupervisorError::DirectoryLost(words));
        }
        let console = self.console_end();
        if console.contains("Kernel panic") {
            return Err(SupervisorError::GuestPanicked { console });
        }
        let status = self.machine.try_wait().map_err(io_error("ask how the hypervisor ended"))?;
        let status = status.map_or_else(|| "unknown status".to_owned(), |status| status.to_string());
        let said: Vec<String> = [self.machine.stderr(), console]
            .into_iter()
            .map(|said| said.trim().replace('\n', "; "))
            .filter(|said| !said.is_empty())
            .collect();
        Err(SupervisorError::HypervisorEnded { status, said: said.join("; ") })
    }

    /// Moves what the guest printed on its console into the log.
    fn read_console(&mut self) -> Result<(), SupervisorError> {
        let mut buffer = [0; 16 * 1024];
        while let Some(console) = &self.console {
            match rustix::io::read(console, &mut buffer) {
                Ok(0) => self.console = None,
                Ok(count) => {
                    self.console_log.append(&buffer[..count]);
                    // One piece at a time, so that a guest which floods its console holds nothing up.
                    if count == buffer.len() {
                        break;
                    }
                }
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(io_error("read the guest's console")(error.into())),
            }
        }
        Ok(())
    }
}

fn timespec(left: Duration) -> Timespec {
    Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() }
}

fn hello() -> Message {
    Message::Hello(mvm_wire::Hello::current(concat!("mvm supervisor ", env!("CARGO_PKG_VERSION"))))
}

fn words(said: &str) -> String {
    if said.trim().is_empty() { String::new() } else { format!(": {}", said.trim()) }
}

fn io_error(act: &'static str) -> impl FnOnce(io::Error) -> SupervisorError {
    move |source| SupervisorError::Io { act, source }
}

#[cfg(test)]
mod held_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;
