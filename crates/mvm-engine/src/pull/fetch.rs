//! Bringing the layers of an image into the store, a few at a time.

use super::PullError;
use super::error::UnpackError;
use super::layers::Layers;
use super::quota::Allowance;
use crate::engine::Engine;
use crate::error::chain;
use crate::images::deletion;
use crate::progress::{Cancel, Progress, Step};
use mvm_fetch::{Origin, Resolved};
use mvm_image::GENERATION;
use mvm_image::segment::{SegmentSummary, SegmentWriter};
use mvm_plan::audit::{Event, Subject};
use mvm_ref::VerifiedLayer;
use mvm_store::{Claim, Segment, SegmentFiles, SegmentStats, StoreError};
use mvm_tree::Budget;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Bounds of how many layers are fetched at the same time. The lower one lets one be inflated while the next ones'
/// bytes arrive; more than the upper one take more of a registry's and of memory than they give.
const PARALLEL_LAYERS: (usize, usize) = (4, 6);

/// How long data gathers before the next part of it is sent to the disk.
const SYNC_INTERVAL: Duration = Duration::from_millis(50);

/// How often a layer that was found damaged is looked up again: another process may be discarding the same one.
const ATTEMPTS: u32 = 3;

impl Engine {
    /// Brings every layer into the store, a few at a time, and returns them lowest first.
    pub(crate) fn fetch_layers(
        &self,
        origin: &Origin,
        resolved: &Resolved,
        allowance: &Allowance,
        progress: &dyn Progress,
        cancel: &Cancel,
        events: &mut Vec<Event>,
    ) -> Result<Layers, PullError> {
        let count = resolved.layers().len();
        let next = AtomicUsize::new(0);
        let failed = AtomicBool::new(false);
        // Of layers that are in the store already the merge takes account.
        let budget = Budget::new(&self.settings.unpack_policy());
        let results: Vec<Mutex<Option<Result<Layer, PullError>>>> =
            (0..count).map(|_| Mutex::new(None)).collect();
        let discarded = Mutex::new(Vec::new());
        let context =
            Context { origin, resolved, allowance, budget: &budget, discarded: &discarded, progress, cancel };
        let work = || {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count || failed.load(Ordering::Relaxed) {
                    return;
                }
                let result = self.fetch_layer(&context, index);
                if result.is_err() {
                    failed.store(true, Ordering::Relaxed);
                }
                *results[index].lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..parallel_layers().min(count) {
                scope.spawn(work);
            }
            work();
        });
        events.extend(discarded.into_inner().unwrap_or_else(PoisonError::into_inner));
        let mut layers = Layers { segments: Vec::with_capacity(count), cached: BTreeSet::new() };
        let mut failure = None;
        for result in results {
            match result.into_inner().unwrap_or_else(PoisonError::into_inner) {
                Some(Ok(layer)) => {
                    events.extend(layer.events());
                    if layer.fetched.is_none() {
                        layers.cached.insert(layer.segment.record().diff_id);
                    }
                    layers.segments.push(layer.segment);
                }
                Some(Err(error)) => {
                    events.extend(error.failed_check());
                    failure = failure.or(Some(error));
                }
                // Not begun, because another one failed.
                None => {}
            }
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(layers),
        }
    }

    fn fetch_layer(&self, context: &Context<'_>, index: usize) -> Result<Layer, PullError> {
        let Context { origin, resolved, allowance, budget, progress, .. } = *context;
        let descriptor = &resolved.layers()[index].0;
        let layer = descriptor.digest;
        let slot = match self.claim_layer(context, index)? {
            Claim::Ready(segment) => {
                progress.step(Step::LayerCached { layer });
                return Ok(Layer { segment, fetched: None });
            }
            Claim::Build(slot) => slot,
        };
        progress.step(Step::LayerStarted { layer, size: descriptor.size });
        let report = |received| progress.step(Step::LayerBytes { layer, received });
        let framing = slot.framing()?;
        let unpack = |input: &mut dyn std::io::BufRead| {
            let mut watched = allowance.watch(input, slot.files(), Some(framing));
            unpack(&mut watched, slot.files(), framing, budget)
        };
        let fetch = || origin.read_layer(resolved, index, &report, unpack);
        // The lowest layer's data becomes the image itself where it can, and images are synced.
        let fetched = if index == 0 { while_syncing(&slot.files().data, fetch)? } else { fetch() };
        let (summary, verified) = fetched.map_err(|source| match allowance.exceeded() {
            Some(exceeded) => PullError::Quota(exceeded),
            None => PullError::Layer { index: index + 1, layer, source: Box::new(source) },
        })?;
        let SegmentSummary { blocks, tail_bytes, entries, .. } = summary;
        let segment = slot.commit(&verified, SegmentStats { blocks, tail_bytes, entries })?;
        progress.step(Step::LayerDone { layer });
        Ok(Layer { segment, fetched: Some(verified) })
    }

    /// Returns a layer that the store has and that is what it was when it was verified, or the right to make it. A damaged
    /// one is discarded, so that it is fetched anew.
    fn claim_layer(&self, context: &Context<'_>, index: usize) -> Result<Claim, PullError> {
        let Context { resolved, discarded, progress, cancel, .. } = *context;
        let (descriptor, expected) = &resolved.layers()[index];
        let mut attempts = 0;
        loop {
            let claim = self.scope.claim_segment(&expected.diff_id, GENERATION, &|| cancel.requested())?;
            let error = match &claim {
                Claim::Ready(segment) => match segment.check() {
                    Ok(()) => return Ok(claim),
                    Err(error) => error,
                },
                Claim::Build(_) => return Ok(claim),
            };
            drop(claim);
            attempts += 1;
            let (index, layer) = (index + 1, descriptor.digest);
            let is_damage =
                matches!(error, StoreError::SegmentDigest { .. } | StoreError::SegmentSums { .. });
            if !is_damage || attempts == ATTEMPTS {
                return Err(PullError::Layer { index, layer, source: Box::new(error.into()) });
            }
            let words = format!("layer {index} ({layer}) is damaged and fetched anew: {}", chain(&error));
            progress.step(Step::Notice(words));
            let removed = self.scope.discard_segments(&[expected.diff_id].into())?;
            let mut events = discarded.lock().unwrap_or_else(PoisonError::into_inner);
            events.extend(removed.iter().filter_map(deletion));
        }
    }
}

