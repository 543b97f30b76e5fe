//! The tree that an image must give, written down entry by entry.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::tar::TIME;
use crate::tree::{Content, Entry};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;
const BLOCK: u32 = 0o060_000;
const FIFO: u32 = 0o010_000;

/// A whole tree. Modes, owners and times are those that [`super::tar::Entry`] writes, unless they are changed.
#[derive(Debug, Clone)]
pub struct Tree {
    entries: BTreeMap<PathBuf, Entry>,
    /// Directories that no layer describes; other tools give them the time of the unpacking.
    implied: BTreeSet<PathBuf>,
    last: PathBuf,
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    /// Returns a tree with nothing in it, whose root no layer describes.
    pub fn new() -> Self {
        let tree = Self { entries: BTreeMap::new(), implied: BTreeSet::new(), last: PathBuf::new() };
        tree.implied("")
    }

    /// Returns all entries by path.
    pub fn entries(&self) -> &BTreeMap<PathBuf, Entry> {
        &self.entries
    }

    /// Tells whether no layer describes this directory, or one right beneath it.
    pub fn has_time_of_unpacking(&self, path: &Path) -> bool {
        self.implied.contains(path) || self.implied.iter().any(|implied| implied.parent() == Some(path))
    }

    /// Adds a directory; the empty path is the root, which is then described by a layer.
    pub fn dir(self, path: impl AsRef<[u8]>) -> Self {
        self.add(path, DIRECTORY | 0o755, Content::Directory)
    }

    /// Adds a directory that no layer describes.
    pub fn implied(mut self, path: impl AsRef<[u8]>) -> Self {
        self = self.dir(path).mtime(0, 0);
        self.implied.insert(self.last.clone());
        self
    }

    /// Adds a regular file.
    pub fn file(self, path: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Self {
        let data = data.as_ref();
        let content = Content::File(data.len() as u64, Sha256::digest(data).into());
        self.add(path, REGULAR | 0o644, content)
    }

    /// Adds a regular file of zeros.
    pub fn zeros(self, path: impl AsRef<[u8]>, length: u64) -> Self {
        let mut hash = Sha256::new();
        let zeros = vec![0; 1 << 20];
        let mut left = length;
        while left > 0 {
            let count = left.min(zeros.len() as u64);
            hash.update(&zeros[..count as usize]);
            left -= count;
        }
        self.add(path, REGULAR | 0o644, Content::File(length, hash.finalize().into()))
    }

    /// Adds a symbolic link.
    pub fn symlink(self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        let target = OsStr::from_bytes(target.as_ref()).to_owned();
        self.add(path, SYMLINK | 0o777, Content::Symlink(target))
    }

    /// Adds a character device.
    pub fn character(self, path: impl AsRef<[u8]>, major: u32, minor: u32) -> Self {
        self.add(path, CHARACTER | 0o644, Content::Device(major, minor))
    }

    /// Adds a block device.
    pub fn block(self, path: impl AsRef<[u8]>, major: u32, minor: u32) -> Self {
        self.add(path, BLOCK | 0o644, Content::Device(major, minor))
    }

    /// Adds a pipe.
    pub fn fifo(self, path: impl AsRef<[u8]>) -> Self {
        self.add(path, FIFO | 0o644, Content::Nothing)
    }

    /// Adds a further name of what is at `target`.
    pub fn link(mut self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        let (path, target) = (to_path(path.as_ref()), to_path(target.as_ref()));
        if let Some(entry) = self.entries.get(&target).cloned() {
            let former = entry.links.0.clone();
            self.entries.insert(path.clone(), entry);
            let group: Vec<PathBuf> = self
                .entries
                .iter()
                .filter(|(other, entry)| entry.links.0 == former || **other == path)
                .map(|(other, _)| other.clone())
                .collect();
            let links = (group[0].clone(), group.len() as u64);
            for member in group {
                if let Some(entry) = self.entries.get_mut(&member) {
                    entry.links = links.clone();
                }
            }
        }
        self.last = path;
        self
    }

    /// Adds many further names of what is at `target`, which has one.
    pub fn links(mut self, target: &str, names: impl IntoIterator<Item = String>) -> Self {
        let mut group: Vec<PathBuf> = names.into_iter().map(PathBuf::from).collect();
        let target = to_path(target.as_bytes());
        group.push(target.clone());
        group.sort();
        if let Some(mut entry) = self.entries.get(&target).cloned() {
            entry.links = (group[0].clone(), group.len() as u64);
            self.entries.extend(group.into_iter().map(|path| (path, entry.clone())));
        }
        self
    }

    /// Sets the permission bits of the entry added last.
    pub fn mode(self, mode: u32) -> Self {
        self.change(|entry| entry.mode = entry.mode & !0o7777 | mode)
    }

    /// Sets the owner and group of the entry added last.
    pub fn owner(self, uid: u32, gid: u32) -> Self {
        self.change(|entry| entry.owner = (uid, gid))
    }

    /// Sets the time of the entry added last.
    pub fn mtime(self, seconds: i64, nanoseconds: i64) -> Self {
        self.change(|entry| entry.mtime = (seconds, nanoseconds))
    }

    /// Adds an extended attribute to the entry added last.
    pub fn xattr(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.change(|entry| {
            entry.attributes.insert(OsString::from(name), value.as_ref().to_vec());
        })
    }

    fn add(mut self, path: impl AsRef<[u8]>, mode: u32, content: Content) -> Self {
        let path = to_path(path.as_ref());
        self.implied.remove(&path);
        let entry = Entry {
            mode,
            owner: (0, 0),
            mtime: (TIME, 0),
            attributes: BTreeMap::new(),
            links: (path.clone(), 1),
            content,
        };
        self.entries.insert(path.clone(), entry);
        self.last = path;
        self
    }

    fn change(mut self, change: impl FnOnce(&mut Entry)) -> Self {
        if let Some(entry) = self.entries.get_mut(&self.last) {
            change(entry);
        }
        self
    }
}

fn to_path(path: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(path))
}
