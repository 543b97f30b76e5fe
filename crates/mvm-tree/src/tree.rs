//! The merged file tree: inodes and the directories that name them.

use crate::{Attributes, Content, Device};

/// Identifies an inode of one [`Tree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InodeId(pub(crate) u32);

/// A directory entry: a name and the inode that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dirent {
    /// One path component, any bytes but `/` and NUL.
    pub name: Box<[u8]>,
    /// The inode.
    pub inode: InodeId,
}

/// The kind of an inode, its place or its children.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A directory and its entries, sorted by name bytes.
    Directory(Vec<Dirent>),
    /// A regular file, in the segment with this number (0 is the lowest layer).
    Regular {
        /// Number of the segment that holds the bytes.
        segment: u32,
        /// Places in that segment.
        content: Content,
    },
    /// A symbolic link and its target.
    Symlink(Box<[u8]>),
    /// A character device.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// One inode of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    /// Owner, mode, times, extended attributes.
    pub attributes: Attributes,
    /// Kind and content.
    pub node: Node,
    /// Number of names (for a directory: 2 plus its subdirectories).
    pub links: u32,
}

/// An immutable merged tree. Every inode is reachable from the root, and ids are dense from 0 (the root),
/// numbered depth-first in name order, so equal trees have equal ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    pub(crate) inodes: Vec<Inode>,
}

impl Tree {
    /// Returns the root directory's id.
    pub fn root(&self) -> InodeId {
        InodeId(0)
    }

    /// Returns an inode.
    pub fn inode(&self, id: InodeId) -> &Inode {
        &self.inodes[id.0 as usize]
    }

    /// Returns all inodes with their ids, ascending.
    pub fn inodes(&self) -> impl ExactSizeIterator<Item = (InodeId, &Inode)> {
        self.inodes.iter().enumerate().map(|(index, inode)| (InodeId(index as u32), inode))
    }

    /// Returns the number of inodes, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a tree always has a root")]
    pub fn len(&self) -> usize {
        self.inodes.len()
    }
}

impl InodeId {
    /// Returns the position in [`Tree::inodes`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}
