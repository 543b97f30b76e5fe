//! The inodes and directories of a tree in the making.
//!
//! Inodes already have the shape of the finished tree, so that finishing moves them in place. What only a
//! directory has (children that can be searched and changed, marks of the layers) lies in a table of its own.

use std::collections::BTreeMap;
use std::mem::size_of;

use crate::{Attributes, Extent, Inode, Node};

/// Number of the layer being merged: 1 is the lowest, 0 means none.
pub(super) type Layer = u32;

pub(super) const NONE: u32 = u32::MAX;

/// A directory entry.
#[derive(Clone, Copy)]
pub(super) struct Child {
    /// Index of the inode.
    pub(super) node: u32,
    /// The layer that put this name.
    pub(super) layer: Layer,
}

/// What a directory has besides its inode.
#[derive(Default)]
pub(super) struct Directory {
    pub(super) children: BTreeMap<Box<[u8]>, Child>,
    /// The last layer that put this directory or something beneath it.
    pub(super) touched: Layer,
    /// The last layer that removed from here, all the way down, whatever lower layers had put.
    pub(super) clean: Layer,
}

/// A directory of the arena.
#[derive(Clone, Copy)]
pub(super) struct Dir {
    pub(super) node: u32,
    slot: u32,
}

pub(super) struct Arena {
    inodes: Vec<Inode>,
    /// For each inode its slot in `directories`, or `NONE`.
    slots: Vec<u32>,
    directories: Vec<Directory>,
    free_inodes: Vec<u32>,
    free_slots: Vec<u32>,
    names: u64,
    weight: u64,
}

/// Returns the attributes of a directory that no layer describes.
pub(super) fn implied() -> Attributes {
    Attributes { mode: 0o755, ..Attributes::default() }
}

impl Arena {
    pub(super) const ROOT: Dir = Dir { node: 0, slot: 0 };

    pub(super) fn new() -> Self {
        let root = Inode { attributes: implied(), node: Node::Directory(Vec::new()), links: 1 };
        Self {
            inodes: vec![root],
            slots: vec![0],
            directories: vec![Directory::default()],
            free_inodes: Vec::new(),
            free_slots: Vec::new(),
            names: 0,
            weight: 0,
        }
    }

    /// Returns the number of names in all directories.
    pub(super) fn names(&self) -> u64 {
        self.names
    }

    /// Returns the bytes of names, link targets, extended attributes and extents.
    pub(super) fn weight(&self) -> u64 {
        self.weight
    }

    pub(super) fn dir(&self, node: u32) -> Option<Dir> {
        let slot = self.slots[node as usize];
        (slot != NONE).then_some(Dir { node, slot })
    }

    pub(super) fn directory(&self, dir: Dir) -> &Directory {
        &self.directories[dir.slot as usize]
    }

    pub(super) fn directory_mut(&mut self, dir: Dir) -> &mut Directory {
        &mut self.directories[dir.slot as usize]
    }

    pub(super) fn child(&self, dir: Dir, name: &[u8]) -> Option<Child> {
        self.directory(dir).children.get(name).copied()
    }

    /// Returns the target if the inode is a symbolic link.
    pub(super) fn symlink(&self, node: u32) -> Option<&[u8]> {
        match &self.inodes[node as usize].node {
            Node::Symlink(target) => Some(target),
            _ => None,
        }
    }

    /// Adds an inode that has no name yet.
    pub(super) fn add(&mut self, attributes: Attributes, node: Node) -> u32 {
        let is_directory = matches!(node, Node::Directory(_));
        let inode = Inode { attributes, node, links: 0 };
        self.weight += weight(&inode);
        let slot = if is_directory { self.add_directory() } else { NONE };
        match self.free_inodes.pop() {
            Some(index) => {
                self.inodes[index as usize] = inode;
                self.slots[index as usize] = slot;
                index
            }
            None => {
                self.inodes.push(inode);
                self.slots.push(slot);
                (self.inodes.len() - 1) as u32
            }
        }
    }

    fn add_directory(&mut self) -> u32 {
        self.free_slots.pop().unwrap_or_else(|| {
            self.directories.push(Directory::default());
            (self.directories.len() - 1) as u32
        })
    }

