//! What is in a tree, an image and a mounted image, in one form.

use super::{Built, Bytes, Piece, noise};
use mvm_image::erofs::{FileInode, InodeKind, ReadError, Reader};
use mvm_tree::{Attributes, Device, Node, Timestamp, Xattr};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;

/// Files up to this size are compared whole, longer ones around the ends of their pieces.
const WHOLE: u64 = 64 << 20;

/// All that a path says.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    pub path: String,
    pub attributes: Attributes,
    pub links: u32,
    pub what: What,
    /// The first path with the same inode.
    pub first: String,
}

#[derive(Debug, PartialEq, Eq)]
pub enum What {
    Directory,
    /// Length, and the digest of the bytes that are compared.
    Regular(u64, String),
    Symlink(String),
    Char(u32, u32),
    Block(u32, u32),
    Fifo,
    Socket,
}

pub fn assert_same(got: &[Line], expected: &[Line]) {
    for (got, expected) in got.iter().zip(expected) {
        assert_eq!(got, expected);
    }
    assert_eq!(got.len(), expected.len());
}

pub fn of_tree(built: &Built) -> Vec<Line> {
    let mut firsts = HashMap::new();
    let mut sums = HashMap::new();
    let line = |(path, id): (Vec<u8>, _)| {
        let inode = built.tree.inode(id);
        let path = path.escape_ascii().to_string();
        let what = match &inode.node {
            Node::Directory(_) => What::Directory,
            Node::Regular { segment, content } => {
                let bytes = &built.contents[&(*segment, content.clone())];
                let sum = sums
                    .entry(id)
                    .or_insert_with(|| sum(content.size, bytes, |offset, into| fill(bytes, offset, into)));
                What::Regular(content.size, sum.clone())
            }
            Node::Symlink(target) => What::Symlink(target.escape_ascii().to_string()),
            Node::CharDevice(Device { major, minor }) => What::Char(*major, *minor),
            Node::BlockDevice(Device { major, minor }) => What::Block(*major, *minor),
            Node::Fifo => What::Fifo,
            Node::Socket => What::Socket,
        };
        let first = firsts.entry(id).or_insert_with(|| path.clone()).clone();
        Line { path, attributes: inode.attributes.clone(), links: inode.links, what, first }
    };
    sorted(paths(built).into_iter().map(line).collect())
}

/// All paths, depth first in name order.
fn paths(built: &Built) -> Vec<(Vec<u8>, mvm_tree::InodeId)> {
    let mut paths = Vec::new();
    let mut stack = vec![(Vec::new(), built.tree.root())];
    while let Some((path, id)) = stack.pop() {
        if let Node::Directory(children) = &built.tree.inode(id).node {
            for child in children.iter().rev() {
                let separator: &[u8] = if path.is_empty() { b"" } else { b"/" };
                stack.push(([&path, separator, &child.name].concat(), child.inode));
            }
        }
        paths.push((path, id));
    }
    paths
}

pub fn of_reader(built: &Built) -> Vec<Line> {
    let reader = Reader::open(File::open(&built.image).unwrap()).unwrap();
    assert_eq!((reader.inodes(), reader.blocks()), (built.summary.inodes, built.summary.data_blocks));
    let mut firsts = HashMap::new();
    let line = |entry: Result<(Vec<u8>, FileInode), ReadError>| {
        let (path, inode) = entry.unwrap();
        let bytes = content_of(built, &path);
        let path = path.escape_ascii().to_string();
        let what = match inode.kind() {
            InodeKind::Directory => What::Directory,
            InodeKind::Regular => {
                let read = |offset: u64, into: &mut [u8]| {
                    if inode.size() <= WHOLE {
                        let mut data = reader.data(&inode);
                        std::io::copy(&mut data.by_ref().take(offset), &mut std::io::sink()).unwrap();
                        data.read_exact(into).unwrap();
                    } else {
                        read_pieces(&reader, &inode, &built.image, offset, into);
                    }
                };
                What::Regular(inode.size(), sum(inode.size(), bytes.unwrap(), read))
            }
            InodeKind::Symlink(target) => What::Symlink(target.escape_ascii().to_string()),
            InodeKind::CharDevice(Device { major, minor }) => What::Char(*major, *minor),
            InodeKind::BlockDevice(Device { major, minor }) => What::Block(*major, *minor),
            InodeKind::Fifo => What::Fifo,
            InodeKind::Socket => What::Socket,
        };
        let first = firsts.entry(inode.nid()).or_insert_with(|| path.clone()).clone();
        Line { path, attributes: inode.attributes().clone(), links: inode.links(), what, first }
    };
    sorted(reader.walk().map(line).collect())
}

/// Reads a part of a file through [`Reader::piece`].
fn read_pieces(reader: &Reader<File>, inode: &FileInode, image: &Path, offset: u64, into: &mut [u8]) {
    let image = File::open(image).unwrap();
    let mut done = 0;
    while done < into.len() {
        let piece = reader.piece(inode, offset + done as u64).unwrap();
        let len = (piece.len as usize).min(into.len() - done);
        match piece.place {
            Some(place) => image.read_exact_at(&mut into[done..done + len], place).unwrap(),
            None => into[done..done + len].fill(0),
        }
        done += len;
    }
}

