//! Reads git's index: which files a work tree tracks (gitformat-index(5), versions 2 to 4).
//!
//! The program `git` isn't asked: what it runs on the way (`core.fsmonitor`, filters) is chosen by the tree that is read.
//! Extensions are skipped, but for those without which the list would not be complete.

use std::io;
use std::ops::Range;

/// Bytes of an index that is read.
pub const MAX_INDEX: u64 = 256 << 20;

/// Bytes of an entry before its hash: times, device, inode, mode, owner, group and size.
const STAT: usize = 40;
const MODE: Range<usize> = 24..28;
/// In the flags: a further 16 bits of flags follow.
const EXTENDED: u16 = 0x4000;
/// In the mode: what kind of thing is tracked.
const KIND: u32 = 0o170_000;
const GITLINK: u32 = 0o160_000;
const DIRECTORY: u32 = 0o040_000;

/// A path that is tracked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tracked {
    /// The path from the top of the work tree.
    pub path: Vec<u8>,
    /// Whether it is another repository's tree.
    pub submodule: bool,
}

/// Says why an index can't be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IndexError {
    /// It doesn't begin as one.
    #[error("it begins with {0:02x?}, not with DIRC")]
    Signature(Vec<u8>),
    /// Its version is not known.
    #[error("its version is {0}; 2, 3 and 4 are known")]
    Version(u32),
    /// It ends in the middle.
    #[error("it ends at byte {0}, within an entry")]
    Truncated(usize),
    /// A path is not one that git writes.
    #[error("entry {entry} has the path {path:?}")]
    Path {
        /// Which one, from 0.
        entry: u32,
        /// The path.
        path: String,
    },
    /// A part of the list is elsewhere.
    #[error("it is split; git update-index --no-split-index joins it")]
    Split,
    /// It has directories in the place of their files.
    #[error("it is sparse; git sparse-checkout reapply --no-sparse-index lists every file")]
    Sparse,
}

