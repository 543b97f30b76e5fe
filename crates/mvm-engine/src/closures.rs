//! From the closure of a build to a verified root file system in the store.
//!
//! ```text
//! nix path-info ─ Closure ─ paths that the scope lacks ─ NARs ─ segments ─┐
//!                                   the output's text ─ guest ─ glue ─────┴─ image ─ manifest, config, names
//! ```
//!
//! All that comes is the builder's word until it is compared: each NAR with the hash and size that the same builder gave, which
//! finds damage on the way and nothing else; each name that is said to follow from its content with that content; each
//! signature with the keys that are trusted. What of this holds is recorded for each path ([`PathTrust`]).

mod error;
mod facts;
mod glue;
mod guest;
mod import;
mod lone_file;
mod manifest;
mod trust;
mod writable_store;

pub use error::ImportError;
pub(crate) use facts::WRITABLE_STORE;
pub use facts::{BuildFacts, BuilderFacts};
pub(crate) use guest::{is_service_only, surroundings};
pub use manifest::{ClosureManifest, ClosurePath, PathTrust};
pub(crate) use manifest::{REPRODUCIBLE, read_manifest};

use crate::claims;
use crate::clock;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::progress::{Cancel, Progress, Step};
use crate::pull::{PullError, Pulled, requested_image};
use import::Import;
use mvm_image::GENERATION;
use mvm_plan::audit::{Event, Subject};
use mvm_ref::nix::{Closure, StorePath};
use mvm_ref::{Digest, GuestDefinition, ImageConfig, MAX_GUEST_DEFINITION, Platform, RootFsType};
use mvm_store::{Image, ImageRecord, ManifestRecord};
use std::io::{Read, Write};
use writable_store::WritableStore;

/// Gives the NARs of store paths.
pub trait NarSource {
    /// Returns the NARs of `paths` one after the other, in this order, with nothing between them.
    fn nars<'a>(&'a mut self, paths: &[StorePath]) -> Result<Box<dyn Read + 'a>, EngineError>;
}

