//! Directories of the host that a policy names.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// A directory of the host, and all below it: an absolute path of plain names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostDirectory(String);

/// Says why a text names no directory.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a directory's absolute path, without '.', '..' and a slash at its end")]
pub struct HostDirectoryError(String);

impl HostDirectory {
    /// Says whether a path leads to the directory or below it. Plans have paths of plain names only.
    pub fn holds(&self, path: &str) -> bool {
        Path::new(path).starts_with(&self.0)
    }
}

impl TryFrom<String> for HostDirectory {
    type Error = HostDirectoryError;

    fn try_from(text: String) -> Result<Self, HostDirectoryError> {
        let plain =
            |rest: &str| rest.is_empty() || rest.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if text.strip_prefix('/').is_some_and(plain) { Ok(Self(text)) } else { Err(HostDirectoryError(text)) }
    }
}

impl From<HostDirectory> for String {
    fn from(directory: HostDirectory) -> String {
        directory.0
    }
}

impl fmt::Display for HostDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
