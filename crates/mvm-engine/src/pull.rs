//! From a name to a verified root file system in the store.

mod error;
mod layers;
mod records;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::images::deletion;
use crate::progress::{Cancel, Progress, Step};
pub use error::{PullError, UnpackError};
use layers::Layers;
use mvm_fetch::{FetchConfig, Fetcher, Notice, Origin, Resolved};
use mvm_image::GENERATION;
use mvm_image::erofs::ImageSummary;
use mvm_image::segment::{SegmentSummary, SegmentWriter};
use mvm_plan::audit::{Event, Subject};
use mvm_ref::{Digest, ImageConfig, ImageSource, Platform, Reference, VerifiedLayer};
use mvm_store::{Claim, Image, ImageClaim, ImageRecord, Segment, SegmentFiles, SegmentStats};
use mvm_tree::{Budget, UnpackPolicy};
pub(crate) use records::requested_image;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Bounds of how many layers are fetched at the same time. The lower one lets one be inflated while the next ones'
/// bytes arrive; more than the upper one take more of a registry's and of memory than they give.
const PARALLEL_LAYERS: (usize, usize) = (3, 6);

/// How long data gathers before the next part of it is sent to the disk.
const SYNC_INTERVAL: Duration = Duration::from_millis(50);

/// An image in the store, as a plan needs it.
#[derive(Clone, Debug, Serialize)]
pub struct Pulled {
    /// What was asked for.
    pub requested: String,
    /// Digest of its manifest.
    pub manifest: Digest,
    /// Digest of its config.
    #[serde(rename = "config")]
    pub config_digest: Digest,
    /// Its platform.
    pub platform: Platform,
    /// Root hash of its root file system.
    pub root_hash: Digest,
    /// Blocks under verity.
    pub data_blocks: u64,
    /// Offset of the verity superblock.
    pub hash_start: u64,
    /// Length of the root file system in bytes.
    pub size: u64,
    /// Its config.
    #[serde(skip)]
    pub config: ImageConfig,
}

impl Engine {
    /// Returns an image that the store has for a name, if the name was resolved before.
    ///
    /// One that was unpacked under a looser policy than is asked for now is an error.
    pub fn cached(&self, image: &ImageSource, platform: &Platform) -> Result<Option<Pulled>, EngineError> {
        let requested = image.to_string();
        let Some(resolution) = self.scope.resolution(&requested, platform)? else { return Ok(None) };
        let pinned = image.reference().and_then(Reference::digest);
        if pinned.is_some_and(|digest| digest != resolution.manifest && Some(digest) != resolution.index) {
            return Ok(None);
        }
        let cached = self.pulled(&requested, &resolution.manifest)?;
        if let Some(cached) = &cached
            && let Some(file) = self.scope.image_by_root(&cached.root_hash)?
            && !self.admits(&file)
        {
            return Err(EngineError::OtherPolicy { image: image.clone() });
        }
        Ok(cached)
    }

    /// Says whether an image's layers were checked under a policy at least as strict as the one asked for.
    fn admits(&self, image: &Image) -> bool {
        let Some(asked) = &self.settings.unpack else { return true };
        match image.policy() {
            // Made before there was a choice.
            "" => UnpackPolicy::default().is_within(asked),
            record => UnpackPolicy::from_record(record).is_within(asked),
        }
    }

