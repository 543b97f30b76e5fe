//! Images: one file for each root hash, and which chains lead to it.

use super::segments::Segment;
use super::staging::Staged;
use super::{Inner, Scope, now};
use crate::dir::FileError;
use crate::error::StoreError;
use crate::index::{Durability, digest};
use crate::lock::{self, Key, KeyLock};
use mvm_ref::Digest;
use rusqlite::{OptionalExtension, params};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use serde::Serialize;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is known of an image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ImageRecord {
    /// The dm-verity root hash: the identity of the image.
    pub root_hash: Digest,
    /// The number of data blocks, each of 4096 bytes.
    pub data_blocks: u64,
    /// Where the hash tree starts, in bytes from the start of the file.
    pub hash_start: u64,
    /// The length of the file in bytes.
    pub size: u64,
}

/// An image in the store. While the value lives, nothing collects the file.
#[derive(Debug)]
pub struct Image {
    file: File,
    path: PathBuf,
    record: ImageRecord,
    generation: u32,
    policy: String,
}

/// The answer to a claim: the image, or the right to make it.
#[derive(Debug)]
pub enum ImageClaim {
    /// Somebody made it before.
    Ready(Image),
    /// Nobody else makes it until the slot is committed or dropped.
    Build(ImageSlot),
}

/// The right to make one image. Dropping it removes what was written.
#[derive(Debug)]
pub struct ImageSlot {
    inner: Arc<Inner>,
    chain: Digest,
    generation: u32,
    policy: String,
    file: File,
    staged: Staged,
    // Last, so that it outlives the removal of the staged file.
    _lock: KeyLock,
}

impl Scope {
    /// Returns the image of a chain of diff IDs (lowest layer first) in an image-format generation, or the
    /// right to make it.
    ///
    /// If another process or thread is making it, this waits until that one is done or has given up; while
    /// it waits it asks `cancelled` about every 20 ms. Whoever holds a slot must not wait for another claim
    /// before committing or dropping it, else two of them could wait for each other.
    pub fn claim_image(
        &self,
        chain: &[Digest],
        generation: u32,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<ImageClaim, StoreError> {
        let inner = &self.inner;
        let chain = chain_key(chain);
        if let Some(image) = inner.image_of_chain(&chain, generation)? {
            return Ok(ImageClaim::Ready(image));
        }
        let key = Key::image(&chain, generation);
        let lock = KeyLock::acquire(&inner.staging, &key, cancelled)?;
        if let Some(image) = inner.image_of_chain(&chain, generation)? {
            return Ok(ImageClaim::Ready(image));
        }
        let staged = Staged::new(&inner.staging, format!("{}.img", key.as_str()))?;
        let file = inner.staging.create_file(staged.name())?;
        let inner = Arc::clone(inner);
        let policy = String::new();
        Ok(ImageClaim::Build(ImageSlot { inner, chain, generation, policy, file, staged, _lock: lock }))
    }

    /// Returns the image of a chain, or none if it has to be made.
    pub fn image(&self, chain: &[Digest], generation: u32) -> Result<Option<Image>, StoreError> {
        self.inner.image_of_chain(&chain_key(chain), generation)
    }

    /// Says that the layers of an image were checked under another unpack policy.
    pub fn set_image_policy(&self, root: &Digest, policy: &str) -> Result<(), StoreError> {
        Ok(self.inner.index.write(Durability::Kill, "record an image's policy", |connection| {
            connection
                .execute("UPDATE images SET policy = ?2 WHERE root = ?1", params![root.as_bytes(), policy])?;
            Ok(())
        })?)
    }

    /// Returns the image with a root hash, or none if it is not in this scope.
    pub fn image_by_root(&self, root: &Digest) -> Result<Option<Image>, StoreError> {
        self.inner.image_by_root(root)
    }

    /// Returns the length that the file of an image should have, none if there should be no such file, and the one that it
    /// has, none if there is none.
    pub fn image_lengths(&self, root: &Digest) -> Result<(Option<u64>, Option<u64>), StoreError> {
        let inner = &self.inner;
        let expected = inner.index.read("look up an image", |connection| {
            connection
                .prepare_cached("SELECT size FROM images WHERE root = ?1")?
                .query_row([root.as_bytes()], |row| row.get(0))
                .optional()
        })?;
        Ok((expected, inner.images.file_len(&Inner::image_name(root))?))
    }
}

impl Image {
    /// Returns what is known of the file.
    pub fn record(&self) -> &ImageRecord {
        &self.record
    }

