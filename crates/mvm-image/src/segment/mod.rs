//! Segments: what one layer leaves behind after its single pass.
//!
//! A segment is five byte strings:
//! - *data*: file content in whole blocks of 4096 bytes;
//! - *leaves*: the dm-verity digest of each data block, 32 bytes each, in the same order;
//! - *tails*: the last bytes of files, which the image stores beside the inode;
//! - *index*: the [changes](mvm_tree::Change) of the layer in archive order;
//! - *framing*: what else the layer's archive says, so that it can be [given back](rebuild).
//!
//! # From file bytes to blocks, tails and holes
//!
//! Part of the image format generation:
//! - A file is looked at in units of [`HOLE_UNIT`] blocks, aligned in the file; the last may be shorter. A unit that is all
//!   zero and has at least one whole block becomes a hole. Units keep block maps small and reads long.
//! - The bytes after the last whole block become a tail if there are at most [`INLINE_TAIL_MAX`] of them and the
//!   file has no hole (an EROFS file with a block map can't have bytes in its inode).
//! - Other bytes after the last whole block take a block of their own, padded with zero bytes, or are a hole
//!   like any unit if all of it is zero.
//!
//! Only the bytes of the file decide, never how they arrive.
//!
//! # Index
//!
//! All numbers little endian: the magic, the generation (`u32`), then per change its length (`u32`, at least 1)
//! and its postcard encoding, then a length of 0 and the counts of blocks, tail bytes and changes (`u64` each), then the end.

mod blocks;
mod format;
mod framing;
mod reader;
mod writer;

pub use format::{HOLE_UNIT, INLINE_TAIL_MAX, RECORD_MAX, SegmentSummary};
pub use framing::{Places, RebuildError, rebuild};
pub use reader::{ReadIndexError, read_index};
pub use writer::{Part, SegmentError, SegmentWriter};

#[cfg(test)]
mod tests;
