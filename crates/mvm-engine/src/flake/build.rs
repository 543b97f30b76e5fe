//! One build, from the flake's files to an image with a name.

use super::error::BuildError;
use super::failure;
use super::kept::{BuildOutcome, LogWriter, Remembered};
use super::lock::Lock;
use super::log::BuildLog;
use super::nix::{Nix, Outcome};
use super::request::BuildRequest;
use super::stage::Staged;
use super::{HOST, SYSTEM, locking};
use crate::builder::{BuilderError, BuilderInputs, BuilderSession};
use crate::closures::{BuildFacts, BuilderFacts, WRITABLE_STORE};
use crate::copy::VmStore;
use crate::engine::Engine;
use crate::error::{EngineError, chain};
use crate::policies;
use crate::progress::{Cancel, Progress, Step};
use crate::pull::Pulled;
use mvm_ref::nix::StorePath;
use mvm_ref::{Digest, FlakeAttribute, FlakeReference, ImageSource, Platform};
use serde::Serialize;
use std::collections::BTreeMap;

/// An image that was built of a flake.
#[derive(Clone, Debug, Serialize)]
pub struct Built {
    /// The flake, with the full path of its directory and the output.
    pub flake: FlakeReference,
    /// The image.
    #[serde(flatten)]
    pub image: Pulled,
    /// The store path that it was made of.
    pub output: StorePath,
    /// Whether all was unchanged and nothing was built.
    pub cached: bool,
    /// How many derivations were built.
    pub derivations: usize,
    /// Which log tells of it.
    pub log: String,
}

