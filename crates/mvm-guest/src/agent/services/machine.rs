//! Where one service is in its life, as a state machine over a clock that others read.
//!
//! ```text
//! waiting ─► preparing ─► prepared ─► running ─► backoff ─► running …
//!               │                        ├─────► stopped   asked to, or exit code 0 where that isn't restarted
//!               └────────────────────────┴─────► failed    what it needs isn't there, or it isn't restarted
//! ```

use super::backoff;
use crate::agent::words;
use mvm_wire::document::services::Restart;
use mvm_wire::{ExitStatus, ServiceState};
use std::time::{Duration, Instant};

/// How long a service must do well for what went wrong before to be forgotten.
const WELL: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    /// What runs before it runs.
    Preparing,
    /// What runs before it ran.
    Prepared,
    Running,
    Backoff {
        until: Instant,
    },
    Failed,
    Stopped,
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Prepare,
    Start,
}

/// What a service waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Before {
    /// Nothing any more.
    Ready,
    /// A service that doesn't run yet.
    Waits,
    /// A service that never will.
    Never(String),
}

/// How a process of the service ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    pub(super) status: ExitStatus,
    /// Whether the kernel killed it, or one of its own, for want of memory.
    pub(super) out_of_memory: bool,
}

#[derive(Debug)]
pub(super) struct Machine {
    restart: Restart,
    prepares: bool,
    state: State,
    since: Instant,
    restarts: u32,
    /// Starts in vain since it last did well.
    attempts: u32,
    begun: bool,
    last_exit: Option<ExitStatus>,
    reason: Option<String>,
    /// Since when it runs and its checks succeed.
    well_since: Option<Instant>,
    /// When it is killed, where it was asked to stop, and whether it was.
    stopping: Option<(Instant, bool)>,
    grace: Duration,
}

impl Machine {
    pub(super) fn new(restart: Restart, prepares: bool, now: Instant) -> Self {
        Self {
            restart,
            prepares,
            state: State::Waiting,
            since: now,
            restarts: 0,
            attempts: 0,
            begun: false,
            last_exit: None,
            reason: None,
            well_since: None,
            stopping: None,
            grace: Duration::ZERO,
        }
    }

    /// Returns what is to be done now, if anything.
    pub(super) fn due(&mut self, now: Instant, before: &Before) -> Option<Act> {
        if self.stopping.is_some() {
            return None;
        }
        match self.state {
            State::Waiting => match before {
                Before::Ready if self.prepares => Some(Act::Prepare),
                Before::Ready => Some(Act::Start),
                Before::Waits => None,
                Before::Never(reason) => {
                    self.reason = Some(reason.clone());
                    None
                }
            },
            State::Prepared => Some(Act::Start),
            State::Backoff { until } if now >= until => Some(Act::Start),
            State::Backoff { .. } | State::Preparing | State::Running | State::Failed | State::Stopped => {
                None
            }
        }
    }

    /// Returns when it has something to do by itself.
    pub(super) fn wakes(&self) -> Option<Instant> {
        match (self.stopping, self.state) {
            (Some((until, false)), _) => Some(until),
            (None, State::Backoff { until }) => Some(until),
            _ => None,
        }
    }

    /// Notes that what was due was done.
    pub(super) fn did(&mut self, act: Act, now: Instant) {
        self.reason = None;
        match act {
            Act::Prepare => {
                // It may take as long as it likes, so it is told what all wait for.
                self.reason = Some("pre-start runs".to_owned());
                self.enter(State::Preparing, now);
            }
            Act::Start => {
                if self.begun {
                    self.restarts = self.restarts.saturating_add(1);
                }
                self.begun = true;
                self.enter(State::Running, now);
            }
        }
    }

    /// Notes that what was due could not be done; `for_good` where another attempt can't fare better.
    pub(super) fn could_not(&mut self, act: Act, now: Instant, reason: String, for_good: bool, random: u32) {
        let reason = match act {
            Act::Prepare => format!("pre-start: {reason}"),
            Act::Start => reason,
        };
        self.reason = Some(words::bounded(&reason));
        if for_good || act == Act::Prepare || self.restart == Restart::Never {
            self.enter(State::Failed, now);
        } else {
            self.back_off(now, random);
        }
    }

