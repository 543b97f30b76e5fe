//! Descriptors, and what manifest and index have in common: which of the two a document is.
//!
//! Source: OCI image-spec, `descriptor.md`, `manifest.md` and `image-index.md`. Properties that the
//! specification doesn't name are ignored, as it asks.

use crate::{Digest, DigestError, Index, MAX_NESTING, Manifest, MediaType, Platform, json};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

/// Length in bytes over which a manifest or an index is refused.
pub const MAX_DOCUMENT_SIZE: u64 = 4 << 20;
/// Number of layers over which a manifest is refused.
pub const MAX_LAYERS: usize = 4096;

/// The type, digest and length of some content, and what an index says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// What the content is.
    pub media_type: MediaType,
    /// Digest of the content.
    pub digest: Digest,
    /// Length of the content in bytes.
    pub size: u64,
    /// What the content runs on; only entries of an index have it.
    pub platform: Option<Platform>,
    /// Free text by key.
    pub annotations: BTreeMap<String, String>,
}

/// A manifest or an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// Of one image.
    Manifest(Manifest),
    /// Of several.
    Index(Index),
}

/// Says why bytes are not a manifest or an index of images.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The document is longer than mvm reads.
    #[error("document has {size} bytes, more than {MAX_DOCUMENT_SIZE}")]
    TooLarge {
        /// Its length.
        size: u64,
    },
    /// Arrays and objects are in each other too often.
    #[error("document nests deeper than {MAX_NESTING} levels")]
    Nesting,
    /// The bytes are not the JSON that the specification describes.
    #[error("document is not a valid image manifest or index")]
    Json(#[from] serde_json::Error),
    /// The document is an old Docker manifest.
    #[error(
        "image has a Docker schema 1 manifest, which mvm doesn't read; push it again with a current tool"
    )]
    Schema1,
    /// `schemaVersion` is not 2.
    #[error("document has schemaVersion {0}, expected 2")]
    SchemaVersion(u64),
    /// The document can be read as a manifest and as an index.
    #[error("document has both {0} and {1}: it would be an index to one reader and a manifest to another")]
    Ambiguous(&'static str, &'static str),
    /// The document says another type inside than outside.
    #[error("document says that it is {inside}, but was delivered as {outside}")]
    MediaTypeMismatch {
        /// Its property `mediaType`.
        inside: MediaType,
        /// The header or descriptor that led to it.
        outside: MediaType,
    },
    /// Type and properties contradict each other.
    #[error("document is a {media_type}, but has no {property}")]
    Shape {
        /// The type that it has or was delivered as.
        media_type: MediaType,
        /// What such a document must have.
        property: &'static str,
    },
    /// The document or its config is something else than an image.
    #[error("{what} has media type {media_type:?}, which is not an image")]
    NotAnImage {
        /// Which part says so.
        what: String,
        /// Its media type.
        media_type: String,
    },
    /// A layer is to be fetched from elsewhere than the registry.
    #[error("layer {index} has media type {media_type}: layers from outside the registry are not fetched")]
    ForeignLayer {
        /// Its place in the manifest, from 0.
        index: usize,
        /// Its media type.
        media_type: MediaType,
    },
    /// There are more layers than mvm takes.
    #[error("image has {got} layers, more than {MAX_LAYERS}")]
    TooManyLayers {
        /// Their number.
        got: usize,
    },
    /// A descriptor's size is more than the specification has numbers for.
    #[error("{what} has size {size}, more than {}", i64::MAX)]
    Size {
        /// Which descriptor.
        what: String,
        /// Its size.
        size: u64,
    },
    /// A descriptor's digest is not one that mvm verifies.
    #[error("{what} has a bad digest")]
    Digest {
        /// Which descriptor.
        what: String,
        /// What is wrong with it.
        source: DigestError,
    },
}

impl Document {
    /// Reads a manifest or an index; `delivered_as` is the Content-Type header or the descriptor's media type.
    ///
    /// Types that say nothing (`application/json`, `text/plain`, `application/octet-stream`) count as none.
    pub fn parse(bytes: &[u8], delivered_as: Option<&str>) -> Result<Self, DocumentError> {
        let size = bytes.len() as u64;
        if size > MAX_DOCUMENT_SIZE {
            return Err(DocumentError::TooLarge { size });
        }
        if json::nests_too_deep(bytes) {
            return Err(DocumentError::Nesting);
        }
        let probe: Probe = json::from_slice(bytes)?;
        let media_type = probe.media_type(delivered_as.map(MediaType::parse).filter(says_something))?;
        probe.check_shape(&media_type)?;
        if media_type.is_index() {
            Index::from_json(bytes, media_type).map(Self::Index)
        } else {
            Manifest::from_json(bytes, media_type).map(Self::Manifest)
        }
    }
}

