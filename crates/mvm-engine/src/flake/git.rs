//! What git says of a directory: where its work tree begins, what it tracks, and which commit is checked out.

use super::git_index::{self, MAX_INDEX, Tracked};
use super::source::SourceError;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// A work tree and the repository that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkTree {
    /// The directory that holds `.git`.
    pub top: PathBuf,
    /// What belongs to this work tree alone.
    git: PathBuf,
    /// What all work trees of the repository share.
    common: PathBuf,
}

/// Bytes of a file of git's that says one thing.
const SHORT: u64 = 64 << 10;
/// Bytes of the list of packed references and of a configuration.
const LONG: u64 = 64 << 20;

impl WorkTree {
    /// Finds the work tree that a directory lies in.
    pub fn around(directory: &Path) -> Result<Option<Self>, SourceError> {
        for top in directory.ancestors() {
            if let Some(found) = Self::at(top)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Returns the work tree that begins at a directory, if one does.
    pub fn at(top: &Path) -> Result<Option<Self>, SourceError> {
        let dot = top.join(".git");
        let kind = match fs::metadata(&dot) {
            Ok(kind) => kind,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(SourceError::io("look at", dot, error)),
        };
        let git = match kind.is_dir() {
            true => dot,
            false => {
                let text = read_text(&dot, SHORT)?;
                let Some(path) = text.trim_end().strip_prefix("gitdir: ") else {
                    return Err(SourceError::Git { path: dot, problem: "it names no gitdir".to_owned() });
                };
                top.join(path)
            }
        };
        // An empty directory of that name, or what is left of one, makes no repository.
        if !git.join("HEAD").exists() {
            return Ok(None);
        }
        let common = git.join("commondir");
        let common = match common.exists() {
            true => git.join(read_text(&common, SHORT)?.trim_end()),
            false => git.clone(),
        };
        Ok(Some(Self { top: top.to_owned(), git, common }))
    }

    /// Returns what is tracked; nothing where nothing was ever added.
    pub fn tracked(&self) -> Result<Vec<Tracked>, SourceError> {
        let path = self.git.join("index");
        let bytes = match read(&path, MAX_INDEX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(SourceError::io("read", path, error)),
        };
        git_index::read(&bytes, self.hash_length()?)
            .map_err(|error| SourceError::Git { path, problem: error.to_string() })
    }

    /// Returns how long the names of objects are: SHA-1's 20 bytes, or 32 where the repository says so.
    fn hash_length(&self) -> Result<usize, SourceError> {
        let path = self.common.join("config");
        if !path.exists() {
            return Ok(20);
        }
        let text = String::from_utf8_lossy(&read(&path, LONG).map_err(|e| SourceError::io("read", path, e))?)
            .to_ascii_lowercase();
        let mut words = text.lines().filter_map(|line| line.split_once('='));
        let sha256 = words.any(|(name, value)| name.trim() == "objectformat" && value.trim() == "sha256");
        Ok(if sha256 { 32 } else { 20 })
    }

    /// Returns the commit that is checked out, if there is one and it can be told without looking at objects.
    pub fn revision(&self) -> Option<String> {
        let mut text = read_text(&self.git.join("HEAD"), SHORT).ok()?;
        // A reference may be the name of another one.
        for _ in 0..5 {
            let Some(name) = text.trim_end().strip_prefix("ref: ").map(str::to_owned) else {
                let name = text.trim_end();
                let whole = matches!(name.len(), 40 | 64) && name.bytes().all(|b| b.is_ascii_hexdigit());
                return whole.then(|| name.to_owned());
            };
            if !name.starts_with("refs/") || name.split('/').any(|part| part == "..") {
                return None;
            }
            let loose =
                [&self.git, &self.common].into_iter().find_map(|git| read_text(&git.join(&name), SHORT).ok());
            text = match loose {
                Some(text) => text,
                None => self.packed(&name)?,
            };
        }
        None
    }

    fn packed(&self, name: &str) -> Option<String> {
        let text = read_text(&self.common.join("packed-refs"), LONG).ok()?;
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(_, reference)| *reference == name).map(|(object, _)| object.to_owned())
    }
}

fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > limit {
        true => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {limit} bytes"))),
        false => Ok(bytes),
    }
}

fn read_text(path: &Path, limit: u64) -> Result<String, SourceError> {
    let text = read(path, limit).and_then(|bytes| {
        String::from_utf8(bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
    });
    text.map_err(|error| SourceError::io("read", path.to_owned(), error))
}
