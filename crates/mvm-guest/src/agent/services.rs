//! The services: each in a control group of its own, started in order, restarted, stopped in reverse.

pub(super) mod backoff;
mod machine;

use super::streams::{Pumped, Source};
use crate::cgroup::{Group, Limits, Tree};
use crate::console;
use crate::process::spawn::{self, OutputTo, StandardStreams};
use crate::process::{self, Circumstances, Rights};
use machine::{Act, Before, End, Machine};
use mvm_wire::document::services::Service;
use mvm_wire::{
    Connection, ExitStatus, Failure, FailureKind, GuestDocument, Process, ServiceState, ServiceStatus,
    StreamId,
};
use rustix::event::{PollFd, PollFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long killed processes of a service may take to go before it is looked again.
const SETTLE: Duration = Duration::from_millis(20);

/// All services of the guest document, in its order.
#[derive(Debug)]
pub(super) struct Services {
    units: Vec<Unit>,
    hostname: String,
    service_group: Option<u32>,
    started: bool,
    /// Whether there may be more to do at once.
    busy: bool,
    /// When all of them must have ended.
    stopping: Option<Instant>,
}

#[derive(Debug)]
struct Unit {
    service: Service,
    machine: Machine,
    group: Option<Group>,
    child: Option<Pid>,
    output: Option<Output>,
    /// Kills for want of memory before its process was started.
    oom_kills: u64,
    /// When what is left of its last run is looked for again.
    settle: Option<Instant>,
    asked_to_stop: bool,
    told: Option<Told>,
}

/// The two ends of the pipe that a service writes to, through all its restarts.
#[derive(Debug)]
struct Output {
    source: Source,
    theirs: OwnedFd,
    ended: bool,
}

/// What was last told of a service, without what changes all the time.
type Told = (ServiceState, Option<Pid>, u32, Option<ExitStatus>, Option<String>);

impl Services {
    pub(super) fn new(document: &GuestDocument, now: Instant) -> Self {
        let unit = |service: &Service| Unit {
            machine: Machine::new(service.restart, !service.pre_start.is_empty(), now),
            service: service.clone(),
            group: None,
            child: None,
            output: None,
            oom_kills: 0,
            settle: None,
            asked_to_stop: false,
            told: None,
        };
        Self {
            units: document.services.iter().map(unit).collect(),
            hostname: document.hostname.clone(),
            service_group: document.service_group.as_ref().map(|group| group.gid),
            started: false,
            busy: false,
            stopping: None,
        }
    }

    /// Starts them all, in their order; `outputs` says where which writes to.
    pub(super) fn start(
        &mut self,
        tree: Result<&Tree, &str>,
        outputs: &BTreeMap<String, StreamId>,
        now: Instant,
    ) -> Result<(), Failure> {
        self.started = true;
        for unit in &mut self.units {
            let name = &unit.service.process.name;
            if let Some(stream) = outputs.get(name) {
                unit.output = Some(Output::new(*stream)?);
            }
            let group = tree.map_err(str::to_owned).and_then(|tree| {
                tree.service(name, limits(&unit.service)).map_err(|error| console::chain(&error))
            });
            match group {
                Ok(group) => unit.group = Some(group),
                Err(reason) => unit.machine.could_not(Act::Start, now, reason, true, 0),
            }
        }
        Ok(())
    }

    pub(super) fn is_started(&self) -> bool {
        self.started
    }

    pub(super) fn len(&self) -> usize {
        self.units.len()
    }

    /// Returns the place of a service.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.units.iter().position(|unit| unit.service.process.name == name)
    }

    /// Returns a service's description.
    pub(super) fn get(&self, index: usize) -> &Service {
        &self.units[index].service
    }

    /// Returns since when a service runs, or else what it does.
    pub(super) fn running_since(&self, index: usize) -> Result<Instant, ServiceState> {
        let machine = &self.units[index].machine;
        machine.running_since().ok_or_else(|| machine.state())
    }

    /// Notes how the health checks find a service.
    pub(super) fn found(&mut self, index: usize, well: bool, now: Instant) {
        self.units[index].machine.found(well, now);
    }

    /// Takes the end of a process, if it is one of theirs.
    pub(super) fn reaped(&mut self, pid: Pid, status: ExitStatus, now: Instant) -> bool {
        let Some(unit) = self.units.iter_mut().find(|unit| unit.child == Some(pid)) else {
            return false;
        };
        unit.child = None;
        let out_of_memory = unit.group.as_ref().is_some_and(|group| group.oom_kills() > unit.oom_kills);
        unit.machine.ended(now, End { status, out_of_memory }, backoff::random());
        // What it left behind has lost its purpose.
        unit.kill();
        true
    }

    /// Does all that is due.
    pub(super) fn advance(&mut self, now: Instant) {
        self.busy = false;
        if !self.started {
            return;
        }
        if let Some(until) = self.stopping {
            self.stop_next(now, until);
        }
        for index in 0..self.units.len() {
            let before = self.before(index);
            let unit = &mut self.units[index];
            if unit.machine.is_to_be_killed(now) {
                unit.kill();
            }
            if let Some(act) = unit.machine.due(now, &before)
                && unit.is_settled(now)
            {
                unit.act(act, &self.hostname, self.service_group, now);
                // The others have their turn after whoever asks something.
                self.busy = true;
                return;
            }
        }
    }

    /// Returns what a service waits for.
    fn before(&self, index: usize) -> Before {
        let mut before = Before::Ready;
        for name in &self.units[index].service.after {
            let Some(other) = self.units.iter().find(|unit| unit.service.process.name == *name) else {
                continue;
            };
            let machine = &other.machine;
            match (machine.state(), machine.reason()) {
                _ if machine.has_run() => {}
                (ServiceState::Failed, _) => {
                    return Before::Never(format!("service {name:?}, which it comes after, failed"));
                }
                (ServiceState::Stopped, _) => {
                    return Before::Never(format!("service {name:?}, which it comes after, was stopped"));
                }
                (ServiceState::Waiting, Some(reason)) => return Before::Never(reason.to_owned()),
                _ => before = Before::Waits,
            }
        }
        before
    }

    /// Asks all to stop within `limit`, the last in order first.
    pub(super) fn stop(&mut self, now: Instant, limit: Duration) {
        let until = now + limit;
        self.stopping = Some(self.stopping.map_or(until, |sooner| sooner.min(until)));
    }

    fn stop_next(&mut self, now: Instant, until: Instant) {
        for index in 0..self.units.len() {
            let name = &self.units[index].service.process.name;
            let needed = |unit: &Unit| !unit.machine.is_over() && unit.service.after.contains(name);
            if self.units[index].asked_to_stop || self.units.iter().any(needed) {
                continue;
            }
            let unit = &mut self.units[index];
            unit.asked_to_stop = true;
            let grace = Duration::from_millis(unit.service.stop_grace_ms);
            if unit.machine.stop(now, grace.min(until.saturating_duration_since(now)))
                && let Some(pid) = unit.child
                && let Err(error) = spawn::send_signal(pid, unit.service.process.stop_signal)
            {
                console::say(&format!("signalling service {:?} failed: {error}", unit.service.process.name));
            }
        }
    }

    /// Returns whether none runs or will.
    pub(super) fn is_empty(&self) -> bool {
        !self.started || self.units.iter().all(|unit| unit.child.is_none() && unit.machine.is_over())
    }

    /// Returns when there is something to do.
    pub(super) fn wakes(&self, now: Instant) -> Option<Instant> {
        if self.busy {
            return Some(now);
        }
        self.units.iter().flat_map(|unit| [unit.machine.wakes(), unit.settle]).flatten().min()
    }

    /// Moves output, a chunk of each; returns whether some was moved that somebody listens to.
    pub(super) fn pump(&mut self, wire: &mut Connection) -> bool {
        let mut moved = false;
        for unit in &mut self.units {
            let Some(output) = unit.output.as_mut().filter(|output| !output.ended) else { continue };
            let pumped =
                if output.source.is_ready(wire) { output.source.pump(wire) } else { Pumped::Blocked };
            moved |= pumped == Pumped::Some && output.source.stream.is_some();
            if pumped == Pumped::Empty && self.stopping.is_some() && unit.machine.is_over() {
                output.source.end(wire);
                output.ended = true;
            }
        }
        moved
    }

    /// Adds the outputs that there is something to read from.
    pub(super) fn add_interests<'a>(&'a self, wire: &Connection, fds: &mut Vec<PollFd<'a>>) {
        let outputs = self.units.iter().filter_map(|unit| unit.output.as_ref());
        let wanted = outputs.filter(|output| !output.ended && output.source.is_ready(wire));
        fds.extend(wanted.map(|output| PollFd::from_borrowed_fd(output.source.fd.as_fd(), PollFlags::IN)));
    }

    /// Takes the host's giving up of a stream: what the service writes is then dropped.
    pub(super) fn take_reset(&mut self, stream: StreamId) {
        for output in self.units.iter_mut().filter_map(|unit| unit.output.as_mut()) {
            if output.source.stream == Some(stream) {
                output.source.stream = None;
            }
        }
    }

    /// Returns what is told of all of them.
    pub(super) fn statuses(&self, now: Instant) -> Vec<ServiceStatus> {
        self.units.iter().map(|unit| unit.status(now)).collect()
    }

    /// Returns what is told of one that changed since it was last told of.
    pub(super) fn take_changed(&mut self, now: Instant) -> Option<ServiceStatus> {
        if !self.started {
            return None;
        }
        let unit = self.units.iter_mut().find(|unit| unit.told.as_ref() != Some(&unit.telling()))?;
        unit.told = Some(unit.telling());
        Some(unit.status(now))
    }
}

