//! What a layer says about one path, and what a node of the tree carries.

use serde::{Deserialize, Serialize};

/// A point in time: seconds since 1970-01-01 UTC, may be negative, and nanoseconds from 0 to 999,999,999.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp {
    /// Whole seconds, rounded towards minus infinity.
    pub secs: i64,
    /// Nanoseconds past the second.
    pub nanos: u32,
}

/// One extended attribute: its full name (`user.x`, `security.capability`) and value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Xattr {
    /// Name with its prefix, without a terminating NUL.
    pub name: Box<[u8]>,
    /// Value, any bytes.
    pub value: Box<[u8]>,
}

/// Everything about a node but its kind and content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Permission bits with set-id and sticky, `0..=0o7777`.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of last modification.
    pub mtime: Timestamp,
    /// Extended attributes, sorted by name, each name once.
    pub xattrs: Box<[Xattr]>,
}

/// A device number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Device {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// A run of blocks of a file that lies in one piece in a segment's data; what no extent covers is a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Extent {
    /// First block of the file, in units of 4096 bytes.
    pub file_block: u64,
    /// First block in the segment's data, in units of 4096 bytes.
    pub segment_block: u64,
    /// Number of blocks, at least 1.
    pub count: u64,
}

/// Where the bytes of the last, partial block of a file lie when they are not in an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tail {
    /// Offset in the segment's tails, in bytes.
    pub offset: u64,
    /// Length in bytes, 1 to 4095.
    pub len: u16,
}

/// The bytes of a regular file, as places in a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Content {
    /// Length of the file in bytes.
    pub size: u64,
    /// Runs of whole blocks, ascending by `file_block`, not overlapping. The last block of the last run may
    /// reach past `size`; it is zero there.
    pub extents: Box<[Extent]>,
    /// The bytes after the last whole block, unless they are in an extent.
    pub tail: Option<Tail>,
}

/// The kind of a node and what is particular to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    Regular(Content),
    /// A symbolic link and its target.
    Symlink(Box<[u8]>),
    /// A character device.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A named pipe.
    Fifo,
    /// A socket. Tar has none; other sources may.
    Socket,
}

/// One step of a layer, in the order of the archive.
///
/// Paths are normalised: no leading, trailing or doubled `/`, no `.` or `..` component; the empty path is the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Sets a node.
    Put {
        /// Where.
        path: Box<[u8]>,
        /// Owner, mode, times, extended attributes.
        attributes: Attributes,
        /// What.
        kind: Kind,
    },
    /// Gives an existing node a further name.
    Link {
        /// The further name.
        path: Box<[u8]>,
        /// The existing name.
        target: Box<[u8]>,
    },
    /// Removes a name that lower layers made.
    Whiteout {
        /// The name to remove.
        path: Box<[u8]>,
    },
    /// Removes all that lower layers put in a directory.
    Opaque {
        /// The directory.
        path: Box<[u8]>,
    },
}

impl Change {
    /// Returns the path that changes.
    pub fn path(&self) -> &[u8] {
        match self {
            Self::Put { path, .. }
            | Self::Link { path, .. }
            | Self::Whiteout { path }
            | Self::Opaque { path } => path,
        }
    }
}