    /// Notes the end of its process, or of what ran before it.
    pub(super) fn ended(&mut self, now: Instant, end: End, random: u32) {
        let success = end.status == ExitStatus::Code(0);
        let why = if end.out_of_memory && !success {
            format!("out of memory: {}", words::exit(end.status))
        } else {
            words::exit(end.status)
        };
        let preparing = self.state == State::Preparing;
        if !preparing {
            self.last_exit = Some(end.status);
            self.forget_if_well(now);
        }
        self.well_since = None;
        if let Some((_, killed)) = self.stopping {
            let grace = self.grace;
            self.reason = killed.then(|| format!("killed: it did not end within {grace:?} when asked to"));
            return self.enter(State::Stopped, now);
        }
        if preparing && success {
            self.reason = None;
            return self.enter(State::Prepared, now);
        }
        self.reason = Some(if preparing { format!("pre-start {why}") } else { why });
        match self.restart {
            _ if preparing => self.enter(State::Failed, now),
            Restart::OnFailure | Restart::Never if success => {
                self.reason = None;
                self.enter(State::Stopped, now);
            }
            Restart::Never => self.enter(State::Failed, now),
            Restart::Always | Restart::OnFailure => self.back_off(now, random),
        }
    }

    /// Notes how its health checks find it, which is well also where there are none.
    pub(super) fn found(&mut self, well: bool, now: Instant) {
        if !well || self.state != State::Running {
            self.forget_if_well(now);
            self.well_since = None;
        } else if self.well_since.is_none() {
            self.well_since = Some(now);
        }
    }

    fn forget_if_well(&mut self, now: Instant) {
        if self.well_since.is_some_and(|since| now.saturating_duration_since(since) >= WELL) {
            self.attempts = 0;
        }
    }

    fn back_off(&mut self, now: Instant, random: u32) {
        let until = now + backoff::delay(self.attempts, random);
        self.attempts = self.attempts.saturating_add(1);
        self.enter(State::Backoff { until }, now);
    }

    /// Asks it to stop; returns whether it has a process that is to be told.
    pub(super) fn stop(&mut self, now: Instant, grace: Duration) -> bool {
        if self.stopping.is_some() {
            return false;
        }
        self.stopping = Some((now + grace, false));
        self.grace = grace;
        match self.state {
            State::Preparing | State::Running => true,
            State::Waiting | State::Prepared | State::Backoff { .. } => {
                self.enter(State::Stopped, now);
                false
            }
            State::Failed | State::Stopped => false,
        }
    }

    /// Returns whether it was asked to stop and is now to be killed, once.
    pub(super) fn is_to_be_killed(&mut self, now: Instant) -> bool {
        let has_process = self.has_process();
        match &mut self.stopping {
            Some((until, killed)) if !*killed && has_process && now >= *until => {
                *killed = true;
                true
            }
            _ => false,
        }
    }

    /// Returns whether a process of it runs.
    pub(super) fn has_process(&self) -> bool {
        matches!(self.state, State::Preparing | State::Running)
    }

    /// Returns whether it runs, and since when.
    pub(super) fn running_since(&self) -> Option<Instant> {
        (self.state == State::Running).then_some(self.since)
    }

    /// Returns whether services that come after it may start: it runs, or did and ended well.
    pub(super) fn has_run(&self) -> bool {
        match self.state {
            State::Running => true,
            State::Stopped => self.begun && self.last_exit == Some(ExitStatus::Code(0)),
            _ => false,
        }
    }

    /// Returns whether it will never run again by itself.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Failed | State::Stopped)
    }

    pub(super) fn state(&self) -> ServiceState {
        match self.state {
            State::Waiting => ServiceState::Waiting,
            State::Preparing | State::Prepared => ServiceState::Starting,
            State::Running => ServiceState::Running,
            State::Backoff { .. } => ServiceState::Backoff,
            State::Failed => ServiceState::Failed,
            State::Stopped => ServiceState::Stopped,
        }
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    pub(super) fn restarts(&self) -> u32 {
        self.restarts
    }

    pub(super) fn last_exit(&self) -> Option<ExitStatus> {
        self.last_exit
    }

    pub(super) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    fn enter(&mut self, state: State, now: Instant) {
        self.state = state;
        self.since = now;
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
