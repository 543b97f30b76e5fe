//! Merges layers into one tree, with the semantics of containerd and the OCI image specification
//! (image-spec, `layer.md`).
//!
//! Within the rules below the last entry wins, as when the layers are unpacked one over the other:
//!
//! - Parents that no layer describes are directories of root with mode 0755 and mtime 0. A parent that is a
//!   symbolic link is followed inside the tree, and what a dangling one points at is made as a directory.
//!   A parent that a lower layer made as something else gives way to a directory.
//! - A directory over a directory replaces its attributes and keeps its children; everything else replaces what
//!   had the name, with all that is beneath it. The last component is never followed.
//! - A hard link shares the inode of its target, symbolic links and devices too.
//! - Whiteouts, opaque or not, remove what lower layers put, never what their own layer put before or after them.
//!   A whiteout of what doesn't exist means nothing, and makes no parents.

mod arena;
mod error;
mod number;
mod resolve;

use crate::policy::Item;
use crate::{
    Attributes, Breach, Budget, Change, Content, Escaped, HardLinks, Kind, Node, Tree, UnpackPolicy,
};
use arena::{Arena, Child, Dir, Layer};
pub use error::MergeError;
use resolve::{Step, last_directory, resolve};

/// Merges the changes of layers, lowest layer first, into a [`Tree`].
///
/// ```
/// use mvm_tree::{Attributes, Change, Kind, Merge, UnpackPolicy};
///
/// let mut merge = Merge::new(&UnpackPolicy::default());
/// merge.begin_layer();
/// let (path, attributes) = ((*b"etc/mtab").into(), Attributes::default());
/// merge.apply(Change::Put { path, attributes, kind: Kind::Symlink((*b"/proc/mounts").into()) })?;
/// let tree = merge.finish();
/// assert!(tree.lookup(b"etc/mtab").is_some());
/// # Ok::<(), mvm_tree::MergeError>(())
/// ```
pub struct Merge {
    arena: Arena,
    budget: Budget,
    layer: Layer,
    /// The directory of the entry before, which is that of the next one most of the time.
    recent: Option<Recent>,
}

/// A parent path that resolved to a directory which this layer has touched.
struct Recent {
    path: Box<[u8]>,
    place: Place,
}

/// A directory, and the length of its path from the root.
#[derive(Clone, Copy)]
struct Place {
    dir: Dir,
    path_len: usize,
}

impl Merge {
    /// Returns a merge of no layers: an empty root directory.
    pub fn new(policy: &UnpackPolicy) -> Self {
        Self { arena: Arena::new(), budget: Budget::new(policy), layer: 0, recent: None }
    }

    /// Begins the next layer. Files of the first one name segment 0, of the second one segment 1, and so on.
    pub fn begin_layer(&mut self) {
        self.layer += 1;
        self.recent = None;
    }

    /// Applies one change of the layer that was begun last, if the policy allows it.
    ///
    /// After an error the tree is in no state to be used.
    pub fn apply(&mut self, change: Change) -> Result<(), MergeError> {
        if self.layer == 0 {
            return Err(MergeError::NoLayer { path: Escaped::new(change.path()) });
        }
        self.allow(&change)
            .map_err(|source| MergeError::Policy { path: Escaped::new(change.path()), source })?;
        match change {
            Change::Put { path, attributes, kind } => self.put(&path, attributes, kind),
            Change::Link { path, target } => self.link(&path, &target),
            Change::Whiteout { path } => self.whiteout(&path),
            Change::Opaque { path } => self.opaque(&path),
        }
    }

    /// Checks a change as it was checked when the layer was read, maybe under another policy.
    fn allow(&self, change: &Change) -> Result<(), Breach> {
        self.budget.take_entry()?;
        self.budget.policy().check(Item::from(change))?;
        match change {
            Change::Put { kind: Kind::Regular(content), .. } => {
                self.budget.take_file(stored(content), content.size)
            }
            _ => Ok(()),
        }
    }

    /// Returns the merged tree.
    pub fn finish(self) -> Tree {
        number::number(self.arena)
    }

