//! From a name to a verified root file system in the store.

mod error;
mod fetch;
mod layers;
mod made;
mod quota;
mod records;

use crate::claims;
use crate::closures::{ClosureManifest, REPRODUCIBLE, read_manifest};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::images::deletion;
use crate::policies;
use crate::progress::{Cancel, Progress, Step};
use crate::store_settings::StoreSettings;
pub use error::{PullError, UnpackError};
use layers::Layers;
use mvm_fetch::{FetchConfig, Fetcher, Notice, Origin, Resolved};
use mvm_image::GENERATION;
use mvm_image::erofs::ImageSummary;
use mvm_plan::audit::{Event, Subject};
use mvm_plan::cosign::ImageKey;
use mvm_plan::plan::{FileSystem, Root};
use mvm_ref::{Digest, ImageConfig, ImageSource, Platform, Reference};
use mvm_store::{Image, ImageClaim, ImageRecord};
use mvm_tree::UnpackPolicy;
pub(crate) use quota::Allowance;
pub use quota::QuotaExceeded;
pub(crate) use records::requested_image;
use serde::Serialize;
use std::sync::mpsc::{Sender, channel};

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
    /// What it was made of, if it was built and not fetched.
    #[serde(skip)]
    pub closure: Option<Box<ClosureManifest>>,
}

impl Pulled {
    /// Returns what a plan says of it.
    pub(crate) fn root(&self) -> Root {
        Root {
            root_hash: self.root_hash,
            generation: GENERATION,
            data_blocks: self.data_blocks,
            hash_start: self.hash_start,
            size: self.size,
            fs: FileSystem::Erofs,
        }
    }
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
        // What a flake gives today, a build says.
        if image.reference().is_some() || matches!(image, ImageSource::Flake(_)) {
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
        let closure = match record.posture.as_str() {
            REPRODUCIBLE => {
                let document = self.scope.document(&record.manifest)?;
                let manifest = document.and_then(|document| read_manifest(&document).ok());
                // One that a newer version wrote counts as absent, and is built again.
                let Some(manifest) = manifest else { return Ok(None) };
                Some(Box::new(manifest))
            }
            _ => None,
        };
        let pulled = describe(requested, record.manifest, record.config, config, image.record());
        Ok(Some(Pulled { closure, ..pulled }))
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
        self.pull_signed(image, platform, &[], progress, cancel)
    }

    /// The same, of an image that is signed by each of `keys`; its layers are not fetched before that is certain.
    pub fn pull_signed(
        &self,
        image: &ImageSource,
        platform: &Platform,
        keys: &[ImageKey],
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Pulled, EngineError> {
        if let Some(reference) = image.reference().filter(|_| self.settings.network.offline) {
            let cached = self.cached(image, platform)?.ok_or_else(|| EngineError::Offline {
                image: image.clone(),
                platform: platform.clone(),
                registry: reference.registry().to_owned(),
            })?;
            self.verify_stored_signatures(image, &cached, keys, &[], progress, cancel)?;
            let hit = Event::CacheHit { subject: Subject::Image { root_hash: cached.root_hash } };
            self.audit.append(&self.settings.scope, vec![hit])?;
            return Ok(cached);
        }
        let pulled = self.while_fetching(progress, cancel, |fetcher| {
            self.pull_with(fetcher, image, platform, keys, progress, cancel)
        })?;
        // So that a launch under the system's policy needs no network. What is wrong with the policy, that launch says.
        if let Ok(policy) = policies::load(&[]) {
            self.gather_signatures(image, platform, &pulled.manifest, &policy, progress, cancel)?;
        }
        Ok(pulled)
    }

    fn pull_with(
        &self,
        fetcher: &Fetcher,
        image: &ImageSource,
        platform: &Platform,
        keys: &[ImageKey],
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Pulled, EngineError> {
        let origin = fetcher.open(image)?;
        let resolved = self.resolve(&origin, platform, cancel)?;
        if !keys.is_empty() {
            self.verify_resolved_signatures(fetcher, image, &resolved, keys, &[], cancel)?;
        }
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
        let settings = StoreSettings::of(&self.store)?;
        let made = self.materialize(origin, resolved, progress, cancel, &mut events);
        if let Err(PullError::Quota(_)) = &made {
            let layers = resolved.config().diff_ids().iter().copied().collect();
            events.extend(self.scope.drop_segments(&layers)?.iter().filter_map(deletion));
        }
        // What was fetched was fetched, also when something later failed.
        self.audit.append(&self.settings.scope, events)?;
        let made = made.map_err(failed)?;
        if let Some(claimed) = self.yield_claim(&manifest, &made.record().root_hash)? {
            let words =
                format!("a bundle claimed the root image {claimed} of this manifest, which is not so");
            progress.step(Step::Notice(words));
        }
        self.record(resolved, &made)?;
        // What an origin itself resolved is no tag.
        let tagged: Vec<String> = names.iter().filter(|name| **name != requested).cloned().collect();
        self.audit_tags(&tagged, manifest, platform)?;
        for name in names {
            self.name(name, platform, manifest, resolved.index_digest())?;
        }
        self.trim_layers(&settings)?;
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
        let allowance = self.allowance()?;
        allowance.check_missing(&self.scope, resolved)?;
        let mut retried = false;
        loop {
            // Before the image is claimed: who holds a claim never waits for another one.
            let layers = self.fetch_layers(origin, resolved, &allowance, progress, cancel, events)?;
            let claim = self.scope.claim_image(chain, GENERATION, &|| cancel.requested())?;
            let manifest = resolved.manifest_digest();
            let error = match self.make(claim, &layers, manifest, (&policy, &allowance), progress) {
                Ok((image, is_new)) => {
                    let ImageRecord { root_hash, size, .. } = *image.record();
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
        manifest: Digest,
        (policy, allowance): (&UnpackPolicy, &Allowance),
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
        // The same layers make the same bytes, in every format generation that there has been.
        if let Some(before) = self.scope.manifest(&manifest)?
            && before.root_hash != root_hash
            && !claims::is_claim(&before)
        {
            return Err(PullError::OtherRoot { expected: before.root_hash, got: root_hash });
        }
        allowance.check(&self.scope)?;
        slot.set_policy(policy.to_record());
        let image = slot.commit(ImageRecord { root_hash, data_blocks, hash_start, size })?;
        progress.step(Step::Assembled { root_hash, size });
        Ok((image, true))
    }
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
        closure: None,
    }
}

#[cfg(test)]
mod tests;