impl Engine {
    /// Makes the image of a guest that was built: fetches the paths of its closure that the scope lacks, verifies them, reads the
    /// guest's description, adds what a root needs beside the store, and gives the image `names`.
    ///
    /// `output` is the one file that `mkGuest` makes. Nothing is named where anything is refused; paths that were verified before
    /// stay in the scope, so that the next import asks for less.
    #[expect(
        clippy::too_many_arguments,
        reason = "what is imported, from where, under which names, and who hears of it"
    )]
    pub fn import_closure(
        &self,
        closure: &Closure,
        output: &StorePath,
        source: &mut dyn NarSource,
        facts: &BuildFacts,
        names: &[String],
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Pulled, EngineError> {
        let mut notes = Vec::new();
        let import = Import { engine: self, closure, output, progress, cancel };
        let failed = |error: ImportError| match cancel.requested() {
            true => EngineError::Interrupted,
            false => EngineError::Closure { output: output.clone(), source: Box::new(error) },
        };
        let done = self.import(&import, source, facts, &mut notes);
        if let Err(Failed::Import(error)) = &done {
            notes.extend(error.note());
        }
        // What was fetched was fetched, also when something later failed.
        self.audit.append_notes(&self.settings.scope, notes)?;
        let made = done.map_err(|error| match error {
            Failed::Import(error) => failed(error),
            Failed::Engine(error) => error,
        })?;
        self.record_closure(&made, facts, names)
    }

    fn import(
        &self,
        import: &Import<'_>,
        source: &mut dyn NarSource,
        facts: &BuildFacts,
        notes: &mut Vec<crate::audit_log::Note>,
    ) -> Result<Made, Failed> {
        let Import { closure, output, progress, cancel, .. } = *import;
        closure.check_output(output).map_err(ImportError::Closure)?;
        import::raise_file_limit(closure.paths().len())?;
        let paths = import.paths(source, notes)?;

        let text = lone_file::read(&paths.segments[output], MAX_GUEST_DEFINITION as u64)?;
        let text = text.ok_or_else(|| ImportError::NotAGuest(output.clone()))?;
        let guest = GuestDefinition::parse(&text).map_err(ImportError::Guest)?;
        check_guest(&guest, closure, facts)?;
        let trust = self.trust_of(closure, &paths.segments)?;

        let store = match facts.has_writable_store() {
            true => Some(WritableStore::of(&guest, closure, output, &paths.segments)?),
            false => None,
        };
        let mut write = |out: &mut dyn Write| glue::write(&guest, store.as_ref(), out);
        let glue = self.made_layer("the files beside the store", &mut write, cancel)?;
        let mut segments = vec![glue];
        segments.extend(paths.segments.into_values());
        let chain: Vec<Digest> = segments.iter().map(|segment| segment.record().diff_id).collect();
        progress.step(Step::Assembling);
        let (image, is_new) = self
            .made_root(segments, &paths.cached, &paths.allowance, cancel)
            .map_err(|source| Failed::Import(ImportError::Assemble(Box::new(source))))?;
        let ImageRecord { root_hash, size, .. } = *image.record();
        progress.step(Step::Assembled { root_hash, size });

        let manifest =
            ClosureManifest::new(closure, output, (guest, store.map(|store| store.nix)), facts, trust);
        let manifest_bytes = manifest.to_bytes().map_err(ImportError::Manifest)?;
        let config_bytes = manifest::config(&manifest.guest, &chain).map_err(ImportError::Manifest)?;
        let digest = Digest::of(&manifest_bytes);
        notes.push(match is_new {
            true => Event::Materialize { manifest: digest, root_hash, generation: GENERATION, size }.into(),
            false => Event::CacheHit { subject: Subject::Image { root_hash } }.into(),
        });
        Ok(Made { image, manifest, manifest_bytes, config_bytes, chain })
    }

    /// Records what a closure became, so that it is found again.
    fn record_closure(
        &self,
        made: &Made,
        facts: &BuildFacts,
        names: &[String],
    ) -> Result<Pulled, EngineError> {
        let Made { image, manifest, manifest_bytes, config_bytes, chain } = made;
        let config = ImageConfig::parse(config_bytes)
            .map_err(|source| EngineError::Plan { act: "make", source: source.into() })?;
        let platform = config.platform().clone();
        let record = ManifestRecord {
            manifest: Digest::of(manifest_bytes),
            config: Digest::of(config_bytes),
            chain: chain.clone(),
            platform: platform.clone(),
            root_hash: image.record().root_hash,
            posture: REPRODUCIBLE.to_owned(),
            pulled_at: clock::unix_seconds(),
        };
        let requested = requested_image(&facts.flake)?;
        let resolved = Event::Resolve { requested, manifest: record.manifest, platform: platform.clone() };
        self.audit.append(&self.settings.scope, vec![resolved])?;
        self.scope.put_document(config_bytes)?;
        self.scope.put_document(manifest_bytes)?;
        // What a bundle claimed of the very manifest is no word against what was made here.
        self.yield_claim(&record.manifest, &record.root_hash)?;
        if let Some(before) = self.scope.manifest(&record.manifest)?
            && before.root_hash != record.root_hash
            && !claims::is_claim(&before)
        {
            let source = PullError::OtherRoot { expected: before.root_hash, got: record.root_hash };
            return Err(EngineError::Made { what: facts.flake.clone(), source: Box::new(source) });
        }
        self.scope.record_manifest(&record)?;
        self.record_provenance(&record, manifest, facts)?;
        let tagged: Vec<String> = names.iter().filter(|name| **name != facts.flake).cloned().collect();
        self.audit_tags(&tagged, record.manifest, &platform)?;
        for name in names {
            self.name(name, &platform, record.manifest, None)?;
        }
        let pulled = self.pulled(&facts.flake, &record.manifest)?;
        pulled.ok_or_else(|| EngineError::UnknownImage(facts.flake.clone()))
    }
}

/// What an import made, before it is recorded.
struct Made {
    image: Image,
    manifest: ClosureManifest,
    manifest_bytes: Vec<u8>,
    config_bytes: Vec<u8>,
    chain: Vec<Digest>,
}

/// Why an import stopped: for a reason of its own, or of what it uses.
enum Failed {
    Import(ImportError),
    Engine(EngineError),
}

impl From<ImportError> for Failed {
    fn from(error: ImportError) -> Self {
        Self::Import(error)
    }
}

impl From<EngineError> for Failed {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

/// Checks what a guest asks for and names.
fn check_guest(guest: &GuestDefinition, closure: &Closure, facts: &BuildFacts) -> Result<(), ImportError> {
    if guest.system != facts.system {
        return Err(ImportError::System { guest: guest.system, asked: facts.system });
    }
    if guest.rootfs_type != RootFsType::Erofs {
        return Err(ImportError::RootFs(guest.rootfs_type));
    }
    match guest.store_paths().into_iter().find(|path| closure.get(path).is_none()) {
        Some(path) => Err(ImportError::Absent(path)),
        None => Ok(()),
    }
}

/// Returns the platform that a system is in the words of images.
pub(crate) fn platform_of(guest: &GuestDefinition) -> Platform {
    Platform::new("linux", guest.system.architecture(), None)
}

#[cfg(test)]
mod tests;
