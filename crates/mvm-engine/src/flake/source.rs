//! The files of a flake, as they go into the builder: found, measured, and written as an archive.
//!
//! In a git work tree those that git tracks, with what has changed in them; elsewhere all but `.git` and what `.gitignore`
//! names. Links stay as they are, modes become 0644 or 0755, owners and times are nobody's: same files, same bytes.

use super::git::WorkTree;
use super::listing::{Listing, named};
use crate::size::Size;
use mvm_ref::{Digest, FlakeKind, FlakeReference, Hasher};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Bytes of files that a flake may have, where nothing else is said.
pub const MAX_SOURCE: u64 = 256 << 20;
const FLAKE: &str = "flake.nix";
pub(super) const LOCK: &str = "flake.lock";
/// Bytes of a lock that is read.
const MAX_LOCK: u64 = 16 << 20;

/// Says why a flake's files can't be had.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// There is no such directory.
    #[error("there is no directory {}", .0.display())]
    NoDirectory(PathBuf),
    /// It has no `flake.nix`.
    #[error("{} has no flake.nix", .0.display())]
    NoFlake(PathBuf),
    /// Its `flake.nix` isn't tracked.
    #[error("{} is not tracked by git, so it is not part of the flake", .0.display())]
    Untracked(PathBuf),
    /// It is no git work tree.
    #[error("{} is not the top of a git work tree", .0.display())]
    NotGit(PathBuf),
    /// What git says of it can't be used.
    #[error("{}: {problem}", path.display())]
    Git {
        /// The file of git's.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A file is neither file, directory nor link.
    #[error("{} is {kind}, which no flake can hold", path.display())]
    Special {
        /// The file.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// It is too large.
    #[error("the flake in {} has more than {} of files; the largest is {} ({})", root.display(), Size::new(*limit), largest.display(), Size::new(*size))]
    Large {
        /// Its directory.
        root: PathBuf,
        /// The limit in bytes.
        limit: u64,
        /// The largest file so far.
        largest: PathBuf,
        /// Its bytes.
        size: u64,
    },
    /// It has too many files.
    #[error("the flake in {} has more than {limit} files and directories", root.display())]
    Many {
        /// Its directory.
        root: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// A file changed meanwhile.
    #[error("{} changed while it was read", .0.display())]
    Changed(PathBuf),
    /// A file could not be read.
    #[error("{act} {}", path.display())]
    Io {
        /// What was tried.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The rules of a `.gitignore` could not be followed.
    #[error("list the files of {}", path.display())]
    Walk {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: ignore::Error,
    },
}

impl SourceError {
    pub(super) fn io(act: &'static str, path: PathBuf, source: io::Error) -> Self {
        Self::Io { act, path, source }
    }
}

/// A file, directory or link of a flake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Directory,
    File { executable: bool, size: u64 },
    Link(PathBuf),
}

/// The files of a flake.
#[derive(Clone, Debug)]
pub struct Source {
    /// The directory that they are in.
    pub root: PathBuf,
    /// The directory in it that holds `flake.nix`, if it is another one.
    pub inside: Option<String>,
    /// The commit that is checked out there.
    pub revision: Option<String>,
    /// Something worth saying once.
    pub notices: Vec<String>,
    pub(super) entries: BTreeMap<PathBuf, Entry>,
}

impl Source {
    /// Finds the files of a flake, of which there may be `limit` bytes. No file is read but git's.
    pub fn find(reference: &FlakeReference, limit: u64) -> Result<Self, SourceError> {
        let path = reference.path();
        let base = fs::canonicalize(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => SourceError::NoDirectory(path.to_owned()),
            _ => SourceError::io("look at", path.to_owned(), error),
        })?;
        if !base.is_dir() {
            return Err(SourceError::NoDirectory(path.to_owned()));
        }
        let inner = reference.subdirectory().map(str::to_owned);
        let (root, inside, git) = match reference.kind() {
            FlakeKind::Path => (base, inner, None),
            FlakeKind::Git => {
                let git = WorkTree::at(&base)?.ok_or_else(|| SourceError::NotGit(base.clone()))?;
                (base, inner, Some(git))
            }
            FlakeKind::Directory => Self::around(base, inner)?,
        };
        let mut source = Self { root, inside, revision: None, notices: Vec::new(), entries: BTreeMap::new() };
        let mut listing = Listing::new(&mut source, limit);
        match &git {
            Some(git) => listing.tracked(git)?,
            None => listing.walk()?,
        }
        source.revision = git.as_ref().and_then(WorkTree::revision);
        source.must_have_flake(git.is_some())?;
        source.tell_of_links();
        Ok(source)
    }

    /// Looks upwards for `flake.nix` as nix does, and for the work tree around it.
    fn around(
        base: PathBuf,
        inner: Option<String>,
    ) -> Result<(PathBuf, Option<String>, Option<WorkTree>), SourceError> {
        let flake = match &inner {
            Some(inner) => base.join(inner),
            None => {
                let up = base.ancestors().find(|up| up.join(FLAKE).exists() || up.join(".git").exists());
                let found = up.filter(|up| up.join(FLAKE).exists());
                found.ok_or_else(|| SourceError::NoFlake(base.clone()))?.to_owned()
            }
        };
        let Some(git) = WorkTree::around(&flake)? else {
            return Ok(if inner.is_some() { (base, inner, None) } else { (flake, None, None) });
        };
        let inside = flake.strip_prefix(&git.top).ok().filter(|inside| !inside.as_os_str().is_empty());
        let inside = match inside.map(Path::to_str) {
            Some(None) => return Err(SourceError::NoFlake(flake)),
            Some(Some(inside)) => Some(inside.to_owned()),
            None => None,
        };
        Ok((git.top.clone(), inside, Some(git)))
    }

    fn must_have_flake(&self, git: bool) -> Result<(), SourceError> {
        let inside = self.inside_path().join(FLAKE);
        if matches!(self.entries.get(&inside), Some(Entry::File { .. } | Entry::Link(_))) {
            return Ok(());
        }
        let path = self.root.join(&inside);
        match git && path.exists() {
            true => Err(SourceError::Untracked(path)),
            false => Err(SourceError::NoFlake(path.parent().unwrap_or(&self.root).to_owned())),
        }
    }

    pub(super) fn inside_path(&self) -> &Path {
        Path::new(self.inside.as_deref().unwrap_or(""))
    }

    /// Says which links lead to where nothing is in the builder.
    fn tell_of_links(&mut self) {
        let outside = |(path, entry): (&PathBuf, &Entry)| match entry {
            Entry::Link(target) if leaves(path, target) => {
                Some(format!("{} → {}", path.display(), target.display()))
            }
            _ => None,
        };
        let links: Vec<String> = self.entries.iter().filter_map(outside).collect();
        if !links.is_empty() {
            let words = named(&links);
            self.notices
                .push(format!("links that lead out of the flake lead nowhere in the builder: {words}"));
        }
    }

    /// Returns the path of `flake.lock` on this machine.
    pub fn lock_path(&self) -> PathBuf {
        self.root.join(self.inside_path()).join(LOCK)
    }

    /// Reads `flake.lock`, if the flake has one.
    pub fn lock(&self) -> Result<Option<Vec<u8>>, SourceError> {
        let inside = self.inside_path().join(LOCK);
        if !matches!(self.entries.get(&inside), Some(Entry::File { .. })) {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let read = self.open(&inside)?.take(MAX_LOCK + 1).read_to_end(&mut bytes);
        read.map_err(|error| SourceError::io("read", self.lock_path(), error))?;
        if bytes.len() as u64 > MAX_LOCK {
            let source =
                io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {MAX_LOCK} bytes"));
            return Err(SourceError::io("read", self.lock_path(), source));
        }
        Ok(Some(bytes))
    }

    /// Returns a digest over names, kinds and contents.
    pub fn digest(&self) -> Result<Digest, SourceError> {
        let mut hasher = Hasher::default();
        hasher.update(b"mvm source v1\n");
        for (path, entry) in &self.entries {
            let mut field = |bytes: &[u8]| {
                hasher.update(&(bytes.len() as u64).to_le_bytes());
                hasher.update(bytes);
            };
            field(path.as_os_str().as_bytes());
            match entry {
                Entry::Directory => field(b"directory"),
                Entry::Link(target) => {
                    field(b"link");
                    field(target.as_os_str().as_bytes());
                }
                Entry::File { executable, size } => {
                    field(if *executable { b"executable" } else { b"file" });
                    field(self.hash(path, *size)?.to_string().as_bytes());
                }
            }
        }
        Ok(hasher.finish())
    }

    fn hash(&self, path: &Path, size: u64) -> Result<Digest, SourceError> {
        let mut file = self.open(path)?;
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; 64 << 10];
        let mut read = 0;
        loop {
            let count = file
                .read(&mut buffer)
                .map_err(|error| SourceError::io("read", self.root.join(path), error))?;
            if count == 0 {
                break;
            }
            read += count as u64;
            hasher.update(&buffer[..count]);
        }
        match read == size {
            true => Ok(hasher.finish()),
            false => Err(SourceError::Changed(self.root.join(path))),
        }
    }

    /// Returns a value that changes when files come, go, or are written to; none of them is read.
    pub fn fingerprint(&self) -> Result<Digest, SourceError> {
        let mut hasher = Hasher::default();
        for path in self.entries.keys() {
            let full = self.root.join(path);
            let meta = match fs::symlink_metadata(&full) {
                Ok(meta) => meta,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(SourceError::io("look at", full, error)),
            };
            // A directory's time changes with files that don't count.
            let (time, size) = if meta.is_dir() { (None, 0) } else { (meta.modified().ok(), meta.len()) };
            hasher.update(path.as_os_str().as_bytes());
            hasher.update(format!("\0{time:?} {size} {:o}\n", meta.permissions().mode()).as_bytes());
        }
        Ok(hasher.finish())
    }

    /// Writes all of it below a directory of an archive.
    pub fn write(&self, below: &str, output: &mut dyn Write) -> io::Result<()> {
        let mut archive = tar::Builder::new(output);
        let below = Path::new(below);
        let mut parents = below.ancestors().filter(|up| !up.as_os_str().is_empty()).collect::<Vec<_>>();
        parents.reverse();
        for parent in parents {
            append(&mut archive, parent, &Entry::Directory, io::empty())?;
        }
        for (path, entry) in &self.entries {
            let name = below.join(path);
            match entry {
                Entry::File { size, .. } => {
                    let file = self.open(path).map_err(io::Error::other)?;
                    // A file that grew is cut, and one that shrank is refused by the archive's reader.
                    append(&mut archive, &name, entry, file.take(*size))?;
                }
                _ => append(&mut archive, &name, entry, io::empty())?,
            }
        }
        archive.finish()
    }

    /// Opens a file without following a link anywhere on the way.
    fn open(&self, path: &Path) -> Result<File, SourceError> {
        let full = || self.root.join(path);
        let root =
            File::open(&self.root).map_err(|error| SourceError::io("open", self.root.clone(), error))?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let file = rustix::fs::openat2(&root, path, flags, Mode::empty(), how)
            .map_err(|error| SourceError::io("open", full(), error.into()))?;
        let file = File::from(file);
        let meta = file.metadata().map_err(|error| SourceError::io("look at", full(), error))?;
        if meta.is_file() { Ok(file) } else { Err(SourceError::Changed(full())) }
    }
}

/// Appends one entry with the owner, mode and time that all have.
fn append<W: Write>(
    archive: &mut tar::Builder<W>,
    name: &Path,
    entry: &Entry,
    content: impl Read,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1);
    header.set_size(0);
    match entry {
        Entry::Directory => {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(0o755);
            archive.append_data(&mut header, name, io::empty())
        }
        Entry::Link(target) => {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            archive.append_link(&mut header, name, target)
        }
        Entry::File { executable, size } => {
            header.set_entry_type(tar::EntryType::Regular);
            header.set_mode(if *executable { 0o755 } else { 0o644 });
            header.set_size(*size);
            archive.append_data(&mut header, name, content)
        }
    }
}

/// Returns whether a link leads out of the tree that it is in.
fn leaves(path: &Path, target: &Path) -> bool {
    if target.is_absolute() {
        return true;
    }
    let mut depth = path.components().count().saturating_sub(1);
    for component in target.components() {
        match component {
            std::path::Component::ParentDir => match depth.checked_sub(1) {
                Some(up) => depth = up,
                None => return true,
            },
            std::path::Component::Normal(_) => depth += 1,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
