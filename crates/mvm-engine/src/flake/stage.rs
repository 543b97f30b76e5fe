//! What goes into the builder: the flake, the carried library, and what takes the place of inputs.

use super::error::BuildError;
use super::library::FlakeLibrary;
use super::lock::Lock;
use super::request::{BuildRequest, InputName, LIBRARY};
use super::source::Source;
use super::{SYSTEM, SourceError};
use crate::builder::{BuilderRecord, SOURCE_TARGET};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::progress::{Cancel, Progress, Step};
use mvm_ref::{Digest, FlakeReference};
use mvm_store::Image;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The input that a flake and the library share, as a rule.
const PACKAGES: &str = "nixpkgs";

/// The files of a build, found and measured.
#[derive(Clone, Debug)]
pub(super) struct Staged {
    /// The flake, with the full path of its directory.
    pub flake: FlakeReference,
    pub source: Source,
    pub digest: Digest,
    pub lock: Option<Lock>,
    /// What takes the place of inputs, with the digest of each.
    pub overrides: BTreeMap<InputName, (Source, Digest)>,
    pub library: FlakeLibrary,
    /// Whether the guest may build into its store.
    pub writable_store: bool,
}

/// What decides the outcome of a build.
#[derive(Serialize)]
struct Key<'a> {
    version: u32,
    source: Digest,
    inside: Option<&'a str>,
    attribute: Option<&'a str>,
    system: &'a str,
    library: Digest,
    overrides: BTreeMap<&'a str, Digest>,
    builder: Digest,
    nix: &'a str,
    image_format: u32,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    writable_store: bool,
}

impl Staged {
    /// Finds and measures all files.
    pub fn find(request: &BuildRequest, library: FlakeLibrary) -> Result<Self, BuildError> {
        let source = Source::find(&request.flake, request.max_source)?;
        let path = request.flake.path();
        let path: PathBuf = std::fs::canonicalize(path)
            .map_err(|error| SourceError::io("look at", path.to_owned(), error))?;
        let flake = request.flake.clone().at(path).map_err(BuildError::Reference)?;
        let lock = match source.lock()? {
            Some(bytes) => {
                let failed = |error| BuildError::Lock { path: source.lock_path(), source: error };
                Some(Lock::parse(&bytes).map_err(failed)?)
            }
            None => None,
        };
        let mut overrides = BTreeMap::new();
        for given in &request.overrides {
            let refuse = |problem: &str| {
                let (input, problem) = (given.input.to_string(), problem.to_owned());
                Err(BuildError::Override { input, problem })
            };
            if given.input.as_str() == LIBRARY {
                return refuse("the library that mvmctl carries takes its place");
            }
            if given.flake.attribute().is_some() {
                return refuse("an input is a whole flake; leave out what follows the #");
            }
            let source = Source::find(&given.flake, request.max_source)?;
            let digest = source.digest()?;
            if overrides.insert(given.input.clone(), (source, digest)).is_some() {
                return refuse("it is given twice");
            }
        }
        let digest = source.digest()?;
        let writable_store = request.writable_store;
        Ok(Self { flake, source, digest, lock, overrides, library, writable_store })
    }

    /// Returns what a build is remembered by.
    pub fn key(&self, builder: &BuilderRecord) -> Result<Digest, EngineError> {
        let key = Key {
            version: 1,
            source: self.digest,
            inside: self.source.inside.as_deref(),
            attribute: self.flake.attribute().map(|attribute| attribute.as_str()),
            system: SYSTEM,
            library: self.library.digest(),
            overrides: self.overrides.iter().map(|(name, (_, digest))| (name.as_str(), *digest)).collect(),
            builder: builder.root_hash,
            nix: &builder.nix_version,
            image_format: mvm_image::GENERATION,
            writable_store: self.writable_store,
        };
        let bytes = mvm_plan::canonical::to_vec(&key)
            .map_err(|source| EngineError::Plan { act: "key", source: source.into() })?;
        Ok(Digest::of(&bytes))
    }

    /// Tells what is worth saying about the files.
    pub fn tell(&self, progress: &dyn Progress) {
        let others = self.overrides.values().flat_map(|(source, _)| &source.notices);
        for notice in self.source.notices.iter().chain(others) {
            progress.step(Step::Notice(notice.clone()));
        }
    }

    /// Returns the flake as the builder names it, with the output.
    pub fn target(&self) -> Result<String, BuildError> {
        let path = format!("{SOURCE_TARGET}/flake");
        let reference =
            FlakeReference::tree(path, self.source.inside.clone()).map_err(BuildError::Reference)?;
        Ok(reference.with_attribute(self.flake.attribute().cloned()).to_string())
    }

    /// Returns Nix's options that put the library and other directories in the place of inputs.
    pub fn options(&self) -> Vec<String> {
        let mut options = vec!["--no-write-lock-file".to_owned()];
        let mut put = |input: &str, place: String| {
            options.extend(["--override-input".to_owned(), input.to_owned(), place]);
        };
        put(LIBRARY, format!("path:{SOURCE_TARGET}/mvm"));
        let library_packages = format!("{LIBRARY}/{PACKAGES}");
        let theirs = self.overrides.keys().any(|input| input.as_str() == library_packages);
        for (at, (input, (source, _))) in self.overrides.iter().enumerate() {
            let inside = source.inside.as_ref().map_or_else(String::new, |inside| format!("/{inside}"));
            let place = format!("path:{SOURCE_TARGET}/inputs/{at}{inside}");
            // Where the library doesn't follow the flake's packages, it would have to fetch its own.
            if input.as_str() == PACKAGES && !theirs {
                put(&library_packages, place.clone());
            }
            put(input.as_str(), place);
        }
        options
    }

    /// Makes the image that the builder mounts.
    pub fn image(&self, engine: &Engine, cancel: &Cancel) -> Result<Image, EngineError> {
        let mut layers = Vec::new();
        let library = self.library;
        layers.push(engine.made_layer("the flake library", &mut |out| library.write("mvm", out), cancel)?);
        for (at, (input, (source, _))) in self.overrides.iter().enumerate() {
            let below = format!("inputs/{at}");
            let what = format!("the files of input {input}");
            layers.push(engine.made_layer(&what, &mut |out| source.write(&below, out), cancel)?);
        }
        let source = &self.source;
        layers.push(engine.made_layer("the flake's files", &mut |out| source.write("flake", out), cancel)?);
        engine.made_image("the flake's files", layers, cancel)
    }

    /// Returns the directory that holds `flake.nix`, as words.
    pub fn directory(&self) -> PathBuf {
        self.source.lock_path().parent().map_or_else(PathBuf::new, PathBuf::from)
    }
}
