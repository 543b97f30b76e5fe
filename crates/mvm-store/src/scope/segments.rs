//! Segments: one for each layer or store path and image-format generation, a cache that can be fetched again.

use super::staging::Staged;
use super::sums::{self, SUMS};
use super::{Inner, Scope, now};
use crate::dir::{Dir, FileError};
use crate::error::StoreError;
use crate::index::{Durability, IndexError, digest};
use crate::lock::{self, Key, KeyLock};
use mvm_ref::{Digest, VerifiedSegment};
use rusqlite::{OptionalExtension, Row, params};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

const BLOCK: u64 = 4096;
const LEAF: u64 = 32;

/// When a segment was used is only noted again after this many seconds.
const USE_RESOLUTION: i64 = 3600;

/// How many segments are sealed at a time; each is held open meanwhile.
const SEALED_TOGETHER: usize = 200;

/// The most segments whose files are synced one by one.
const SYNCED_SINGLY: usize = 8;

/// The files of a segment, in the order of [`SegmentFiles`].
const PARTS: [&str; 4] = ["data", "tails", "leaves", "index"];

/// The file that gives the layer's archive back; segments of older versions have none.
const FRAMING: &str = "framing";

/// Where the blocks begin in a segment's `data`: after one block that the file has for itself.
///
/// An image of 4096-byte blocks has its superblock there, so a segment's data can become one; see
/// [`ImageSlot::adopt`](super::images::ImageSlot::adopt).
pub const DATA_START: u64 = BLOCK;

/// What the writer of a segment counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentStats {
    /// Blocks of 4096 bytes in `data`, and hashes of 32 bytes in `leaves`.
    pub blocks: u64,
    /// Bytes in `tails`.
    pub tail_bytes: u64,
    /// Entries in `index`.
    pub entries: u64,
}

/// What is known of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SegmentRecord {
    /// The digest of the layer's uncompressed stream; of a store path what stands for it and its NAR.
    pub diff_id: Digest,
    /// The generation of the image format that its index and leaves belong to.
    pub generation: u32,
    /// The digest of the layer as it was fetched.
    pub digest: Digest,
    /// The length of the layer as it was fetched, in bytes.
    pub size: u64,
    /// The length of the uncompressed stream in bytes.
    pub tar_size: u64,
    /// Blocks of 4096 bytes in `data`.
    pub blocks: u64,
    /// Bytes in `tails`.
    pub tail_bytes: u64,
    /// Entries in `index`.
    pub entries: u64,
    /// Bytes in `index`.
    pub index_bytes: u64,
}

/// The four files of a segment that images are made from.
#[derive(Debug)]
pub struct SegmentFiles {
    /// File data in blocks of 4096 bytes.
    pub data: File,
    /// The ends of files, shorter than a block.
    pub tails: File,
    /// The SHA-256 of each block.
    pub leaves: File,
    /// The entries.
    pub index: File,
}

/// What the index has of a segment, whether or not it can be used.
#[derive(Debug)]
pub(super) struct SegmentRow {
    pub(super) record: SegmentRecord,
    pub(super) last_used: i64,
    /// Whether the files can't have been torn by a loss of power.
    pub(super) is_trusted: bool,
}

/// A segment in the store. While the value lives, nothing collects it.
#[derive(Debug)]
pub struct Segment {
    dir: Dir,
    record: SegmentRecord,
}

/// The answer to a claim: the segment, or the right to make it.
#[derive(Debug)]
pub enum Claim {
    /// Somebody made it before.
    Ready(Segment),
    /// Nobody else makes it until the slot is committed or dropped.
    Build(SegmentSlot),
}

/// The right to make one segment. Dropping it removes what was written.
#[derive(Debug)]
pub struct SegmentSlot {
    inner: Arc<Inner>,
    diff_id: Digest,
    generation: u32,
    dir: Dir,
    files: SegmentFiles,
    /// Made when it is asked for: what is no archive has none.
    framing: OnceLock<File>,
    staged: Staged,
    // Last, so that it outlives the removal of the staged files.
    _lock: KeyLock,
}

impl Scope {
    /// Returns the segment of a layer in an image-format generation, or none if it has to be made.
    pub fn segment(&self, diff_id: &Digest, generation: u32) -> Result<Option<Segment>, StoreError> {
        self.inner.used_segment(diff_id, generation)
    }

