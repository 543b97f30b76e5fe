//! From launch to launch: a VM that ended is launched again where its record says so, each time through the door.

use super::clients::Clients;
use super::door::put_failure_on_record;
use super::start::{end, launch, say, secrets_of, take_over_signals};
use super::{Handshake, Notifier, SupervisorError, io_error};
use crate::engine::Engine;
use crate::error::{EngineError, chain};
use crate::journal::{EventLog, Happening};
use crate::secrets::Secret;
use crate::vm::{Backoff, Phase, Record, State, VmDirectory};
use mvm_wire::{Event, Failure, FailureKind, Message, Reply, Request};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

/// Whom a supervisor works for.
#[derive(Debug)]
pub enum Mode {
    /// The command that started it, which starts the main process.
    Attached,
    /// Nobody, once it has said that the main process runs.
    Detached,
    /// Whoever waits for its end, such as a service manager that may want to hear when the VM is up.
    Foreground {
        /// Tells the service manager.
        notifier: Option<Notifier>,
        /// The VM's secrets.
        secrets: Vec<Secret>,
    },
}

/// What became of a VM.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Exit code of the main process, if that ran.
    pub exit_code: Option<u8>,
    /// Whether its main process, or the VM, failed.
    pub failed: bool,
    /// Whether somebody asked it to end.
    pub asked: bool,
}

/// Admits and launches the VM of a directory, serves it to its end, and does so again as its record says.
pub fn supervise(engine: &Engine, path: &Path, mode: Mode) -> Result<Ended, EngineError> {
    // It may get another name while it runs.
    let held = VmDirectory::open(path)?.held()?;
    let signals = take_over_signals()?;
    let (detached, foreground, mut notifier, secrets) = match mode {
        Mode::Attached => (false, false, None, secrets_of(&held.record()?)),
        Mode::Detached => (true, false, None, secrets_of(&held.record()?)),
        Mode::Foreground { notifier, secrets } => (true, true, notifier, Ok(secrets)),
    };
    let secrets = match secrets {
        Ok(secrets) => secrets,
        Err(error) => return refuse(engine, &held, &held.record()?, &error),
    };
    let mut backoff = Backoff::default();
    let mut restarts = 0;
    loop {
        let directory = held.settled()?;
        let record = directory.record()?;
        let begun = Instant::now();
        let signals_of_launch = signals.try_clone().map_err(io_error("take over signals"))?;
        let launched = match launch(engine, &directory, &record, restarts) {
            Ok(launched) => launched,
            Err(error) if restarts > 0 || foreground => return give_up(engine, &directory, &record, error),
            Err(error) => return refuse(engine, &directory, &record, &error),
        };
        let announcement = launched.announce(detached, foreground || restarts > 0)?;
        let (mut supervisor, plan) =
            launched.into_supervisor(engine, &directory, announcement, signals_of_launch, secrets.clone())?;
        supervisor.detached = detached;
        supervisor.notifier = notifier.take();
        let outcome = supervisor.run();
        notifier = supervisor.notifier.take();
        backoff.ran(begun.elapsed());
        let failed = outcome.is_err() || supervisor.exit_code().is_some_and(|code| code != 0);
        // Another process may have changed the record meanwhile, or removed it.
        let again = held.record().is_ok_and(|record| {
            !supervisor.asked && detached && record.restart.allows(failed, backoff.attempts())
        });
        let ended = Ended { exit_code: supervisor.exit_code(), failed, asked: supervisor.asked };
        // Whoever comes between two launches finds it there.
        let listener = supervisor.listener.try_clone().map_err(io_error("keep the control socket"))?;
        let last = end(engine, supervisor, &record, &plan, outcome, again)?;
        if !again {
            return Ok(ended);
        }
        restarts += 1;
        if !wait(engine, &held, &mut backoff, listener, &signals, &last)? {
            return Ok(Ended { asked: true, ..ended });
        }
        if let Err(error) = engine.renew_plan(&held) {
            return give_up(engine, &held, &held.record()?, error);
        }
    }
}

/// Tells whoever waits for the launch that there is none.
fn refuse(
    engine: &Engine,
    directory: &VmDirectory,
    record: &Record,
    error: &EngineError,
) -> Result<Ended, EngineError> {
    put_failure_on_record(engine, directory, record, error)?;
    let (message, kind) = (chain(error), error.kind().into());
    say(&Handshake::Failed { message, kind, hint: error.hint() })?;
    Ok(Ended { exit_code: None, failed: true, asked: false })
}