impl Output {
    fn new(stream: StreamId) -> Result<Self, Failure> {
        let failure = |error: rustix::io::Errno| Failure {
            kind: FailureKind::Internal,
            message: format!("making a pipe failed: {error}"),
        };
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).map_err(failure)?;
        spawn::make_nonblocking(&ours).map_err(failure)?;
        Ok(Self { source: Source { stream: Some(stream), fd: Rc::new(ours) }, theirs, ended: false })
    }

    fn copy(&self) -> rustix::io::Result<OwnedFd> {
        rustix::io::fcntl_dupfd_cloexec(&self.theirs, 3)
    }
}

impl Unit {
    /// Returns whether nothing is left of its last run; kills what is.
    fn is_settled(&mut self, now: Instant) -> bool {
        self.settle = None;
        if !self.group.as_ref().is_some_and(Group::is_populated) {
            return true;
        }
        self.kill();
        self.settle = Some(now + SETTLE);
        false
    }

    fn kill(&self) {
        let Some(group) = &self.group else { return };
        if let Err(error) = group.kill() {
            console::say(&console::chain(&error));
        }
    }

    fn act(&mut self, act: Act, hostname: &str, service_group: Option<u32>, now: Instant) {
        match self.spawn(act, hostname, service_group) {
            Ok(pid) => {
                self.child = Some(pid);
                self.machine.did(act, now);
            }
            Err(Failure { kind, message }) => {
                let for_good = matches!(
                    kind,
                    FailureKind::NotFound | FailureKind::NotExecutable | FailureKind::NoSuchUser
                );
                self.machine.could_not(act, now, message, for_good, backoff::random());
            }
        }
    }