impl Engine {
    /// Builds a flake and makes an image of what comes of it; where nothing has changed, no builder starts.
    ///
    /// The image is called as the flake, `flake:DIR[#ATTRIBUTE]`, and by the names of the request.
    pub fn build(
        &self,
        request: &BuildRequest,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Built, EngineError> {
        let policy = policies::load(&request.policy)?;
        let library = self.settings.flake_library;
        let mut staged = Staged::find(request, library)?;
        locking::check_policy(&policy, request, &staged)?;
        let builder = self.builder()?;
        let builder = builder.ok_or_else(|| BuilderError::None(self.settings.scope.clone()))?;
        if request.update_lock || !request.update_inputs.is_empty() {
            let mut session = self.open_for(request, &staged, progress, cancel)?;
            let mut nix = Nix { session: &mut session, staged: &staged, offline: request.offline };
            locking::update(&mut nix, request, progress, cancel)?;
            session.close()?;
            staged = Staged::find(request, library)?;
        }
        staged.tell(progress);
        let key = staged.key(&builder)?;
        if !request.rebuild
            && let Some(known) = self.remembered(&key)
            && let Some(built) = self.known_build(request, &staged, &known)?
        {
            return Ok(built);
        }
        let (image, remembered, derivations) = self.build_staged(request, &staged, progress, cancel)?;
        self.remember_build(&key, &remembered)?;
        let Remembered { output, build: log, .. } = remembered;
        Ok(Built { flake: staged.flake, image, output, cached: false, derivations, log })
    }

    /// Returns a value that changes when the files of a flake, or of what takes the place of its inputs, do; reads none of them.
    pub fn flake_fingerprint(&self, request: &BuildRequest) -> Result<Digest, EngineError> {
        let mut text = String::new();
        let flakes = request.overrides.iter().map(|given| &given.flake);
        for flake in flakes.chain([&request.flake]) {
            let source = super::source::Source::find(flake, request.max_source).map_err(BuildError::from)?;
            text.push_str(&source.fingerprint().map_err(BuildError::from)?.to_string());
        }
        Ok(Digest::of(text.as_bytes()))
    }

    /// Returns the image of what was built before, named anew, if all of it is still there.
    fn known_build(
        &self,
        request: &BuildRequest,
        staged: &Staged,
        known: &Remembered,
    ) -> Result<Option<Built>, EngineError> {
        let own = ImageSource::Flake(staged.flake.clone()).to_string();
        let Some(image) = self.pulled(&own, &known.manifest)? else { return Ok(None) };
        let platform = Platform::host();
        let names = names(request, staged);
        let changed = |name: &&String| {
            let there = self.scope.resolution(name, &platform).ok().flatten();
            there.is_none_or(|there| there.manifest != known.manifest)
        };
        let new: Vec<String> = names.iter().filter(changed).cloned().collect();
        self.audit_tags(&new, known.manifest, &platform)?;
        for name in &new {
            self.name(name, &platform, known.manifest, None)?;
        }
        Ok(Some(Built {
            flake: staged.flake.clone(),
            image,
            output: known.output.clone(),
            cached: true,
            derivations: 0,
            log: known.build.clone(),
        }))
    }

    pub(super) fn open_for(
        &self,
        request: &BuildRequest,
        staged: &Staged,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<BuilderSession<'_>, EngineError> {
        // Before it is said to start.
        self.builder_or_error()?;
        let source = staged.image(self, cancel)?;
        progress.step(Step::BuilderStarting);
        let purpose = format!("the build of {}", staged.flake);
        let inputs = BuilderInputs {
            source: Some(&source),
            online: !request.offline,
            purpose: &purpose,
            policy: &request.policy,
        };
        self.open_builder(inputs, progress, cancel)
    }

    fn build_staged(
        &self,
        request: &BuildRequest,
        staged: &Staged,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<(Pulled, Remembered, usize), EngineError> {
        let mut session = self.open_for(request, staged, progress, cancel)?;
        let version = session.nix_version().to_owned();
        let mut writer = self.begin_log()?;
        let id = writer.id.clone();
        let done = self.build_in(&mut session, request, staged, &mut writer, progress, cancel);
        let outcome = match &done {
            Ok((image, _)) => BuildOutcome::Built { manifest: image.manifest },
            Err(error) => BuildOutcome::Failed { message: chain(error) },
        };
        let derivations = done.as_ref().map_or(0, |(_, outcome)| outcome.built.len());
        let kept = writer.finish((&staged.flake, &version), derivations, outcome);
        let closed = close(session, done.as_ref().err());
        let (image, outcome) = done?;
        kept?;
        closed?;
        let remembered = Remembered { manifest: image.manifest, output: outcome.output, build: id };
        Ok((image, remembered, derivations))
    }

    fn build_in(
        &self,
        session: &mut BuilderSession<'_>,
        request: &BuildRequest,
        staged: &Staged,
        writer: &mut LogWriter,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<(Pulled, Outcome), EngineError> {
        let mut nix = Nix { session, staged, offline: request.offline };
        nix.check()?;
        locking::check_locked(&mut nix, cancel)?;
        let outcome = run_nix(&mut nix, writer, progress, cancel)?;
        let closure = nix.closure(&outcome.output, cancel)?;
        let facts = facts(&nix, request, &outcome)?;
        let names = names(request, staged);
        let mut store = VmStore::new(self, session.vm().clone(), cancel);
        let image =
            self.import_closure(&closure, &outcome.output, &mut store, &facts, &names, progress, cancel)?;
        Ok((image, outcome))
    }
}

/// Ends a builder, its volume in a clean state, unless it is gone.
pub(super) fn close(session: BuilderSession<'_>, error: Option<&EngineError>) -> Result<(), EngineError> {
    match error {
        Some(EngineError::Builder(_) | EngineError::Attach(_)) => Ok(()),
        _ => session.close(),
    }
}

/// Returns all names that the image is to have.
fn names(request: &BuildRequest, staged: &Staged) -> Vec<String> {
    let own = ImageSource::Flake(staged.flake.clone()).to_string();
    let others = request.names.iter().map(|name| ImageSource::Registry(name.clone()).to_string());
    std::iter::once(own).chain(others).collect()
}

/// Builds what was asked for, or the tenant of that name.
fn run_nix(
    nix: &mut Nix<'_, '_>,
    writer: &mut LogWriter,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Outcome, EngineError> {
    let target = nix.staged.target()?;
    let whole = target.split('#').next().unwrap_or_default();
    let attribute = match nix.staged.flake.attribute() {
        Some(attribute) if !attribute.is_name() => attribute.to_string(),
        Some(attribute) => format!("packages.{SYSTEM}.{attribute}"),
        None => format!("packages.{SYSTEM}.default"),
    };
    let mut log = BuildLog::default();
    if let Some(outcome) = nix.build((&target, attribute), (&mut log, writer), progress, cancel)? {
        return Ok(outcome);
    }
    if !failure::lacks_attribute(&log) {
        return Err(nix.failure(&log, &writer.id, cancel).into());
    }
    let flake = nix.staged.flake.clone();
    let wanted = flake.attribute().map_or("default", FlakeAttribute::as_str).to_owned();
    let packages = nix.packages(cancel)?;
    let Some(there) = packages.get(SYSTEM) else {
        let systems = packages.into_keys().collect();
        return Err(BuildError::NoSystem { flake, system: SYSTEM, systems }.into());
    };
    let tenant = format!("tenant-{wanted}");
    if there.contains(&tenant) {
        let mut log = BuildLog::default();
        let target = format!("{whole}#{tenant}");
        let attribute = format!("packages.{SYSTEM}.{tenant}");
        return match nix.build((&target, attribute), (&mut log, writer), progress, cancel)? {
            Some(outcome) => Ok(outcome),
            None => Err(nix.failure(&log, &writer.id, cancel).into()),
        };
    }
    let there = there.clone();
    Err(BuildError::Attribute { flake, wanted, system: SYSTEM, there }.into())
}

/// Returns what provenance says beside the closure.
fn facts(nix: &Nix<'_, '_>, request: &BuildRequest, outcome: &Outcome) -> Result<BuildFacts, EngineError> {
    let staged = nix.staged;
    let path = staged.source.lock_path();
    let lock = staged.lock.as_ref().map(Lock::digest).transpose();
    let lock = lock.map_err(|source| BuildError::Lock { path, source })?;
    let mut parameters = BTreeMap::new();
    let mut put = |name: &str, value: &Option<String>| {
        parameters.extend(value.iter().map(|value| (name.to_owned(), value.clone())));
    };
    put("dir", &staged.source.inside);
    // What is built has a digest of its own; this says where to look for it.
    put("checkedOutCommit", &staged.source.revision);
    put(WRITABLE_STORE, &staged.writable_store.then(|| "true".to_owned()));
    let record = nix.session.record();
    Ok(BuildFacts {
        flake: ImageSource::Flake(staged.flake.clone()).to_string(),
        attribute: outcome.attribute.clone(),
        system: HOST,
        profile: staged.flake.attribute().map(ToString::to_string),
        revision: None,
        source: staged.digest,
        lock,
        overrides: staged.overrides.iter().map(|(name, (_, digest))| (name.to_string(), *digest)).collect(),
        derivation: outcome.derivation.clone(),
        outputs: BTreeMap::from([("out".to_owned(), outcome.output.clone())]),
        nix_version: nix.session.nix_version().to_owned(),
        builder: BuilderFacts {
            image: record.image.clone(),
            manifest: record.manifest,
            root_hash: record.root_hash,
        },
        library: staged.library.digest(),
        parameters,
        online: !request.offline,
    })
}
