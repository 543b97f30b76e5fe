//! Reads an image of this format back: the tree, attributes and content.
//!
//! Takes hostile bytes: every place is checked against the bounds of the image, sizes are checked before memory is
//! taken, and walking ends on any graph of directories. It is strict: what the writer doesn't write is an error.

mod data;
mod directory;
mod error;
mod inode;
mod walk;
mod xattr;

pub use data::{FileData, Piece};
pub use directory::Entry;
pub use error::ReadError;
pub use inode::{FileInode, InodeKind};
pub use walk::Walk;

use super::format::{INCOMPAT_CHUNKED, MAGIC, SUPER_OFFSET, Superblock, checksum, u32_at};
use crate::{BLOCK, ReadAt};
use std::io::Read as _;

/// An image of this format, opened for reading.
#[derive(Debug)]
pub struct Reader<R> {
    image: R,
    superblock: Superblock,
}

impl<R: ReadAt> Reader<R> {
    /// Reads and checks the superblock.
    pub fn open(image: R) -> Result<Self, ReadError> {
        let mut block = [0; BLOCK];
        image.read_exact_at(0, &mut block).map_err(|source| ReadError::Read { offset: 0, source })?;
        let got = u32_at(&block, SUPER_OFFSET);
        if got != MAGIC {
            return Err(ReadError::Magic { got });
        }
        let got = u32_at(&block, SUPER_OFFSET + 4);
        let superblock = Superblock::decode(&block);
        let mut unsummed = block;
        unsummed[SUPER_OFFSET + 4..SUPER_OFFSET + 8].fill(0);
        let expected = checksum(&unsummed);
        if got != expected {
            return Err(ReadError::Checksum { expected, got });
        }
        // All fields that were not decoded have fixed values.
        let incompatible = superblock.incompatible & INCOMPAT_CHUNKED;
        let ours = Superblock { incompatible, ..superblock }.encode();
        let differs = |at: &usize| block[*at] != ours[*at];
        let sum = SUPER_OFFSET + 4..SUPER_OFFSET + 8;
        if let Some(offset) = (0..BLOCK).filter(|at| !sum.contains(at)).find(differs) {
            return Err(ReadError::Superblock { offset });
        }
        let reader = Self { image, superblock };
        let got = reader.image.size().map_err(|source| ReadError::Read { offset: 0, source })?;
        if got < reader.len() {
            return Err(ReadError::Truncated { expected: reader.len(), got });
        }
        Ok(reader)
    }

    /// Returns the number of blocks of the file system, which is where the hash tree starts.
    pub fn blocks(&self) -> u64 {
        u64::from(self.superblock.blocks)
    }

    /// Returns the number of inodes that the superblock names.
    pub fn inodes(&self) -> u64 {
        self.superblock.inodes
    }

    /// Reads the root directory's inode.
    pub fn root(&self) -> Result<FileInode, ReadError> {
        self.inode(u64::from(self.superblock.root_nid))
    }

    /// Returns the inode that a path names, without following symbolic links; the empty path names the root.
    pub fn lookup(&self, path: &[u8]) -> Result<Option<FileInode>, ReadError> {
        let mut at = self.root()?;
        let mut parent = at.nid();
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            if !matches!(at.kind(), InodeKind::Directory) {
                return Ok(None);
            }
            let entries = self.entries(&at, parent)?;
            let Ok(found) = entries.binary_search_by(|entry| (*entry.name).cmp(name)) else {
                return Ok(None);
            };
            parent = at.nid();
            at = self.inode(entries[found].nid)?;
        }
        Ok(Some(at))
    }

    /// Returns the content of a regular file of at most `max` bytes, or nothing if there is no such path.
    pub fn read_file(&self, path: &[u8], max: u64) -> Result<Option<Vec<u8>>, ReadError> {
        let Some(inode) = self.lookup(path)? else { return Ok(None) };
        let shown = || path.escape_ascii().to_string();
        if !matches!(inode.kind(), InodeKind::Regular) {
            return Err(ReadError::NotRegular { path: shown() });
        }
        if inode.size() > max {
            return Err(ReadError::FileSize { path: shown(), got: inode.size(), max });
        }
        let mut bytes = Vec::new();
        match self.data(&inode).read_to_end(&mut bytes) {
            Ok(_) => Ok(Some(bytes)),
            Err(source) => Err(ReadError::Read { offset: self.offset_of(inode.nid()), source }),
        }
    }

    /// Returns an iterator over all paths with their inodes, depth first in name order, starting with the root.
    pub fn walk(&self) -> Walk<'_, R> {
        Walk::new(self)
    }

    /// Returns the length of the file system in bytes.
    fn len(&self) -> u64 {
        self.blocks() * BLOCK as u64
    }

    /// Returns the offset of an inode, which may lie outside of the image.
    fn offset_of(&self, nid: u64) -> u64 {
        let start = u64::from(self.superblock.meta_block) * BLOCK as u64;
        start.saturating_add(nid.saturating_mul(super::format::SLOT))
    }

    /// Checks that something lies within the file system.
    fn within(&self, nid: u64, offset: u64, len: u64) -> Result<(), ReadError> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len() => Ok(()),
            _ => Err(ReadError::Outside { nid, offset, len }),
        }
    }

    /// Reads bytes that an inode refers to.
    fn read(&self, nid: u64, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        self.within(nid, offset, into.len() as u64)?;
        self.image.read_exact_at(offset, into).map_err(|source| ReadError::Read { offset, source })
    }
}

#[cfg(test)]
mod tests;