    fn spawn(&mut self, act: Act, hostname: &str, service_group: Option<u32>) -> Result<Pid, Failure> {
        let internal = |message: String| Failure { kind: FailureKind::Internal, message };
        let group = self.group.as_ref().ok_or_else(|| internal("it has no control group".to_owned()))?;
        let piped = || match &self.output {
            Some(output) => output
                .copy()
                .map(OutputTo::Pipe)
                .map_err(|error| internal(format!("copying a pipe failed: {error}"))),
            None => Ok(OutputTo::Nowhere),
        };
        let service = &self.service.process;
        let (process, rights, output) = match act {
            Act::Prepare => {
                let argv = self.service.pre_start.clone();
                (Process { argv, user: String::new(), ..service.clone() }, Rights::Users, piped()?)
            }
            Act::Start => {
                let output = match &self.service.log_file {
                    Some(path) if !is_console(path) => OutputTo::File(PathBuf::from(path)),
                    Some(_) | None => piped()?,
                };
                (service.clone(), Rights::Confined, output)
            }
        };
        self.oom_kills = group.oom_kills();
        let circumstances =
            Circumstances { hostname, group: Some(group), supplementary: service_group, rights };
        let limited = self.service.limits.cpu_percent.is_some();
        let throttle = |result: Result<(), crate::cgroup::CgroupError>| {
            result.map_err(|error| internal(console::chain(&error)))
        };
        if limited {
            throttle(group.unthrottle())?;
        }
        let spawned = process::start(&process, &circumstances, StandardStreams::Output(output))?;
        if limited {
            let cpu = Limits { cpu_percent: limits(&self.service).cpu_percent, ..Limits::default() };
            throttle(group.limit(cpu)).inspect_err(|_| self.kill())?;
        }
        Ok(spawned.pid)
    }

    fn telling(&self) -> Told {
        let machine = &self.machine;
        let reason = machine.reason().map(str::to_owned);
        (machine.state(), self.child, machine.restarts(), machine.last_exit(), reason)
    }

    fn status(&self, now: Instant) -> ServiceStatus {
        let (state, pid, restarts, last_exit, reason) = self.telling();
        let since = now.saturating_duration_since(self.machine.since());
        ServiceStatus {
            name: self.service.process.name.clone(),
            state,
            pid: pid.map(|pid| pid.as_raw_nonzero().get().unsigned_abs()),
            restarts,
            last_exit,
            reason,
            since_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            memory_kib: self.group.as_ref().and_then(Group::memory_kib),
            cpu_ms: self.group.as_ref().and_then(Group::cpu_ms),
        }
    }
}

fn limits(service: &Service) -> Limits {
    let limits = service.limits;
    Limits {
        memory_bytes: limits.memory_mib.map(|mib| u64::from(mib) * 1024 * 1024),
        pids: limits.pids.map(u64::from),
        cpu_percent: limits.cpu_percent,
    }
}

/// Returns whether a log file stands for the host's log: its console is where the host listens.
fn is_console(path: &str) -> bool {
    matches!(path, "/dev/console" | "/dev/stdout" | "/dev/stderr")
}
