//! What all layers of an image may still take.

use super::{Breach, Knob, UnpackPolicy};
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts what the layers of one image take of what its policy allows; threads that read layers share it.
#[derive(Debug)]
pub struct Budget {
    policy: UnpackPolicy,
    entries: AtomicU64,
    unpacked: AtomicU64,
    apparent: AtomicU64,
}

impl Budget {
    /// Returns a budget of which nothing is taken.
    pub fn new(policy: &UnpackPolicy) -> Self {
        let (entries, unpacked, apparent) = Default::default();
        Self { policy: policy.clone(), entries, unpacked, apparent }
    }

    /// Returns the policy.
    pub fn policy(&self) -> &UnpackPolicy {
        &self.policy
    }

    pub(crate) fn take_entry(&self) -> Result<(), Breach> {
        take(&self.entries, 1, Knob::Entries, "entries", self.policy.entries)
    }

    /// Takes a file of `apparent` bytes, of which `stored` are no holes.
    pub(crate) fn take_file(&self, stored: u64, apparent: u64) -> Result<(), Breach> {
        let UnpackPolicy { unpacked_bytes, apparent_bytes, .. } = self.policy;
        take(&self.unpacked, stored, Knob::Unpacked, "bytes of file data", unpacked_bytes)?;
        take(&self.apparent, apparent, Knob::Apparent, "bytes of files, with holes", apparent_bytes)
    }
}

fn take(taken: &AtomicU64, amount: u64, knob: Knob, what: &'static str, limit: u64) -> Result<(), Breach> {
    // Sizes have 63 bits. One that would wrap the sum is over any limit.
    let before = taken.fetch_add(amount.min(i64::MAX as u64), Ordering::Relaxed);
    let got = before.saturating_add(amount);
    if got > limit { Err(Breach::OverLimit { knob, what, got, limit }) } else { Ok(()) }
}
