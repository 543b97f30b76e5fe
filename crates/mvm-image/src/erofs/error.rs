//! Why an image can't be assembled.

use crate::verity::BuildError;
use std::io;

/// Says why an image could not be assembled.
///
/// Paths are relative to the image's root, with bytes that are not printable escaped.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// A part of the image could not be written.
    #[error("cannot write the image at byte {offset}")]
    Write {
        /// Offset in the image file.
        offset: u64,
        /// The cause.
        source: io::Error,
    },
    /// Blocks could not be copied from a segment.
    #[error("cannot copy {count} blocks from block {block} of segment {segment} to the image")]
    Copy {
        /// Number of the segment.
        segment: u32,
        /// First block in the segment.
        block: u64,
        /// Number of blocks.
        count: u64,
        /// The cause.
        source: io::Error,
    },
    /// Digests of blocks could not be read from a segment.
    #[error("cannot read the digests of {count} blocks from block {block} of segment {segment}")]
    Leaves {
        /// Number of the segment.
        segment: u32,
        /// First block in the segment.
        block: u64,
        /// Number of blocks.
        count: u64,
        /// The cause.
        source: io::Error,
    },
    /// The last bytes of a file could not be read from a segment.
    #[error("cannot read the tail of {path:?} from byte {offset} of segment {segment}'s tails")]
    Tail {
        /// The file.
        path: String,
        /// Number of the segment.
        segment: u32,
        /// Offset in the segment's tails.
        offset: u64,
        /// The cause.
        source: io::Error,
    },
    /// The hash tree could not be built.
    #[error("cannot build the verity tree of the image")]
    Verity(#[from] BuildError),
    /// The places of a file's content contradict each other or its size.
    #[error("{path:?} of {size} bytes has an impossible extent at file block {file_block}")]
    Extent {
        /// The file.
        path: String,
        /// Its length in bytes.
        size: u64,
        /// First file block of the extent.
        file_block: u64,
    },
    /// A file's tail doesn't continue its blocks.
    #[error("{path:?} of {size} bytes has a tail of {got} bytes that does not continue its blocks")]
    TailPlace {
        /// The file.
        path: String,
        /// Its length in bytes.
        size: u64,
        /// Length of the tail in bytes.
        got: u16,
    },
    /// A file with holes would need too long a block map.
    #[error("{path:?} of {size} bytes needs a block map of {got} entries, at most {max} are possible")]
    BlockMap {
        /// The file.
        path: String,
        /// Its length in bytes.
        size: u64,
        /// Entries needed.
        got: u64,
        /// The limit.
        max: u64,
    },
    /// A name is empty or too long.
    #[error("a name in directory {path:?} has {got} bytes, possible are 1 to {max}")]
    NameLength {
        /// The directory.
        path: String,
        /// Bytes of the name.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// The target of a symbolic link is empty or too long.
    #[error("symbolic link {path:?} has a target of {got} bytes, possible are 1 to {max}")]
    SymlinkLength {
        /// The link.
        path: String,
        /// Bytes of the target.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// A device number has no encoding in a file system.
    #[error("device {path:?} has number {major}:{minor}, the largest possible is 4095:1048575")]
    Device {
        /// The device node.
        path: String,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// An extended attribute is of a namespace that EROFS can't store.
    #[error(
        "extended attribute {name:?} of {path:?} can't be stored; possible are user., trusted., security. and POSIX ACLs"
    )]
    XattrName {
        /// The node.
        path: String,
        /// The attribute's name.
        name: String,
    },
    /// An extended attribute is too long.
    #[error("extended attribute {name:?} of {path:?} has {got} bytes, at most {max} are possible")]
    XattrLength {
        /// The node.
        path: String,
        /// The attribute's name.
        name: String,
        /// Bytes of its name past the prefix, or of its value.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// All extended attributes of a node together are too long.
    #[error("the extended attributes of {path:?} take {got} bytes, at most {max} are possible")]
    XattrTotal {
        /// The node.
        path: String,
        /// Bytes that they take.
        got: u64,
        /// The limit.
        max: u64,
    },
    /// The inodes take more than inode addresses reach.
    #[error("the inodes take {got} bytes, at most {max} are possible")]
    Metadata {
        /// Bytes needed.
        got: u64,
        /// The limit.
        max: u64,
    },
    /// The image needs more blocks than block addresses reach.
    #[error("the image needs {got} blocks of 4096 bytes, at most {max} are possible")]
    Blocks {
        /// Blocks needed.
        got: u64,
        /// The limit.
        max: u64,
    },
}
