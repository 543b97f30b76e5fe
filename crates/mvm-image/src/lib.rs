//! Tree and segments to file-system bytes (EROFS), the dm-verity hash tree, and readers of both.
//!
//! A [segment] is what one layer became while it streamed in: file data in 4096-byte blocks, the digest of
//! each block, short file tails, and the index of entries. [`erofs::assemble`] turns a merged tree and its segments into
//! one file: superblock, data, metadata, and the [verity] tree over them.
//!
//! # Image format, generation 1
//!
//! Equal trees over equal segments give equal bytes. What decides bytes, and is therefore part of the generation:
//! the rules by which file bytes become blocks, tails and holes ([`segment`]), the layout of the file system
//! ([`erofs`]) and the parameters of the hash tree ([`verity`]). Changing any of them takes a new number.

pub mod erofs;
pub mod files;
mod read_at;
pub mod segment;
pub mod verity;

pub use read_at::ReadAt;

/// Bytes of a block, in segments, file system and hash tree alike.
pub const BLOCK: usize = 4096;

/// The generation of the image format that this crate writes.
pub const GENERATION: u32 = 1;
