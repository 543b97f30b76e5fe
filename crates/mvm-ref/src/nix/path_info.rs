//! What a store says of one of its paths.

use super::{ContentAddress, NarHash, NixSignature, StorePath};
use crate::Digest;
use std::collections::BTreeSet;

/// What a store says of one of its paths. None of it is verified by being here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathInfo {
    /// The path.
    pub path: StorePath,
    /// The SHA-256 of its NAR.
    pub nar_hash: NarHash,
    /// Bytes of its NAR.
    pub nar_size: u64,
    /// The paths that it refers to, itself perhaps among them.
    pub references: BTreeSet<StorePath>,
    /// The derivation that made it, where the store knows.
    pub deriver: Option<StorePath>,
    /// Signatures of it.
    pub signatures: Vec<NixSignature>,
    /// How its name follows from its content, where it does.
    pub ca: Option<ContentAddress>,
}

impl PathInfo {
    /// Returns the text that is signed. Source: Nix, `ValidPathInfo::fingerprint`.
    pub fn fingerprint(&self) -> String {
        let references: Vec<String> = self.references.iter().map(StorePath::to_string).collect();
        format!("1;{};{};{};{}", self.path, self.nar_hash.base32(), self.nar_size, references.join(","))
    }

    /// Returns the name under which the store keeps what the path holds.
    pub fn segment_key(&self) -> Digest {
        segment_key(&self.path, &self.nar_hash)
    }
}

/// Two paths with equal NARs have different names in them, and so are two segments.
pub(crate) fn segment_key(path: &StorePath, hash: &NarHash) -> Digest {
    Digest::of(format!("mvm store path\n{path}\n{}\n", hash.digest()).as_bytes())
}
