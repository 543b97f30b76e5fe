//! What the runs of one health check amount to, as a state machine over a clock that others read.
//!
//! A run is due an interval after the end of the last one. Until the first success there are earlier ones, so that
//! what is soon well is soon known to be; failures count from the end of the start period, and not before the first
//! run that is due by the interval alone.

use crate::agent::words;
use mvm_wire::document::services::HealthCheck;
use mvm_wire::{ExitStatus, Health, HealthOutcome, HealthResult};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Results that are kept.
const KEPT: usize = 20;
/// Bytes of output that are kept of each.
pub(super) const MAX_OUTPUT: usize = 4096;
/// From the start of what is checked to the first run, then doubled.
const EARLY: Duration = Duration::from_millis(500);
/// Most between early runs.
const LATEST_EARLY: Duration = Duration::from_secs(5);

/// One run that is over.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) started: Instant,
    pub(super) took: Duration,
    pub(super) outcome: HealthOutcome,
    pub(super) output: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Monitor {
    interval: Duration,
    start_period: Duration,
    retries: u32,
    health: Health,
    failing: u32,
    results: VecDeque<Kept>,
    /// Since when that runs which is checked.
    begun: Option<Instant>,
    /// Whether it succeeded since.
    succeeded: bool,
    next: Option<Instant>,
    /// Until the next early run.
    pause: Duration,
}

#[derive(Debug)]
struct Kept {
    started: Instant,
    took: Duration,
    outcome: HealthOutcome,
    output: String,
}

impl Monitor {
    pub(super) fn new(check: &HealthCheck) -> Self {
        Self {
            interval: Duration::from_millis(check.interval_ms),
            start_period: Duration::from_millis(check.start_period_ms),
            retries: check.retries,
            health: Health::Starting,
            failing: 0,
            results: VecDeque::new(),
            begun: None,
            succeeded: false,
            next: None,
            pause: EARLY,
        }
    }

    /// Begins, where what is checked runs since `since`.
    pub(super) fn begin(&mut self, since: Instant) {
        if self.begun == Some(since) {
            return;
        }
        self.begun = Some(since);
        self.succeeded = false;
        self.pause = EARLY;
        self.schedule(since);
    }

    /// Ends, because what is checked doesn't run: that is no good health, whatever it was before.
    pub(super) fn cease(&mut self, now: Instant, reason: &str) {
        let told = self.begun.is_none() && self.health == Health::Unhealthy;
        self.begun = None;
        self.next = None;
        if told {
            return;
        }
        self.failing = self.failing.saturating_add(1);
        self.health = Health::Unhealthy;
        let outcome = HealthOutcome::NotStarted(words::bounded(reason));
        self.keep(Run { started: now, took: Duration::ZERO, outcome, output: Vec::new() });
    }

    /// Returns when the next run is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Notes that a run began.
    pub(super) fn started(&mut self) {
        self.next = None;
    }

    /// Notes a run that is over.
    pub(super) fn finished(&mut self, now: Instant, run: Run) {
        let success = run.outcome == HealthOutcome::Ended(ExitStatus::Code(0));
        self.keep(run);
        let Some(begun) = self.begun else { return };
        let counts = self.succeeded || now >= begun + self.start_period.max(self.interval);
        if success {
            self.succeeded = true;
            self.failing = 0;
            self.health = Health::Healthy;
        } else if counts {
            self.failing = self.failing.saturating_add(1);
            if self.failing >= self.retries {
                self.health = Health::Unhealthy;
            }
        }
        self.schedule(now);
    }

    fn schedule(&mut self, now: Instant) {
        let Some(begun) = self.begun else { return };
        let regular = now + self.interval;
        let early = now + self.pause;
        self.pause = (self.pause * 2).min(LATEST_EARLY);
        let counted = begun + self.start_period.max(self.interval);
        self.next = Some(match (self.succeeded, now < counted) {
            // The first run whose failure counts is not late.
            (false, true) => early.min(counted).min(regular),
            _ => regular,
        });
    }

    fn keep(&mut self, run: Run) {
        let Run { started, took, outcome, output } = run;
        if self.results.len() == KEPT {
            self.results.pop_front();
        }
        let output = words::output(&output, MAX_OUTPUT);
        self.results.push_back(Kept { started, took, outcome, output });
    }

    pub(super) fn health(&self) -> Health {
        self.health
    }

    pub(super) fn failing(&self) -> u32 {
        self.failing
    }

    /// Returns the last runs, the oldest first: at most `count`, each with at most `bytes` of its output.
    pub(super) fn results(&self, now: Instant, count: usize, bytes: usize) -> Vec<HealthResult> {
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let skipped = self.results.len().saturating_sub(count);
        let kept = self.results.iter().skip(skipped);
        kept.map(|kept| HealthResult {
            ago_ms: milliseconds(now.saturating_duration_since(kept.started)),
            took_ms: milliseconds(kept.took),
            outcome: kept.outcome.clone(),
            output: words::output(kept.output.as_bytes(), bytes),
        })
        .collect()
    }
}

#[cfg(test)]
#[path = "monitor_tests.rs"]
mod tests;
