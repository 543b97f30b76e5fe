//! Signatures of store paths: Ed25519 over a path's fingerprint, with the name of the key.

use super::PathInfo;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Most bytes of a key's name.
const MAX_NAME: usize = 256;

/// A public key as `trusted-public-keys` has it: a name, a colon and 32 bytes in base 64.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NixPublicKey {
    name: String,
    key: VerifyingKey,
}

/// Says that a text is no public key of Nix.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a public key of Nix; one is NAME:BASE64, as in cache.example.org-1:…=")]
pub struct NixPublicKeyError(String);

/// A signature of a store path: a key's name, a colon and 64 bytes in base 64.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NixSignature {
    key: String,
    bytes: [u8; 64],
}

/// Says that a text is no signature of Nix.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a signature of Nix: NAME:BASE64")]
pub struct NixSignatureError(String);

/// Returns the first of `keys` that signed what is said of a path.
pub fn verify_signature<'k>(info: &PathInfo, keys: &'k [NixPublicKey]) -> Option<&'k NixPublicKey> {
    let fingerprint = info.fingerprint();
    let signed = |key: &&NixPublicKey| {
        let own = info.signatures.iter().filter(|signature| signature.key == key.name);
        own.into_iter().any(|signature| {
            let signature = Signature::from_bytes(&signature.bytes);
            key.key.verify_strict(fingerprint.as_bytes(), &signature).is_ok()
        })
    };
    keys.iter().find(signed)
}

impl NixPublicKey {
    /// Returns the key's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl NixSignature {
    /// Returns the name of the key that is said to have signed.
    pub fn key(&self) -> &str {
        &self.key
    }
}

/// Splits a name and bytes in base 64.
fn split<const N: usize>(text: &str) -> Option<(String, [u8; N])> {
    let (name, value) = text.split_once(':')?;
    let is_name = (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
    let bytes = STANDARD.decode(value).ok()?.try_into().ok()?;
    is_name.then(|| (name.to_owned(), bytes))
}

impl FromStr for NixPublicKey {
    type Err = NixPublicKeyError;

    fn from_str(text: &str) -> Result<Self, NixPublicKeyError> {
        let bad = || NixPublicKeyError(text.to_owned());
        let (name, bytes) = split::<32>(text).ok_or_else(bad)?;
        Ok(Self { name, key: VerifyingKey::from_bytes(&bytes).map_err(|_| bad())? })
    }
}

impl FromStr for NixSignature {
    type Err = NixSignatureError;

    fn from_str(text: &str) -> Result<Self, NixSignatureError> {
        let (key, bytes) = split::<64>(text).ok_or_else(|| NixSignatureError(text.to_owned()))?;
        Ok(Self { key, bytes })
    }
}

impl fmt::Display for NixPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, STANDARD.encode(self.key.as_bytes()))
    }
}

impl fmt::Display for NixSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.key, STANDARD.encode(self.bytes))
    }
}

/// Gives a type the conversions of its text form.
macro_rules! as_text {
    ($type:ident, $error:ident) => {
        impl TryFrom<String> for $type {
            type Error = $error;

            fn try_from(text: String) -> Result<Self, $error> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.to_string()
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

as_text!(NixPublicKey, NixPublicKeyError);
as_text!(NixSignature, NixSignatureError);
