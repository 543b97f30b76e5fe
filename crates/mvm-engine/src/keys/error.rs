//! What can fail on a key.

use crate::audit_log::AuditError;
use mvm_plan::{KeyError, KeyId, Standing, TrustError};
use std::io;
use std::path::PathBuf;

/// Says what failed on a key.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A file could not be read or written.
    #[error("{act} {}", path.display())]
    Io {
        /// What was tried.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Others may read the private key.
    #[error("private key {} has mode {mode:04o}; run chmod 600 on it, or remove it if others may have read it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Others may read the passphrase.
    #[error("passphrase file {} has mode {mode:04o}, so others can read it; run chmod 600 on it", path.display())]
    ExposedPassphrase {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Others may change a file or directory of the store.
    #[error("{} has mode {mode:04o}, so others can change it; run chmod go-w on it and look at what it holds", path.display())]
    Writable {
        /// The file or directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file or directory of the store belongs to somebody else.
    #[error("{} belongs to user {uid}", path.display())]
    Owner {
        /// The file or directory.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// A symbolic link is where a file belongs.
    #[error("{} is a symbolic link; expected a file", path.display())]
    Symlink {
        /// The link.
        path: PathBuf,
    },
    /// A directory, pipe or device is where a file belongs.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// What it is instead.
        path: PathBuf,
    },
    /// A file is longer than any key.
    #[error("{} has {got} bytes; at most {max} are read", path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// Its bytes.
        got: u64,
        /// How many are read.
        max: u64,
    },
    /// A file holds no key.
    #[error("{} holds no key", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: KeyError,
    },
    /// The list of trusted keys is damaged.
    #[error("{} is not a list of trusted keys", path.display())]
    Trust {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: serde_json::Error,
    },
    /// The list of trusted keys can't be as it should become.
    #[error("enter the key in the list of trusted keys")]
    List(#[from] TrustError),
    /// There is no key of that name or ID.
    #[error("there is no key {0:?} in the store")]
    Unknown(String),
    /// Several keys have the ID that was begun, or the name.
    #[error("{text:?} fits {count} keys; give the whole ID of one")]
    Ambiguous {
        /// What was given.
        text: String,
        /// How many fit.
        count: usize,
    },
    /// Only the public half of a key is in the store.
    #[error("only the public half of key {0:?} is in the store")]
    PublicOnly(String),
    /// There is a key of that name.
    #[error("there is a key {0:?} in the store already")]
    NameTaken(String),
    /// The key itself is there under another name.
    #[error("key {id} is in the store already, as {name:?}")]
    AlreadyThere {
        /// The key.
        id: KeyId,
        /// Its name.
        name: String,
    },
    /// A key may no longer sign.
    #[error("key {name:?} was {standing}")]
    Lapsed {
        /// Its name.
        name: String,
        /// Since when it no longer counts, and why.
        standing: Standing,
    },
    /// A key under a passphrase can't be followed by one without.
    #[error("key {0:?} is under a passphrase, so the one that replaces it needs one too")]
    PassphraseNeeded(String),
    /// An empty passphrase protects nothing.
    #[error("the passphrase is empty")]
    EmptyPassphrase,
    /// A key can't be opened with the passphrase.
    #[error("open the private key {name:?}")]
    Open {
        /// Its name or file.
        name: String,
        /// Why not.
        source: KeyError,
    },
    /// A key can't be written.
    #[error("write the private key")]
    Write(#[source] KeyError),
    /// The audit log failed.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The host's clock shows a time that has no date.
    #[error("the clock")]
    Clock(#[from] mvm_plan::time::TimeError),
    /// The kernel gave no random bytes.
    #[error("get random bytes")]
    Random(#[source] getrandom::Error),
}
