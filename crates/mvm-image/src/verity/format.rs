//! Where the levels of a hash tree lie, and the superblock.

use super::{DIGEST_LEN, SALT, UUID};
use crate::BLOCK;

/// Digests in one hash block.
pub(super) const FANOUT: u64 = (BLOCK / DIGEST_LEN) as u64;

/// One level of a hash tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Its first block, counted in blocks from the start of the file.
    pub start: u64,
    /// Its length in blocks.
    pub blocks: u64,
    /// The number of blocks that it hashes: data blocks for level 0, else the blocks of the level below.
    pub entries: u64,
}

/// Places of everything in a file with `data_blocks` blocks of data followed by their hash tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Number of data blocks, which is also the block number of the superblock.
    pub data_blocks: u64,
    /// The levels from the leaves (0) to the top (one block). A single data block has none.
    pub levels: Vec<Level>,
    /// Length of the whole file in blocks.
    pub total_blocks: u64,
}

impl Geometry {
    /// Computes the places for `data_blocks`, which is at least 1.
    pub fn new(data_blocks: u64) -> Self {
        let mut levels = Vec::new();
        let mut entries = data_blocks;
        while entries > 1 {
            let blocks = entries.div_ceil(FANOUT);
            levels.push(Level { start: 0, blocks, entries });
            entries = blocks;
        }
        let mut next = data_blocks + 1;
        for level in levels.iter_mut().rev() {
            level.start = next;
            next += level.blocks;
        }
        Self { data_blocks, levels, total_blocks: next }
    }

    /// Returns the offset of the superblock in bytes.
    pub fn hash_start(&self) -> u64 {
        self.data_blocks * BLOCK as u64
    }

    /// Returns the length of the whole file in bytes.
    pub fn size(&self) -> u64 {
        self.total_blocks * BLOCK as u64
    }
}

/// Returns the block that holds the verity superblock for `data_blocks` blocks of data.
pub fn superblock(data_blocks: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut at = 0;
    let mut put = |bytes: &[u8], field: usize| {
        block[at..at + bytes.len()].copy_from_slice(bytes);
        at += field;
    };
    put(b"verity\0\0", 8);
    put(&1u32.to_le_bytes(), 4); // version of the superblock
    put(&1u32.to_le_bytes(), 4); // hash type
    put(&UUID, 16);
    put(b"sha256", 32);
    put(&(BLOCK as u32).to_le_bytes(), 4); // data block size
    put(&(BLOCK as u32).to_le_bytes(), 4); // hash block size
    put(&data_blocks.to_le_bytes(), 8);
    put(&(SALT.len() as u16).to_le_bytes(), 8); // salt size, then 6 bytes of padding
    put(&SALT, 256);
    block
}
