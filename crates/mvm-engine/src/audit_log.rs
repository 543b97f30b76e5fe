//! The audit log: files of JSON lines, each line with the hash of the one before.
//!
//! ```text
//! <root>/audit/audit.jsonl                    what is written to
//! <root>/audit/audit-<first entry>.jsonl      what was written before, in order
//! <root>/audit/torn-at-<offset>               a last line that a crash tore, set aside
//! <root>/audit.head                           where the log ends; the lock of writers
//! <root>/audit.toml                           settings, if there are any
//! ```
//!
//! Writers wait for each other. Readers take the lock only as long as it takes to see how long the files are.

mod append;
mod check;
mod files;
mod read;
mod resume;
mod settings;
mod witness;

pub use check::{AuditReport, Tampering, Verification, WitnessReport};
pub use read::{Fate, Follower};
pub use settings::LogSettings;
pub use witness::WitnessError;

use mvm_plan::audit::{CheckpointError, EntryError, Event, HeadError};
use mvm_plan::time::TimeError;
use mvm_plan::{KeyError, UtcTime};
use mvm_ref::{Digest, ScopeName};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// The log of one store.
#[derive(Clone, Debug)]
pub struct AuditLog {
    root: PathBuf,
}

/// An event, and what else there is to say of it for people.
#[derive(Clone, Debug)]
pub struct Note {
    /// The event.
    pub event: Event,
    /// The rest, by name.
    pub detail: BTreeMap<String, String>,
}

/// Where the log ended when it was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Signed {
    /// Number of entries that are signed.
    pub entries: u64,
    /// Digest of the last of them.
    pub head: Digest,
    /// When.
    pub time: UtcTime,
}

/// Says what failed on the audit log.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A file could not be read or written.
    #[error("{act} the audit log {}", path.display())]
    Io {
        /// What was tried.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The last entry is not one that a new entry can follow.
    #[error("the last entry of the audit log {} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: EntryError,
    },
    /// A file has the name that the log is to be kept under.
    #[error("{} exists: the audit log can't be rotated", path.display())]
    Taken {
        /// The file.
        path: PathBuf,
    },
    /// An entry can't be written.
    #[error("write an audit entry")]
    Entry(#[from] EntryError),
    /// The record of the log's end can't be made.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// A checkpoint can't be made.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// There is no key to sign a checkpoint with.
    #[error("sign the audit log")]
    Unsigned(#[source] Box<crate::keys::KeysError>),
    /// The host's clock shows a time that has no date.
    #[error("the clock")]
    Clock(#[from] TimeError),
    /// The settings can't be understood; nothing is written then.
    #[error("the settings of the audit log {}", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: settings::SettingsError,
    },
    /// A witness could not be read or written.
    #[error(transparent)]
    Witness(#[from] WitnessError),
    /// A file holds no public key.
    #[error("{} holds no public key", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: KeyError,
    },
    /// The log doesn't verify.
    #[error("the audit log {} does not verify", path.display())]
    Verify {
        /// The file that holds the first entry that is wrong.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<Tampering>,
    },
}

impl AuditLog {
    /// Names the log of a store; its files are made with its first entry.
    pub fn new(store_root: &Path) -> Self {
        Self { root: store_root.to_owned() }
    }

    /// Appends entries, all or none, and returns when they are on disk.
    ///
    /// A last line that a crash tore is set aside, and that is recorded; so is an end that is not the one that was
    /// written. The log is signed now and then, and whenever a machine has ended.
    pub fn append(&self, scope: &ScopeName, events: Vec<Event>) -> Result<(), AuditError> {
        self.append_notes(scope, events.into_iter().map(Note::from).collect())
    }

    /// Does the same for events that have something more to say.
    pub fn append_notes(&self, scope: &ScopeName, notes: Vec<Note>) -> Result<(), AuditError> {
        if notes.is_empty() {
            return Ok(());
        }
        append::Writer::open(self)?.write(Some(scope), notes).map(drop)
    }

    /// Signs the log up to its end, and gives the checkpoint to the witness of the settings and to this one. Returns
    /// where that end was; nothing if the log is empty.
    pub fn checkpoint(&self, witness: Option<&Path>) -> Result<Option<Signed>, AuditError> {
        // Before the log is locked: who changes keys holds theirs and waits for the log.
        let key = crate::keys::local(&self.root).map_err(|error| AuditError::Unsigned(Box::new(error)))?;
        append::Writer::open(self)?.sign(&key, witness)
    }

    /// Has the log go on in a new file. Returns the name that the file before has now; nothing if the log is empty.
    pub fn rotate(&self) -> Result<Option<PathBuf>, AuditError> {
        match append::Writer::open(self) {
            Ok(mut writer) => writer.rotate_now(),
            // What is damaged at its end can't be gone on with, so it is put away as it is.
            Err(AuditError::Damaged { .. }) => append::Writer::open_after_damage(self)?.rotate_now(),
            Err(error) => Err(error),
        }
    }
}

impl From<Event> for Note {
    fn from(event: Event) -> Self {
        Self { event, detail: BTreeMap::new() }
    }
}

impl Note {
    /// Adds something for people; it is cut to what fits an entry.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        /// Far below the limit of an entry, also when every character is escaped.
        const LONGEST: usize = 4096;
        let end = value.char_indices().map(|(at, _)| at).find(|&at| at >= LONGEST);
        let value = end.map_or_else(|| value.to_owned(), |end| format!("{}…", &value[..end]));
        self.detail.insert(name.to_owned(), value);
        self
    }
}

fn io_error(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AuditError {
    let path = path.to_owned();
    move |source| AuditError::Io { act, path, source }
}

#[cfg(test)]
mod tests;
