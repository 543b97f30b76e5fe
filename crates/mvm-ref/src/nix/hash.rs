//! The SHA-256 of a Nix archive, in the three spellings that there are.

use super::base32;
use crate::Digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The SHA-256 of a NAR; printed as SRI (`sha256-` and base 64).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NarHash(Digest);

/// Says that a text is not a SHA-256 in a spelling of Nix's.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a SHA-256 as sha256-BASE64, sha256:BASE32 or sha256:HEX")]
pub struct NarHashError(String);

impl NarHash {
    /// Returns the digest.
    pub fn digest(&self) -> Digest {
        self.0
    }

    /// Returns `sha256:` and the digest in base 32, as signatures have it.
    pub fn base32(&self) -> String {
        format!("sha256:{}", base32::encode(self.0.as_bytes()))
    }
}

impl From<Digest> for NarHash {
    fn from(digest: Digest) -> Self {
        Self(digest)
    }
}

impl FromStr for NarHash {
    type Err = NarHashError;

    fn from_str(text: &str) -> Result<Self, NarHashError> {
        let bytes: Option<[u8; 32]> = match (text.strip_prefix("sha256-"), text.strip_prefix("sha256:")) {
            (Some(sri), _) => STANDARD.decode(sri).ok().and_then(|bytes| bytes.try_into().ok()),
            (_, Some(value)) if value.len() == base32::length(32) => base32::decode(value),
            _ => return text.parse().map(Self).map_err(|_| NarHashError(text.to_owned())),
        };
        bytes.map(|bytes| Self(Digest::from_sha256(bytes))).ok_or_else(|| NarHashError(text.to_owned()))
    }
}

impl TryFrom<String> for NarHash {
    type Error = NarHashError;

    fn try_from(text: String) -> Result<Self, NarHashError> {
        text.parse()
    }
}

impl From<NarHash> for String {
    fn from(hash: NarHash) -> String {
        hash.to_string()
    }
}

impl fmt::Display for NarHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256-{}", STANDARD.encode(self.0.as_bytes()))
    }
}

impl fmt::Debug for NarHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
