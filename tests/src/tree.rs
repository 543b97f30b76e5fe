//! A file tree as the host's kernel shows it, for comparing two of them entry for entry.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Differences that a report shows before it only counts.
const SHOWN: usize = 40;

/// Largest attribute value or list of names.
const ATTRIBUTE_LIMIT: usize = 64 * 1024;

/// All that is compared of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Type and permission bits, as in `st_mode`.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    /// Time of change of content, in seconds and nanoseconds.
    pub mtime: (i64, i64),
    /// Extended attributes by name.
    pub attributes: BTreeMap<OsString, Vec<u8>>,
    /// The smallest of the paths that are links to the same file, and how many there are.
    pub links: (PathBuf, u64),
    /// What it holds.
    pub content: Content,
}

/// What an entry holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Entries of their own.
    Directory,
    /// Bytes: how many, and their SHA-256.
    File(u64, [u8; 32]),
    /// The target of a symbolic link.
    Symlink(OsString),
    /// Major and minor number.
    Device(u32, u32),
    /// A pipe or a socket.
    Nothing,
}

/// Reads the tree below `root`; its paths are relative, the root itself is the empty path.
pub fn read(root: &Path) -> io::Result<BTreeMap<PathBuf, Entry>> {
    let mut entries = BTreeMap::new();
    let mut groups: BTreeMap<(u64, u64), Vec<PathBuf>> = BTreeMap::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(relative) = pending.pop() {
        let path = root.join(&relative);
        let status = fs::symlink_metadata(&path)?;
        if status.is_dir() {
            for child in fs::read_dir(&path)? {
                pending.push(relative.join(child?.file_name()));
            }
        } else {
            groups.entry((status.dev(), status.ino())).or_default().push(relative.clone());
        }
        entries.insert(relative.clone(), entry(&path, &status, relative)?);
    }
    for mut group in groups.into_values() {
        group.sort();
        let links = (group[0].clone(), group.len() as u64);
        for path in group {
            if let Some(entry) = entries.get_mut(&path) {
                entry.links = links.clone();
            }
        }
    }
    Ok(entries)
}

fn entry(path: &Path, status: &fs::Metadata, relative: PathBuf) -> io::Result<Entry> {
    let kind = status.file_type();
    let content = if kind.is_dir() {
        Content::Directory
    } else if kind.is_file() {
        let mut hash = Sha256::new();
        let length = io::copy(&mut File::open(path)?, &mut hash)?;
        Content::File(length, hash.finalize().into())
    } else if kind.is_symlink() {
        Content::Symlink(fs::read_link(path)?.into_os_string())
    } else if kind.is_char_device() || kind.is_block_device() {
        Content::Device(rustix::fs::major(status.rdev()), rustix::fs::minor(status.rdev()))
    } else {
        Content::Nothing
    };
    Ok(Entry {
        mode: status.mode(),
        owner: (status.uid(), status.gid()),
        mtime: (status.mtime(), status.mtime_nsec()),
        attributes: attributes(path)?,
        links: (relative, 1),
        content,
    })
}

fn attributes(path: &Path) -> io::Result<BTreeMap<OsString, Vec<u8>>> {
    let mut names = vec![0; ATTRIBUTE_LIMIT];
    let length = rustix::fs::llistxattr(path, &mut names[..])?;
    let mut value = vec![0; ATTRIBUTE_LIMIT];
    names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let name = OsStr::from_bytes(name);
            let length = rustix::fs::lgetxattr(path, name, &mut value[..])?;
            Ok((OsString::from_vec(name.as_bytes().to_vec()), value[..length].to_vec()))
        })
        .collect()
}

/// The differences between two trees.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Differences(Vec<String>);

impl Differences {
    /// Tells whether the trees are equal.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.0.iter().take(SHOWN) {
            writeln!(f, "{line}")?;
        }
        write!(f, "{} differences", self.0.len())
    }
}

/// Compares what mvm made with what it should be.
pub fn compare(made: &BTreeMap<PathBuf, Entry>, expected: &BTreeMap<PathBuf, Entry>) -> Differences {
    let mut lines = Vec::new();
    for (path, wanted) in expected {
        match made.get(path) {
            None => lines.push(format!("{path:?}: missing")),
            Some(entry) if entry == wanted => {}
            Some(entry) => lines.push(describe(path, entry, wanted)),
        }
    }
    lines.extend(
        made.keys().filter(|path| !expected.contains_key(*path)).map(|path| format!("{path:?}: too much")),
    );
    Differences(lines)
}

fn describe(path: &Path, made: &Entry, wanted: &Entry) -> String {
    let mut words = Vec::new();
    let mut differ = |name: &str, made: &dyn fmt::Debug, wanted: &dyn fmt::Debug| {
        let (made, wanted) = (format!("{made:?}"), format!("{wanted:?}"));
        if made != wanted {
            words.push(format!("{name} {made}, expected {wanted}"));
        }
    };
    differ("mode", &format_args!("{:o}", made.mode), &format_args!("{:o}", wanted.mode));
    differ("owner", &made.owner, &wanted.owner);
    differ("mtime", &made.mtime, &wanted.mtime);
    differ("attributes", &made.attributes, &wanted.attributes);
    differ("links", &made.links, &wanted.links);
    differ("content", &made.content, &wanted.content);
    format!("{path:?}: {}", words.join("; "))
}

/// A file system image mounted read-only from a loop device, unmounted when dropped.
#[derive(Debug)]
pub struct Mount {
    directory: tempfile::TempDir,
}

impl Mount {
    /// Mounts an image.
    pub fn new(image: &Path, kind: &str) -> Result<Self, MountError> {
        let directory =
            tempfile::Builder::new().prefix("mvm-mount.").tempdir().map_err(MountError::Directory)?;
        crate::process::Program::new("mount")
            .args(["-t", kind, "-o", "ro,loop,nodev,nosuid,noexec"])
            .arg(image)
            .arg(directory.path())
            .run()?
            .ok()?;
        Ok(Self { directory })
    }

    /// Returns the mount point.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmounted = crate::process::Program::new("umount").arg(self.directory.path()).run();
        if !unmounted.is_ok_and(|output| output.status.success()) {
            eprintln!("warning: cannot unmount {}", self.directory.path().display());
        }
    }
}

/// Why an image could not be mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// No directory to mount on.
    #[error("cannot make a mount point: {0}")]
    Directory(io::Error),
    /// `mount` failed.
    #[error(transparent)]
    Process(#[from] crate::process::ProcessError),
}
