//! Why each path of a closure is believed: its content, a signature, or the builder's word alone.

use super::manifest::PathTrust;
use super::{ImportError, lone_file};
use crate::engine::Engine;
use crate::store_settings::StoreSettings;
use mvm_ref::Digest;
use mvm_ref::nix::{Closure, ContentHash, NixPublicKey, PathInfo, StorePath, verify_signature};
use mvm_store::Segment;
use std::collections::BTreeMap;

/// Most bytes of one file that are read again for the hash that its name is said to follow from.
const MAX_FILE: u64 = 256 << 20;

impl Engine {
    /// Returns why each path is believed. Its NAR has been compared with what is said of it.
    ///
    /// A path that is said to be content-addressed and is not is an error: whoever says so lies.
    pub(super) fn trust_of(
        &self,
        closure: &Closure,
        segments: &BTreeMap<StorePath, Segment>,
    ) -> Result<BTreeMap<StorePath, PathTrust>, super::Failed> {
        let keys = StoreSettings::of(&self.store).map_err(super::Failed::Engine)?.path_keys();
        let trust = |info: &PathInfo| {
            let trust = match is_content_addressed(info, &segments[&info.path])? {
                true => PathTrust::ContentAddressed,
                false => signed(info, &keys),
            };
            Ok::<_, ImportError>((info.path.clone(), trust))
        };
        Ok(closure.paths().map(trust).collect::<Result<_, _>>()?)
    }
}

fn signed(info: &PathInfo, keys: &[NixPublicKey]) -> PathTrust {
    match verify_signature(info, keys) {
        Some(key) => PathTrust::Signed { key: key.name().to_owned() },
        None => PathTrust::Builder,
    }
}

fn is_content_addressed(info: &PathInfo, segment: &Segment) -> Result<bool, ImportError> {
    let Some(ca) = &info.ca else { return Ok(false) };
    let lie = || ImportError::ContentAddress { path: info.path.clone(), ca: ca.clone() };
    // What is not recomputed proves nothing.
    if !ca.is_recomputed(&info.path, &info.references) {
        return Ok(false);
    }
    match ca.content_of(&info.path, &info.references).ok_or_else(lie)? {
        ContentHash::Nar(hash) if hash == info.nar_hash => Ok(true),
        ContentHash::Nar(_) => Err(lie()),
        ContentHash::File(_) if info.nar_size > MAX_FILE => Ok(false),
        ContentHash::File(expected) => match lone_file::read(segment, MAX_FILE)? {
            Some(bytes) if Digest::of(&bytes) == expected => Ok(true),
            _ => Err(lie()),
        },
    }
}
