//! The files of an image, as its file system has them.

use crate::engine::Engine;
use crate::error::EngineError;
use crate::progress::Cancel;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use mvm_image::erofs::{FileInode, InodeKind, ReadError, Reader};
use mvm_ref::Digest;
use mvm_tree::{Device, Escaped, Timestamp, escape};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read};

/// Whether the content of files is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digests {
    /// Each file's content is hashed, holes too.
    Computed,
    /// No content is read.
    Omitted,
}

/// Any bytes as text in which `\\` is a backslash, `\xNN` the byte with that value (of what is no UTF-8, controls a
/// terminal, or hides or reorders text), and all else stands for itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Shown(String);

impl Shown {
    /// Escapes what can't stand for itself.
    pub fn new(bytes: &[u8]) -> Self {
        Self(escape(bytes))
    }
}

impl AsRef<str> for Shown {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// One name of an image and what it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TreeEntry {
    /// The path, with a leading `/`.
    pub path: Shown,
    /// `directory`, `file`, `symlink`, `char-device`, `block-device`, `fifo` or `socket`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Permission bits with set-id and sticky, as four octal digits.
    pub mode: String,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length of a file in bytes, holes counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Time of last modification.
    pub mtime: NodeTime,
    /// Number of names; for a directory 2 and its subdirectories.
    pub nlink: u32,
    /// Number of the inode, equal for all names of one file and for nothing else.
    pub inode: u64,
    /// What a symbolic link points to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Shown>,
    /// Number of a device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<Device>,
    /// Extended attributes, their values in Base64.
    pub xattrs: BTreeMap<Shown, String>,
    /// SHA-256 of a file's content in hexadecimal digits, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// A time as seconds since 1970, rounded towards minus infinity, and nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct NodeTime {
    /// Whole seconds.
    pub secs: i64,
    /// Nanoseconds past the second.
    pub nanos: u32,
}

impl Engine {
    /// Hands every name at and beneath `path` to `each`: a directory before its children, children in the order of
    /// their names' bytes. No symbolic link is followed; the empty path is the root.
    pub fn image_tree<E: From<EngineError>>(
        &self,
        name: &str,
        path: &[u8],
        digests: Digests,
        cancel: &Cancel,
        mut each: impl FnMut(TreeEntry) -> Result<(), E>,
    ) -> Result<(), E> {
        let listing = self.find_image(name)?;
        let root_hash = listing.root_hash;
        let image = self.scope.image_by_root(&root_hash).map_err(EngineError::from)?;
        let image = image.ok_or_else(|| EngineError::UnknownImage(name.to_owned()))?;
        let damaged = |source: ReadError| EngineError::Damaged {
            root_hash,
            name: name.to_owned(),
            discarded: false,
            source: source.into(),
        };
        let reader = Reader::open(image.file()).map_err(damaged)?;
        let parts: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|part| !part.is_empty()).collect();
        let wanted = parts.join(&b'/');
        let mut lister = Lister { reader: &reader, digests, cancel, known: HashMap::new() };
        let mut is_found = false;
        for item in reader.walk() {
            if cancel.requested() {
                return Err(EngineError::Interrupted.into());
            }
            let (path, inode) = item.map_err(damaged)?;
            if !is_within(&path, &wanted) {
                if is_found {
                    break;
                }
                continue;
            }
            is_found = true;
            let entry = lister.entry(&path, &inode).map_err(|source| match cancel.requested() {
                true => EngineError::Interrupted,
                false => damaged(source),
            })?;
            each(entry)?;
        }
        if !is_found {
            return Err(EngineError::NoSuchPath { image: name.to_owned(), path: Escaped::new(path) }.into());
        }
        Ok(())
    }
}

/// Says whether a path is `wanted` or beneath it.
fn is_within(path: &[u8], wanted: &[u8]) -> bool {
    let rest = path.strip_prefix(wanted);
    rest.is_some_and(|rest| wanted.is_empty() || rest.is_empty() || rest.starts_with(b"/"))
}

struct Lister<'r> {
    reader: &'r Reader<&'r File>,
    digests: Digests,
    cancel: &'r Cancel,
    /// Digests of files with more than one name, by inode.
    known: HashMap<u64, String>,
}

impl Lister<'_> {
    fn entry(&mut self, path: &[u8], inode: &FileInode) -> Result<TreeEntry, ReadError> {
        let attributes = inode.attributes();
        let Timestamp { secs, nanos } = attributes.mtime;
        let (mut size, mut target, mut device, mut sha256) = (None, None, None, None);
        let kind = match inode.kind() {
            InodeKind::Directory => "directory",
            InodeKind::Regular => {
                size = Some(inode.size());
                sha256 = self.digest(inode)?;
                "file"
            }
            InodeKind::Symlink(to) => {
                target = Some(Shown::new(to));
                "symlink"
            }
            InodeKind::CharDevice(number) => {
                device = Some(*number);
                "char-device"
            }
            InodeKind::BlockDevice(number) => {
                device = Some(*number);
                "block-device"
            }
            InodeKind::Fifo => "fifo",
            InodeKind::Socket => "socket",
        };
        let xattrs = attributes.xattrs.iter();
        Ok(TreeEntry {
            path: Shown::new(&[b"/", path].concat()),
            kind,
            mode: format!("{:04o}", attributes.mode),
            uid: attributes.uid,
            gid: attributes.gid,
            size,
            mtime: NodeTime { secs, nanos },
            nlink: inode.links(),
            inode: inode.nid(),
            target,
            device,
            xattrs: xattrs.map(|x| (Shown::new(&x.name), BASE64_STANDARD.encode(&x.value))).collect(),
            sha256,
        })
    }

    fn digest(&mut self, inode: &FileInode) -> Result<Option<String>, ReadError> {
        if self.digests == Digests::Omitted {
            return Ok(None);
        }
        if let Some(known) = self.known.get(&inode.nid()) {
            return Ok(Some(known.clone()));
        }
        let content = Interruptible { inner: self.reader.data(inode), cancel: self.cancel };
        let digest = Digest::of_reader(content).map_err(|error| match error.downcast::<ReadError>() {
            Ok(error) => error,
            Err(source) => ReadError::Read { offset: 0, source },
        })?;
        let digest = digest.hex();
        if inode.links() > 1 {
            self.known.insert(inode.nid(), digest.clone());
        }
        Ok(Some(digest))
    }
}

/// A file's content, which ends with an error when the user interrupts.
struct Interruptible<'r, R> {
    inner: R,
    cancel: &'r Cancel,
}

impl<R: Read> Read for Interruptible<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.cancel.requested() {
            return Err(io::Error::other("interrupted"));
        }
        self.inner.read(into)
    }
}

#[cfg(test)]
mod tests;
