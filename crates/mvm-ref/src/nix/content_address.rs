//! Store paths whose names follow from their contents, and the recomputation of such names.
//!
//! Source: the Nix manual, "Store Path Specification"; Nix, `makeFixedOutputPathFromCA` in `store-api.cc`.

use super::{NarHash, STORE, StorePath, base32};
use crate::{Digest, Hasher};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::io::Write;
use std::str::FromStr;

/// Bytes that are left of a hash in a store path.
const COMPRESSED: usize = 20;

/// How a path's name is said to follow from its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ContentAddress {
    /// `text:sha256:…`: the SHA-256 of one file that evaluation wrote.
    Text(NarHash),
    /// `fixed:r:sha256:…`: the SHA-256 of the NAR.
    Recursive(NarHash),
    /// `fixed:sha256:…`: the SHA-256 of one file that was fetched.
    Flat(NarHash),
    /// Another way, which is not recomputed.
    Other(String),
}

/// Says that a text is not how Nix writes a content address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a content address: text:sha256:HASH or fixed:[r:]ALGORITHM:HASH")]
pub struct ContentAddressError(String);

/// What has to have a hash for a path's name to follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentHash {
    /// The NAR.
    Nar(NarHash),
    /// The one file that the path is.
    File(Digest),
}

impl ContentAddress {
    /// Says whether a name can be recomputed here, from an address of this kind.
    ///
    /// Not where the address is of a kind that is not known, and not where the path refers to itself: its hash then is one of a
    /// content in which the path's own name is replaced.
    pub fn is_recomputed(&self, path: &StorePath, references: &BTreeSet<StorePath>) -> bool {
        !matches!(self, Self::Other(_)) && !references.contains(path)
    }

    /// Returns what must have which hash, if `path` is the name that follows from it.
    ///
    /// Nothing where it is another name, or one that is not recomputed.
    pub fn content_of(&self, path: &StorePath, references: &BTreeSet<StorePath>) -> Option<ContentHash> {
        if !self.is_recomputed(path, references) {
            return None;
        }
        let with_references =
            |kind: &str| references.iter().fold(kind.to_owned(), |text, path| format!("{text}:{path}"));
        let (kind, inner, content) = match self {
            Self::Recursive(hash) => (with_references("source"), hash.digest(), ContentHash::Nar(*hash)),
            Self::Text(hash) => (with_references("text"), hash.digest(), ContentHash::File(hash.digest())),
            Self::Flat(hash) if references.is_empty() => {
                let text = format!("fixed:out:{}:", hash.digest());
                ("output:out".to_owned(), Digest::of(text.as_bytes()), ContentHash::File(hash.digest()))
            }
            Self::Flat(_) | Self::Other(_) => return None,
        };
        (name_for(&kind, inner, path.name()) == path.hash_part()).then_some(content)
    }
}

/// Returns the digits of a store path.
fn name_for(kind: &str, inner: Digest, name: &str) -> String {
    let mut hasher = Hasher::default();
    // Writing to a hasher can't fail.
    let _infallible = write!(hasher, "{kind}:{inner}:{STORE}:{name}").is_ok();
    let mut compressed = [0; COMPRESSED];
    for (at, byte) in hasher.finish().as_bytes().iter().enumerate() {
        compressed[at % COMPRESSED] ^= byte;
    }
    base32::encode(&compressed)
}

impl FromStr for ContentAddress {
    type Err = ContentAddressError;

    fn from_str(text: &str) -> Result<Self, ContentAddressError> {
        let bad = || ContentAddressError(text.to_owned());
        let hash = |text: &str| text.parse::<NarHash>().map_err(|_| bad());
        if let Some(value) = text.strip_prefix("text:") {
            return hash(value).map(Self::Text);
        }
        let fixed = text.strip_prefix("fixed:").ok_or_else(bad)?;
        match fixed.strip_prefix("r:") {
            Some(value) if value.starts_with("sha256:") => hash(value).map(Self::Recursive),
            None if fixed.starts_with("sha256:") => hash(fixed).map(Self::Flat),
            _ if fixed.len() < 256 && fixed.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Ok(Self::Other(text.to_owned()))
            }
            _ => Err(bad()),
        }
    }
}

impl TryFrom<String> for ContentAddress {
    type Error = ContentAddressError;

    fn try_from(text: String) -> Result<Self, ContentAddressError> {
        text.parse()
    }
}

impl From<ContentAddress> for String {
    fn from(address: ContentAddress) -> String {
        address.to_string()
    }
}

impl fmt::Display for ContentAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(hash) => write!(f, "text:{}", hash.base32()),
            Self::Recursive(hash) => write!(f, "fixed:r:{}", hash.base32()),
            Self::Flat(hash) => write!(f, "fixed:{}", hash.base32()),
            Self::Other(text) => f.write_str(text),
        }
    }
}