    fn put(&mut self, path: &[u8], attributes: Attributes, kind: Kind) -> Result<(), MergeError> {
        let is_directory = kind == Kind::Directory;
        if path.is_empty() {
            if !is_directory {
                return Err(MergeError::RootReplaced);
            }
            self.arena.set_attributes(Arena::ROOT.node, attributes);
            return self.check_size(path);
        }
        let (dir, name) = self.make_parent(path)?;
        let existing = self.arena.child(dir, name);
        if let Some(child) = existing.filter(|_| is_directory)
            && let Some(kept) = self.arena.dir(child.node)
        {
            self.arena.set_attributes(child.node, attributes);
            self.arena.directory_mut(kept).touched = self.layer;
            self.set_child(dir, name, Child { node: child.node, layer: self.layer });
        } else {
            self.remove(dir, name, existing);
            let node = match kind {
                Kind::Directory => Node::Directory(Vec::new()),
                Kind::Regular(content) => Node::Regular { segment: self.layer - 1, content },
                Kind::Symlink(target) => Node::Symlink(target),
                Kind::CharDevice(device) => Node::CharDevice(device),
                Kind::BlockDevice(device) => Node::BlockDevice(device),
                Kind::Fifo => Node::Fifo,
                Kind::Socket => Node::Socket,
            };
            self.add(dir, name, attributes, node);
        }
        self.check_size(path)
    }

    fn link(&mut self, path: &[u8], target: &[u8]) -> Result<(), MergeError> {
        if path.is_empty() {
            return Err(MergeError::RootReplaced);
        }
        let (dir, name) = self.make_parent(path)?;
        // The name goes first, so that a link to itself, or to what is beneath it, has no target.
        self.remove(dir, name, self.arena.child(dir, name));
        let missing = || MergeError::TargetMissing { path: Escaped::new(path), target: Escaped::new(target) };
        let (parent, base) = split(target);
        let found = match self.find_directory(parent, path)? {
            Some(place) if !base.is_empty() => self.arena.child(place.dir, base),
            _ => None,
        };
        let found = found.ok_or_else(missing)?;
        if self.arena.dir(found.node).is_some() {
            return Err(MergeError::TargetDirectory {
                path: Escaped::new(path),
                target: Escaped::new(target),
            });
        }
        if found.layer != self.layer && self.budget.policy().hard_links == HardLinks::SameLayer {
            let source = Breach::HardLinkAcross { target: Escaped::new(target) };
            return Err(MergeError::Policy { path: Escaped::new(path), source });
        }
        self.arena.bind(dir, name, Child { node: found.node, layer: self.layer });
        self.check_size(path)
    }

    fn whiteout(&mut self, path: &[u8]) -> Result<(), MergeError> {
        if path.is_empty() {
            return Err(MergeError::RootRemoved);
        }
        let (parent, name) = split(path);
        let Some(Place { dir, .. }) = self.find_directory(parent, path)? else { return Ok(()) };
        let Some(mut child) = self.arena.child(dir, name) else { return Ok(()) };
        match self.arena.dir(child.node) {
            // Something of this layer lies beneath, so that the directory stays for it.
            Some(touched) if self.arena.directory(touched).touched == self.layer => {
                self.recent = None;
                self.arena.clear_lower(touched, self.layer);
                self.arena.describe_implied(&mut child, self.layer);
                self.set_child(dir, name, child);
            }
            _ if child.layer == self.layer => {}
            _ => self.remove(dir, name, Some(child)),
        }
        Ok(())
    }

    fn opaque(&mut self, path: &[u8]) -> Result<(), MergeError> {
        if let Some(Place { dir, .. }) = self.find_directory(path, path)? {
            self.recent = None;
            self.arena.clear_lower(dir, self.layer);
        }
        Ok(())
    }

    /// Looks a directory up, through symbolic links, for the entry `of`.
    fn find_directory(&self, path: &[u8], of: &[u8]) -> Result<Option<Place>, MergeError> {
        if let Some(recent) = self.recent.as_ref().filter(|recent| *recent.path == *path) {
            return Ok(Some(recent.place));
        }
        let steps = resolve(&self.arena, self.budget.policy(), path, of)?;
        let path_len = steps.iter().map(|step| step.name.len() + 1).sum();
        Ok(last_directory(&self.arena, &steps).map(|dir| Place { dir, path_len }))
    }

