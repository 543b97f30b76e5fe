//! What is known of a build beside the closure that came of it.

use mvm_ref::nix::StorePath;
use mvm_ref::{Digest, NixSystem};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The parameter of a build for a store that the guest writes to.
pub(crate) const WRITABLE_STORE: &str = "writableStore";

/// What is known of a build beside the closure that came of it; provenance is made of this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BuildFacts {
    /// The flake as it was asked for, `flake:REF`: the name that the image is found by.
    pub flake: String,
    /// The attribute that was built, with its system: `packages.x86_64-linux.default`.
    pub attribute: String,
    /// The system that it was built for.
    pub system: NixSystem,
    /// The profile, where one was asked for.
    pub profile: Option<String>,
    /// The revision of the flake's repository, where it has one and nothing was changed since.
    pub revision: Option<String>,
    /// Digest of the filtered copy of the flake's source.
    pub source: Digest,
    /// Digest of its lock file, if it has one.
    pub lock: Option<Digest>,
    /// Digests of local inputs that took the place of locked ones, by name.
    pub overrides: BTreeMap<String, Digest>,
    /// The derivation.
    pub derivation: StorePath,
    /// Its outputs by name.
    pub outputs: BTreeMap<String, StorePath>,
    /// Version of the Nix that built it.
    pub nix_version: String,
    /// The image of the builder.
    pub builder: BuilderFacts,
    /// Digest of the flake library that took the place of the input `mvm`.
    pub library: Digest,
    /// Further parameters of the build, by name.
    pub parameters: BTreeMap<String, String>,
    /// Whether the builder had a network.
    pub online: bool,
}

impl BuildFacts {
    /// Says whether the guest is to build into its store.
    pub(crate) fn has_writable_store(&self) -> bool {
        self.parameters.contains_key(WRITABLE_STORE)
    }
}

/// The image of a builder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BuilderFacts {
    /// Its name.
    pub image: String,
    /// Its manifest.
    pub manifest: Digest,
    /// The root hash of its root file system.
    pub root_hash: Digest,
}
