//! The index of several images, and the choice of one for a platform.
//!
//! Source: OCI image-spec, `image-index.md`; the order of variants follows containerd.

use crate::document::{RawDescriptor, null_is_default};
use crate::{Descriptor, DocumentError, MediaType, Platform, json};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeSet;

/// A list of images, most often one for each platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    media_type: MediaType,
    manifests: Vec<Descriptor>,
    unusable: Vec<Unusable>,
}

/// An entry of an index that mvm can't use, which leaves the others as they are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Unusable {
    /// What is wrong with it, and which one it is, from 0.
    why: String,
}

/// Says that an index has no image for a platform.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "no image for platform {wanted}; available: {}{}",
    list(.available),
    unusable_words(.unusable)
)]
pub struct SelectError {
    wanted: Platform,
    available: Vec<Platform>,
    unusable: Vec<Unusable>,
}

#[derive(Deserialize)]
struct RawIndex<'a> {
    #[serde(default, deserialize_with = "null_is_default", borrow)]
    manifests: Vec<&'a RawValue>,
}

impl Index {
    pub(crate) fn from_json(bytes: &[u8], media_type: MediaType) -> Result<Self, DocumentError> {
        let raw: RawIndex<'_> = json::from_slice(bytes)?;
        let (mut manifests, mut unusable) = (Vec::new(), Vec::new());
        for (index, text) in raw.manifests.into_iter().enumerate() {
            match read_entry(index, text.get()) {
                Ok(entry) => manifests.push(entry),
                Err(error) => unusable.push(Unusable { why: words(index, &error) }),
            }
        }
        Ok(Self { media_type, manifests, unusable })
    }

    /// Returns the type of the index itself.
    pub fn media_type(&self) -> &MediaType {
        &self.media_type
    }

    /// Returns the entries in the order of the document.
    pub fn manifests(&self) -> &[Descriptor] {
        &self.manifests
    }

    /// Returns the entries that can't be used.
    pub fn unusable(&self) -> &[Unusable] {
        &self.unusable
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
        Err(SelectError {
            wanted: wanted.clone(),
            available: available.into_iter().cloned().collect(),
            unusable: self.unusable.clone(),
        })
    }
}

impl SelectError {
    /// Says that one image, which is for `offered`, is not for `wanted`.
    pub fn single(wanted: &Platform, offered: &Platform) -> Self {
        Self { wanted: wanted.clone(), available: vec![offered.clone()], unusable: Vec::new() }
    }

    /// Returns the platforms that there are images for.
    pub fn available(&self) -> &[Platform] {
        &self.available
    }
}

fn read_entry(index: usize, text: &str) -> Result<Descriptor, DocumentError> {
    let raw: RawDescriptor = json::from_slice(text.as_bytes())?;
    raw.check(|| format!("index entry {index}"))
}

/// Says what is wrong with an entry, in one line.
fn words(index: usize, error: &DocumentError) -> String {
    match error {
        DocumentError::Json(error) => format!("index entry {index} is not a valid descriptor: {error}"),
        DocumentError::Digest { source, .. } => format!("{error}: {source}"),
        error => error.to_string(),
    }
}

fn unusable_words(entries: &[Unusable]) -> String {
    match entries {
        [] => String::new(),
        [first, ..] => format!("; entries that can't be used: {}, the first: {first}", entries.len()),
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
