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

    /// Returns the inode at a path, such as `usr/bin/env`, following no symbolic link. Empty components are
    /// skipped; `.` and `..` name nothing.
    pub fn lookup(&self, path: &[u8]) -> Option<InodeId> {
        path.split(|b| *b == b'/').filter(|name| !name.is_empty()).try_fold(self.root(), |id, name| {
            let Node::Directory(entries) = &self.inode(id).node else { return None };
            let index = entries.binary_search_by(|entry| (*entry.name).cmp(name)).ok()?;
            Some(entries[index].inode)
        })
    }

    /// Returns every name of the tree and its inode, the root with the empty path first, a directory before
    /// its children, children in name order. A file with two names comes twice.
    pub fn walk(&self) -> Walk<'_> {
        Walk { tree: self, path: Vec::new(), pending: Vec::new(), is_started: false }
    }
}

/// Iterates over the names of a tree; made by [`Tree::walk`].
pub struct Walk<'t> {
    tree: &'t Tree,
    path: Vec<u8>,
    /// For each open directory its remaining entries and the length of its path.
    pending: Vec<(std::slice::Iter<'t, Dirent>, usize)>,
    is_started: bool,
}

impl Walk<'_> {
    fn open(&mut self, id: InodeId) {
        if let Node::Directory(entries) = &self.tree.inode(id).node {
            self.pending.push((entries.iter(), self.path.len()));
        }
    }
}

impl Iterator for Walk<'_> {
    type Item = (Box<[u8]>, InodeId);

    fn next(&mut self) -> Option<Self::Item> {
        if !self.is_started {
            self.is_started = true;
            self.open(self.tree.root());
            return Some((Box::default(), self.tree.root()));
        }
        while let Some((entries, parent)) = self.pending.last_mut() {
            let Some(entry) = entries.next() else {
                self.pending.pop();
                continue;
            };
            self.path.truncate(*parent);
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(&entry.name);
            self.open(entry.inode);
            return Some((self.path.as_slice().into(), entry.inode));
        }
        None
    }
}

impl InodeId {
    /// Returns the position in [`Tree::inodes`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}
