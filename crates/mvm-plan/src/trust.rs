//! The keys whose signatures count, and what each is for.

use crate::dsse::Envelope;
use crate::key::{KeyId, PublicKey};
use crate::time::UtcTime;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// Most keys in one trust store; it bounds the work that a hostile envelope can cause.
pub const MAX_KEYS: usize = 64;
const MAX_NAME: usize = 128;

/// A key that is trusted to sign plans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedKey {
    /// What people call the key: 1 to 128 bytes without control characters.
    // tidy: allow string-field: a label for people, which the trust store checks
    pub name: String,
    /// The key.
    pub key: PublicKey,
    /// Whether it is a development key, which no plan can say of the key that signs it.
    pub development: bool,
}

/// A key of a trust store, and whether it still counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustEntry {
    /// The key.
    pub key: TrustedKey,
    /// When it stops counting, if that is known.
    pub until: Option<UtcTime>,
    /// When it was revoked. It counts no more then, whatever a clock says.
    pub revoked: Option<UtcTime>,
}

/// Whether a key counts at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It counts.
    Trusted,
    /// It counts until then.
    Until(UtcTime),
    /// It has not counted since then.
    Ended(UtcTime),
    /// It was revoked then, and counts no more.
    Revoked(UtcTime),
}

/// The keys whose signatures count, each once, and those whose signatures no longer do.
///
/// On disk: `{"keys": [{"name": …, "key": "ed25519:…", "development": …, "until": …, "revoked": …}]}`, or the same in
/// TOML; the last two are times and may be absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "File", into = "File")]
pub struct TrustStore {
    entries: Vec<TrustEntry>,
}

/// The keys of a store that signed something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signatures<'a> {
    /// Those that count.
    pub valid: Vec<&'a TrustedKey>,
    /// Those that are revoked or past their end.
    pub lapsed: Vec<&'a TrustEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    keys: Vec<Line>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    // tidy: allow string-field: a label for people, which the trust store checks
    name: String,
    key: PublicKey,
    development: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<UtcTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revoked: Option<UtcTime>,
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

impl TrustEntry {
    /// Says whether the key counts at a moment, in seconds since 1970.
    pub fn standing(&self, now: i64) -> Standing {
        match (self.revoked, self.until) {
            (Some(time), _) => Standing::Revoked(time),
            (None, Some(time)) if time.unix_seconds() <= now => Standing::Ended(time),
            (None, Some(time)) => Standing::Until(time),
            (None, None) => Standing::Trusted,
        }
    }
}

impl Standing {
    /// Says whether the key's signatures count.
    pub fn counts(&self) -> bool {
        matches!(self, Self::Trusted | Self::Until(_))
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trusted => f.write_str("trusted"),
            Self::Until(time) => write!(f, "trusted until {time}"),
            Self::Ended(time) => write!(f, "retired at {time}"),
            Self::Revoked(time) => write!(f, "revoked at {time}"),
        }
    }
}

impl From<TrustedKey> for TrustEntry {
    fn from(key: TrustedKey) -> Self {
        Self { key, until: None, revoked: None }
    }
}

impl TrustStore {
    /// Makes a store of `keys`, each of which may stand there once; all of them count.
    pub fn new(keys: Vec<TrustedKey>) -> Result<Self, TrustError> {
        Self::with_entries(keys.into_iter().map(TrustEntry::from).collect())
    }

    /// Makes a store of keys that count or no longer do, each of which may stand there once.
    pub fn with_entries(entries: Vec<TrustEntry>) -> Result<Self, TrustError> {
        if entries.len() > MAX_KEYS {
            return Err(TrustError::Count { got: entries.len() });
        }
        let mut seen = BTreeSet::new();
        for TrustEntry { key, .. } in &entries {
            let id = key.id();
            if !(1..=MAX_NAME).contains(&key.name.len()) || key.name.contains(char::is_control) {
                return Err(TrustError::Name { id, name: key.name.chars().take(80).collect() });
            }
            if !seen.insert(id) {
                return Err(TrustError::Twice { id });
            }
        }
        Ok(Self { entries })
    }

    /// Returns the keys in the order they were given.
    pub fn entries(&self) -> &[TrustEntry] {
        &self.entries
    }

    /// Returns what the store says of a key.
    pub fn entry(&self, id: &KeyId) -> Option<&TrustEntry> {
        self.entries.iter().find(|entry| entry.key.id() == *id)
    }

    /// Returns the keys of this store that signed `envelope`, in the store's order, as they stand at `now`.
    ///
    /// A signature that names a key of this store counts for that key only; one with another name, or none, is tried
    /// with every key, because the name is not under the signature.
    pub fn signers(&self, envelope: &Envelope, now: i64) -> Signatures<'_> {
        let message = envelope.signed_bytes();
        let ids: Vec<String> = self.entries.iter().map(|entry| entry.key.id().to_string()).collect();
        let mut signed = vec![false; self.entries.len()];
        for signature in envelope.signatures() {
            let named = ids.iter().position(|id| *id == signature.keyid);
            for (index, entry) in self.entries.iter().enumerate() {
                if named.is_none_or(|named| named == index)
                    && entry.key.key.verifies(&message, &signature.sig)
                {
                    signed[index] = true;
                }
            }
        }
        let mut found = Signatures::default();
        for (entry, _) in self.entries.iter().zip(signed).filter(|(_, signed)| *signed) {
            match entry.standing(now).counts() {
                true => found.valid.push(&entry.key),
                false => found.lapsed.push(entry),
            }
        }
        found
    }
}

impl TryFrom<File> for TrustStore {
    type Error = TrustError;

    fn try_from(file: File) -> Result<Self, TrustError> {
        let entry = |Line { name, key, development, until, revoked }| TrustEntry {
            key: TrustedKey { name, key, development },
            until,
            revoked,
        };
        Self::with_entries(file.keys.into_iter().map(entry).collect())
    }
}

impl From<TrustStore> for File {
    fn from(store: TrustStore) -> File {
        let line = |TrustEntry { key: TrustedKey { name, key, development }, until, revoked }| Line {
            name,
            key,
            development,
            until,
            revoked,
        };
        File { keys: store.entries.into_iter().map(line).collect() }
    }
}

#[cfg(test)]
mod tests;
