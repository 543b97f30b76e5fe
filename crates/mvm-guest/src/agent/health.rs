//! The health checks: each runs by itself, once at a time, in a control group of its own, bounded in time and output.

mod integrations;
mod monitor;

use super::services::Services;
use super::words;
use crate::cgroup::{Group, Tree};
use crate::console;
use crate::process::spawn::{self, OutputTo, StandardStreams};
use crate::process::{self, Circumstances, Rights};
use monitor::{MAX_OUTPUT, Monitor, Run};
use mvm_wire::document::services::HealthCheck;
use mvm_wire::{
    ExitStatus, GuestDocument, Health, HealthOutcome, HealthResult, HealthStatus, Process, ServiceState,
    ServiceStatus,
};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// Most checks, the document's and the root's together.
const MAX_CHECKS: usize = 96;
/// Bytes of a check's output that are taken in one turn.
const CHUNK: usize = 64 * 1024;
/// How long what a run left behind may take to go before it is looked for again.
const SETTLE: Duration = Duration::from_millis(20);
/// How much of the results is told where all of it is too much for one message: number and bytes of each.
const ABRIDGED: [(usize, usize); 6] = [(20, MAX_OUTPUT), (20, 1024), (20, 256), (5, 256), (1, 256), (0, 0)];
/// Most bytes that services and checks take in one message, whose limit is 256 KiB.
const MAX_TOLD: usize = 224 * 1024;

/// All health checks.
#[derive(Debug)]
pub(super) struct Checks {
    checks: Vec<Check>,
    hostname: String,
    started: bool,
    stopped: bool,
}

#[derive(Debug)]
struct Check {
    check: HealthCheck,
    /// The place of the service that it is about.
    service: Option<usize>,
    monitor: Monitor,
    group: Option<Group>,
    under_way: Option<UnderWay>,
    settle: Option<Instant>,
    told: Option<(Health, u32)>,
}

/// A run that is not over.
#[derive(Debug)]
struct UnderWay {
    pid: Pid,
    started: Instant,
    /// Until it closes it.
    output: Option<OwnedFd>,
    /// The beginning of what it wrote.
    taken: Vec<u8>,
    timed_out: bool,
}

impl Checks {
    pub(super) fn new(document: &GuestDocument) -> Self {
        Self { checks: Vec::new(), hostname: document.hostname.clone(), started: false, stopped: false }
    }

