//! Why the builder can't be had, or what became of it.

use super::debian::{AptError, DebError};
use crate::attach::AttachError;
use crate::error::ErrorKind;
use mvm_ref::{Digest, ScopeName};
use std::io;
use std::path::PathBuf;

/// Says why the builder can't be made or used.
#[derive(Debug, thiserror::Error)]
pub enum BuilderError {
    /// Nobody has made one.
    #[error("scope {0} has no builder")]
    None(ScopeName),
    /// Somebody uses it.
    #[error("the builder of scope {scope} is in use by {holder}")]
    Busy {
        /// The scope.
        scope: ScopeName,
        /// Who.
        holder: String,
    },
    /// What is known of it can't be read.
    #[error("the record of the builder of scope {scope}")]
    Record {
        /// The scope.
        scope: ScopeName,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Its image is not in the store any more.
    #[error("the builder's image {0} is not in the store")]
    NoImage(Digest),
    /// apt could not give the packages.
    #[error(transparent)]
    Apt(#[from] AptError),
    /// A package can't be used.
    #[error("package {name}")]
    Package {
        /// Its name.
        name: String,
        /// Why not.
        source: DebError,
    },
    /// The image has no Nix that runs.
    #[error("image {image} has no Nix that works: {words}")]
    NoNix {
        /// The image.
        image: String,
        /// What was seen.
        words: String,
    },
    /// The store volume holds another Nix than the image's, which lives in the store.
    #[error(
        "the builder's volume {volume} was begun with another image; the Nix of {image} lives in /nix/store and is not in it"
    )]
    OtherNix {
        /// The image.
        image: String,
        /// The volume.
        volume: mvm_ref::VolumeName,
    },
    /// Its VM did not come up.
    #[error("the builder did not start: {0}")]
    NotReady(String),
    /// Its VM ended under a command.
    #[error("the builder ended while {command} ran: {message}")]
    Ended {
        /// The command's program.
        command: String,
        /// What is known of the end.
        message: String,
    },
    /// The connection to it failed.
    #[error("the connection to the builder")]
    Connection(#[source] AttachError),
    /// A file could not be made.
    #[error("{act} {}", path.display())]
    Io {
        /// What was tried.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The user interrupted.
    #[error("interrupted")]
    Interrupted,
}

impl BuilderError {
    /// Returns which of a program's exit codes fits.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::None(_) | Self::NoImage(_) => ErrorKind::NotFound,
            Self::Busy { .. } | Self::OtherNix { .. } => ErrorKind::Conflict,
            Self::Apt(AptError::NotInstalled(_) | AptError::NoKeyring | AptError::NoMirror) => {
                ErrorKind::Missing
            }
            Self::Apt(AptError::Run { .. }) => ErrorKind::Network,
            Self::Package { source: DebError::Digest { .. }, .. } => ErrorKind::Verification,
            Self::NoNix { .. } => ErrorKind::Usage,
            Self::Interrupted => ErrorKind::Interrupted,
            _ => ErrorKind::Failure,
        }
    }

    /// Returns what to do about it.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::None(_) => "mvmctl builder init makes one",
            Self::Busy { .. } => "wait until that has ended",
            Self::Record { .. } | Self::NoImage(_) => {
                "mvmctl builder init makes it anew; what was built stays"
            }
            Self::Apt(AptError::NotInstalled(_) | AptError::NoMirror) => {
                "mvmctl builder init --image REF takes a published image with Nix, such as nixos/nix"
            }
            Self::Apt(AptError::NoKeyring) => {
                "apt-get install debian-archive-keyring, or mvmctl builder init --image REF"
            }
            Self::Apt(AptError::Run { .. }) => {
                "the mirror is that of this machine's apt; mvmctl builder init --image REF needs none"
            }
            Self::OtherNix { .. } => {
                "mvmctl builder rm removes the builder with all that was built, then init again"
            }
            Self::NoNix { .. } => {
                "it needs /bin/sh, and nix on its PATH or in root's profile; where its Nix lives in /nix/store, the volume has to be new: mvmctl builder rm"
            }
            Self::Ended { .. } => "what was built stays, and the next build goes on from there",
            _ => return None,
        })
    }
}

impl From<AttachError> for BuilderError {
    fn from(error: AttachError) -> Self {
        match error {
            AttachError::Interrupted => Self::Interrupted,
            error => Self::Connection(error),
        }
    }
}