    /// Returns the generation of the image format.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Returns the unpack policy that its layers were last checked under, as [`ImageSlot::set_policy`] got it, or nothing.
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// Returns the absolute path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the file, open for reading.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl ImageSlot {
    /// Says under which unpack policy the image's layers were checked, in words that only the caller understands.
    pub fn set_policy(&mut self, policy: String) {
        self.policy = policy;
    }

    /// Returns the empty file to fill, open for reading and writing.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Reserves room for a file of `bytes`, so that a full disk shows before the work and not after it.
    ///
    /// What is reserved and stays unwritten takes room, so reserve no more than will be written. A file
    /// system that can't reserve is no error.
    pub fn reserve(&self, bytes: u64) -> Result<(), StoreError> {
        match rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, bytes) {
            Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
            Err(errno) => Err(FileError::new("reserve room for", self.path(), errno).into()),
        }
    }

    /// Makes the file of the image the very file of a segment's data, under a second name, so that what is in it need
    /// not be copied. Returns whether it did; if not, the file is as empty as before.
    ///
    /// A segment's data becomes one image at most. Nothing before its last block may be changed then but the
    /// block before [`DATA_START`](super::segments::DATA_START), and what the segment has is where it is.
    pub fn adopt(&mut self, segment: &Segment) -> Result<bool, StoreError> {
        let staging = &self.inner.staging;
        let key = Key::segment(&segment.record().diff_id, segment.record().generation);
        // Two makers of images must not both take it; the second one copies instead of waiting.
        let Some(_turn) = KeyLock::try_acquire(staging, &key)? else { return Ok(false) };
        let (dir, length) = segment.data();
        let Some(file) = dir.open_writable("data")? else { return Ok(false) };
        if dir.links("data")? != 1 {
            return Ok(false);
        }
        // A maker that was killed may have left the beginnings of another image behind the data.
        file.set_len(length).map_err(|error| FileError::new("shorten", dir.join("data"), error))?;
        staging.remove_file(self.staged.name())?;
        dir.link("data", staging, self.staged.name())?;
        self.file = file;
        Ok(true)
    }

    /// Makes the file visible as the image that `record` describes.
    ///
    /// Waits until it is on the disk, then renames it, then writes its row: in this order a loss of power at
    /// any point leaves either the whole image or none.
    pub fn commit(self, record: ImageRecord) -> Result<Image, StoreError> {
        let path = self.path();
        let fail = |act| {
            let path = path.clone();
            move |error: std::io::Error| FileError::new(act, path, error)
        };
        let got = self.file.metadata().map_err(fail("inspect"))?.len();
        if got != record.size {
            return Err(StoreError::Length { path, expected: record.size, got });
        }
        self.file.sync_all().map_err(fail("sync"))?;
        let inner = &self.inner;
        let root = &record.root_hash;
        // Another chain can lead to the same file, and collection can be removing it.
        let _turn = KeyLock::acquire(&inner.staging, &Key::root(root), &|| false)?;
        if let Some(image) = inner.image_by_root(root)?
            && (image.record, image.generation) == (record, self.generation)
        {
            inner.write_image(&self.chain, self.generation, &record, &self.policy)?;
            return Ok(Image { policy: self.policy, ..image });
        }
        // Locked for use before anybody can see it, so that collection never finds it unused.
        let file = inner.staging.open_file(self.staged.name())?.ok_or_else(|| {
            FileError::new("open", self.path(), std::io::Error::from(std::io::ErrorKind::NotFound))
        })?;
        lock::shared(&file, &self.path())?;
        let name = Inner::image_name(root);
        self.staged.move_to(&inner.images, &name)?;
        inner.images.sync()?;
        inner.write_image(&self.chain, self.generation, &record, &self.policy)?;
        let path = inner.images.join(&name);
        Ok(Image { file, path, record, generation: self.generation, policy: self.policy })
    }

