//! The dm-verity hash tree that follows a file system in the image file, and the check of an image against it.
//!
//! Parameters, all part of the image format [generation](crate::GENERATION): SHA-256, data and hash blocks of 4096
//! bytes, hash type 1 (salt first, digests side by side), the [`SALT`] and [`UUID`] below, and the superblock of
//! `veritysetup` in the block at the hash offset. The hash offset is the end of the data. The levels follow the
//! superblock from the top (one block) down to the leaves, each padded with zero bytes to whole blocks.
//!
//! Sources: Linux `Documentation/admin-guide/device-mapper/verity.rst`; cryptsetup's on-disk format page "DMVerity".

mod builder;
mod format;
#[cfg(target_arch = "x86_64")]
mod lanes;
mod leaf;
mod verify;

pub use builder::{BuildError, TreeBuilder, WriteAt, hash_data};
pub use format::{Geometry, Level, superblock};
pub use leaf::{leaf, leaves};
pub use verify::{Expected, VerifyError, verify};

/// The salt of every image: SHA-256 of the text `mvm image format 1: dm-verity salt`.
///
/// A fixed salt makes root hashes reproducible; it separates them from those of other formats. 32 bytes
/// cost no compression more than none, in this code and in every kernel.
pub const SALT: [u8; 32] = [
    0x35, 0x8d, 0x37, 0x6e, 0x12, 0xab, 0x1b, 0x6f, 0x8f, 0x5d, 0x8e, 0x35, 0x9c, 0x0d, 0xab, 0xa1, 0x2f,
    0xdc, 0x19, 0x3e, 0x3a, 0x10, 0xbb, 0x46, 0xe6, 0xa3, 0x4a, 0xd3, 0x7f, 0xaa, 0xb6, 0x15,
];

/// The UUID in every verity superblock: the first 16 bytes of SHA-256 of `mvm image format 1: dm-verity uuid`.
pub const UUID: [u8; 16] =
    [0x0d, 0x63, 0x7d, 0x92, 0xb4, 0x48, 0x57, 0x88, 0xaf, 0x7b, 0x60, 0x4d, 0x25, 0xc7, 0x69, 0x61];

/// Bytes of one digest.
pub const DIGEST_LEN: usize = 32;

#[cfg(test)]
mod tests;
