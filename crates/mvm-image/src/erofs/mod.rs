//! EROFS: the writer that assembles an image from a tree and its segments, and a reader.
//!
//! # Layout, part of the image format generation
//!
//! Block 0 holds the superblock; then come the live file blocks, ordered by segment and place in the segment; then the
//! blocks of directories and of symbolic links that don't fit beside their inode, in inode order; then the shared extended
//! attributes; then the inodes, starting with the root; then zero bytes to the end of the block.
//!
//! - All inodes are extended (64 bytes), numbered from 1 in the order of the tree.
//! - A file that has a tail, a directory whose last block has at most [`INLINE_TAIL_MAX`](crate::segment::INLINE_TAIL_MAX) bytes, and a
//!   symbolic link that fits have inline data; a file with holes has a block map with the largest possible chunks;
//!   all others are plain.
//! - An inode lies in the first free place, in steps of 32 bytes, where inline data doesn't cross a block; the
//!   places left free before are filled by later inodes that fit, the oldest of the last eight first.
//! - An extended attribute that two inodes have is stored once, in the order of first use.
//! - Build time is 0, UUID and volume name are fixed. The features used are those of Linux 5.15: checksum, mtime, and
//!   chunks where a file has holes.
//!
//! Source: Linux `fs/erofs/erofs_fs.h` and `Documentation/filesystems/erofs.rst` (on-disk format).

mod data;
mod directory;
mod error;
mod format;
mod layout;
mod ports;
mod reader;
mod stream;
mod writer;
mod xattr;

pub use error::AssembleError;
pub use ports::{ImageOutput, ImageSummary, Segments};
pub use reader::{Entry, FileData, FileInode, InodeKind, Piece, ReadError, Reader, Walk};
pub use writer::{assemble, begins_with};
