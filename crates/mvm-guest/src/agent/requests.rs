//! Answers to the host's requests.

use super::{Agent, Phase, files, uptime_ms};
use crate::console;
use crate::process::spawn::{self, StandardStreams};
use crate::process::{Circumstances, Rights};
use mvm_wire::{
    Direction, Failure, FailureKind, Memory, Process, Reply, Request, ResetReason, ServiceOutput, StreamId,
    Streams, WindowSize,
};
use rustix::time::{ClockId, Timespec};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Processes at one time.
const MAX_PROCESSES: usize = 64;
/// The longest grace that a stop may ask for: a day.
const MAX_GRACE_MS: u64 = 24 * 60 * 60 * 1000;
const DEFAULT_SIZE: WindowSize = WindowSize { rows: 24, cols: 80 };

impl Agent {
    /// Does what a request asks.
    pub(super) fn answer(&mut self, request: Request) -> Result<Reply, Failure> {
        match request {
            Request::Start { process, streams } => {
                let started = self.start(&process, &streams);
                started.inspect_err(|_| self.give_up(&streams))
            }
            Request::Exec { process, streams } => {
                let valid = process.validate().map_err(|error| invalid(error.to_string()));
                let started = valid.and_then(|()| self.launch(&process, &streams, false));
                started.inspect_err(|_| self.give_up(&streams))
            }
            Request::Signal { handle, signal } => {
                let process = self.process(handle)?;
                if !(1..=64).contains(&signal) {
                    return Err(invalid(format!("signal is {signal}, expected 1 to 64")));
                }
                spawn::send_signal(process.pid, signal)
                    .map_err(|error| internal(format!("sending signal {signal} failed: {error}")))?;
                Ok(Reply::Done {})
            }
            Request::Resize { handle, rows, cols } => {
                let process = self.process(handle)?;
                let terminal = process.terminal.as_ref();
                let terminal =
                    terminal.ok_or_else(|| invalid(format!("process {handle} has no terminal")))?;
                spawn::resize(terminal, WindowSize { rows, cols })
                    .map_err(|error| internal(format!("resizing the terminal failed: {error}")))?;
                Ok(Reply::Done {})
            }
            Request::Stop { grace_ms } => {
                self.stop(Duration::from_millis(grace_ms.min(MAX_GRACE_MS)));
                Ok(Reply::Done {})
            }
            Request::Status {} => Ok(Reply::Status {
                uptime_ms: uptime_ms(),
                memory: memory()?,
                processes: self.processes.statuses(),
            }),
            Request::StartServices { outputs } => self.start_services(&outputs),
            Request::Services {} => {
                let now = Instant::now();
                let services = self.services.statuses(now);
                let health = self.checks.statuses(now, &services);
                Ok(Reply::Services { services, health })
            }
            Request::SetTime { unix_ns } => set_time(unix_ns),
            Request::Stat { path } => files::stat(&path),
            Request::Pack { path, follow, stream } => {
                self.copies.pack(&mut self.wire, (&path, follow, stream))
            }
            Request::Nar { paths, stream } => self.copies.nars(&mut self.wire, &paths, stream),
            Request::Secret { .. }
            | Request::Connect { .. }
            | Request::Unpack { .. }
            | Request::Pause {}
            | Request::Resume {}
            | Request::Hold {}
            | Request::Attach { .. } => {
                let message = "this guest doesn't serve such a request".to_owned();
                Err(Failure { kind: FailureKind::Unsupported, message })
            }
        }
    }

    fn start(&mut self, name: &str, streams: &Streams) -> Result<Reply, Failure> {
        let index = self.document.processes.iter().position(|process| process.name == name);
        let index = index.ok_or_else(|| invalid(format!("process {name:?} is not in the guest document")))?;
        if !self.started.insert(index) {
            return Err(invalid(format!("process {name:?} was started before")));
        }
        let process = self.document.processes[index].clone();
        let started = self.launch(&process, streams, index == 0)?;
        if index == 0 && self.document.services.is_empty() && self.document.health_checks.is_empty() {
            // Nobody is going to ask for those that the root brings.
            self.start_checks(Instant::now());
        }
        Ok(started)
    }

    fn start_checks(&mut self, now: Instant) {
        let groups = self.groups.as_ref().map_err(String::as_str);
        self.checks.start(&self.document, &self.services, groups, now);
    }

    fn launch(&mut self, process: &Process, streams: &Streams, main: bool) -> Result<Reply, Failure> {
        if !matches!(self.phase, Phase::Serving) {
            return Err(invalid("the machine is ending".to_owned()));
        }
        if self.processes.len() >= MAX_PROCESSES {
            let message = format!("{MAX_PROCESSES} processes run, which is the limit");
            return Err(Failure { kind: FailureKind::Limit, message });
        }
        if !self.document.roots.iter().any(|root| root.name == process.root) {
            return Err(invalid(format!("root {:?} is not in the guest document", process.root)));
        }
        let standard = match (process.terminal, streams.terminal) {
            (true, size) if streams.stderr.is_none() => {
                StandardStreams::Terminal(size.unwrap_or(DEFAULT_SIZE))
            }
            (true, _) => {
                return Err(invalid("a process on a terminal has no stream for standard error".to_owned()));
            }
            (false, None) => StandardStreams::Pipes {
                stdin: streams.stdin.is_some(),
                stdout: streams.stdout.is_some(),
                stderr: streams.stderr.is_some(),
            },
            (false, Some(_)) => {
                return Err(invalid("a process without a terminal has no size for it".to_owned()));
            }
        };
        let accepted = self.accept(streams)?;
        let groups = self.groups.as_ref().ok();
        let circumstances = Circumstances {
            hostname: &self.document.hostname,
            group: groups.map(|groups| if main { &groups.main } else { &groups.exec }),
            supplementary: self.document.service_group.as_ref().filter(|_| main).map(|group| group.gid),
            rights: Rights::Users,
        };
        match crate::process::start(process, &circumstances, standard) {
            Ok(spawned) => {
                let pid = spawned.pid.as_raw_nonzero().get().unsigned_abs();
                let about = (process.name.clone(), process.stop_signal, main);
                Ok(Reply::Started { handle: self.processes.add(spawned, about, streams), pid })
            }
            Err(failure) => {
                for stream in accepted {
                    self.wire.reset(stream, ResetReason::Refused);
                }
                Err(failure)
            }
        }
    }