    /// Starts them all, the document's and the root's, once.
    pub(super) fn start(
        &mut self,
        document: &GuestDocument,
        services: &Services,
        tree: Result<&Tree, &str>,
        now: Instant,
    ) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let like = document.processes.first().or_else(|| document.services.first().map(|one| &one.process));
        let own = document.health_checks.iter().map(|check| (check.clone(), None));
        let brought =
            like.map_or_else(Vec::new, |like| integrations::read(Path::new(integrations::DIRECTORY), like));
        let brought = brought.into_iter().map(|one| (one.check, one.broken));
        for (mut check, broken) in own.chain(brought) {
            let known = self.checks.iter().any(|other| other.check.process.name == check.process.name);
            if known || self.checks.len() >= MAX_CHECKS {
                let why = if known { "the name is taken" } else { "there are too many" };
                console::say(&format!("health check {:?} is not used: {why}", check.process.name));
                continue;
            }
            // One of the root's that is called as a service is about that.
            let integration = self.checks.len() >= document.health_checks.len();
            if integration && services.position(&check.process.name).is_some() {
                check.service = Some(check.process.name.clone());
            }
            let service = check.service.as_deref().and_then(|name| services.position(name));
            if let Some(index) = service
                && (check.process.user.is_empty() || integration)
            {
                check.process.user.clone_from(&services.get(index).process.user);
            }
            let mut monitor = Monitor::new(&check);
            let group = tree
                .map_err(str::to_owned)
                .and_then(|tree| tree.check(self.checks.len()).map_err(|error| console::chain(&error)));
            let (group, why) = match (broken, group) {
                (None, Ok(group)) => (Some(group), None),
                (Some(why), _) | (None, Err(why)) => (None, Some(why)),
            };
            match (why, service) {
                (Some(why), _) => monitor.cease(now, &why),
                (None, None) => monitor.begin(now),
                (None, Some(_)) => {}
            }
            self.checks.push(Check {
                check,
                service,
                monitor,
                group,
                under_way: None,
                settle: None,
                told: None,
            });
        }
    }

    /// Does all that is due, and tells the services how they are found.
    pub(super) fn advance(&mut self, services: &mut Services, now: Instant) {
        if self.stopped {
            return;
        }
        for check in self.checks.iter_mut().filter(|check| check.group.is_some()) {
            if let Some(index) = check.service {
                match services.running_since(index) {
                    Ok(since) => check.monitor.begin(since),
                    Err(ServiceState::Waiting | ServiceState::Starting) => {}
                    Err(state) => {
                        let name = &services.get(index).process.name;
                        check.monitor.cease(now, &format!("service {name:?} does not run ({state})"));
                    }
                }
            }
            check.time_out(now);
            if check.under_way.is_none()
                && check.monitor.next().is_some_and(|next| now >= next)
                && check.is_settled(now)
            {
                check.start(&self.hostname, now);
            }
        }
        for index in 0..services.len() {
            let mut about = self.checks.iter().filter(|check| check.service == Some(index));
            let well = about.all(|check| check.monitor.health() == Health::Healthy);
            services.found(index, well, now);
        }
    }

    /// Ends all of them for good.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
        for check in &mut self.checks {
            check.kill();
        }
    }

    /// Takes the end of a process, if it is one of theirs.
    pub(super) fn reaped(&mut self, pid: Pid, status: ExitStatus, now: Instant) -> bool {
        let is_its = |check: &&mut Check| check.under_way.as_ref().is_some_and(|run| run.pid == pid);
        let Some(check) = self.checks.iter_mut().find(is_its) else { return false };
        check.take_output();
        let Some(run) = check.under_way.take() else { return false };
        let outcome = if run.timed_out { HealthOutcome::TimedOut } else { HealthOutcome::Ended(status) };
        let (started, took) = (run.started, now.saturating_duration_since(run.started));
        check.monitor.finished(now, Run { started, took, outcome, output: run.taken });
        // What it left behind.
        check.kill();
        true
    }

    /// Takes what the runs under way wrote, some of each.
    pub(super) fn take_output(&mut self) {
        self.checks.iter_mut().for_each(Check::take_output);
    }

    /// Adds the outputs of the runs under way.
    pub(super) fn add_interests<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        let outputs = self.checks.iter().filter_map(|check| check.under_way.as_ref()?.output.as_ref());
        fds.extend(outputs.map(|output| PollFd::from_borrowed_fd(output.as_fd(), PollFlags::IN)));
    }

    /// Returns when there is something to do.
    pub(super) fn wakes(&self) -> Option<Instant> {
        if self.stopped {
            return None;
        }
        let times = self.checks.iter().map(|check| match &check.under_way {
            Some(run) if run.timed_out => None,
            Some(run) => Some(run.started + Duration::from_millis(check.check.timeout_ms)),
            None => check.settle.or_else(|| check.monitor.next()),
        });
        times.flatten().min()
    }

    /// Returns what is told of all of them, as much as fits one message with what is told of the services.
    pub(super) fn statuses(&self, now: Instant, services: &[ServiceStatus]) -> Vec<HealthStatus> {
        let taken: usize = services.iter().map(service_size).sum();
        let mut told = Vec::new();
        for (count, bytes) in ABRIDGED {
            told = self.checks.iter().map(|check| check.status(now, count, bytes)).collect();
            let size: usize = told.iter().map(size).sum();
            if taken + size <= MAX_TOLD {
                break;
            }
        }
        told
    }

    /// Returns what is told of one that changed since it was last told of.
    pub(super) fn take_changed(&mut self, now: Instant) -> Option<HealthStatus> {
        let check = self.checks.iter_mut().find(|check| check.told != Some(check.telling()))?;
        check.told = Some(check.telling());
        Some(check.status(now, 1, MAX_OUTPUT))
    }
}