    /// Returns the segment of a layer in an image-format generation, or the right to make it.
    ///
    /// If another process or thread is making it, this waits until that one is done or has given up; while
    /// it waits it asks `cancelled` about every 20 ms. Whoever holds a slot must not wait for another claim
    /// before committing or dropping it, else two of them could wait for each other.
    pub fn claim_segment(
        &self,
        diff_id: &Digest,
        generation: u32,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Claim, StoreError> {
        let inner = &self.inner;
        if let Some(segment) = inner.used_segment(diff_id, generation)? {
            return Ok(Claim::Ready(segment));
        }
        let key = Key::segment(diff_id, generation);
        let lock = KeyLock::acquire(&inner.staging, &key, cancelled)?;
        if let Some(segment) = inner.used_segment(diff_id, generation)? {
            return Ok(Claim::Ready(segment));
        }
        let staged = Staged::new(&inner.staging, key.as_str().to_owned())?;
        let dir = inner.staging.ensure_dir(staged.name())?;
        let files = SegmentFiles {
            data: dir.create_file("data")?,
            tails: dir.create_file("tails")?,
            leaves: dir.create_file("leaves")?,
            index: dir.create_file("index")?,
        };
        (&files.data)
            .seek(SeekFrom::Start(DATA_START))
            .and_then(|_| files.data.set_len(DATA_START))
            .map_err(|error| FileError::new("make room in", dir.join("data"), error))?;
        let inner = Arc::clone(inner);
        let (diff_id, _lock) = (*diff_id, lock);
        Ok(Claim::Build(SegmentSlot {
            inner,
            diff_id,
            generation,
            dir,
            files,
            framing: OnceLock::new(),
            staged,
            _lock,
        }))
    }

    /// Waits until every segment is on the disk, so that the next boot can trust them too. Returns how many
    /// were not sealed yet.
    pub fn seal_segments(&self) -> Result<usize, StoreError> {
        let inner = &self.inner;
        let open = inner.index.read("list the segments", |connection| {
            connection
                .prepare_cached("SELECT diff_id, generation FROM segments WHERE NOT sealed AND boot_id = ?1")?
                .query_map([&inner.host.boot_id], |row| Ok((digest(row, 0)?, row.get::<_, u32>(1)?)))?
                .collect::<Result<Vec<_>, _>>()
        })?;
        let mut sealed = 0;
        for some in open.chunks(SEALED_TOGETHER) {
            // Held while they are synced and noted, so that nobody puts others in their places.
            let mut segments = Vec::new();
            for (diff_id, generation) in some {
                segments.extend(inner.segment(diff_id, *generation)?.map(|(segment, _)| segment));
            }
            inner.sync_segments(&segments)?;
            inner.index.write(Durability::Kill, "seal segments", |connection| {
                let mut query = connection.prepare_cached(
                    "UPDATE segments SET sealed = 1 WHERE diff_id = ?1 AND generation = ?2 AND boot_id = ?3",
                )?;
                for segment in &segments {
                    let SegmentRecord { diff_id, generation, .. } = segment.record();
                    query.execute(params![diff_id.as_bytes(), generation, inner.host.boot_id])?;
                }
                Ok(())
            })?;
            sealed += segments.len();
        }
        Ok(sealed)
    }
}

impl Segment {
    /// Returns what is known of the segment.
    pub fn record(&self) -> &SegmentRecord {
        &self.record
    }

    /// Returns the absolute path of the directory with the files.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Opens the four files for reading.
    pub fn open(&self) -> Result<SegmentFiles, StoreError> {
        let [data, tails, leaves, index] = PARTS;
        Ok(SegmentFiles {
            data: self.part(data)?,
            tails: self.part(tails)?,
            leaves: self.part(leaves)?,
            index: self.part(index)?,
        })
    }

    /// Opens what gives the layer's archive back. Nothing if an older version made the segment, which kept no such thing.
    ///
    /// Its length is not known to the index: that it is whole shows when the archive has its digest.
    pub fn framing(&self) -> Result<Option<File>, StoreError> {
        Ok(self.dir.open_file(FRAMING)?)
    }

    /// Compares leaves, tails and index with the digests that they had when the segment was made.
    ///
    /// They decide the root hash of an image, so a damaged one would make another image of the same layers. Blocks of data
    /// are not read: the leaves tell what they have to be, and whoever reads an image compares them.
    pub fn check(&self) -> Result<(), StoreError> {
        sums::check(&self.dir)
    }

    fn part(&self, name: &str) -> Result<File, FileError> {
        let absent = || {
            let error = std::io::Error::from(std::io::ErrorKind::NotFound);
            FileError::new("open", self.dir.join(name), error)
        };
        self.dir.open_file(name)?.ok_or_else(absent)
    }

