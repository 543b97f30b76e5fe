//! Why a closure can't become an image.

use crate::audit_log::Note;
use crate::pull::PullError;
use mvm_image::segment::{ReadIndexError, SegmentError};
use mvm_plan::audit::Event;
use mvm_plan::canonical::CanonicalError;
use mvm_ref::nix::{ClosureError, ContentAddress, NarHash, StorePath};
use mvm_ref::verify::VerifyPathError;
use mvm_ref::{GuestDefinitionError, NixSystem, RootFsType};
use mvm_store::StoreError;
use mvm_tree::NarError;
use std::io;

/// Says why a closure could not become an image.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The closure is not that of the output.
    #[error(transparent)]
    Closure(ClosureError),
    /// A path's NAR is malformed, over a limit or hostile, or its parts could not be written.
    #[error("{path}")]
    Nar {
        /// The path.
        path: StorePath,
        /// The hash that it was to have.
        hash: NarHash,
        /// Why not.
        source: NarError<SegmentError>,
    },
    /// A path's NAR goes on where it should end.
    #[error("the NAR of {path} is longer than the {expected} bytes that its description says")]
    TooLong {
        /// The path.
        path: StorePath,
        /// The hash that it was to have.
        hash: NarHash,
        /// The size that it was to have.
        expected: u64,
    },
    /// A path's NAR is not the one that was described.
    #[error(transparent)]
    Verify(#[from] VerifyPathError),
    /// More came than was asked for.
    #[error("the builder sent more than the NARs that it was asked for")]
    Trailing,
    /// The end of what the builder sends could not be read.
    #[error("read the NARs")]
    Read(#[source] io::Error),
    /// A path's content is not what its name is said to follow from.
    #[error(
        "{path} is said to be content-addressed ({ca}), and is not: neither its name nor its content may be believed"
    )]
    ContentAddress {
        /// The path.
        path: StorePath,
        /// What is said.
        ca: ContentAddress,
    },
    /// The output is not one file.
    #[error("{0} is not the output of mkGuest: that is one file")]
    NotAGuest(StorePath),
    /// The output is a file, and not one that mkGuest makes.
    #[error(transparent)]
    Guest(GuestDefinitionError),
    /// The guest needs a path that its closure doesn't hold.
    #[error("the guest needs {0}, which its closure does not hold")]
    Absent(StorePath),
    /// The guest is for another system.
    #[error("the guest is for {guest}, and {asked} was asked for")]
    System {
        /// What it is for.
        guest: NixSystem,
        /// What was asked for.
        asked: NixSystem,
    },
    /// The guest wants a root file system that can't be made.
    #[error(
        "rootfsType {0} is not supported: mvm makes EROFS images, which are read-only under a writable overlay"
    )]
    RootFs(RootFsType),
    /// A guest that is to write to its store has no Nix.
    #[error("a writable store needs Nix in the guest, and none of its packages has bin/nix-store")]
    NoNix,
    /// The segment of a path can't be read back.
    #[error("read what the store has of a path")]
    Index(#[from] ReadIndexError<std::convert::Infallible>),
    /// What the store has of a path can't be read.
    #[error("read what the store has of a path")]
    Segment(#[source] io::Error),
    /// This process may not open as many files as it takes.
    #[error("a closure of {paths} paths takes {needed} open files, and this process may have {limit}")]
    Files {
        /// Paths of the closure.
        paths: usize,
        /// Files that it takes.
        needed: u64,
        /// The most that may be.
        limit: u64,
    },
    /// The root file system could not be put together.
    #[error("make the root file system")]
    Assemble(#[source] Box<PullError>),
    /// The scope would hold more than it may.
    #[error(transparent)]
    Quota(Box<PullError>),
    /// The description of the closure could not be written.
    #[error("describe the closure")]
    Manifest(#[source] CanonicalError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ImportError {
    /// Returns what the audit log says of a path that is not what was said of it.
    pub(super) fn note(&self) -> Option<Note> {
        let (path, digest) = match self {
            Self::Verify(VerifyPathError::Hash { path, expected, .. }) => (path, expected.digest()),
            Self::TooLong { path, hash, .. } => (path, hash.digest()),
            Self::Nar { path, hash, source: NarError::Refused { .. } } => (path, hash.digest()),
            Self::Verify(VerifyPathError::Size { path, .. }) | Self::ContentAddress { path, .. } => {
                let key = mvm_ref::Digest::of(path.to_string().as_bytes());
                (path, key)
            }
            _ => return None,
        };
        let failed = Event::Verify { digest, diff_id: None, passed: false };
        Some(Note::from(failed).with("store-path", &path.to_string()).with("reason", &crate::chain(self)))
    }
}