/// What must be known before it is decided how a document is read.
#[derive(Deserialize)]
struct Probe {
    #[serde(rename = "schemaVersion")]
    schema_version: Option<u64>,
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Present,
    #[serde(default)]
    layers: Present,
    #[serde(default)]
    config: Present,
    #[serde(rename = "fsLayers", default)]
    fs_layers: Present,
}

/// Whether a property is there, if only as `null`.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Present(bool);

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self(true))
    }
}

impl Probe {
    fn media_type(&self, outside: Option<MediaType>) -> Result<MediaType, DocumentError> {
        let inside = self.media_type.as_deref().filter(|text| !text.is_empty()).map(MediaType::parse);
        let is_schema1 = |media_type: &Option<MediaType>| matches!(media_type, Some(MediaType::Schema1(_)));
        if is_schema1(&inside) || self.schema_version == Some(1) || self.fs_layers.0 {
            return Err(DocumentError::Schema1);
        }
        if let Some(version) = self.schema_version.filter(|&version| version != 2) {
            return Err(DocumentError::SchemaVersion(version));
        }
        let media_type = match (inside, outside) {
            (Some(inside), Some(outside)) if inside != outside => {
                return Err(DocumentError::MediaTypeMismatch { inside, outside });
            }
            (Some(media_type), _) | (None, Some(media_type)) => media_type,
            (None, None) if self.manifests.0 => MediaType::OciIndex,
            (None, None) => MediaType::OciManifest,
        };
        match media_type {
            MediaType::Schema1(_) => Err(DocumentError::Schema1),
            known if known.is_index() || known.is_manifest() => Ok(known),
            other => Err(DocumentError::NotAnImage {
                what: "document".to_owned(),
                media_type: other.as_str().to_owned(),
            }),
        }
    }

    fn check_shape(&self, media_type: &MediaType) -> Result<(), DocumentError> {
        let shape = |property| DocumentError::Shape { media_type: media_type.clone(), property };
        if self.manifests.0 {
            if self.layers.0 {
                return Err(DocumentError::Ambiguous("manifests", "layers"));
            }
            if self.config.0 {
                return Err(DocumentError::Ambiguous("manifests", "config"));
            }
            if !media_type.is_index() {
                return Err(shape("layers"));
            }
        } else if media_type.is_index() {
            return Err(shape("manifests"));
        } else if !self.config.0 {
            return Err(shape("config"));
        } else if !self.layers.0 {
            return Err(shape("layers"));
        }
        Ok(())
    }
}

fn says_something(media_type: &MediaType) -> bool {
    !matches!(media_type.as_str(), "" | "application/json" | "text/plain" | "application/octet-stream")
}

/// A descriptor as it is written.
#[derive(Deserialize)]
pub(crate) struct RawDescriptor {
    #[serde(rename = "mediaType", default, deserialize_with = "null_is_default")]
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<RawPlatform>,
    #[serde(default, deserialize_with = "null_is_default")]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct RawPlatform {
    #[serde(default, deserialize_with = "null_is_default")]
    os: String,
    #[serde(default, deserialize_with = "null_is_default")]
    architecture: String,
    #[serde(default, deserialize_with = "null_is_default")]
    variant: String,
}

impl RawDescriptor {
    /// Checks the descriptor; `what` names it in errors.
    pub(crate) fn check(self, what: impl Fn() -> String) -> Result<Descriptor, DocumentError> {
        let digest = self.digest.parse().map_err(|source| DocumentError::Digest { what: what(), source })?;
        if i64::try_from(self.size).is_err() {
            return Err(DocumentError::Size { what: what(), size: self.size });
        }
        Ok(Descriptor {
            media_type: MediaType::parse(&self.media_type),
            digest,
            size: self.size,
            platform: self.platform.map(|p| Platform::new(&p.os, &p.architecture, Some(&p.variant))),
            annotations: self.annotations,
        })
    }
}

/// Reads JSON's `null`, which Go writes for empty lists and maps, as the default value.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
