//! The index of several images, and the choice of one for a platform.
//!
//! Source: OCI image-spec, `image-index.md`; the order of variants follows containerd.

use crate::document::{RawDescriptor, null_is_default};
use crate::{Descriptor, DocumentError, MediaType, Platform};
use serde::Deserialize;
use std::collections::BTreeSet;

/// A list of images, most often one for each platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    media_type: MediaType,
    manifests: Vec<Descriptor>,
}

/// Says that an index has no image for a platform.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("no image for platform {wanted}; available: {}", list(.available))]
pub struct SelectError {
    wanted: Platform,
    available: Vec<Platform>,
}

#[derive(Deserialize)]
struct RawIndex {
    #[serde(default, deserialize_with = "null_is_default")]
    manifests: Vec<RawDescriptor>,
}

impl Index {
    pub(crate) fn from_json(bytes: &[u8], media_type: MediaType) -> Result<Self, DocumentError> {
        let raw: RawIndex = serde_json::from_slice(bytes)?;
        let check = |(index, raw): (usize, RawDescriptor)| raw.check(|| format!("index entry {index}"));
        let manifests = raw.manifests.into_iter().enumerate().map(check).collect::<Result<_, _>>()?;
        Ok(Self { media_type, manifests })
    }

    /// Returns the type of the index itself.
    pub fn media_type(&self) -> &MediaType {
        &self.media_type
    }

    /// Returns the entries in the order of the document.
    pub fn manifests(&self) -> &[Descriptor] {
        &self.manifests
    }

    /// Chooses the image that fits `wanted` best; of equals the first.
    ///
    /// Entries that are not manifests, and attestations (`unknown/unknown`), are left out. A single
    /// manifest that names no platform is taken: its config says what it is for.
    pub fn select(&self, wanted: &Platform) -> Result<&Descriptor, SelectError> {
        let candidates = || self.manifests.iter().filter(|entry| entry.media_type.is_manifest());
        let named = candidates().filter_map(|entry| Some((entry, entry.platform.as_ref()?)));
        let fitting = named.clone().filter_map(|(entry, offered)| Some((wanted.distance(offered)?, entry)));
        if let Some((_, best)) = fitting.min_by_key(|&(distance, _)| distance) {
            return Ok(best);
        }
        let unnamed: Vec<_> = candidates().filter(|entry| entry.platform.is_none()).collect();
        if let [only] = unnamed[..] {
            return Ok(only);
        }
        let available: BTreeSet<_> =
            named.map(|(_, platform)| platform).filter(|p| p.os() != "unknown").collect();
        Err(SelectError { wanted: wanted.clone(), available: available.into_iter().cloned().collect() })
    }
}

impl SelectError {
    /// Says that one image, which is for `offered`, is not for `wanted`.
    pub fn single(wanted: &Platform, offered: &Platform) -> Self {
        Self { wanted: wanted.clone(), available: vec![offered.clone()] }
    }

    /// Returns the platforms that there are images for.
    pub fn available(&self) -> &[Platform] {
        &self.available
    }
}

fn list(platforms: &[Platform]) -> String {
    if platforms.is_empty() {
        return "none".to_owned();
    }
    platforms.iter().map(Platform::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