/// Notes that a VM could not be launched again.
fn give_up(
    engine: &Engine,
    directory: &VmDirectory,
    record: &Record,
    error: EngineError,
) -> Result<Ended, EngineError> {
    put_failure_on_record(engine, directory, record, &error)?;
    let message = format!("it could not be launched again: {}", chain(&error));
    let state = directory.state()?;
    directory.write_end(&State {
        phase: Phase::Failed,
        message: Some(message.clone()),
        finished_at: Some(crate::clock::unix_seconds()),
        ..state
    })?;
    EventLog::new(&engine.settings.root).tell(&directory.name(), Happening::Died { message });
    Err(error)
}

/// Waits until the next launch is due; returns whether nobody stopped the VM meanwhile, whose `last` state then is its state.
fn wait(
    engine: &Engine,
    directory: &VmDirectory,
    backoff: &mut Backoff,
    listener: UnixListener,
    signals: &UnixStream,
    last: &State,
) -> Result<bool, EngineError> {
    let attempt = backoff.attempts() + 1;
    let delay = backoff.next();
    let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    EventLog::new(&engine.settings.root).tell(&directory.name(), Happening::Restarting { attempt, delay_ms });
    // Clients hear of the end only when it is written down.
    let mut clients = Clients::default();
    let goes_on = listen(&listener, signals, &mut clients, Instant::now() + delay)?;
    if goes_on {
        directory.remove_socket()?;
    } else {
        directory.write_end(last)?;
    }
    Ok(goes_on)
}

/// Takes clients until a moment; returns whether none of them asked to stop.
fn listen(
    listener: &UnixListener,
    signals: &UnixStream,
    clients: &mut Clients,
    until: Instant,
) -> Result<bool, SupervisorError> {
    loop {
        for gone in clients.send() {
            clients.remove(gone);
        }
        let Some(left) = until.checked_duration_since(Instant::now()) else { return Ok(true) };
        if !poll_once(listener, signals, clients, left)? {
            // A SIGTERM.
            return Ok(false);
        }
        clients.accept(listener).map_err(io_error("accept a client"))?;
        let ids: Vec<u32> = clients.links().map(|(id, _)| id).collect();
        for id in ids {
            if hear(clients, id) {
                // It hears that it is done by the end of the connection, at the latest.
                clients.send();
                return Ok(false);
            }
        }
    }
}

/// Waits for anything to happen; returns whether no signal came.
fn poll_once(
    listener: &UnixListener,
    signals: &UnixStream,
    clients: &Clients,
    left: Duration,
) -> Result<bool, SupervisorError> {
    let read = PollFlags::IN;
    let mut polled = vec![
        PollFd::from_borrowed_fd(signals.as_fd(), read),
        PollFd::from_borrowed_fd(listener.as_fd(), read),
    ];
    for (_, link) in clients.links() {
        let flags = if link.has_output() { read | PollFlags::OUT } else { read };
        polled.push(PollFd::from_borrowed_fd(link.as_fd(), flags));
    }
    let left = left + Duration::from_millis(1);
    let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
    match poll(&mut polled, Some(&timeout)) {
        Ok(_) => Ok(polled[0].revents().is_empty()),
        Err(rustix::io::Errno::INTR) => Ok(true),
        Err(error) => Err(io_error("wait for clients")(error.into())),
    }
}

/// Takes what a client says; returns whether it asks to stop.
fn hear(clients: &mut Clients, id: u32) -> bool {
    let Some(link) = clients.link(id) else { return false };
    let alive = link.receive().unwrap_or(false);
    let events: Vec<Event> = std::iter::from_fn(|| link.wire.next_event()).collect();
    let mut stop = false;
    for event in events {
        let Event::Message(Message::Request { id: request, request: asked }) = event else { continue };
        let result = if matches!(asked, Request::Stop { .. }) {
            stop = true;
            Ok(Reply::Done {})
        } else {
            let message = "the VM is about to be started again".to_owned();
            Err(Failure { kind: FailureKind::Invalid, message })
        };
        clients.tell(id, &Message::Response { id: request, result });
    }
    if !alive {
        clients.remove(id);
    }
    stop
}
