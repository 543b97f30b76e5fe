//! A scope's quota, kept while an image is being brought in.

use super::PullError;
use crate::engine::Engine;
use mvm_fetch::Resolved;
use mvm_image::GENERATION;
use mvm_ref::ScopeName;
use mvm_store::{Scope, SegmentFiles, StoreError};
use std::fs::File;
use std::io::{self, BufRead, Read};
use std::sync::atomic::{AtomicU64, Ordering};

/// After how many bytes of a layer it is looked at what they became.
const STEP: u64 = 1 << 20;

/// The image would make its scope hold more than it may.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "scope {scope} may hold {quota} bytes and holds {used}; the image needs at least {needed} bytes more"
)]
pub struct QuotaExceeded {
    /// The scope.
    pub scope: ScopeName,
    /// Bytes that it may hold.
    pub quota: u64,
    /// Bytes that it held before.
    pub used: u64,
    /// Bytes that the image needs at least.
    pub needed: u64,
}

/// What a scope may still take; without a quota anything.
#[derive(Debug)]
pub(crate) struct Allowance {
    limit: Option<Limit>,
}

#[derive(Debug)]
struct Limit {
    scope: ScopeName,
    quota: u64,
    used: u64,
    /// Bytes that were brought in since.
    taken: AtomicU64,
}

impl Engine {
    /// Looks up what the scope may hold and holds.
    pub(crate) fn allowance(&self) -> Result<Allowance, StoreError> {
        let Some(quota) = self.scope.quota()? else { return Ok(Allowance { limit: None }) };
        let (scope, used) = (self.settings.scope.clone(), self.scope.usage()?.total);
        Ok(Allowance { limit: Some(Limit { scope, quota, used, taken: AtomicU64::new(0) }) })
    }
}

impl Allowance {
    /// Refuses an image of which more is missing than may come in, going by what its layers have as they are fetched.
    pub(super) fn check_missing(&self, scope: &Scope, resolved: &Resolved) -> Result<(), PullError> {
        let Some(limit) = &self.limit else { return Ok(()) };
        let mut missing: u64 = 0;
        for (descriptor, expected) in resolved.layers() {
            if scope.segment(&expected.diff_id, GENERATION)?.is_none() {
                missing = missing.saturating_add(descriptor.size);
            }
        }
        Ok(limit.check(missing)?)
    }

    /// Refuses so many bytes more, if that is too much.
    pub(crate) fn check_bytes(&self, bytes: u64) -> Result<(), PullError> {
        let Some(limit) = &self.limit else { return Ok(()) };
        Ok(limit.check(bytes)?)
    }

    /// Refuses what the scope holds by now, if that is too much.
    pub(super) fn check(&self, scope: &Scope) -> Result<(), PullError> {
        let Some(limit) = &self.limit else { return Ok(()) };
        Ok(limit.check(scope.usage()?.total.saturating_sub(limit.used))?)
    }

    /// Returns what was exceeded, if something was.
    pub(crate) fn exceeded(&self) -> Option<QuotaExceeded> {
        let limit = self.limit.as_ref()?;
        limit.check(limit.taken.load(Ordering::Relaxed)).err()
    }

    /// Watches a layer that is unpacked into `files`: reading fails once the scope would hold too much.
    pub(crate) fn watch<'a>(
        &'a self,
        input: &'a mut dyn BufRead,
        files: &'a SegmentFiles,
        framing: Option<&'a File>,
    ) -> Watched<'a> {
        Watched { input, allowance: self, files, framing, unseen: 0, seen: 0 }
    }
}

impl Limit {
    fn check(&self, needed: u64) -> Result<(), QuotaExceeded> {
        if self.used.saturating_add(needed) <= self.quota {
            return Ok(());
        }
        let Self { scope, quota, used, .. } = self;
        Err(QuotaExceeded { scope: scope.clone(), quota: *quota, used: *used, needed })
    }
}

/// A layer's stream, and what became of it.
pub(crate) struct Watched<'a> {
    input: &'a mut dyn BufRead,
    allowance: &'a Allowance,
    files: &'a SegmentFiles,
    framing: Option<&'a File>,
    /// Bytes read since it was looked at what they became.
    unseen: u64,
    /// Bytes that the files had then.
    seen: u64,
}

impl Watched<'_> {
    fn look(&mut self) -> io::Result<()> {
        self.unseen = 0;
        let Some(limit) = &self.allowance.limit else { return Ok(()) };
        let SegmentFiles { data, tails, leaves, index } = self.files;
        let mut now = 0;
        for file in [data, tails, leaves, index].into_iter().chain(self.framing) {
            now += file.metadata()?.len();
        }
        let new = now.saturating_sub(self.seen);
        self.seen = now;
        let taken = limit.taken.fetch_add(new, Ordering::Relaxed).saturating_add(new);
        limit.check(taken).map_err(io::Error::other)
    }
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Watched<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.unseen >= STEP {
            self.look()?;
        }
        self.input.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.unseen += count as u64;
        self.input.consume(count);
    }
}