    /// Returns an image that the store has for a name, if the name can't mean another one by now.
    ///
    /// What a registry's tag means is asked for on request only; a layout or an archive is at hand and may have changed.
    pub(crate) fn current(
        &self,
        image: &ImageSource,
        platform: &Platform,
        cancel: &Cancel,
    ) -> Result<Option<Pulled>, EngineError> {
        let cached = match self.cached(image, platform) {
            Ok(Some(cached)) => cached,
            // Its layers have to be looked at again.
            Ok(None) | Err(EngineError::OtherPolicy { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        if image.reference().is_some() {
            return Ok(Some(cached));
        }
        let resolved = self.fetcher(cancel, None).open(image)?.resolve(platform)?;
        Ok((resolved.manifest_digest() == cached.manifest).then_some(cached))
    }

    /// Returns an image of the store by its manifest, if all of it is there.
    pub(crate) fn pulled(&self, requested: &str, manifest: &Digest) -> Result<Option<Pulled>, EngineError> {
        let Some(record) = self.scope.manifest(manifest)? else { return Ok(None) };
        let Some(image) = self.scope.image_by_root(&record.root_hash)? else { return Ok(None) };
        let Some(config) = self.scope.document(&record.config)? else { return Ok(None) };
        // It was accepted when it was pulled; a config that no longer parses counts as absent and is fetched again.
        let Ok(config) = ImageConfig::parse(&config) else { return Ok(None) };
        Ok(Some(describe(requested, record.manifest, record.config, config, image.record())))
    }

    /// Resolves a name, fetches what is missing, verifies it and makes the root file system.
    ///
    /// Offline, a registry's image is the one that the store has for the name.
    pub fn pull(
        &self,
        image: &ImageSource,
        platform: &Platform,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Pulled, EngineError> {
        if let Some(reference) = image.reference().filter(|_| self.settings.network.offline) {
            let cached = self.cached(image, platform)?.ok_or_else(|| EngineError::Offline {
                image: image.clone(),
                platform: platform.clone(),
                registry: reference.registry().to_owned(),
            })?;
            let hit = Event::CacheHit { subject: Subject::Image { root_hash: cached.root_hash } };
            self.audit.append(&self.settings.scope, vec![hit])?;
            return Ok(cached);
        }
        self.while_fetching(progress, cancel, |fetcher| {
            self.pull_with(fetcher, image, platform, progress, cancel)
        })
    }

    fn pull_with(
        &self,
        fetcher: &Fetcher,
        image: &ImageSource,
        platform: &Platform,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Pulled, EngineError> {
        let origin = fetcher.open(image)?;
        let resolved = self.resolve(&origin, platform, cancel)?;
        self.keep(&origin, &resolved, &[image.to_string()], platform, progress, cancel)
    }

    /// Asks an origin for its image.
    pub(crate) fn resolve(
        &self,
        origin: &Origin,
        platform: &Platform,
        cancel: &Cancel,
    ) -> Result<Resolved, EngineError> {
        origin.resolve(platform).map_err(|error| match cancel.requested() {
            true => EngineError::Interrupted,
            false => EngineError::from(error),
        })
    }

    /// Fetches what is missing of an image, verifies it, makes the root file system, and gives it `names`.
    pub(crate) fn keep(
        &self,
        origin: &Origin,
        resolved: &Resolved,
        names: &[String],
        platform: &Platform,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Pulled, EngineError> {
        let requested = origin.source().to_string();
        let manifest = resolved.manifest_digest();
        progress.step(Step::Resolved { requested: requested.clone(), manifest });
        let resolution =
            Event::Resolve { requested: requested_image(&requested)?, manifest, platform: platform.clone() };
        self.audit.append(&self.settings.scope, vec![resolution])?;

        let failed = |source: PullError| match cancel.requested() {
            true => EngineError::Interrupted,
            false => EngineError::Pull { image: requested.clone(), source: Box::new(source) },
        };
        let mut events = Vec::new();
        let made = self.materialize(origin, resolved, progress, cancel, &mut events);
        // What was fetched was fetched, also when something later failed.
        self.audit.append(&self.settings.scope, events)?;
        let made = made.map_err(failed)?;
        self.record(resolved, &made)?;
        // What an origin itself resolved is no tag.
        let tagged: Vec<String> = names.iter().filter(|name| **name != requested).cloned().collect();
        self.audit_tags(&tagged, manifest, platform)?;
        for name in names {
            self.name(name, platform, manifest, resolved.index_digest())?;
        }
        let config = resolved.config().clone();
        Ok(describe(&requested, manifest, resolved.config_digest(), config, made.record()))
    }

    /// Gives `work` a fetcher, and passes on to `progress` what the fetcher has to tell meanwhile.
    pub(crate) fn while_fetching<T>(
        &self,
        progress: &dyn Progress,
        cancel: &Cancel,
        work: impl FnOnce(&Fetcher) -> T,
    ) -> T {
        let (notices, heard) = channel::<Notice>();
        std::thread::scope(|scope| {
            // Ends with the fetcher, which has the only sender.
            scope.spawn(move || {
                heard.iter().for_each(|notice| progress.step(Step::Notice(notice.to_string())))
            });
            let fetcher = self.fetcher(cancel, Some(notices));
            work(&fetcher)
        })
    }

    fn fetcher(&self, cancel: &Cancel, notices: Option<Sender<Notice>>) -> Fetcher {
        let spool = self.scope.path().join("staging");
        Fetcher::new(FetchConfig { notices, spool, ..self.settings.fetch_config(cancel) })
    }

    /// Returns the image of a manifest, from the store or made now.
    fn materialize(
        &self,
        origin: &Origin,
        resolved: &Resolved,
        progress: &dyn Progress,
        cancel: &Cancel,
        events: &mut Vec<Event>,
    ) -> Result<Image, PullError> {
        let chain = resolved.config().diff_ids();
        if let Some(image) = self.scope.image(chain, GENERATION)?
            && self.admits(&image)
        {
            events.push(Event::CacheHit { subject: Subject::Image { root_hash: image.record().root_hash } });
            return Ok(image);
        }
        let policy = self.settings.unpack_policy();
        policy.check_layers(chain.len())?;
        let mut retried = false;
        loop {
            // Before the image is claimed: who holds a claim never waits for another one.
            let layers = self.fetch_layers(origin, resolved, progress, cancel, events)?;
            let claim = self.scope.claim_image(chain, GENERATION, &|| cancel.requested())?;
            let error = match self.make(claim, &layers, &policy, progress) {
                Ok((image, is_new)) => {
                    let ImageRecord { root_hash, size, .. } = *image.record();
                    let manifest = resolved.manifest_digest();
                    events.extend(is_new.then_some(Event::Materialize {
                        manifest,
                        root_hash,
                        generation: GENERATION,
                        size,
                    }));
                    return Ok(image);
                }
                Err(error) => error,
            };
            let suspects = layers.suspects(&error);
            drop(layers);
            if !suspects.is_empty() {
                let discarded = self.scope.discard_segments(&suspects)?;
                events.extend(discarded.iter().filter_map(deletion));
            }
            if retried || suspects.is_empty() {
                return Err(error);
            }
            retried = true;
        }
    }

    /// Makes the image that was claimed from its layers, or checks them where it was made under another policy.
    /// Returns it, and whether it is new.
    fn make(
        &self,
        claim: ImageClaim,
        layers: &Layers,
        policy: &UnpackPolicy,
        progress: &dyn Progress,
    ) -> Result<(Image, bool), PullError> {
        let mut slot = match claim {
            ImageClaim::Ready(image) => {
                if !self.admits(&image) {
                    layers.check(policy)?;
                    self.scope.set_image_policy(&image.record().root_hash, &policy.to_record())?;
                }
                return Ok((image, false));
            }
            ImageClaim::Build(slot) => slot,
        };
        progress.step(Step::Assembling);
        let ImageSummary { root_hash, data_blocks, hash_start, size, .. } =
            layers.build(policy, &mut slot)?;
        slot.set_policy(policy.to_record());
        let image = slot.commit(ImageRecord { root_hash, data_blocks, hash_start, size })?;
        progress.step(Step::Assembled { root_hash, size });
        Ok((image, true))
    }

    /// Brings every layer into the store, a few at a time, and returns them lowest first.
    pub(crate) fn fetch_layers(
        &self,
        origin: &Origin,
        resolved: &Resolved,
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
        let work = || {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count || failed.load(Ordering::Relaxed) {
                    return;
                }
                let result = self.fetch_layer(origin, resolved, index, &budget, progress, cancel);
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

    fn fetch_layer(
        &self,
        origin: &Origin,
        resolved: &Resolved,
        index: usize,
        budget: &Budget,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Layer, PullError> {
        let (descriptor, expected) = &resolved.layers()[index];
        let layer = descriptor.digest;
        let slot = match self.scope.claim_segment(&expected.diff_id, GENERATION, &|| cancel.requested())? {
            Claim::Ready(segment) => {
                progress.step(Step::LayerCached { layer });
                return Ok(Layer { segment, fetched: None });
            }
            Claim::Build(slot) => slot,
        };
        progress.step(Step::LayerStarted { layer, size: descriptor.size });
        let report = |received| progress.step(Step::LayerBytes { layer, received });
        let unpack = |input: &mut dyn std::io::BufRead| unpack(input, slot.files(), slot.framing(), budget);
        let fetch = || origin.read_layer(resolved, index, &report, unpack);
        // The lowest layer's data becomes the image itself where it can, and images are synced.
        let fetched = if index == 0 { while_syncing(&slot.files().data, fetch) } else { fetch() };
        let (summary, verified) = fetched.map_err(|source| PullError::Layer {
            index: index + 1,
            layer,
            source: Box::new(source),
        })?;
        let SegmentSummary { blocks, tail_bytes, entries, .. } = summary;
        let segment = slot.commit(&verified, SegmentStats { blocks, tail_bytes, entries })?;
        progress.step(Step::LayerDone { layer });
        Ok(Layer { segment, fetched: Some(verified) })
    }
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
fn while_syncing<T>(file: &File, work: impl FnOnce() -> T) -> T {
    let (done, is_done) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while is_done.recv_timeout(SYNC_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                // Only a head start: an error comes again, and counts, when the image is synced.
                if file.sync_data().is_err() {
                    return;
                }
            }
        });
        let result = work();
        drop(done);
        result
    })
}

/// Turns a layer's tar stream into the files of a segment.
fn unpack(
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

fn describe(
    requested: &str,
    manifest: Digest,
    config_digest: Digest,
    config: ImageConfig,
    image: &ImageRecord,
) -> Pulled {
    Pulled {
        requested: requested.to_owned(),
        manifest,
        config_digest,
        platform: config.platform().clone(),
        root_hash: image.root_hash,
        data_blocks: image.data_blocks,
        hash_start: image.hash_start,
        size: image.size,
        config,
    }
}

#[cfg(test)]
mod tests;