/// What all layers of one pull have in common.
#[derive(Clone, Copy)]
struct Context<'c> {
    origin: &'c Origin,
    resolved: &'c Resolved,
    allowance: &'c Allowance,
    budget: &'c Budget,
    /// What the audit log is to say of layers that were discarded.
    discarded: &'c Mutex<Vec<Event>>,
    progress: &'c dyn Progress,
    cancel: &'c Cancel,
}

/// A layer in the store, and the evidence if it was fetched now.
struct Layer {
    segment: Segment,
    fetched: Option<VerifiedLayer>,
}

impl Layer {
    fn events(&self) -> Vec<Event> {
        match &self.fetched {
            None => {
                let diff_id = self.segment.record().diff_id;
                vec![Event::CacheHit { subject: Subject::Segment { diff_id } }]
            }
            Some(layer) => vec![
                Event::Fetch { digest: layer.digest(), size: layer.size() },
                Event::Verify { digest: layer.digest(), diff_id: Some(layer.diff_id()), passed: true },
            ],
        }
    }
}

/// Returns how many layers are fetched at the same time: one for each processor, within bounds.
fn parallel_layers() -> usize {
    let (low, high) = PARALLEL_LAYERS;
    std::thread::available_parallelism().map_or(low, |processors| processors.get().clamp(low, high))
}

/// Runs `work` while what it writes to `file` is being written to the disk, so that less is left to wait for at the end.
///
/// An error of the disk fails the whole: the system tells of each only once, so that the sync at the end would not see it.
pub(super) fn while_syncing<T>(file: &File, work: impl FnOnce() -> T) -> Result<T, PullError> {
    let (done, is_done) = channel::<()>();
    std::thread::scope(|scope| {
        let syncing = scope.spawn(move || -> io::Result<()> {
            while is_done.recv_timeout(SYNC_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                file.sync_data()?;
            }
            Ok(())
        });
        let result = work();
        drop(done);
        let synced = syncing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        synced.map(|()| result).map_err(PullError::Sync)
    })
}

/// Turns a layer's tar stream into the files of a segment.
pub(super) fn unpack(
    mut input: &mut dyn std::io::BufRead,
    files: &SegmentFiles,
    framing: &File,
    budget: &Budget,
) -> Result<SegmentSummary, UnpackError> {
    let mut writer = SegmentWriter::new(&files.data, &files.tails, &files.leaves, &files.index)?;
    writer = writer.with_framing(framing);
    mvm_tree::read_layer(&mut input, budget, &mut writer)?;
    Ok(writer.finish()?)
}
