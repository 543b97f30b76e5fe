//! What the assembler reads and writes through, and what it returns.

use mvm_ref::Digest;
use mvm_tree::Tail;
use std::io;

/// The segments of an image, by the numbers that the tree uses.
pub trait Segments {
    /// Appends the bytes of a tail to `into`.
    fn tail(&mut self, segment: u32, tail: Tail, into: &mut Vec<u8>) -> io::Result<()>;

    /// Appends the digests of `count` blocks from `first` to `into`, 32 bytes each.
    fn leaves(&mut self, segment: u32, first: u64, count: u64, into: &mut Vec<u8>) -> io::Result<()>;
}

/// The image file being made.
pub trait ImageOutput {
    /// Writes bytes at an offset.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Copies `count` blocks from a segment's data, starting at `segment_block`, to `image_block`.
    fn copy_blocks(
        &mut self,
        segment: u32,
        segment_block: u64,
        count: u64,
        image_block: u64,
    ) -> io::Result<()>;
}

/// The identity and the measures of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageSummary {
    /// Root hash of the dm-verity tree.
    pub root_hash: Digest,
    /// Blocks of the file system, which is what the hash tree covers.
    pub data_blocks: u64,
    /// Offset of the verity superblock, in bytes.
    pub hash_start: u64,
    /// Length of the whole file in bytes.
    pub size: u64,
    /// Blocks that were copied from segments.
    pub copied_blocks: u64,
    /// Number of inodes.
    pub inodes: u64,
}