    /// Returns the directory with the files, and the length of `data` as it was committed.
    pub(super) fn data(&self) -> (&Dir, u64) {
        let [length, ..] = Self::lengths(&self.record);
        (&self.dir, length.unwrap_or(u64::MAX))
    }

    fn sync(&self) -> Result<(), FileError> {
        for name in PARTS.into_iter().chain([SUMS]) {
            let fail = |error| FileError::new("sync", self.dir.join(name), error);
            self.part(name)?.sync_all().map_err(fail)?;
        }
        if let Some(framing) = self.dir.open_file(FRAMING)? {
            framing.sync_all().map_err(|error| FileError::new("sync", self.dir.join(FRAMING), error))?;
        }
        self.dir.sync()
    }

    /// Says whether the files in a directory have the lengths that they were stored with.
    pub(super) fn is_whole(dir: &Dir, record: &SegmentRecord) -> Result<bool, FileError> {
        for (part, expected) in PARTS.into_iter().zip(Self::lengths(record)) {
            let length = dir.file_len(part)?;
            // Data that has become an image goes on behind its last block.
            let fits = if part == "data" { length >= expected } else { length == expected };
            if !fits {
                return Ok(false);
            }
        }
        // A segment of an older version has none.
        sums::exist(dir)
    }

    /// Returns the lengths that the files must have, in the order of [`PARTS`].
    fn lengths(record: &SegmentRecord) -> [Option<u64>; 4] {
        [
            record.blocks.checked_mul(BLOCK).and_then(|bytes| bytes.checked_add(DATA_START)),
            Some(record.tail_bytes),
            record.blocks.checked_mul(LEAF),
            Some(record.index_bytes),
        ]
    }
}

impl SegmentSlot {
    /// Returns the four empty files to fill, open for reading and writing; `data` stands at [`DATA_START`].
    pub fn files(&self) -> &SegmentFiles {
        &self.files
    }

    /// Returns the file for what gives the layer's archive back, open for reading and writing; makes it when it is first
    /// asked for, empty.
    pub fn framing(&self) -> Result<&File, StoreError> {
        if let Some(framing) = self.framing.get() {
            return Ok(framing);
        }
        let made = self.dir.create_file(FRAMING)?;
        Ok(self.framing.get_or_init(|| made))
    }

    /// Returns the absolute path of the directory with the files, for messages.
    pub fn path(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// Makes the files visible as the segment of the layer or store path that was verified.
    ///
    /// Does not wait for the disk; see the [crate] documentation.
    pub fn commit(
        self,
        verified: impl Into<VerifiedSegment>,
        stats: SegmentStats,
    ) -> Result<Segment, StoreError> {
        let verified = verified.into();
        if verified.key() != self.diff_id {
            return Err(StoreError::WrongLayer { expected: self.diff_id, got: verified.key() });
        }
        let record = SegmentRecord {
            diff_id: self.diff_id,
            generation: self.generation,
            digest: verified.digest(),
            size: verified.size(),
            tar_size: verified.stream_size(),
            blocks: stats.blocks,
            tail_bytes: stats.tail_bytes,
            entries: stats.entries,
            index_bytes: self.dir.file_len("index")?.unwrap_or(0),
        };
        for (name, expected) in PARTS.into_iter().zip(Segment::lengths(&record)) {
            let got = self.dir.file_len(name)?.unwrap_or(0);
            if expected != Some(got) {
                let expected = expected.unwrap_or(u64::MAX);
                return Err(StoreError::Length { path: self.dir.join(name), expected, got });
            }
        }
        sums::write(&self.dir)?;
        let inner = &self.inner;
        let name = Inner::segment_name(&self.diff_id, self.generation);
        // A directory there has no row that counts, else the claim had returned it.
        inner.forget_segment(&self.diff_id, self.generation)?;
        inner.segments.remove_tree(&name)?;
        // Locked for use before anybody can see it, so that collection never finds it unused.
        lock::shared(&self.dir, self.dir.path())?;
        self.staged.move_to(&inner.segments, &name)?;
        inner.write_segment(&record)?;
        let dir = self.dir.moved_to(inner.segments.join(&name));
        Ok(Segment { dir, record })
    }
}

impl Inner {
    /// Returns the name of a segment in `segments/`.
    pub(super) fn segment_name(diff_id: &Digest, generation: u32) -> String {
        format!("{}-g{generation}", diff_id.hex())
    }

