//! An archive that holds one OCI artifact: a manifest, and blobs of any kind that are read by digest.
//!
//! Source: OCI image-spec, `image-layout.md`, and `manifest.md`, "Guidelines for Artifact Usage".

use super::{Archive, Layout, Part, opened};
use crate::source::Content as _;
use crate::{CancelToken, FetchError};
use mvm_ref::{Descriptor, Digest};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

/// Most bytes that a compressed archive may unpack to.
const MAX_ARCHIVE: u64 = 1 << 40;

/// An open artifact.
pub struct Artifact {
    layout: Layout<Archive>,
    manifest: Vec<u8>,
}

/// The bytes of a blob, which nobody has compared with its digest.
pub struct BlobBytes {
    file: Arc<File>,
    offset: u64,
    left: u64,
}

impl Artifact {
    /// Opens an archive that holds one artifact; a compressed one is unpacked to a nameless file in `spool` first.
    ///
    /// The manifest is compared with the digest that the archive's index has for it.
    pub fn open(path: &Path, spool: &Path, cancel: &CancelToken) -> Result<Self, FetchError> {
        let (directory, cancel) = (spool.to_owned(), cancel.clone());
        let spool = opened::Spool { directory, limit: MAX_ARCHIVE, cancel: cancel.clone() };
        let files = Archive::new(opened::ArchiveFile::open(path, &spool)?)?;
        let layout = Layout { files, selector: None, cancel };
        let manifest = layout.root()?.bytes;
        Ok(Self { layout, manifest })
    }

    /// Returns the bytes of the manifest.
    pub fn manifest(&self) -> &[u8] {
        &self.manifest
    }

    /// Reads a blob of at most `limit` bytes and compares it with its digest.
    pub fn blob(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, FetchError> {
        let bytes = self.layout.small_blob(descriptor, limit)?;
        let (expected, got) = (descriptor.digest, Digest::of(&bytes));
        if expected == got {
            Ok(bytes)
        } else {
            Err(FetchError::DocumentDigest { what: "blob", expected, got })
        }
    }

    /// Returns a blob's bytes, to be read once from the start.
    pub fn read(&self, descriptor: &Descriptor) -> Result<BlobBytes, FetchError> {
        let Part { file, offset, size } = self.layout.part(descriptor)?;
        Ok(BlobBytes { file, offset, left: size })
    }
}

impl Read for BlobBytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = usize::try_from(self.left).unwrap_or(buffer.len()).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..length], self.offset)?;
        if count == 0 && length > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}