    pub(super) fn set_attributes(&mut self, node: u32, attributes: Attributes) {
        let inode = &mut self.inodes[node as usize];
        self.weight -= weight(inode);
        inode.attributes = attributes;
        self.weight += weight(inode);
    }

    /// Names an inode. The name must be free.
    pub(super) fn bind(&mut self, dir: Dir, name: &[u8], child: Child) {
        self.inodes[child.node as usize].links += 1;
        self.names += 1;
        self.weight += name.len() as u64;
        let former = self.directory_mut(dir).children.insert(name.into(), child);
        debug_assert!(former.is_none(), "a bound name was free");
    }

    /// Removes a name, if it exists, and what nothing else names.
    pub(super) fn unbind(&mut self, dir: Dir, name: &[u8]) {
        if let Some(child) = self.directory_mut(dir).children.remove(name) {
            self.released(name.len());
            self.drop_subtree(child.node);
        }
    }

    /// Takes one name off an inode and drops all that is then without a name.
    fn drop_subtree(&mut self, node: u32) {
        let mut pending = vec![node];
        while let Some(node) = pending.pop() {
            if let Some(dir) = self.dir(node) {
                let children = std::mem::take(self.directory_mut(dir)).children;
                for (name, child) in children {
                    self.released(name.len());
                    pending.push(child.node);
                }
                self.slots[node as usize] = NONE;
                self.free_slots.push(dir.slot);
            }
            let inode = &mut self.inodes[node as usize];
            inode.links -= 1;
            if inode.links == 0 {
                self.weight -= weight(inode);
                inode.attributes = Attributes::default();
                inode.node = Node::Fifo;
                self.free_inodes.push(node);
            }
        }
    }

    fn released(&mut self, name: usize) {
        self.names -= 1;
        self.weight -= name as u64;
    }

    /// Removes from a directory, all the way down, what layers below `layer` put. A directory that `layer`
    /// only passed through stays, as one that no layer describes.
    pub(super) fn clear_lower(&mut self, dir: Dir, layer: Layer) {
        let mut pending = vec![dir];
        while let Some(dir) = pending.pop() {
            // What lower layers put can't come back while the same layer is merged, so that a directory is
            // searched once a layer, however many whiteouts name it or its parents.
            if self.directory(dir).clean == layer {
                continue;
            }
            let mut children = std::mem::take(&mut self.directory_mut(dir).children);
            children.retain(|name, child| self.keep(name.len(), child, layer, &mut pending));
            let directory = self.directory_mut(dir);
            directory.children = children;
            directory.clean = layer;
        }
    }

    /// Decides on one child for [`Self::clear_lower`] and drops its subtree if it goes.
    fn keep(&mut self, name: usize, child: &mut Child, layer: Layer, pending: &mut Vec<Dir>) -> bool {
        let dir = self.dir(child.node);
        let passed = dir.is_some_and(|dir| self.directory(dir).touched == layer);
        if child.layer != layer && !passed {
            self.released(name);
            self.drop_subtree(child.node);
            return false;
        }
        if let Some(dir) = dir {
            self.describe_implied(child, layer);
            pending.push(dir);
        }
        true
    }

    /// Gives a directory that only lower layers described the attributes of one that no layer describes.
    pub(super) fn describe_implied(&mut self, child: &mut Child, layer: Layer) {
        if child.layer != layer {
            child.layer = layer;
            self.set_attributes(child.node, implied());
        }
    }

    /// Gives up the inodes, unordered and some of them free, and the directories' children by inode.
    pub(super) fn into_parts(self) -> (Vec<Inode>, Vec<u32>, Vec<Directory>) {
        (self.inodes, self.slots, self.directories)
    }
}

/// Returns the bytes that an inode keeps on the heap.
fn weight(inode: &Inode) -> u64 {
    let node = match &inode.node {
        Node::Symlink(target) => target.len(),
        Node::Regular { content, .. } => content.extents.len() * size_of::<Extent>(),
        _ => 0,
    };
    let xattrs = inode.attributes.xattrs.iter().map(|x| x.name.len() + x.value.len() + size_of_val(x));
    (node + xattrs.sum::<usize>()) as u64
}
