//! What can be wrong with a log.

use mvm_plan::KeyId;
use mvm_plan::audit::VerifyError;
use std::fmt;
use std::path::PathBuf;

/// What knows of an entry from outside the log's lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The record of where the log ended.
    Record,
    /// A line of a witness, from 1.
    Witness(u64),
}

/// Says what is wrong with a log, as far as the evidence goes.
#[derive(Debug, thiserror::Error)]
pub enum Tampering {
    /// The lines don't follow each other.
    #[error(transparent)]
    Chain(VerifyError),
    /// All of it is gone.
    #[error("all {expected} entries were removed: {evidence} knows of them")]
    Gone {
        /// Number of entries that there were.
        expected: u64,
        /// What knows of them.
        evidence: Evidence,
    },
    /// Its end is gone.
    #[error("its end was removed: it has {entries} entries, {evidence} knows of {expected}")]
    Truncated {
        /// Number of entries that are left.
        entries: u64,
        /// Number of entries that there were.
        expected: u64,
        /// What knows of them.
        evidence: Evidence,
    },
    /// The last entry is another one.
    #[error("entry {entry}, the last one, was edited, or written anew: {evidence} knows another one")]
    LastEntry {
        /// The entry.
        entry: u64,
        /// What knows another one.
        evidence: Evidence,
    },
    /// An entry in the middle is another one, though those after it fit.
    #[error("entry {entry} or one before it{} was edited and all after it were written anew: {evidence} knows another entry {entry}", after(*good))]
    Rewritten {
        /// The entry.
        entry: u64,
        /// The last entry before it that is known to be as it was written.
        good: Option<u64>,
        /// What knows another one.
        evidence: Evidence,
    },
    /// A checkpoint's signature is wrong.
    #[error("the checkpoint in entry {entry} is not signed by key {key}, which it names")]
    Forged {
        /// The entry.
        entry: u64,
        /// The key.
        key: KeyId,
    },
    /// A checkpoint is signed by somebody unknown.
    #[error("the checkpoint in entry {entry} is signed by no key that is known here{}", named(*key))]
    Stranger {
        /// The entry.
        entry: u64,
        /// The key that it names.
        key: Option<KeyId>,
    },
    /// A checkpoint says something else than the log.
    #[error("the checkpoint in entry {entry} is of another place or another log")]
    Misplaced {
        /// The entry.
        entry: u64,
    },
    /// A witness is not to be believed.
    #[error("line {line} of the witness {} is not signed by a key that is known here{}", path.display(), named(*key))]
    WitnessSignature {
        /// The witness.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// The key that it names.
        key: Option<KeyId>,
    },
    /// A witness has nothing of this log.
    #[error("the witness {} has no checkpoint of this log: another one stands in its place, or the witness is another log's", path.display())]
    Unwitnessed {
        /// The witness.
        path: PathBuf,
    },
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record => f.write_str("the record of the log's end"),
            Self::Witness(line) => write!(f, "line {line} of the witness"),
        }
    }
}

fn after(good: Option<u64>) -> String {
    good.map_or_else(String::new, |entry| format!(", but after entry {entry},"))
}

fn named(key: Option<KeyId>) -> String {
    key.map_or_else(String::new, |key| format!(" (it names key {key})"))
}
