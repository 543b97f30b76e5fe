//! The name of something in a Nix store.

use super::base32;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The directory of every store that mvm takes from; others have other hashes for the same things.
pub const STORE: &str = "/nix/store";

/// Digits of the hash at the beginning of a name.
const HASH: usize = 32;
/// Most bytes of a name after the hash and its hyphen.
const MAX_NAME: usize = 211;

/// A store path: `/nix/store/`, 32 digits in base 32, a hyphen and a name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StorePath {
    /// What follows the directory of the store.
    base: String,
}

/// Says why a text is not a store path.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StorePathError {
    /// It doesn't lie in the store itself.
    #[error("{0:?} is not a path directly in {STORE}")]
    Directory(String),
    /// It doesn't begin with a hash.
    #[error("store path {0:?} does not begin with 32 digits of Nix's base 32 and a hyphen")]
    Hash(String),
    /// What follows the hash is no name.
    #[error(
        "store path {0:?} has no valid name; it has 1 to 211 letters, digits and +-._?= and is not . or .. or either and a hyphen"
    )]
    Name(String),
}

impl StorePath {
    /// Returns the text after the directory of the store: hash, hyphen and name.
    pub fn base_name(&self) -> &str {
        &self.base
    }

    /// Returns the 32 digits.
    pub fn hash_part(&self) -> &str {
        &self.base[..HASH]
    }

    /// Returns the name after the hash.
    pub fn name(&self) -> &str {
        &self.base[HASH + 1..]
    }

    /// Returns the path without its leading slash, as entries of a tree are named.
    pub fn relative(&self) -> String {
        format!("{}/{}", &STORE[1..], self.base)
    }

    /// Returns the store path that a path in the store begins with, and the rest with its leading slash, or empty.
    pub fn split(path: &str) -> Result<(Self, &str), StorePathError> {
        let inside = path.strip_prefix(STORE).and_then(|rest| rest.strip_prefix('/'));
        let inside = inside.ok_or_else(|| StorePathError::Directory(path.to_owned()))?;
        let end = inside.find('/').unwrap_or(inside.len());
        Ok((Self::from_base(&inside[..end])?, &inside[end..]))
    }

    /// Reads what follows the directory of the store.
    pub(super) fn from_base(base: &str) -> Result<Self, StorePathError> {
        let bad_hash = || StorePathError::Hash(base.to_owned());
        let (hash, name) = base.split_at_checked(HASH).ok_or_else(bad_hash)?;
        let name = name.strip_prefix('-').filter(|_| base32::is_digits(hash)).ok_or_else(bad_hash)?;
        if is_name(name) {
            Ok(Self { base: base.to_owned() })
        } else {
            Err(StorePathError::Name(base.to_owned()))
        }
    }
}

/// Says whether a text may follow the hash. Source: Nix, `checkName` in `path.cc`.
fn is_name(name: &str) -> bool {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._?=".contains(&byte);
    let is_reserved = matches!(name, "." | "..") || name.starts_with(".-") || name.starts_with("..-");
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_known) && !is_reserved
}

impl FromStr for StorePath {
    type Err = StorePathError;

    fn from_str(text: &str) -> Result<Self, StorePathError> {
        match Self::split(text)? {
            (path, "") => Ok(path),
            _ => Err(StorePathError::Directory(text.to_owned())),
        }
    }
}

impl TryFrom<String> for StorePath {
    type Error = StorePathError;

    fn try_from(text: String) -> Result<Self, StorePathError> {
        text.parse()
    }
}

impl From<StorePath> for String {
    fn from(path: StorePath) -> String {
        path.to_string()
    }
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{STORE}/{}", self.base)
    }
}

impl fmt::Debug for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