impl Check {
    fn telling(&self) -> (Health, u32) {
        // Of failures in a row those count that lead to another health.
        (self.monitor.health(), self.monitor.failing().min(self.check.retries))
    }

    fn status(&self, now: Instant, count: usize, bytes: usize) -> HealthStatus {
        HealthStatus {
            name: self.check.process.name.clone(),
            service: self.check.service.clone(),
            health: self.monitor.health(),
            failing: self.monitor.failing(),
            results: self.monitor.results(now, count, bytes),
        }
    }

    fn time_out(&mut self, now: Instant) {
        let timeout = Duration::from_millis(self.check.timeout_ms);
        if let Some(run) = self.under_way.as_mut()
            && !run.timed_out
            && now.saturating_duration_since(run.started) >= timeout
        {
            run.timed_out = true;
            self.kill();
        }
    }

    fn kill(&self) {
        let Some(group) = &self.group else { return };
        if let Err(error) = group.kill() {
            console::say(&console::chain(&error));
        }
    }

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

    fn start(&mut self, hostname: &str, now: Instant) {
        self.monitor.started();
        match self.spawn(hostname) {
            Ok((pid, output)) => {
                let (output, taken) = (Some(output), Vec::new());
                self.under_way = Some(UnderWay { pid, started: now, output, taken, timed_out: false });
            }
            Err(reason) => {
                let outcome = HealthOutcome::NotStarted(words::bounded(&reason));
                let run = Run { started: now, took: Duration::ZERO, outcome, output: Vec::new() };
                self.monitor.finished(now, run);
            }
        }
    }

    fn spawn(&self, hostname: &str) -> Result<(Pid, OwnedFd), String> {
        let pipe = || -> rustix::io::Result<(OwnedFd, OwnedFd)> {
            let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
            spawn::make_nonblocking(&ours)?;
            Ok((ours, theirs))
        };
        let (ours, theirs) = pipe().map_err(|error| format!("making a pipe failed: {error}"))?;
        let circumstances = Circumstances {
            hostname,
            group: self.group.as_ref(),
            supplementary: None,
            rights: Rights::ConfinedUnlessRoot,
        };
        let process: &Process = &self.check.process;
        let output = StandardStreams::Output(OutputTo::Pipe(theirs));
        let spawned = process::start(process, &circumstances, output).map_err(|failure| failure.message)?;
        Ok((spawned.pid, ours))
    }

    /// Takes what its run wrote, a chunk at most, and keeps the beginning of it all.
    fn take_output(&mut self) {
        let Some(run) = &mut self.under_way else { return };
        let Some(output) = &run.output else { return };
        let mut buffer = [0; CHUNK];
        match rustix::io::read(output, &mut buffer) {
            Ok(0) => run.output = None,
            Ok(count) => {
                let room = MAX_OUTPUT.saturating_sub(run.taken.len()).min(count);
                run.taken.extend_from_slice(&buffer[..room]);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => run.output = None,
        }
    }
}

/// Returns how many bytes a text without other control characters takes in a message.
fn escaped(text: &str) -> usize {
    text.len() + text.matches(['"', '\\', '\n', '\t']).count()
}

/// Returns about how many bytes a service's status takes in a message.
fn service_size(status: &ServiceStatus) -> usize {
    escaped(&status.name) + status.reason.as_deref().map_or(0, escaped) + 256
}

/// Returns about how many bytes a check's status takes in a message.
fn size(status: &HealthStatus) -> usize {
    let result = |result: &HealthResult| {
        let reason = match &result.outcome {
            HealthOutcome::NotStarted(reason) => escaped(reason),
            HealthOutcome::Ended(_) | HealthOutcome::TimedOut => 0,
        };
        escaped(&result.output) + reason + 128
    };
    escaped(&status.name) * 2 + 128 + status.results.iter().map(result).sum::<usize>()
}
