//! The keys whose signatures count, and what each is for.

use crate::dsse::Envelope;
use crate::key::{KeyId, PublicKey};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Most keys in one trust store; it bounds the work that a hostile envelope can cause.
pub const MAX_KEYS: usize = 64;
const MAX_NAME: usize = 128;

/// A key that is trusted to sign plans.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedKey {
    /// What people call the key: 1 to 128 bytes without control characters.
    // tidy: allow string-field: a label for people, which the trust store checks
    pub name: String,
    /// The key.
    pub key: PublicKey,
    /// Whether it is a development key, which no plan can say of the key that signs it.
    pub development: bool,
}

/// The keys whose signatures count, each once.
///
/// On disk: `{"keys": [{"name": …, "key": "ed25519:…", "development": …}]}`, or the same in TOML.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "File", into = "File")]
pub struct TrustStore {
    keys: Vec<TrustedKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    keys: Vec<TrustedKey>,
}

/// Says why a list of keys is not a trust store.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TrustError {
    /// There are too many keys.
    #[error("trust store has {got} keys; at most {MAX_KEYS} are read")]
    Count {
        /// How many there are.
        got: usize,
    },
    /// A name is empty, too long or holds control characters.
    #[error("trust store: name {name:?} of key {id} is not 1 to 128 bytes without control characters")]
    Name {
        /// The key.
        id: KeyId,
        /// Its name.
        name: String,
    },
    /// One key stands there twice, so that it is not clear which of its entries holds.
    #[error("trust store names key {id} twice")]
    Twice {
        /// The key.
        id: KeyId,
    },
}

impl TrustedKey {
    /// Returns the key's ID.
    pub fn id(&self) -> KeyId {
        self.key.id()
    }
}

impl TrustStore {
    /// Makes a store of `keys`, each of which may stand there once.
    pub fn new(keys: Vec<TrustedKey>) -> Result<Self, TrustError> {
        if keys.len() > MAX_KEYS {
            return Err(TrustError::Count { got: keys.len() });
        }
        let mut seen = BTreeSet::new();
        for key in &keys {
            let id = key.id();
            if !(1..=MAX_NAME).contains(&key.name.len()) || key.name.contains(char::is_control) {
                return Err(TrustError::Name { id, name: key.name.chars().take(80).collect() });
            }
            if !seen.insert(id) {
                return Err(TrustError::Twice { id });
            }
        }
        Ok(Self { keys })
    }

    /// Returns the keys in the order they were given.
    pub fn keys(&self) -> &[TrustedKey] {
        &self.keys
    }

    /// Returns the keys of this store that signed `envelope`, in the store's order.
    ///
    /// A signature that names a key of this store counts for that key only; one with another name, or none, is tried
    /// with every key, because the name is not under the signature.
    pub(crate) fn signers(&self, envelope: &Envelope) -> Vec<&TrustedKey> {
        let message = envelope.signed_bytes();
        let ids: Vec<String> = self.keys.iter().map(|key| key.id().to_string()).collect();
        let mut signed = vec![false; self.keys.len()];
        for signature in envelope.signatures() {
            let named = ids.iter().position(|id| *id == signature.keyid);
            for (index, trusted) in self.keys.iter().enumerate() {
                if named.is_none_or(|named| named == index) && trusted.key.verifies(&message, &signature.sig)
                {
                    signed[index] = true;
                }
            }
        }
        self.keys.iter().zip(signed).filter_map(|(key, signed)| signed.then_some(key)).collect()
    }
}

impl TryFrom<File> for TrustStore {
    type Error = TrustError;

    fn try_from(file: File) -> Result<Self, TrustError> {
        Self::new(file.keys)
    }
}

impl From<TrustStore> for File {
    fn from(store: TrustStore) -> File {
        File { keys: store.keys }
    }
}

#[cfg(test)]
mod tests;
