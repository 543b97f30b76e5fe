//! Making a scope's builder, or making it anew.

use super::debian::{self, DebianRelease};
use super::error::BuilderError;
use super::record::{BuilderOrigin, BuilderRecord};
use super::{BuilderInputs, STORE_VOLUME, planned_name, store_volume};
use crate::clock;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::image_tree::Digests;
use crate::policies::PolicySource;
use crate::progress::{Cancel, Progress, Step};
use crate::pull::Pulled;
use crate::size::Size;
use mvm_ref::{ImageSource, Platform, Reference};
use mvm_store::{BuilderLock, StoreError};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Bytes of the store volume for which no size is asked. It takes only what is written to it.
const STORE_SIZE: u64 = 20 << 30;
/// Memory of a builder for which nobody asks another, in MiB.
const MEMORY_MIB: u32 = 2048;
/// The name of images that are made here.
const NAME: &str = "mvm.local/builder";

/// What a builder is to be made of.
#[derive(Clone, Debug)]
pub enum BuilderSource {
    /// The packages of a release of Debian.
    Debian(DebianRelease),
    /// An image that has Nix in it; it is pulled if need be, and kept to by its digest.
    Image(ImageSource),
}

/// A builder that is wanted.
#[derive(Clone, Debug)]
pub struct BuilderRequest {
    /// What it is made of.
    pub source: BuilderSource,
    /// Virtual processors; one under emulation and up to four otherwise, if absent.
    pub cpus: Option<u32>,
    /// Memory in MiB, if not the usual.
    pub memory_mib: Option<u32>,
    /// How large its store is made, if it is made now.
    pub store_size: Option<Size>,
    /// The policies that its launch has to pass, beside the one that always holds.
    pub policy: Vec<PolicySource>,
}

