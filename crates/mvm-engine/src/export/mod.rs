//! Images on their way out of the store: documents as they came, layers byte for byte.
//!
//! The store keeps no archives of layers. What it keeps gives each back with the diff ID that it had, so that config and
//! image ID stay what they are. Compression is lost: a layer's digest and the manifest that names it may be others.

mod blobs;
mod documents;
mod restore;
mod tar;

pub(crate) use blobs::{Fault, checked_layer, spool};
pub(crate) use documents::{Entry, LayerBlob, ManifestDocument, docker_manifest, index, manifest, tag_name};
pub(crate) use tar::TarWriter;

use crate::closures::REPRODUCIBLE;
use crate::engine::Engine;
use crate::error::EngineError;
use mvm_image::GENERATION;
use mvm_image::segment::RebuildError;
use mvm_ref::{Digest, DocumentError, ImageSource, LayerCompression, Manifest, Platform, Reference};
use mvm_store::{Segment, StoreError};
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

/// Says why an image could not leave the store.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A layer has been collected: layers are a cache of what images are made from.
    #[error("layer {layer} of {image} is no longer in the store")]
    Lost {
        /// The image.
        image: String,
        /// Diff ID of the layer.
        layer: Digest,
    },
    /// A layer was stored without what gives it back.
    #[error("layer {layer} of {image} was stored by an older version, which can't give it back")]
    Older {
        /// The image.
        image: String,
        /// Diff ID of the layer.
        layer: Digest,
    },
    /// A layer doesn't come out as it went in.
    #[error("layer {expected} of {image} is damaged: it comes out as {got}")]
    Changed {
        /// The image.
        image: String,
        /// Its diff ID.
        expected: Digest,
        /// What comes out.
        got: Digest,
    },
    /// A layer doesn't come out at all.
    #[error("layer {layer} of {image} is damaged")]
    Damaged {
        /// The image.
        image: String,
        /// Its diff ID.
        layer: Digest,
        /// What is wrong with it.
        source: RebuildError,
    },
    /// A stored manifest can't be read.
    #[error("the stored manifest of {image}")]
    Manifest {
        /// The image.
        image: String,
        /// What is wrong with it.
        source: DocumentError,
    },
    /// The format has no place for how layers are compressed.
    #[error("a docker-archive has plain layers; leave out --compression, or compress the archive")]
    PlainOnly,
    /// A document can't be made.
    #[error("make the {what} of {image}")]
    Document {
        /// Which.
        what: &'static str,
        /// The image.
        image: String,
        /// Why not.
        source: serde_json::Error,
    },
    /// The output can't be written.
    #[error("{act} {}", to.display())]
    Write {
        /// What was tried.
        act: &'static str,
        /// The file or directory.
        to: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A compressed layer can't be kept until it is complete.
    #[error("compress layer {layer}")]
    Spool {
        /// Its diff ID.
        layer: Digest,
        /// Why not.
        source: io::Error,
    },
    /// There is something where a directory is to be made.
    #[error("{} exists and is not an empty directory", .0.display())]
    Exists(PathBuf),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The user interrupted.
    #[error("interrupted")]
    Interrupted,
}

/// How layers are stored in what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression(pub(crate) LayerCompression);

impl FromStr for Compression {
    type Err = UnknownCompression;

    fn from_str(text: &str) -> Result<Self, UnknownCompression> {
        match text {
            "none" => Ok(Self(LayerCompression::None)),
            "gzip" => Ok(Self(LayerCompression::Gzip)),
            "zstd" => Ok(Self(LayerCompression::Zstd)),
            _ => Err(UnknownCompression(text.to_owned())),
        }
    }
}

/// Says that a text names no compression.
#[derive(Debug, thiserror::Error)]
#[error("no such compression: {0:?}; use none, gzip or zstd")]
pub struct UnknownCompression(String);

/// An image in the store with its documents.
pub(crate) struct StoredImage {
    /// What the user called it.
    pub asked: String,
    /// The name in a registry by which it was asked for.
    pub name: Option<Reference>,
    pub platform: Platform,
    pub config: Digest,
    pub config_bytes: Vec<u8>,
    pub manifest: Manifest,
    pub manifest_bytes: Vec<u8>,
    /// Diff IDs, lowest layer first.
    pub chain: Vec<Digest>,
    /// Where it can be had again.
    pub origins: Vec<ImageSource>,
}

impl Engine {
    /// Finds an image and reads its documents.
    pub(crate) fn stored_image(&self, asked: &str) -> Result<StoredImage, EngineError> {
        let listing = self.find_image(asked)?;
        let unknown = || EngineError::UnknownImage(asked.to_owned());
        let record = self.scope.manifest(&listing.manifest)?.ok_or_else(unknown)?;
        if record.posture == REPRODUCIBLE {
            // Its layers are no archives, and its manifest none that a registry knows.
            return Err(EngineError::NotForBuilds { act: "give away", image: asked.to_owned() });
        }
        let manifest_bytes = self.scope.document(&listing.manifest)?.ok_or_else(unknown)?;
        let config_bytes = self.scope.document(&listing.config)?.ok_or_else(unknown)?;
        let manifest = Manifest::parse(&manifest_bytes, None)
            .map_err(|source| ExportError::Manifest { image: asked.to_owned(), source })?;
        // A beginning of a digest may be a name too, but then it isn't how this image was found.
        let name = asked.parse::<ImageSource>().ok().filter(|s| listing.references.contains(&s.to_string()));
        let origin = |text: &String| match text.parse() {
            Ok(ImageSource::Registry(named)) => Some(ImageSource::Registry(named.pinned(listing.manifest))),
            origin => origin.ok(),
        };
        Ok(StoredImage {
            origins: listing.references.iter().filter_map(origin).collect(),
            asked: asked.to_owned(),
            name: name.and_then(|source| source.reference().cloned()),
            platform: listing.platform,
            config: listing.config,
            config_bytes,
            manifest,
            manifest_bytes,
            chain: record.chain,
        })
    }

    /// Returns the layers of an image, lowest first, if all of them can be given back.
    fn stored_layers(&self, image: &StoredImage) -> Result<Vec<Segment>, ExportError> {
        let find = |layer: &Digest| {
            let (layer, asked) = (*layer, || image.asked.clone());
            let segment = self.scope.segment(&layer, GENERATION)?;
            let segment = segment.ok_or_else(|| ExportError::Lost { image: asked(), layer })?;
            match segment.framing()? {
                Some(_) => Ok(segment),
                None => Err(ExportError::Older { image: asked(), layer }),
            }
        };
        image.chain.iter().map(find).collect()
    }
}
