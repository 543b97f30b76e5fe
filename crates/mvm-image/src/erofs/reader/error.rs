//! Why an image can't be read.

use std::io;

/// Says in what an image is not one that this crate writes.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The image could not be read.
    #[error("cannot read the image at byte {offset}")]
    Read {
        /// Offset in the image.
        offset: u64,
        /// The cause.
        source: io::Error,
    },
    /// There is no EROFS superblock.
    #[error("not an EROFS image: the magic number is {got:#010x}")]
    Magic {
        /// The number found.
        got: u32,
    },
    /// The superblock's checksum is wrong.
    #[error("the superblock has checksum {got:#010x}, expected {expected:#010x}")]
    Checksum {
        /// The checksum of its bytes.
        expected: u32,
        /// The checksum that it names.
        got: u32,
    },
    /// The image uses something that this crate doesn't write.
    #[error("the superblock differs from those of this image format at byte {offset}")]
    Superblock {
        /// Offset in the image.
        offset: usize,
    },
    /// The image is shorter than its superblock says.
    #[error("the image has {got} bytes, its superblock says {expected}")]
    Truncated {
        /// Bytes according to the superblock.
        expected: u64,
        /// Bytes found.
        got: u64,
    },
    /// Something that an inode refers to lies outside of the image.
    #[error("inode {nid} refers to {len} bytes at byte {offset}, outside of the image")]
    Outside {
        /// Address of the inode.
        nid: u64,
        /// Offset in the image.
        offset: u64,
        /// Length in bytes.
        len: u64,
    },
    /// An inode has a format, layout, type or size that this crate doesn't write.
    #[error("inode {nid} has an unknown format, type {mode:#o}, layout {layout}, size {size}")]
    Inode {
        /// Address of the inode.
        nid: u64,
        /// Its type and permission bits; 0 if it isn't an extended inode.
        mode: u16,
        /// Its data layout.
        layout: u8,
        /// Its size in bytes.
        size: u64,
    },
    /// The extended attributes of an inode are malformed.
    #[error("inode {nid} has malformed extended attributes ({what})")]
    Xattr {
        /// Address of the inode.
        nid: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A block of a directory is malformed.
    #[error("directory inode {nid} is malformed in block {block} ({what})")]
    Directory {
        /// Address of the inode.
        nid: u64,
        /// Number of the block in the directory.
        block: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A directory is found a second time.
    #[error("directory inode {nid} is found twice, the second time as {path:?}")]
    DirectoryTwice {
        /// Address of the inode.
        nid: u64,
        /// The second path.
        path: String,
    },
    /// The directories have more entries than there is room for in the image.
    #[error("the directories of the image have more than {max} entries")]
    Entries {
        /// The limit.
        max: u64,
    },
    /// A path is longer than any that this crate writes.
    #[error("a path in the image has more than {max} bytes")]
    PathLength {
        /// The limit.
        max: usize,
    },
    /// A file is longer than the caller is willing to read.
    #[error("{path:?} has {got} bytes, at most {max} are read")]
    FileSize {
        /// The file.
        path: String,
        /// Its length.
        got: u64,
        /// The limit.
        max: u64,
    },
    /// The node is not a regular file.
    #[error("{path:?} is not a regular file")]
    NotRegular {
        /// The path.
        path: String,
    },
}
