//! The policies that hold for a launch: the administrator's file or the built-in one, and those that were asked for.
//!
//! A file that others than its owner can change, or that can't be read as it is meant, is an error: going on without it
//! would be worse than not going on.

use mvm_plan::policy::{Layer, MAX_POLICY, Policy, PolicyError, UnknownPolicy};
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Where an administrator's policy lies.
pub const SYSTEM_POLICY: &str = "/etc/mvm/policy.toml";

/// A policy that is asked for beside the one that always holds, written as its name or as an absolute path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum PolicySource {
    /// A built-in one.
    Named(String),
    /// A file.
    File(PathBuf),
}

/// Says why a policy's file can't be relied on.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFileError {
    /// There is no built-in policy of that name.
    #[error(transparent)]
    Unknown(#[from] UnknownPolicy),
    /// The file or a directory above it could not be read.
    #[error("{act} the policy {}", path.display())]
    Io {
        /// What was tried.
        act: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Something on the way is a symbolic link, or the file is no file.
    #[error("policy {} is {got}, not {expected}", path.display())]
    Kind {
        /// The file or directory.
        path: PathBuf,
        /// What it is.
        got: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// Others can change it.
    #[error("policy {} has mode {mode:04o}, so that others than its owner can change it", path.display())]
    Writable {
        /// The file or directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to somebody who has no say here.
    #[error("policy {} belongs to user {owner}, not to {expected}", path.display())]
    Owner {
        /// The file or directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who should own it.
        expected: &'static str,
    },
    /// The text is no policy.
    #[error("policy {}", path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: PolicyError,
    },
}

/// Who may own a file of policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// Root alone.
    Root,
    /// Root or the user of this process.
    Caller,
}

/// Returns the policy that a launch is judged under: the system's, or development where it has none, and all of `asked`.
pub fn load(asked: &[PolicySource]) -> Result<Policy, PolicyFileError> {
    let mut policy = match system()? {
        Some(layer) => layer.as_floor().into(),
        None => Policy::development(),
    };
    for source in asked {
        policy = policy.and(match source {
            PolicySource::Named(name) => Policy::builtin(name)?,
            PolicySource::File(path) => read_layer(path, Owner::Caller)?.into(),
        });
    }
    Ok(policy)
}

/// Returns what a launch was to be judged under, in words for a policy that can't be read.
pub fn names(asked: &[PolicySource]) -> String {
    let asked = asked.iter().map(ToString::to_string);
    let names: Vec<String> = std::iter::once(SYSTEM_POLICY.to_owned()).chain(asked).collect();
    names.join(" + ")
}

/// Reads the administrator's policy, if there is one.
fn system() -> Result<Option<Layer>, PolicyFileError> {
    let path = Path::new(SYSTEM_POLICY);
    let above: Vec<&Path> = path.ancestors().skip(1).collect();
    for directory in above.into_iter().rev() {
        match rustix::fs::lstat(directory) {
            Ok(stat) => check(directory, &stat, FileType::Directory, Owner::Root)?,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(io_error("read", directory)(errno)),
        }
    }
    match rustix::fs::lstat(path) {
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(io_error("read", path)(errno)),
        Ok(_) => read_layer(path, Owner::Root).map(Some),
    }
}

fn read_layer(path: &Path, owner: Owner) -> Result<Layer, PolicyFileError> {
    let bytes = read_checked(path, owner)?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let read_key = |key: &Path| {
        let bytes = read_checked(&directory.join(key), owner)?;
        Ok(String::from_utf8(bytes)?)
    };
    Layer::parse(&path.display().to_string(), &bytes, &read_key)
        .map_err(|source| PolicyFileError::Text { path: path.to_owned(), source })
}

/// Reads a small file that nobody but `owner` can change. No link is followed, and nothing is waited for.
fn read_checked(path: &Path, owner: Owner) -> Result<Vec<u8>, PolicyFileError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::LOOP => kind_error(path, FileType::Symlink, FileType::RegularFile),
        errno => io_error("read", path)(errno),
    })?;
    let stat = rustix::fs::fstat(&file).map_err(io_error("read", path))?;
    check(path, &stat, FileType::RegularFile, owner)?;
    let mut bytes = Vec::new();
    // One byte more than allowed, so that a longer one is told from one that fits.
    let limit = u64::try_from(MAX_POLICY).unwrap_or(u64::MAX).saturating_add(1);
    File::from(file).take(limit).read_to_end(&mut bytes).map_err(|source| PolicyFileError::Io {
        act: "read",
        path: path.to_owned(),
        source,
    })?;
    Ok(bytes)
}

fn check(path: &Path, stat: &Stat, expected: FileType, owner: Owner) -> Result<(), PolicyFileError> {
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind != expected {
        return Err(kind_error(path, kind, expected));
    }
    let mode = stat.st_mode & 0o7777;
    if mode & 0o022 != 0 {
        return Err(PolicyFileError::Writable { path: path.to_owned(), mode });
    }
    let caller = rustix::process::geteuid().as_raw();
    let (allowed, expected) = match owner {
        Owner::Root => (stat.st_uid == 0, "root"),
        Owner::Caller => (stat.st_uid == 0 || stat.st_uid == caller, "root or you"),
    };
    if !allowed {
        return Err(PolicyFileError::Owner { path: path.to_owned(), owner: stat.st_uid, expected });
    }
    Ok(())
}

fn kind_error(path: &Path, got: FileType, expected: FileType) -> PolicyFileError {
    let word = |kind| match kind {
        FileType::RegularFile => "a file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        _ => "a special file",
    };
    PolicyFileError::Kind { path: path.to_owned(), got: word(got), expected: word(expected) }
}

fn io_error(act: &'static str, path: &Path) -> impl FnOnce(Errno) -> PolicyFileError {
    let path = path.to_owned();
    move |errno| PolicyFileError::Io { act, path, source: errno.into() }
}

impl From<String> for PolicySource {
    fn from(text: String) -> Self {
        if text.starts_with('/') { Self::File(text.into()) } else { Self::Named(text) }
    }
}

impl From<PolicySource> for String {
    fn from(source: PolicySource) -> String {
        source.to_string()
    }
}

impl fmt::Display for PolicySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.pad(name),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests;