    /// Returns a segment and notes that it was used.
    fn used_segment(&self, diff_id: &Digest, generation: u32) -> Result<Option<Segment>, StoreError> {
        let Some((segment, last_used)) = self.segment(diff_id, generation)? else { return Ok(None) };
        let now = now();
        if now.saturating_sub(last_used) >= USE_RESOLUTION {
            let noted = self.index.write(Durability::Kill, "note the use of a segment", |connection| {
                connection.execute(
                    "UPDATE segments SET last_used = ?3 WHERE diff_id = ?1 AND generation = ?2",
                    params![diff_id.as_bytes(), generation, now],
                )
            });
            match noted {
                // Where nothing can be noted, what is there can be used all the same.
                Ok(_) | Err(IndexError::Full { .. } | IndexError::ReadOnly { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(segment))
    }

    /// Returns a segment and when it was last used.
    fn segment(&self, diff_id: &Digest, generation: u32) -> Result<Option<(Segment, i64)>, StoreError> {
        let name = Self::segment_name(diff_id, generation);
        let Some(dir) = self.segments.open_dir(&name)? else { return Ok(None) };
        lock::shared(&dir, dir.path())?;
        // Collection may have removed it, and another process made it again, before we had the lock.
        if !self.segments.leads_to(&name, &dir)? {
            return Ok(None);
        }
        let row = self.index.read("look up a segment", |connection| {
            connection
                .prepare_cached(
                    "SELECT diff_id, generation, digest, size, tar_size, blocks, tail_bytes, entries,
                     index_bytes, last_used FROM segments
                     WHERE diff_id = ?1 AND generation = ?2 AND (sealed OR boot_id = ?3)",
                )?
                .query_row(params![diff_id.as_bytes(), generation, self.host.boot_id], |row| {
                    Ok((read_record(row)?, row.get::<_, i64>(9)?))
                })
                .optional()
        })?;
        let Some((record, last_used)) = row else { return Ok(None) };
        Ok(Segment::is_whole(&dir, &record)?.then_some((Segment { dir, record }, last_used)))
    }

    /// Returns what the index has of every segment.
    pub(super) fn segment_rows(&self) -> Result<BTreeMap<(Digest, u32), SegmentRow>, StoreError> {
        Ok(self.index.read("list the segments", |connection| {
            connection
                .prepare_cached(
                    "SELECT diff_id, generation, digest, size, tar_size, blocks, tail_bytes, entries,
                     index_bytes, last_used, sealed OR boot_id = ?1 FROM segments",
                )?
                .query_map([&self.host.boot_id], |row| {
                    let record = read_record(row)?;
                    let row = SegmentRow { record, last_used: row.get(9)?, is_trusted: row.get(10)? };
                    Ok(((record.diff_id, record.generation), row))
                })?
                .collect()
        })?)
    }

    /// Waits until segments are on the disk: each file of a few, or for many the file system as a whole, which takes less.
    fn sync_segments(&self, segments: &[Segment]) -> Result<(), FileError> {
        if segments.len() > SYNCED_SINGLY {
            return rustix::fs::syncfs(&self.segments)
                .map_err(|errno| FileError::new("sync", self.segments.path(), errno));
        }
        segments.iter().try_for_each(Segment::sync)?;
        if segments.is_empty() { Ok(()) } else { self.segments.sync() }
    }

    /// Removes the row of a segment.
    pub(super) fn forget_segment(&self, diff_id: &Digest, generation: u32) -> Result<(), StoreError> {
        self.index.write(Durability::Kill, "forget a segment", |connection| {
            connection
                .prepare_cached("DELETE FROM segments WHERE diff_id = ?1 AND generation = ?2")?
                .execute(params![diff_id.as_bytes(), generation])
        })?;
        Ok(())
    }

    fn write_segment(&self, record: &SegmentRecord) -> Result<(), StoreError> {
        self.index.write(Durability::Kill, "record a segment", |connection| {
            connection
                .prepare_cached(
                    "INSERT INTO segments VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 0, ?11)",
                )?
                .execute(params![
                    record.diff_id.as_bytes(),
                    record.generation,
                    record.digest.as_bytes(),
                    record.size,
                    record.tar_size,
                    record.blocks,
                    record.tail_bytes,
                    record.entries,
                    record.index_bytes,
                    self.host.boot_id,
                    now(),
                ])
        })?;
        Ok(())
    }
}

fn read_record(row: &Row<'_>) -> rusqlite::Result<SegmentRecord> {
    Ok(SegmentRecord {
        diff_id: digest(row, 0)?,
        generation: row.get(1)?,
        digest: digest(row, 2)?,
        size: row.get(3)?,
        tar_size: row.get(4)?,
        blocks: row.get(5)?,
        tail_bytes: row.get(6)?,
        entries: row.get(7)?,
        index_bytes: row.get(8)?,
    })
}