    /// Returns the parent directory of `path`, made if it is missing, and the last component.
    fn make_parent<'p>(&mut self, path: &'p [u8]) -> Result<(Dir, &'p [u8]), MergeError> {
        let (parent, name) = split(path);
        self.check_name(path, name)?;
        let place = match &self.recent {
            Some(recent) if *recent.path == *parent => recent.place,
            _ => {
                let steps = resolve(&self.arena, self.budget.policy(), parent, path)?;
                let path_len = steps.iter().map(|step| step.name.len() + 1).sum();
                // Before anything is made: the tree must not become deeper than paths can say.
                self.check_path(path, path_len + name.len())?;
                let place = Place { dir: self.make_steps(path, &steps)?, path_len };
                self.recent = Some(Recent { path: parent.into(), place });
                place
            }
        };
        self.check_path(path, place.path_len + name.len())?;
        Ok((place.dir, name))
    }

    /// Makes the missing ones of resolved components and marks all as touched by this layer.
    fn make_steps(&mut self, path: &[u8], steps: &[Step]) -> Result<Dir, MergeError> {
        let mut dir = Arena::ROOT;
        self.arena.directory_mut(dir).touched = self.layer;
        for step in steps {
            dir = match step.child.map(|node| (node, self.arena.dir(node))) {
                Some((_, Some(existing))) => existing,
                Some((_, None)) if step.layer == self.layer => {
                    return Err(MergeError::NotDirectory {
                        path: Escaped::new(path),
                        parent: Escaped::new(&step.name),
                    });
                }
                other => {
                    self.check_name(path, &step.name)?;
                    let existing = other.map(|(node, _)| Child { node, layer: step.layer });
                    self.remove(dir, &step.name, existing);
                    self.add(dir, &step.name, arena::implied(), Node::Directory(Vec::new()))
                }
            };
            self.arena.directory_mut(dir).touched = self.layer;
        }
        Ok(dir)
    }

    /// Adds an inode with its first name, which is free; returns the directory, or its parent for anything else.
    fn add(&mut self, dir: Dir, name: &[u8], attributes: Attributes, node: Node) -> Dir {
        let node = self.arena.add(attributes, node);
        self.arena.bind(dir, name, Child { node, layer: self.layer });
        let Some(added) = self.arena.dir(node) else { return dir };
        self.arena.directory_mut(added).touched = self.layer;
        added
    }

    /// Removes a name if it exists, with what is beneath it.
    fn remove(&mut self, dir: Dir, name: &[u8], existing: Option<Child>) {
        let Some(child) = existing else { return };
        let is_on_paths = self.arena.dir(child.node).is_some() || self.arena.symlink(child.node).is_some();
        if is_on_paths {
            self.recent = None;
        }
        self.arena.unbind(dir, name);
    }

    fn set_child(&mut self, dir: Dir, name: &[u8], child: Child) {
        if let Some(slot) = self.arena.directory_mut(dir).children.get_mut(name) {
            *slot = child;
        }
    }

    fn check_name(&self, path: &[u8], name: &[u8]) -> Result<(), MergeError> {
        if name.is_empty() || name == b"." || name == b".." || name.contains(&0) {
            return Err(MergeError::BadName { path: Escaped::new(path), name: Escaped::new(name) });
        }
        let (got, limit) = (name.len(), self.budget.policy().name_bytes);
        if got > limit {
            return Err(MergeError::NameTooLong { path: Escaped::new(path), got, limit });
        }
        Ok(())
    }

    fn check_path(&self, path: &[u8], len: usize) -> Result<(), MergeError> {
        let limit = self.budget.policy().path_bytes;
        if len >= limit {
            return Err(MergeError::PathTooLong { path: Escaped::new(path), limit });
        }
        Ok(())
    }

    fn check_size(&self, path: &[u8]) -> Result<(), MergeError> {
        // Numbers of inodes have 32 bits.
        let limit = self.budget.policy().entries.min(u64::from(u32::MAX) / 2);
        if self.arena.names() > limit {
            return Err(MergeError::TooManyNames { path: Escaped::new(path), limit });
        }
        let limit = self.budget.policy().metadata_bytes;
        if self.arena.weight() > limit {
            return Err(MergeError::TooMuchMetadata { path: Escaped::new(path), limit });
        }
        Ok(())
    }
}

/// Returns the bytes of a file that are no holes, at most as many as its layer's archive has for it.
fn stored(content: &Content) -> u64 {
    let block = |count: u64| count.saturating_mul(4096);
    let blocks: u64 = content.extents.iter().fold(0, |sum, extent| sum.saturating_add(block(extent.count)));
    let end = content.extents.last().map_or(0, |last| block(last.file_block.saturating_add(last.count)));
    let padding = end.saturating_sub(content.size);
    blocks.saturating_sub(padding).saturating_add(content.tail.map_or(0, |tail| tail.len.into()))
}

/// Splits a path into its parent and its last component.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

#[cfg(test)]
mod tests;
