//! Which files of a directory are a flake's: what git tracks, or all that no `.gitignore` names.

use super::git::WorkTree;
use super::git_index::Tracked;
use super::source::{Entry, LOCK, Source, SourceError};
use rustix::fs::FileType;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Files and directories that a flake may have.
const MAX_ENTRIES: usize = 200_000;
/// Names that a message gives before it says how many there are.
const NAMED: usize = 3;

/// A list of files that is being made.
pub(super) struct Listing<'s> {
    source: &'s mut Source,
    limit: u64,
    total: u64,
    largest: (u64, PathBuf),
}

impl<'s> Listing<'s> {
    /// Begins a list of files that may have `limit` bytes.
    pub fn new(source: &'s mut Source, limit: u64) -> Self {
        Self { source, limit, total: 0, largest: (0, PathBuf::new()) }
    }

    /// Adds what git tracks, and says what it doesn't.
    pub fn tracked(&mut self, git: &WorkTree) -> Result<(), SourceError> {
        let tracked = git.tracked()?;
        let mut submodules = Vec::new();
        let mut known = BTreeSet::new();
        for Tracked { path, submodule } in tracked {
            let path = PathBuf::from(OsString::from_vec(path));
            if submodule {
                submodules.push(path.display().to_string());
                continue;
            }
            let full = self.source.root.join(&path);
            match fs::symlink_metadata(&full) {
                // A directory has taken its place; what is tracked in it is listed by itself.
                Ok(meta) if meta.is_dir() => {}
                Ok(meta) => self.add(&path, &meta)?,
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(error) => return Err(SourceError::io("look at", full, error)),
            }
            known.insert(path);
        }
        // One that a build has just written counts before git knows of it.
        let lock = self.source.inside_path().join(LOCK);
        let full = self.source.root.join(&lock);
        if known.insert(lock.clone())
            && let Ok(meta) = fs::symlink_metadata(&full)
        {
            self.add(&lock, &meta)?;
        }
        if !submodules.is_empty() {
            self.source.notices.push(format!("submodules are not part of the flake: {}", named(&submodules)));
        }
        let mut untracked = Vec::new();
        for path in walk(&self.source.root)? {
            let (path, is_dir) = path?;
            if !is_dir && !known.contains(&path) {
                untracked.push(path.display().to_string());
            }
        }
        if !untracked.is_empty() {
            untracked.sort();
            let words = named(&untracked);
            self.source.notices.push(format!("git does not track, so the flake does not have: {words}"));
        }
        Ok(())
    }

    /// Adds all files that no `.gitignore` names.
    pub fn walk(&mut self) -> Result<(), SourceError> {
        let root = self.source.root.clone();
        for path in walk(&root)? {
            let (path, _) = path?;
            let full = root.join(&path);
            let meta = fs::symlink_metadata(&full).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => SourceError::Changed(full.clone()),
                _ => SourceError::io("look at", full.clone(), error),
            })?;
            self.add(&path, &meta)?;
        }
        Ok(())
    }

    fn add(&mut self, path: &Path, meta: &fs::Metadata) -> Result<(), SourceError> {
        let full = || self.source.root.join(path);
        let kind = FileType::from_raw_mode(meta.permissions().mode());
        let special = |kind| Err(SourceError::Special { path: full(), kind });
        let entry = match kind {
            FileType::Directory => Entry::Directory,
            FileType::RegularFile => {
                Entry::File { executable: meta.permissions().mode() & 0o111 != 0, size: meta.len() }
            }
            FileType::Symlink => {
                Entry::Link(fs::read_link(full()).map_err(|error| SourceError::io("read", full(), error))?)
            }
            FileType::Fifo => return special("a named pipe"),
            FileType::Socket => return special("a socket"),
            _ => return special("a device"),
        };
        if let Entry::File { size, .. } = entry {
            self.total = self.total.saturating_add(size);
            if size >= self.largest.0 {
                self.largest = (size, path.to_owned());
            }
            if self.total > self.limit {
                let (size, largest) = self.largest.clone();
                let root = self.source.root.clone();
                return Err(SourceError::Large { root, limit: self.limit, largest, size });
            }
        }
        self.source.entries.insert(path.to_owned(), entry);
        for parent in path.ancestors().skip(1).filter(|up| !up.as_os_str().is_empty()) {
            if self.source.entries.insert(parent.to_owned(), Entry::Directory).is_some() {
                break;
            }
        }
        if self.source.entries.len() > MAX_ENTRIES {
            return Err(SourceError::Many { root: self.source.root.clone(), limit: MAX_ENTRIES });
        }
        Ok(())
    }
}

type Walked<'r> = Box<dyn Iterator<Item = Result<(PathBuf, bool), SourceError>> + 'r>;

/// Lists what is below a directory, but for `.git` and what `.gitignore` files there name; whether each is a directory.
fn walk(root: &Path) -> Result<Walked<'_>, SourceError> {
    let mut walk = ignore::WalkBuilder::new(root);
    // The rules are those of the tree alone, so that they are the same for everybody.
    walk.standard_filters(false).git_ignore(true).require_git(false).follow_links(false);
    walk.filter_entry(|entry| entry.file_name() != OsStr::new(".git"));
    Ok(Box::new(walk.build().filter_map(move |entry| {
        let failed = |source| Some(Err(SourceError::Walk { path: root.to_owned(), source }));
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => return failed(error),
        };
        if let Some(error) = entry.error() {
            return failed(error.clone());
        }
        let path = entry.path().strip_prefix(root).ok()?.to_owned();
        let is_dir = entry.file_type().is_some_and(|kind| kind.is_dir());
        (!path.as_os_str().is_empty()).then_some(Ok((path, is_dir)))
    })))
}

/// Joins the first few names and says how many there are.
pub(super) fn named(names: &[String]) -> String {
    let mut words = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > NAMED {
        words.push_str(&format!(" and {} more", names.len() - NAMED));
    }
    words
}
