//! All paths of an image.

use super::{Entry, FileInode, InodeKind, ReadError, Reader};
use crate::ReadAt;
use crate::erofs::format::DIRENT_LEN;
use std::collections::HashSet;

/// The longest path that is walked; far above what the writer can be given.
const PATH_MAX: usize = 64 << 10;

/// Iterates over all paths of an image, depth first in name order, starting with the root, whose path is empty.
///
/// Ends after the first error.
#[derive(Debug)]
pub struct Walk<'r, R> {
    reader: &'r Reader<R>,
    path: Vec<u8>,
    stack: Vec<Level>,
    /// Directories met so far; meeting one twice would be a cycle.
    seen: HashSet<u64>,
    /// Directory entries that may still come.
    entries: u64,
    state: State,
}

#[derive(Debug, PartialEq)]
enum State {
    Start,
    Walking,
    Ended,
}

/// A directory that is being walked.
#[derive(Debug)]
struct Level {
    nid: u64,
    path_len: usize,
    entries: std::vec::IntoIter<Entry>,
}

impl<'r, R: ReadAt> Walk<'r, R> {
    pub(super) fn new(reader: &'r Reader<R>) -> Self {
        let entries = max_entries(reader);
        let (path, stack, seen) = (Vec::new(), Vec::new(), HashSet::new());
        Self { reader, path, stack, seen, entries, state: State::Start }
    }

    fn step(&mut self) -> Result<Option<(Vec<u8>, FileInode)>, ReadError> {
        if self.state == State::Start {
            self.state = State::Walking;
            let root = self.reader.root()?;
            if !matches!(root.kind(), InodeKind::Directory) {
                return Err(ReadError::Directory { nid: root.nid(), block: 0, what: "the root is none" });
            }
            self.enter(&root, root.nid())?;
            return Ok(Some((Vec::new(), root)));
        }
        let (entry, parent) = loop {
            let Some(level) = self.stack.last_mut() else { return Ok(None) };
            self.path.truncate(level.path_len);
            match level.entries.next() {
                Some(entry) => break (entry, level.nid),
                None => drop(self.stack.pop()),
            }
        };
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(&entry.name);
        if self.path.len() > PATH_MAX {
            return Err(ReadError::PathLength { max: PATH_MAX });
        }
        let inode = self.reader.inode(entry.nid)?;
        if inode.file_type() != entry.file_type {
            let what = "an entry has not the type of its inode";
            return Err(ReadError::Directory { nid: parent, block: 0, what });
        }
        if matches!(inode.kind(), InodeKind::Directory) {
            self.enter(&inode, parent)?;
        }
        Ok(Some((self.path.clone(), inode)))
    }

    fn enter(&mut self, directory: &FileInode, parent: u64) -> Result<(), ReadError> {
        let nid = directory.nid();
        if !self.seen.insert(nid) {
            return Err(ReadError::DirectoryTwice { nid, path: self.path.escape_ascii().to_string() });
        }
        let entries = self.reader.entries(directory, parent)?;
        let left = self.entries.checked_sub(entries.len() as u64 + 2);
        self.entries = left.ok_or_else(|| ReadError::Entries { max: max_entries(self.reader) })?;
        self.stack.push(Level { nid, path_len: self.path.len(), entries: entries.into_iter() });
        Ok(())
    }
}

impl<R: ReadAt> Iterator for Walk<'_, R> {
    type Item = Result<(Vec<u8>, FileInode), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state == State::Ended {
            return None;
        }
        let next = self.step().transpose();
        if !matches!(next, Some(Ok(_))) {
            self.state = State::Ended;
        }
        next
    }
}

/// Returns the number of directory entries that there is room for in an image.
fn max_entries<R: ReadAt>(reader: &Reader<R>) -> u64 {
    reader.len() / (DIRENT_LEN as u64 + 1)
}
