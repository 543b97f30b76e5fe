//! What was not let through, counted, so that a guest that tries and tries fills no log.

use super::rules::Reason;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Most destinations that one report names.
const NAMED: usize = 16;
/// The time from the first denial to the report of it.
const FIRST: Duration = Duration::from_secs(1);
/// The longest time from one report to the next.
const LONGEST: Duration = Duration::from_secs(600);

/// Packets and questions that were not let through since the report before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Denials {
    /// What was denied, and how often: `tcp 192.0.2.1:80`, `icmp 192.0.2.1`, or `name www.example.com`.
    pub named: BTreeMap<(String, Reason), u64>,
    /// How often something else was denied than is named.
    pub unnamed: u64,
}

/// Collects denials between reports. The more there are, the rarer they are told.
#[derive(Debug)]
pub(super) struct Tally {
    current: Denials,
    /// When the current ones are to be told.
    due: Option<Instant>,
    wait: Duration,
    last: Option<Instant>,
}

impl Tally {
    pub fn new() -> Self {
        Self { current: Denials::default(), due: None, wait: FIRST, last: None }
    }

    /// Counts one.
    pub fn add(&mut self, what: String, reason: Reason, now: Instant) {
        let named = self.current.named.len();
        match self.current.named.entry((what, reason)) {
            std::collections::btree_map::Entry::Occupied(mut known) => *known.get_mut() += 1,
            std::collections::btree_map::Entry::Vacant(new) if named < NAMED => {
                new.insert(1);
            }
            std::collections::btree_map::Entry::Vacant(_) => self.current.unnamed += 1,
        }
        if self.due.is_none() {
            // After as long a silence, the next one is news again.
            if self.last.is_some_and(|last| now.duration_since(last) > self.wait.saturating_mul(4)) {
                self.wait = FIRST;
            }
            self.due = Some(now + self.wait);
        }
    }

    /// Returns when there will be something to tell.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Returns what is due to be told.
    pub fn take_due(&mut self, now: Instant) -> Option<Denials> {
        if self.due.is_none_or(|due| now < due) {
            return None;
        }
        self.wait = self.wait.saturating_mul(4).min(LONGEST);
        self.last = Some(now);
        self.take_all()
    }

    /// Returns what has not been told yet.
    pub fn take_all(&mut self) -> Option<Denials> {
        self.due.take()?;
        Some(std::mem::take(&mut self.current))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_get_rarer_while_denials_go_on() {
        let start = Instant::now();
        let mut tally = Tally::new();
        let mut reports = Vec::new();
        for second in 0..2000 {
            let now = start + Duration::from_secs(second);
            tally.add("tcp 192.0.2.1:80".to_owned(), Reason::OwnAddress, now);
            if let Some(report) = tally.take_due(now) {
                reports.push((second, report.named.values().sum::<u64>()));
            }
        }
        assert_eq!(reports, [(1, 2), (6, 5), (23, 17), (88, 65), (345, 257), (946, 601), (1547, 601)]);
        assert_eq!(tally.take_all().unwrap().named.values().sum::<u64>(), 452);
        assert_eq!(tally.take_all(), None);
        // After a long silence they are told as at first.
        let later = start + Duration::from_secs(10_000);
        tally.add("tcp 192.0.2.1:80".to_owned(), Reason::OwnAddress, later);
        assert_eq!(tally.due(), Some(later + FIRST));
    }

    #[test]
    fn a_report_has_a_limit() {
        let now = Instant::now();
        let mut tally = Tally::new();
        for port in 0..1000 {
            tally.add(format!("tcp 192.0.2.1:{port}"), Reason::Unlisted, now);
        }
        let report = tally.take_all().unwrap();
        assert_eq!((report.named.len(), report.unnamed), (NAMED, 1000 - 16));
    }
}
