//! Documents: manifests, indexes and configs, named by their digest and checked whenever they are read.

use super::{Inner, Scope};
use crate::dir::{Dir, FileError};
use crate::error::StoreError;
use crate::lock;
use mvm_ref::Digest;
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::sync::PoisonError;

/// The longest document that is kept, in bytes; registries commonly limit manifests to 4 MiB.
pub const MAX_DOCUMENT: u64 = 16 << 20;

const DRAFT: &str = "document-";

/// Documents that were stored and that no row names yet.
///
/// While there are any, the directory is locked shared, so that collection leaves unreferenced documents
/// alone: they may be the first half of somebody's pull.
#[derive(Debug, Default)]
pub(super) struct Pending {
    digests: BTreeSet<Digest>,
    // Held for its lock only.
    guard: Option<Dir>,
}

impl Pending {
    fn add(&mut self, documents: &Dir, digest: Digest) -> Result<(), FileError> {
        if self.guard.is_none() {
            let guard = documents.reopen()?;
            lock::shared(&guard, guard.path())?;
            self.guard = Some(guard);
        }
        self.digests.insert(digest);
        Ok(())
    }

    fn settle(&mut self, digests: &[Digest]) {
        for digest in digests {
            self.digests.remove(digest);
        }
        if self.digests.is_empty() {
            self.guard = None;
        }
    }
}

/// Says whether an entry of `staging/` is a document that was being written.
pub(super) fn is_draft(name: &str) -> bool {
    name.starts_with(DRAFT)
}

impl Scope {
    /// Stores a document and returns its digest.
    ///
    /// It stays as long as this scope is open, and from then on as long as a manifest or resolution names it.
    pub fn put_document(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let inner = &self.inner;
        let size = bytes.len() as u64;
        if size > MAX_DOCUMENT {
            return Err(StoreError::DocumentSize { size, limit: MAX_DOCUMENT });
        }
        let digest = Digest::of(bytes);
        let mut pending = inner.pending.lock().unwrap_or_else(PoisonError::into_inner);
        // Before looking whether it is there already: it must not be collected after that look.
        pending.add(&inner.documents, digest)?;
        let stored = inner.store_document(&digest.hex(), bytes);
        if stored.is_err() {
            pending.settle(&[digest]);
        }
        stored?;
        Ok(digest)
    }

    /// Returns a document, or none if it is not in this scope. Its bytes are hashed before they are returned.
    pub fn document(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let name = digest.hex();
        let Some(bytes) = self.inner.read_document(&name)? else { return Ok(None) };
        let got = Digest::of(&bytes);
        if got != *digest {
            let path = self.inner.documents.join(&name);
            return Err(StoreError::DocumentDigest { path, expected: *digest, got });
        }
        Ok(Some(bytes))
    }
}

impl Inner {
    fn store_document(&self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        if self.read_document(name)?.is_some_and(|stored| stored == bytes) {
            return Ok(());
        }
        let (draft, mut file) = self.create_draft(name)?;
        let written = file
            .write_all(bytes)
            .map_err(|error| FileError::new("write", self.staging.join(&draft), error))
            .and_then(|()| self.staging.rename(&draft, &self.documents, name));
        if written.is_err() {
            self.staging.remove_file(&draft)?;
        }
        written
    }

    /// Reads at most one byte more than a document may have, so that a longer file fails its digest.
    fn read_document(&self, name: &str) -> Result<Option<Vec<u8>>, FileError> {
        let Some(file) = self.documents.open_file(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(MAX_DOCUMENT + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| FileError::new("read", self.documents.join(name), error))?;
        Ok(Some(bytes))
    }

    fn create_draft(&self, document: &str) -> Result<(String, std::fs::File), FileError> {
        let process = std::process::id();
        // A process before us, or one of another namespace, may have had the same number.
        for attempt in 0_u32.. {
            let name = format!("{DRAFT}{document}.{process}.{attempt}");
            match self.staging.create_file(&name) {
                Err(FileError::Io { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {}
                other => return other.map(|file| (name, file)),
            }
        }
        Err(FileError::new("create", self.staging.join(document), Errno::EXIST))
    }

    /// Waits until the documents are on the disk, and returns those that are absent.
    pub(super) fn sync_documents(&self, digests: &[Digest]) -> Result<Vec<Digest>, FileError> {
        let mut absent = Vec::new();
        for digest in digests {
            let name = digest.hex();
            match self.documents.open_file(&name)? {
                None => absent.push(*digest),
                Some(file) => file
                    .sync_all()
                    .map_err(|error| FileError::new("sync", self.documents.join(&name), error))?,
            }
        }
        if absent.len() < digests.len() {
            self.documents.sync()?;
        }
        Ok(absent)
    }

    /// Notes that rows name these documents now.
    pub(super) fn settle_documents(&self, digests: &[Digest]) {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).settle(digests);
    }
}