impl From<IndexError> for io::Error {
    fn from(error: IndexError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// Returns what an index tracks, in the order of the paths, each once. `hash` is the length of an object's name.
pub fn read(bytes: &[u8], hash: usize) -> Result<Vec<Tracked>, IndexError> {
    let mut input = Input { bytes, at: 0 };
    let signature = input.take(4)?;
    if signature != b"DIRC" {
        return Err(IndexError::Signature(signature.to_vec()));
    }
    let version = input.number()?;
    if !(2..=4).contains(&version) {
        return Err(IndexError::Version(version));
    }
    let count = input.number()?;
    let mut tracked: Vec<Tracked> = Vec::new();
    let mut path = Vec::new();
    let mut nameless = None;
    for entry in 0..count {
        let start = input.at;
        let stat = input.take(STAT)?;
        let mode = stat[MODE].iter().fold(0, |mode, byte| mode << 8 | u32::from(*byte));
        input.take(hash)?;
        let flags = input.short()?;
        if version > 2 && flags & EXTENDED != 0 {
            input.short()?;
        }
        if version == 4 {
            let cut = input.offset()?;
            path.truncate(path.len().checked_sub(cut).ok_or(IndexError::Truncated(input.at))?);
        } else {
            path.clear();
        }
        path.extend(input.until_nul()?);
        if version < 4 {
            // One to eight NUL bytes, so that an entry's length is a multiple of eight; one of them was read.
            let length = input.at - 1 - start;
            input.take(7 - length % 8)?;
        }
        if mode & KIND == DIRECTORY {
            return Err(IndexError::Sparse);
        }
        // In a split index a name may be in the other part.
        if path.is_empty() {
            nameless.get_or_insert(entry);
            continue;
        }
        let plain = |name: &[u8]| !name.is_empty() && name != b"." && name != b".." && name != b".git";
        if !path.split(|byte| *byte == b'/').all(plain) {
            let path = String::from_utf8_lossy(&path).into_owned();
            return Err(IndexError::Path { entry, path });
        }
        // Where a merge is under way there are up to three entries of a path.
        if tracked.last().is_none_or(|last| last.path != path) {
            tracked.push(Tracked { path: path.clone(), submodule: mode & KIND == GITLINK });
        }
    }
    extensions(input, hash)?;
    match nameless {
        Some(entry) => Err(IndexError::Path { entry, path: String::new() }),
        None => Ok(tracked),
    }
}

/// Looks for extensions that change what the list means.
fn extensions(mut input: Input<'_>, hash: usize) -> Result<(), IndexError> {
    // A checksum comes last.
    while input.bytes.len().saturating_sub(input.at) > hash {
        let name = input.take(4)?;
        match name {
            b"link" => return Err(IndexError::Split),
            b"sdir" => return Err(IndexError::Sparse),
            _ => {}
        }
        let length = usize::try_from(input.number()?).map_err(|_| IndexError::Truncated(input.at))?;
        input.take(length)?;
    }
    Ok(())
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], IndexError> {
        let end = self.at.checked_add(count);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or(IndexError::Truncated(self.bytes.len()))?;
        self.at += count;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u32, IndexError> {
        Ok(self.take(4)?.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    fn short(&mut self) -> Result<u16, IndexError> {
        Ok(self.take(2)?.iter().fold(0, |number, byte| number << 8 | u16::from(*byte)))
    }

    /// Reads a number of varying length as in a pack's offsets (gitformat-pack(5)).
    fn offset(&mut self) -> Result<usize, IndexError> {
        let mut byte = self.take(1)?[0];
        let mut offset = usize::from(byte & 0x7f);
        while byte & 0x80 != 0 {
            byte = self.take(1)?[0];
            let next = offset.checked_add(1).and_then(|offset| offset.checked_mul(128));
            offset = next.ok_or(IndexError::Truncated(self.at))? | usize::from(byte & 0x7f);
        }
        Ok(offset)
    }

    fn until_nul(&mut self) -> Result<&'a [u8], IndexError> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|byte| *byte == 0);
        let text = self.take(length.ok_or(IndexError::Truncated(self.bytes.len()))?)?;
        self.at += 1;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::{IndexError, Tracked, read};

    /// Makes an index of version 2 or 3 of these modes and paths.
    fn index(version: u32, entries: &[(u32, &str)], extension: &[u8]) -> Vec<u8> {
        let mut bytes = b"DIRC".to_vec();
        bytes.extend(version.to_be_bytes());
        bytes.extend(u32::try_from(entries.len()).expect("few").to_be_bytes());
        for (mode, path) in entries {
            let start = bytes.len();
            bytes.extend([7; 24]);
            bytes.extend(mode.to_be_bytes());
            bytes.extend([7; 12]);
            bytes.extend([9; 20]);
            bytes.extend(0_u16.to_be_bytes());
            bytes.extend(path.as_bytes());
            bytes.push(0);
            while !(bytes.len() - start).is_multiple_of(8) {
                bytes.push(0);
            }
        }
        bytes.extend(extension);
        bytes.extend([0; 20]);
        bytes
    }

    fn tracked(path: &str, submodule: bool) -> Tracked {
        Tracked { path: path.as_bytes().to_vec(), submodule }
    }

    #[test]
    fn paths_of_all_lengths_are_read() {
        let names: Vec<String> = (1..20).map(|length| "n".repeat(length)).collect();
        let entries: Vec<(u32, &str)> = names.iter().map(|name| (0o100_644, name.as_str())).collect();
        let expected: Vec<Tracked> = names.iter().map(|name| tracked(name, false)).collect();
        for version in [2, 3] {
            assert_eq!(read(&index(version, &entries, b"TREE\0\0\0\x01x"), 20), Ok(expected.clone()));
        }
    }

    #[test]
    fn a_conflict_is_one_path_and_a_submodule_is_told() {
        let entries = [(0o100_644, "a"), (0o100_644, "a"), (0o160_000, "lib/b"), (0o120_000, "c")];
        let expected = vec![tracked("a", false), tracked("lib/b", true), tracked("c", false)];
        assert_eq!(read(&index(2, &entries, b""), 20), Ok(expected));
    }

    #[test]
    fn what_git_does_not_write_is_refused() {
        let path = |path: &str| IndexError::Path { entry: 0, path: path.to_owned() };
        let file = |name| [(0o100_644, name)];
        let table = [
            (b"DIRX".to_vec(), IndexError::Signature(b"DIRX".to_vec())),
            (index(5, &[], b""), IndexError::Version(5)),
            (index(2, &file("../a"), b""), path("../a")),
            (index(2, &file("/a"), b""), path("/a")),
            (index(2, &file("a/.git/config"), b""), path("a/.git/config")),
            (index(2, &file(""), b""), path("")),
            (index(2, &[(0o040_000, "a")], b""), IndexError::Sparse),
            (index(2, &file("a"), b"sdir\0\0\0\0"), IndexError::Sparse),
            (index(2, &file("a"), b"link\0\0\0\0"), IndexError::Split),
            (index(2, &file(""), b"link\0\0\0\0"), IndexError::Split),
        ];
        for (bytes, expected) in table {
            assert_eq!(read(&bytes, 20), Err(expected));
        }
        let whole = index(3, &file("some/path"), b"");
        for length in 0..whole.len() - 20 {
            assert!(matches!(read(&whole[..length], 20), Err(IndexError::Truncated(_))), "{length}");
        }
    }
}
