//! Why an image can't be pulled.

use super::quota::QuotaExceeded;
use mvm_fetch::FetchError;
use mvm_image::erofs::AssembleError;
use mvm_image::segment::{ReadIndexError, SegmentError};
use mvm_plan::audit::Event;
use mvm_ref::Digest;
use mvm_store::StoreError;
use mvm_tree::{Breach, MergeError, ReadError};
use std::io;

/// Says why an image could not be pulled, beyond fetching and storing.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// A layer could not be fetched, verified or unpacked.
    #[error("layer {index} ({layer})")]
    Layer {
        /// Its position, from 1 (the lowest).
        index: usize,
        /// Its digest.
        layer: Digest,
        /// Why not.
        source: Box<UnpackError>,
    },
    /// A stored layer's index can't be read.
    #[error("read the index of layer {index}")]
    Index {
        /// Its position, from 1.
        index: usize,
        /// Why not.
        source: ReadIndexError<MergeError>,
    },
    /// A layer can't be merged with those below it.
    #[error("layer {index} ({layer})")]
    Merge {
        /// Its position, from 1.
        index: usize,
        /// Its digest.
        layer: Digest,
        /// Why not.
        source: MergeError,
    },
    /// The image as a whole is not what the unpack policy allows.
    #[error(transparent)]
    Policy(#[from] Breach),
    /// The scope would hold more than it may.
    #[error(transparent)]
    Quota(#[from] QuotaExceeded),
    /// The root file system could not be put together.
    #[error("make the root file system")]
    Assemble(#[from] AssembleError),
    /// What came out is not what the same layers made before.
    #[error("the layers make the root {got}, and made {expected} before")]
    OtherRoot {
        /// The root hash that the manifest had.
        expected: Digest,
        /// The root hash of what came out.
        got: Digest,
    },
    /// What a layer is made from could not be read.
    #[error("read what goes into it")]
    Source(#[source] io::Error),
    /// What a layer is made from was something else when it was read again.
    #[error("what goes into it changed while it was read")]
    Shifted(#[source] mvm_ref::verify::VerifyError),
    /// What was written did not reach the disk.
    #[error("write the image to the disk")]
    Sync(#[source] io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PullError {
    /// Returns what the audit log says of a layer that is not what its manifest and config say.
    pub(super) fn failed_check(&self) -> Option<Event> {
        let Self::Layer { layer, source, .. } = self else { return None };
        matches!(**source, UnpackError::Fetch(FetchError::Verify(_))).then_some(Event::Verify {
            digest: *layer,
            diff_id: None,
            passed: false,
        })
    }
}

/// Says why a layer's tar stream was refused or could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The layer could not be fetched, inflated or verified.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The archive is malformed, over a limit or hostile; or its parts could not be written.
    #[error(transparent)]
    Read(#[from] ReadError<SegmentError>),
    /// The segment's files could not be written.
    #[error("write the layer to the store")]
    Write(#[from] SegmentError),
    /// The store could not give the files.
    #[error(transparent)]
    Store(#[from] StoreError),
}
