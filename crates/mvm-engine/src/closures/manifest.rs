//! The documents of an image that was built: the closure manifest, in place of an OCI manifest, and an image config made for it.

use super::{BuildFacts, platform_of};
use mvm_plan::canonical::{self, CanonicalError};
use mvm_ref::nix::{Closure, ContentAddress, NarHash, NixSignature, PathInfo, StorePath};
use mvm_ref::{Digest, GuestCommand, GuestDefinition, NixSystem};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;

/// The posture, in the store, of an image that was built.
pub(crate) const REPRODUCIBLE: &str = "reproducible";

/// Where a guest with certificates finds them.
pub(super) const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What an image that was built is made of: `mvm.closure.v1`, canonical JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClosureManifest {
    schema: Schema,
    /// The system that it is for.
    pub system: NixSystem,
    /// The path that holds the guest's description.
    pub output: StorePath,
    /// The derivation that made it.
    pub derivation: StorePath,
    /// Digest of the flake's lock file, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<Digest>,
    /// The package of Nix with which the guest writes to its store, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writable_store: Option<StorePath>,
    /// The guest's description.
    pub guest: GuestDefinition,
    /// Its store paths, in order.
    pub paths: Vec<ClosurePath>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Schema {
    #[serde(rename = "mvm.closure.v1")]
    V1,
}

/// A store path of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClosurePath {
    /// The path.
    pub path: StorePath,
    /// The hash of its NAR, which was compared.
    pub nar_hash: NarHash,
    /// Bytes of its NAR.
    pub nar_size: u64,
    /// The paths that it refers to.
    pub references: Vec<StorePath>,
    /// How its name is said to follow from its content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<ContentAddress>,
    /// Signatures that it came with, of whichever keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<NixSignature>,
    /// Why it is believed.
    pub trust: PathTrust,
}

/// Why what a store path holds is believed to be what its name stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "basis", rename_all = "kebab-case", deny_unknown_fields)]
pub enum PathTrust {
    /// Its name follows from its content, which was recomputed.
    ContentAddressed,
    /// A trusted key signed it.
    Signed {
        /// The key's name.
        key: String,
    },
    /// The builder said so, and nobody else.
    Builder,
}

impl ClosureManifest {
    pub(super) fn new(
        closure: &Closure,
        output: &StorePath,
        (guest, writable_store): (GuestDefinition, Option<StorePath>),
        facts: &BuildFacts,
        mut trust: BTreeMap<StorePath, PathTrust>,
    ) -> Self {
        let path = |info: &PathInfo| ClosurePath {
            path: info.path.clone(),
            nar_hash: info.nar_hash,
            nar_size: info.nar_size,
            references: info.references.iter().cloned().collect(),
            ca: info.ca.clone(),
            signatures: info.signatures.clone(),
            trust: trust.remove(&info.path).unwrap_or(PathTrust::Builder),
        };
        Self {
            schema: Schema::V1,
            system: facts.system,
            output: output.clone(),
            derivation: facts.derivation.clone(),
            lock: facts.lock,
            writable_store,
            paths: closure.paths().map(path).collect(),
            guest,
        }
    }

    /// Returns the canonical text.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, CanonicalError> {
        canonical::to_vec(self)
    }
}

impl ClosurePath {
    /// Returns what was said of the path.
    pub(crate) fn info(&self) -> PathInfo {
        PathInfo {
            path: self.path.clone(),
            nar_hash: self.nar_hash,
            nar_size: self.nar_size,
            references: self.references.iter().cloned().collect(),
            deriver: None,
            signatures: self.signatures.clone(),
            ca: self.ca.clone(),
        }
    }
}

/// Reads a closure manifest, which is canonical.
pub(crate) fn read_manifest(bytes: &[u8]) -> Result<ClosureManifest, CanonicalError> {
    canonical::from_slice(bytes)
}

/// Makes the image config that says how the guest's main process is run, in the words of OCI: what reads images' configs reads
/// this one too.
pub(super) fn config(guest: &GuestDefinition, chain: &[Digest]) -> Result<Vec<u8>, CanonicalError> {
    let mut variables = BTreeMap::new();
    let mut path = guest.path();
    path.extend(["/usr/bin".to_owned(), "/bin".to_owned()]);
    variables.insert("PATH".to_owned(), path.join(":"));
    if guest.ca_bundle.is_some() {
        variables.insert("SSL_CERT_FILE".to_owned(), CERTIFICATES.to_owned());
        variables.insert("NIX_SSL_CERT_FILE".to_owned(), CERTIFICATES.to_owned());
    }
    variables.extend(guest.variables.clone());
    let env: Vec<String> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let command: Option<Vec<String>> =
        guest.command.as_ref().map(|command: &GuestCommand| guest.argv(command));
    let platform = platform_of(guest);
    canonical::to_vec(&json!({
        "architecture": platform.architecture(),
        "os": platform.os(),
        "config": { "Env": env, "Cmd": command, "WorkingDir": "/", "Labels": { "mvm.guest": guest.name } },
        "rootfs": { "type": "layers", "diff_ids": chain },
    }))
}
