//! The blocks of a directory.

use super::format::{DIRENT_LEN, NAME_MAX};
use crate::BLOCK;
use mvm_tree::{Dirent, InodeId};
use std::ops::Range;

/// The entries of a directory with `.` and `..`, sorted by name, cut into blocks.
pub(super) struct Directory<'t> {
    entries: Vec<(&'t [u8], InodeId)>,
    blocks: Vec<Range<usize>>,
    /// Bytes used in the last block.
    last_len: usize,
}

impl<'t> Directory<'t> {
    /// Cuts the entries of `this` into blocks; fails with the length of a name that has none or too many bytes.
    pub fn new(children: &'t [Dirent], this: InodeId, parent: InodeId) -> Result<Self, usize> {
        let mut entries = Vec::with_capacity(children.len() + 2);
        entries.extend(children.iter().map(|child| (&*child.name, child.inode)));
        for special in [(b".".as_slice(), this), (b"..".as_slice(), parent)] {
            entries.insert(entries.partition_point(|(name, _)| *name < special.0), special);
        }
        let mut blocks = Vec::new();
        let mut start = 0;
        let mut used = 0;
        for (at, (name, _)) in entries.iter().enumerate() {
            if name.is_empty() || name.len() > NAME_MAX {
                return Err(name.len());
            }
            let len = DIRENT_LEN + name.len();
            if used + len > BLOCK {
                blocks.push(start..at);
                start = at;
                used = 0;
            }
            used += len;
        }
        blocks.push(start..entries.len());
        Ok(Self { entries, blocks, last_len: used })
    }

    /// Returns the number of blocks before the last.
    pub fn full_blocks(&self) -> u64 {
        self.blocks.len() as u64 - 1
    }

    /// Returns the bytes used in the last block.
    pub fn last_len(&self) -> usize {
        self.last_len
    }

    /// Returns the size of the directory in bytes.
    pub fn size(&self) -> u64 {
        self.full_blocks() * BLOCK as u64 + self.last_len as u64
    }

    /// Appends the used bytes of a block; `describe` gives an inode's address and file type.
    pub fn encode(&self, block: u64, describe: impl Fn(InodeId) -> (u64, u8), into: &mut Vec<u8>) {
        let entries = &self.entries[self.blocks[block as usize].clone()];
        let mut name_offset = entries.len() * DIRENT_LEN;
        for (name, inode) in entries {
            let (nid, file_type) = describe(*inode);
            into.extend_from_slice(&nid.to_le_bytes());
            into.extend_from_slice(&(name_offset as u16).to_le_bytes());
            into.extend_from_slice(&[file_type, 0]);
            name_offset += name.len();
        }
        entries.iter().for_each(|(name, _)| into.extend_from_slice(name));
    }
}
