//! A layout in a directory.

use super::{Files, LayoutError, Part, open_regular};
use mvm_ref::Digest;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The path of a layout's directory.
#[derive(Clone)]
pub(crate) struct Directory {
    path: PathBuf,
}

impl Directory {
    pub(crate) fn open(path: &Path) -> Result<Self, LayoutError> {
        let metadata =
            std::fs::metadata(path).map_err(|source| LayoutError::Open { path: path.to_owned(), source })?;
        if !metadata.is_dir() {
            return Err(LayoutError::NotALayout { path: path.to_owned(), missing: super::MARKER });
        }
        Ok(Self { path: path.to_owned() })
    }
}

impl Files for Directory {
    fn path(&self) -> &Path {
        &self.path
    }

    fn open_named(&self, name: &'static str) -> Result<Option<Part>, LayoutError> {
        open(&self.path.join(name))
    }

    fn open_digest(&self, digest: Digest) -> Result<Option<Part>, LayoutError> {
        open(&self.path.join("blobs/sha256").join(digest.hex()))
    }
}

fn open(path: &Path) -> Result<Option<Part>, LayoutError> {
    match open_regular(path, false) {
        Ok((file, size)) => Ok(Some(Part { file: Arc::new(file), offset: 0, size })),
        Err(LayoutError::Open { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