impl Engine {
    /// Makes the scope's builder, in place of the one that there was: fetches or makes its image, starts it, and asks its
    /// Nix for its version. What was built stays.
    pub fn make_builder(
        &self,
        request: &BuilderRequest,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<BuilderRecord, EngineError> {
        // Whatever can't be launched is not worth fetching.
        self.policy_or_refuse(&request.policy)?;
        self.choose_kernel(None)?;
        let lock = self.take_builder("mvmctl builder init")?;
        let before = self.builder().unwrap_or_default();
        let (source, pulled, origin) = self.builder_image(request, progress, cancel)?;
        let platform = Platform::host();
        if pulled.platform.architecture() != platform.architecture() {
            let (image, platform) = (source.to_string(), pulled.platform);
            return Err(EngineError::ForeignPlatform { image, platform, host: Platform::host() });
        }
        let name = planned_name(&source, &pulled);
        self.check_store_of(&pulled, &name, before.as_ref())?;
        self.ensure_builder_store(request.store_size)?;
        let sizes = (request.cpus, request.memory_mib.unwrap_or(MEMORY_MIB));
        let identity = (name, pulled.manifest, pulled.root_hash);
        let record = BuilderRecord::new(identity, origin, sizes, clock::unix_seconds());
        let record = self.try_builder(lock, record, &request.policy, progress, cancel)?;
        if self.scope.pin(&record.manifest)? {
            self.audit_pin(record.manifest, true)?;
        }
        if let Some(before) = before.filter(|before| before.manifest != record.manifest)
            && self.scope.unpin(&before.manifest)?
        {
            self.audit_pin(before.manifest, false)?;
        }
        Ok(record)
    }

    /// Fetches or makes the image.
    fn builder_image(
        &self,
        request: &BuilderRequest,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<(ImageSource, Pulled, BuilderOrigin), EngineError> {
        let platform = Platform::host();
        match &request.source {
            BuilderSource::Image(image) => {
                self.name_or_refuse(image, &request.policy)?;
                let pulled = match self.current(image, &platform, cancel)? {
                    Some(pulled) => pulled,
                    None => self.pull(image, &platform, progress, cancel)?,
                };
                let origin = BuilderOrigin::Image { requested: image.to_string() };
                Ok((image.clone(), pulled, origin))
            }
            BuilderSource::Debian(release) => {
                let directory = Making::begin(self.scope.path().join("builder").join("making"))?;
                let made =
                    debian::make(&directory.0, &self.settings.program_path, *release, progress, cancel)?;
                let name = format!("{NAME}:{release}");
                let name: Reference = name.parse().map_err(|source: mvm_ref::ReferenceError| {
                    EngineError::Plan { act: "name", source: source.into() }
                })?;
                let source = ImageSource::OciLayout { path: made.layout, selector: None };
                let progress = &Notices(progress);
                let pulled = self.while_fetching(progress, cancel, |fetcher| {
                    let origin = fetcher.open(&source)?;
                    let resolved = self.resolve(&origin, &platform, cancel)?;
                    self.keep(&origin, &resolved, &[name.to_string()], &platform, progress, cancel)
                })?;
                let origin = BuilderOrigin::Debian { release: *release, packages: made.packages };
                Ok((ImageSource::Registry(name), pulled, origin))
            }
        }
    }

    /// Refuses an image whose Nix lives in `/nix/store`, where the volume was begun with another one: what is mounted there
    /// hides the image's.
    fn check_store_of(
        &self,
        image: &Pulled,
        name: &str,
        before: Option<&BuilderRecord>,
    ) -> Result<(), EngineError> {
        if before.is_none_or(|before| before.manifest == image.manifest) || !self.has_own_store(image)? {
            return Ok(());
        }
        let volume = store_volume()?;
        match self.scope.volume(&volume) {
            Ok(_) => Err(BuilderError::OtherNix { image: name.to_owned(), volume }.into()),
            Err(StoreError::NoVolume { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Says whether an image has something in `/nix/store`.
    fn has_own_store(&self, image: &Pulled) -> Result<bool, EngineError> {
        let mut entries = 0_usize;
        let never = Cancel::default();
        let walked = self.image_tree(
            &image.manifest.to_string(),
            b"nix/store",
            Digests::Omitted,
            &never,
            |_| -> Result<(), EngineError> {
                entries += 1;
                // The directory itself, and the first in it.
                if entries > 1 { Err(EngineError::Interrupted) } else { Ok(()) }
            },
        );
        match walked {
            Ok(()) | Err(EngineError::NoSuchPath { .. }) => Ok(false),
            Err(EngineError::Interrupted) => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn ensure_builder_store(&self, size: Option<Size>) -> Result<(), EngineError> {
        let volume = store_volume()?;
        match self.scope.volume(&volume) {
            Ok(_) if size.is_some() => {
                let problem = format!("is for a new store; mvmctl builder grow makes {STORE_VOLUME} larger");
                Err(EngineError::Option { option: "--store-size", problem })
            }
            Ok(_) => Ok(()),
            Err(StoreError::NoVolume { .. }) => {
                self.create_volume(&volume, Some(size.unwrap_or(Size::new(STORE_SIZE)))).map(drop)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Starts a builder of which nothing is recorded yet, asks its Nix for its version, and records it.
    fn try_builder(
        &self,
        lock: BuilderLock,
        mut record: BuilderRecord,
        policy: &[PolicySource],
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<BuilderRecord, EngineError> {
        progress.step(Step::Notice("starting it, to see whether its Nix runs".to_owned()));
        let inputs = BuilderInputs { source: None, online: false, purpose: "mvmctl builder init", policy };
        let image = record.image.clone();
        let no_nix = |words: String| BuilderError::NoNix { image: image.clone(), words };
        // Whatever was written to the volume, another Nix may have written it.
        lock.take_clean()?;
        let session = self.launch_builder(lock, record.clone(), inputs, progress, cancel);
        let mut session = session.map_err(|error| match error {
            EngineError::Builder(BuilderError::NotReady(words)) => no_nix(words).into(),
            error => error,
        })?;
        let (status, out, err) = session.capture(&["nix", "--version"], 4096, cancel)?;
        let words = String::from_utf8_lossy(&out).trim().to_owned();
        let version =
            words.rsplit(' ').next().filter(|version| version.starts_with(|c: char| c.is_ascii_digit()));
        let Some(version) = version.filter(|_| status == mvm_wire::ExitStatus::Code(0)) else {
            let said = String::from_utf8_lossy(&err).trim().to_owned();
            return Err(no_nix(format!("nix --version says {words:?} {said}")).into());
        };
        record.nix_version = version.to_owned();
        session.set_record(&record)?;
        session.close()?;
        Ok(record)
    }
}

/// Passes on notices only: what was made here a moment ago is nothing that is fetched.
struct Notices<'a>(&'a dyn Progress);

impl Progress for Notices<'_> {
    fn step(&self, step: Step) {
        if matches!(step, Step::Notice(_)) {
            self.0.step(step);
        }
    }
}

/// A directory for what is being made, which goes with it.
struct Making(PathBuf);

impl Making {
    /// Makes it empty: whoever left something in it is gone, since it is the builder's lock that it is under.
    fn begin(path: PathBuf) -> Result<Self, BuilderError> {
        remove(&path)?;
        let failed = |source| BuilderError::Io { act: "create", path: path.clone(), source };
        fs::create_dir_all(&path).map_err(failed)?;
        Ok(Self(path))
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        // The next one removes what stays.
        drop(remove(&self.0));
    }
}

fn remove(path: &Path) -> Result<(), BuilderError> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(BuilderError::Io { act: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}
