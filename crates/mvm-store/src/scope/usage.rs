//! What a scope holds on the disk, and what becomes free.

use super::volumes::VOLUMES;
use super::{Inner, Scope};
use crate::dir::{Dir, FileError, allocated};
use crate::error::StoreError;
use rustix::fs::Stat;
use serde::Serialize;
use std::collections::BTreeMap;

/// How many things of a kind there are, and the bytes of disk that they hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// Bytes of disk.
    pub bytes: u64,
    /// Those of them that a thing of another kind has too: a layer's data can be the very file of an image.
    pub shared: u64,
}

/// What a scope holds on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Image files.
    pub images: Tally,
    /// Segments.
    pub segments: Tally,
    /// Manifests, indexes and configs.
    pub documents: Tally,
    /// Volumes.
    pub volumes: Tally,
    /// Work in progress, and what was left of it.
    pub staging: Tally,
    /// Bytes of disk of all of them; what two kinds share counts once.
    pub total: u64,
}

/// A file, however many names it has.
type FileId = (u64, u64);

fn id(stat: &Stat) -> FileId {
    (stat.st_dev, stat.st_ino)
}

impl Scope {
    /// Returns what the scope holds on the disk.
    ///
    /// Blocks that files share on a file system with reflinks count for each of them.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let inner = &self.inner;
        let volumes = inner.dir.open_dir(VOLUMES)?;
        let kinds = [&inner.images, &inner.segments, &inner.documents, &*inner.staging];
        let directories = kinds.into_iter().chain(volumes.as_ref());
        let mut tallies = [Tally::default(); 5];
        // Files with several names, and which kinds have one.
        let mut linked: BTreeMap<FileId, (u64, [bool; 5])> = BTreeMap::new();
        let mut total = 0;
        for (kind, directory) in directories.enumerate() {
            for name in directory.names()? {
                tallies[kind].count += 1;
                for stat in directory.files(&name)? {
                    if stat.st_nlink > 1 {
                        linked.entry(id(&stat)).or_insert((allocated(&stat), [false; 5])).1[kind] = true;
                    } else {
                        tallies[kind].bytes += allocated(&stat);
                        total += allocated(&stat);
                    }
                }
            }
        }
        for (bytes, kinds) in linked.into_values() {
            let is_shared = kinds.iter().filter(|has| **has).count() > 1;
            for (tally, _) in tallies.iter_mut().zip(kinds).filter(|(_, has)| *has) {
                tally.bytes += bytes;
                tally.shared += if is_shared { bytes } else { 0 };
            }
            total += bytes;
        }
        let [images, segments, documents, staging, volumes] = tallies;
        Ok(Usage { images, segments, documents, volumes, staging, total })
    }
}

/// Adds up what becomes free: a file's blocks do so with the last of its names.
#[derive(Debug, Default)]
pub(super) struct Freed {
    dry_run: bool,
    /// How many names of a file were removed, or rather would have been: in a dry run it has them still.
    gone: BTreeMap<FileId, u64>,
}

impl Freed {
    pub(super) fn new(dry_run: bool) -> Self {
        Self { dry_run, gone: BTreeMap::new() }
    }

    /// Returns the bytes that would become free if the entry were removed now.
    pub(super) fn with(&self, files: &[Stat]) -> u64 {
        let is_last = |stat: &&Stat| stat.st_nlink <= 1 + self.gone.get(&id(stat)).copied().unwrap_or(0);
        files.iter().filter(is_last).map(allocated).sum()
    }

    /// Notes that an entry with these files is removed, and returns the bytes that become free by it.
    pub(super) fn remove(&mut self, files: &[Stat]) -> u64 {
        let bytes = self.with(files);
        if self.dry_run {
            for stat in files.iter().filter(|stat| stat.st_nlink > 1) {
                *self.gone.entry(id(stat)).or_default() += 1;
            }
        }
        bytes
    }
}

impl Inner {
    /// Returns how many bytes the entries of a directory hold, for reports of what is there.
    pub(super) fn freed_by(directory: &Dir, name: &str) -> Result<u64, FileError> {
        Ok(Freed::default().with(&directory.files(name)?))
    }
}
