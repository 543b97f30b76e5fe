//! Which exit codes fit what fails on the way of images in and out.

use super::of_store;
use crate::error::ErrorKind;
use crate::export::ExportError;
use mvm_fetch::{DockerArchiveError, FetchError, LayoutError, MirrorsError, RegistryError};
use std::io;

pub(super) fn of_fetch(error: &FetchError) -> ErrorKind {
    match error {
        FetchError::Cancelled => ErrorKind::Interrupted,
        FetchError::Registry(RegistryError::NotFound { .. }) | FetchError::Platform(_) => ErrorKind::NotFound,
        FetchError::Registry(
            RegistryError::Digest { .. } | RegistryError::DigestHeader { .. } | RegistryError::Length { .. },
        ) => ErrorKind::Verification,
        FetchError::Registry(RegistryError::Mirrors(MirrorsError::Blocked { .. })) => ErrorKind::Refused,
        FetchError::Registry(
            RegistryError::Mirrors(_)
            | RegistryError::CaFile { .. }
            | RegistryError::CaFormat { .. }
            | RegistryError::CaEmpty { .. }
            | RegistryError::Offline { .. },
        ) => ErrorKind::Usage,
        FetchError::Registry(_) => ErrorKind::Network,
        FetchError::Layout(error) => match error {
            LayoutError::NotFound { .. } | LayoutError::Empty { .. } | LayoutError::NotALayout { .. } => {
                ErrorKind::NotFound
            }
            LayoutError::Open { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                ErrorKind::NotFound
            }
            LayoutError::Open { .. }
            | LayoutError::Read { .. }
            | LayoutError::ReadBlob(_)
            | LayoutError::Spool { .. } => ErrorKind::Failure,
            LayoutError::Several { .. } | LayoutError::NotAFile { .. } | LayoutError::Compressed { .. } => {
                ErrorKind::Usage
            }
            _ => ErrorKind::Verification,
        },
        FetchError::DockerArchive(error) => match error {
            DockerArchiveError::NoImages { .. } | DockerArchiveError::NotFound { .. } => ErrorKind::NotFound,
            DockerArchiveError::Several { .. }
            | DockerArchiveError::Legacy { .. }
            | DockerArchiveError::Compression { .. } => ErrorKind::Usage,
            DockerArchiveError::Read { .. } | DockerArchiveError::ReadLayer(_) => ErrorKind::Failure,
            _ => ErrorKind::Verification,
        },
        FetchError::Thread(_) | FetchError::NoSuchLayer { .. } | FetchError::Abandoned => ErrorKind::Failure,
        _ => ErrorKind::Verification,
    }
}

pub(super) fn of_export(error: &ExportError) -> ErrorKind {
    match error {
        ExportError::Lost { .. } | ExportError::Older { .. } => ErrorKind::NotFound,
        ExportError::Changed { .. } | ExportError::Damaged { .. } => ErrorKind::Verification,
        ExportError::Exists(_) => ErrorKind::Conflict,
        ExportError::PlainOnly => ErrorKind::Usage,
        ExportError::Store(error) => of_store(error),
        ExportError::Interrupted => ErrorKind::Interrupted,
        _ => ErrorKind::Failure,
    }
}