    fn start_services(&mut self, outputs: &[ServiceOutput]) -> Result<Reply, Failure> {
        if !matches!(self.phase, Phase::Serving) {
            return Err(invalid("the machine is ending".to_owned()));
        }
        if self.services.is_started() {
            return Err(invalid("the services were started before".to_owned()));
        }
        let mut streams = BTreeMap::new();
        for ServiceOutput { service, stream } in outputs {
            let known = self.services.position(service).is_some();
            if !known || streams.insert(service.clone(), *stream).is_some() {
                return Err(invalid(format!(
                    "service {service:?} is named twice or not in the guest document"
                )));
            }
        }
        for (number, stream) in streams.values().enumerate() {
            if let Err(error) = self.wire.accept(*stream, Direction::Send) {
                for accepted in streams.values().take(number) {
                    self.wire.reset(*accepted, ResetReason::Refused);
                }
                return Err(invalid(error.to_string()));
            }
        }
        let now = Instant::now();
        self.services.start(self.groups.as_ref().map_err(String::as_str), &streams, now)?;
        self.start_checks(now);
        Ok(Reply::Done {})
    }

    /// Gives up what is left of the streams of a request that was refused: those that have ended wait to be accepted.
    fn give_up(&mut self, streams: &Streams) {
        for stream in [streams.stdin, streams.stdout, streams.stderr].into_iter().flatten() {
            self.wire.reset(stream, ResetReason::Refused);
        }
    }

    /// Accepts the streams that a request names, all or none.
    fn accept(&mut self, streams: &Streams) -> Result<Vec<StreamId>, Failure> {
        let wanted = [
            (streams.stdin, Direction::Receive),
            (streams.stdout, Direction::Send),
            (streams.stderr, Direction::Send),
        ];
        let mut accepted = Vec::new();
        for (stream, direction) in wanted {
            let Some(stream) = stream else { continue };
            if let Err(error) = self.wire.accept(stream, direction) {
                for stream in accepted {
                    self.wire.reset(stream, ResetReason::Refused);
                }
                return Err(invalid(error.to_string()));
            }
            accepted.push(stream);
        }
        Ok(accepted)
    }

    fn stop(&mut self, grace: Duration) {
        for (_, process) in self.processes.iter() {
            if let Err(error) = spawn::send_signal(process.pid, process.stop_signal) {
                console::say(&format!("signalling {:?} failed: {error}", process.name));
            }
        }
        let now = Instant::now();
        self.checks.stop();
        self.services.stop(now, grace);
        let until = match self.phase {
            // A second stop may shorten the first, not lengthen it.
            Phase::Stopping { until } => until.min(now + grace),
            Phase::Serving | Phase::MainEnded { .. } => now + grace,
            Phase::Killing { .. } | Phase::Over => return,
        };
        self.phase = Phase::Stopping { until };
    }

    fn process(&self, handle: u32) -> Result<&super::processes::Running, Failure> {
        self.processes.get(handle).ok_or_else(|| invalid(format!("no process has handle {handle}")))
    }
}

pub(super) fn invalid(message: String) -> Failure {
    Failure { kind: FailureKind::Invalid, message }
}

fn internal(message: String) -> Failure {
    Failure { kind: FailureKind::Internal, message }
}

/// Sets the clock that tells the time of day.
fn set_time(unix_ns: u64) -> Result<Reply, Failure> {
    let seconds = i64::try_from(unix_ns / 1_000_000_000).map_err(|error| invalid(error.to_string()))?;
    let nanoseconds = (unix_ns % 1_000_000_000).cast_signed();
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    rustix::time::clock_settime(ClockId::Realtime, time)
        .map_err(|error| internal(format!("setting the clock failed: {error}")))?;
    Ok(Reply::Done {})
}

/// Reads the kernel's account of memory (proc(5), `/proc/meminfo`).
fn memory() -> Result<Memory, Failure> {
    let text = std::fs::read_to_string("/proc/meminfo")
        .map_err(|error| internal(format!("reading /proc/meminfo failed: {error}")))?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()).and_then(|number| number.parse().ok())
    };
    match (field("MemTotal:"), field("MemAvailable:")) {
        (Some(total_kib), Some(available_kib)) => Ok(Memory { total_kib, available_kib }),
        _ => Err(internal("/proc/meminfo lacks MemTotal or MemAvailable".to_owned())),
    }
}