    fn path(&self) -> PathBuf {
        self.inner.staging.join(self.staged.name())
    }
}

impl Inner {
    /// Returns the name of an image in `images/`.
    pub(super) fn image_name(root: &Digest) -> String {
        format!("{}.img", root.hex())
    }

    fn image_of_chain(&self, chain: &Digest, generation: u32) -> Result<Option<Image>, StoreError> {
        let root = self.index.read("look up an image", |connection| {
            connection
                .prepare_cached("SELECT root FROM chains WHERE chain = ?1 AND generation = ?2")?
                .query_row(params![chain.as_bytes(), generation], |row| digest(row, 0))
                .optional()
        })?;
        root.map_or(Ok(None), |root| self.image_by_root(&root))
    }

    fn image_by_root(&self, root: &Digest) -> Result<Option<Image>, StoreError> {
        let name = Self::image_name(root);
        let Some(file) = self.images.open_file(&name)? else { return Ok(None) };
        let path = self.images.join(&name);
        lock::shared(&file, &path)?;
        // Collection may have removed it, and another process made it again, before we had the lock.
        if !self.images.leads_to(&name, &file)? {
            return Ok(None);
        }
        let row = self.index.read("look up an image", |connection| {
            connection
                .prepare_cached(
                    "SELECT generation, data_blocks, hash_start, size, policy FROM images WHERE root = ?1",
                )?
                .query_row([root.as_bytes()], |row| {
                    let (data_blocks, hash_start, size) = (row.get(1)?, row.get(2)?, row.get(3)?);
                    let record = ImageRecord { root_hash: *root, data_blocks, hash_start, size };
                    Ok((row.get(0)?, record, row.get(4)?))
                })
                .optional()
        })?;
        let Some((generation, record, policy)) = row else { return Ok(None) };
        let length = file.metadata().map_err(|error| FileError::new("inspect", &path, error))?.len();
        Ok((length == record.size).then_some(Image { file, path, record, generation, policy }))
    }

    fn write_image(
        &self,
        chain: &Digest,
        generation: u32,
        record: &ImageRecord,
        policy: &str,
    ) -> Result<(), StoreError> {
        let root = record.root_hash.as_bytes();
        // Recording the manifest waits for the disk, and so for this row too; without it the image is made again.
        Ok(self.index.write(Durability::Kill, "record an image", |connection| {
            // Not replaced as a whole: that would cascade to the other chains that lead here.
            connection.execute(
                "INSERT INTO images VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (root) DO UPDATE SET
                 generation = ?2, data_blocks = ?3, hash_start = ?4, size = ?5, policy = ?7",
                params![root, generation, record.data_blocks, record.hash_start, record.size, now(), policy],
            )?;
            connection.execute(
                "INSERT OR REPLACE INTO chains VALUES (?1, ?2, ?3)",
                params![chain.as_bytes(), generation, root],
            )?;
            Ok(())
        })?)
    }
}

/// Returns the one digest that stands for a list of diff IDs, for look-ups in this index only.
fn chain_key(chain: &[Digest]) -> Digest {
    let mut text = String::from("mvm chain\n");
    for diff_id in chain {
        text.push_str(&diff_id.hex());
        text.push('\n');
    }
    Digest::of(text.as_bytes())
}