pub fn of_mount(root: &Path, built: &Built) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut firsts = HashMap::new();
    let mut stack = vec![Vec::new()];
    while let Some(path) = stack.pop() {
        let full = root.join(OsStr::from_bytes(&path));
        let meta = std::fs::symlink_metadata(&full).unwrap();
        let kind = meta.file_type();
        let (major, minor) = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
        let what = if kind.is_dir() {
            let mut names: Vec<_> =
                std::fs::read_dir(&full).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            for name in names.iter().rev() {
                let separator: &[u8] = if path.is_empty() { b"" } else { b"/" };
                stack.push([&path, separator, name.as_bytes()].concat());
            }
            What::Directory
        } else if kind.is_file() {
            let file = File::open(&full).unwrap();
            let bytes = content_of(built, &path).unwrap();
            What::Regular(
                meta.len(),
                sum(meta.len(), bytes, |offset, into| file.read_exact_at(into, offset).unwrap()),
            )
        } else if kind.is_symlink() {
            let target = std::fs::read_link(&full).unwrap();
            assert_eq!(meta.len(), target.as_os_str().len() as u64);
            What::Symlink(target.as_os_str().as_bytes().escape_ascii().to_string())
        } else if kind.is_char_device() {
            What::Char(major, minor)
        } else if kind.is_block_device() {
            What::Block(major, minor)
        } else if kind.is_fifo() {
            What::Fifo
        } else {
            What::Socket
        };
        let attributes = Attributes {
            mode: (meta.mode() & 0o7777) as u16,
            uid: meta.uid(),
            gid: meta.gid(),
            mtime: Timestamp { secs: meta.mtime(), nanos: meta.mtime_nsec() as u32 },
            xattrs: xattrs(&full, kind),
        };
        let path = path.escape_ascii().to_string();
        let first = firsts.entry(meta.ino()).or_insert_with(|| path.clone()).clone();
        lines.push(Line { path, attributes, links: meta.nlink() as u32, what, first });
    }
    sorted(lines)
}

/// Removes the attributes that Linux doesn't give out: `user.` ones of what is neither file nor directory.
pub fn readable(mut lines: Vec<Line>) -> Vec<Line> {
    for line in &mut lines {
        if !matches!(line.what, What::Directory | What::Regular(..)) {
            let xattrs = line.attributes.xattrs.to_vec();
            line.attributes.xattrs =
                xattrs.into_iter().filter(|xattr| !xattr.name.starts_with(b"user.")).collect();
        }
    }
    lines
}

fn xattrs(path: &Path, kind: std::fs::FileType) -> Box<[Xattr]> {
    let hidden = |name: &[u8]| !kind.is_dir() && !kind.is_file() && name.starts_with(b"user.");
    let mut names = vec![0; 1 << 16];
    let len = rustix::fs::llistxattr(path, names.as_mut_slice()).unwrap();
    let mut xattrs: Vec<Xattr> = names[..len]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty() && !hidden(name))
        .map(|name| {
            let mut value = vec![0; 1 << 16];
            let len = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), value.as_mut_slice()).unwrap();
            Xattr { name: name.into(), value: value[..len].into() }
        })
        .collect();
    xattrs.sort();
    xattrs.into()
}

fn sorted(mut lines: Vec<Line>) -> Vec<Line> {
    lines.sort_by(|a, b| a.path.cmp(&b.path));
    lines
}

fn content_of<'b>(built: &'b Built, path: &[u8]) -> Option<&'b Bytes> {
    match &built.tree.inode(built.tree.lookup(path)?).node {
        Node::Regular { segment, content } => built.contents.get(&(*segment, content.clone())),
        _ => None,
    }
}

/// Hashes what `read` gives for a file with these pieces: all of it, or the bytes around where pieces meet.
fn sum(size: u64, pieces: &Bytes, mut read: impl FnMut(u64, &mut [u8])) -> String {
    let mut ranges = Vec::new();
    if size <= WHOLE {
        ranges.push((0, size));
    } else {
        let mut at = 0;
        for end in pieces.iter().map(Piece::len).chain([0]) {
            ranges.push((at - at.min(70_000), (at + 70_000).min(size)));
            at += end;
        }
    }
    let mut hash = Sha256::new();
    for (start, end) in ranges {
        let mut bytes = vec![0xaa; (end - start) as usize];
        read(start, &mut bytes);
        hash.update(&bytes);
    }
    format!("{:x}", hash.finalize())
}

fn fill(pieces: &Bytes, offset: u64, into: &mut [u8]) {
    let mut at = 0;
    for piece in pieces {
        let end = at + piece.len();
        let (from, to) = (at.max(offset), end.min(offset + into.len() as u64));
        if from < to {
            let target = &mut into[(from - offset) as usize..(to - offset) as usize];
            let range = (from - at) as usize..(to - at) as usize;
            match piece {
                Piece::Bytes(bytes) => target.copy_from_slice(&bytes[range]),
                Piece::Noise(seed, len) => target.copy_from_slice(&noise(*seed, *len)[range]),
                Piece::Zeros(_) => target.fill(0),
            }
        }
        at = end;
    }
}
