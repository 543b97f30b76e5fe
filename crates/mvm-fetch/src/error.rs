//! What can go wrong while an image is resolved and fetched.

use crate::{DockerArchiveError, InflateError, LayoutError, RegistryError};
use mvm_ref::verify::VerifyError;
use mvm_ref::{
    ConfigError, Digest, DocumentError, FlakeReference, MediaType, PairError, Platform, SelectError,
};
use std::io;

/// Says why an image or a layer can't be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Somebody asked to stop.
    #[error("fetch was cancelled")]
    Cancelled,
    /// A flake is no image yet.
    #[error("flake {0} is built, not fetched: mvmctl build --flake {0}")]
    Flake(FlakeReference),
    /// The operating system gives no thread.
    #[error("cannot start a thread for the download")]
    Thread(#[source] io::Error),
    /// The registry, or the way to it, has a problem.
    #[error(transparent)]
    Registry(RegistryError),
    /// The OCI layout or archive has a problem.
    #[error(transparent)]
    Layout(LayoutError),
    /// The archive of Docker has a problem.
    #[error(transparent)]
    DockerArchive(#[from] DockerArchiveError),
    /// A manifest or index is not one.
    #[error("{what} {digest} can't be used")]
    Document {
        /// Manifest, index, or the document that the user named.
        what: &'static str,
        /// Its digest.
        digest: Digest,
        /// What is wrong with it.
        source: DocumentError,
    },
    /// An index names a manifest of another type than what is found there.
    #[error("manifest {digest} is {got}, its index says {expected}")]
    ManifestType {
        /// The manifest's digest.
        digest: Digest,
        /// The type in the index.
        expected: MediaType,
        /// The type of the document.
        got: MediaType,
    },
    /// Indexes lie in indexes, deeper than mvm goes.
    #[error("index {digest} lies more than {limit} deep in other indexes")]
    Nesting {
        /// The index that is too deep.
        digest: Digest,
        /// The limit.
        limit: usize,
    },
    /// There are more indexes than mvm reads.
    #[error("index {digest} is one more than the {limit} that are read for one image")]
    Indexes {
        /// The one that is too much.
        digest: Digest,
        /// The limit.
        limit: usize,
    },
    /// A document is longer or shorter than its descriptor says.
    #[error("{what} {digest} has {got} bytes, its descriptor says {expected}")]
    DocumentSize {
        /// Manifest or config.
        what: &'static str,
        /// Its digest.
        digest: Digest,
        /// The descriptor's size.
        expected: u64,
        /// Its length.
        got: u64,
    },
    /// A descriptor announces a longer document than mvm reads.
    #[error("{what} {digest} has {size} bytes, more than {limit}")]
    DocumentLimit {
        /// Manifest or config.
        what: &'static str,
        /// Its digest.
        digest: Digest,
        /// The descriptor's size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// A document is not the one that was named.
    #[error("{what} {expected} has digest {got}")]
    DocumentDigest {
        /// Manifest or config.
        what: &'static str,
        /// The digest that it was named by.
        expected: Digest,
        /// The digest that it has.
        got: Digest,
    },
    /// The image config can't be used.
    #[error("image config {digest} can't be used")]
    Config {
        /// Its digest.
        digest: Digest,
        /// What is wrong with it.
        source: ConfigError,
    },
    /// There is no image for the platform.
    #[error(transparent)]
    Platform(#[from] SelectError),
    /// The index says another platform than the config.
    #[error("image config {digest} is for {got}, its index says {expected}")]
    PlatformMismatch {
        /// The config's digest.
        digest: Digest,
        /// The platform in the index.
        expected: Box<Platform>,
        /// The platform in the config.
        got: Box<Platform>,
    },
    /// Manifest and config are not about the same layers.
    #[error(transparent)]
    Pair(#[from] PairError),
    /// A layer goes on after its size.
    #[error("layer {digest} goes on after the {expected} bytes that its descriptor says")]
    TooLong {
        /// The layer's digest.
        digest: Digest,
        /// The descriptor's size.
        expected: u64,
    },
    /// A layer ends before its size.
    #[error("layer {digest} ended after {got} of {expected} bytes")]
    Short {
        /// The layer's digest.
        digest: Digest,
        /// The descriptor's size.
        expected: u64,
        /// Bytes that came.
        got: u64,
    },
    /// A layer can't be decompressed.
    #[error("layer {digest} can't be decompressed")]
    Inflate {
        /// The layer's digest.
        digest: Digest,
        /// What is wrong with it.
        source: InflateError,
    },
    /// A layer is not the one that manifest and config name.
    #[error(transparent)]
    Verify(VerifyError),
    /// The resolved image has no such layer.
    #[error("image has {layers} layers, there is no layer {index}")]
    NoSuchLayer {
        /// The number asked for, from 0.
        index: usize,
        /// How many there are.
        layers: usize,
    },
    /// The receiver of a layer went away before its end.
    #[error("the layer's reader stopped before the end")]
    Abandoned,
}

impl From<LayoutError> for FetchError {
    fn from(error: LayoutError) -> Self {
        match error {
            LayoutError::Cancelled => Self::Cancelled,
            error => Self::Layout(error),
        }
    }
}

impl From<RegistryError> for FetchError {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Cancelled => Self::Cancelled,
            error => Self::Registry(error),
        }
    }
}
