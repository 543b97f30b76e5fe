//! The audit log: one JSON line for each thing done, each with the hash of the line before.
//!
//! A line is canonical JSON ([`crate::canonical`]) and a newline. `seq` counts from 0. `prev` is the SHA-256 of the line
//! before without its newline, and 64 zeros in the first line. So a change shows in the line after it. What a chain
//! alone cannot show: that whole lines at its end are missing, or that it was written anew from some line on. That is
//! what the [`Head`] beside the log is for, and against those who can write both, a [`Checkpoint`] kept elsewhere.

mod checkpoint;
mod event;
mod head;
mod verify;

pub use checkpoint::{Checkpoint, CheckpointError, PAYLOAD_TYPE, Seals, Statement};
pub use event::{Event, KeyAct, Outcome, Seal, Subject};
pub use head::{Head, HeadError};
pub use verify::{ChainSummary, LineInPlace, VerifyError, verify, walk};

use crate::canonical::{self, CanonicalError};
use crate::time::UtcTime;
use mvm_ref::{Digest, ScopeName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most bytes of a line, its newline included.
pub const MAX_LINE: usize = 64 * 1024;

/// What stands for the line before the first.
const ORIGIN: Digest = Digest::from_sha256([0; 32]);

/// What is told to the log: who did what, when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When it was done.
    pub time: UtcTime,
    /// The Unix user that did it.
    pub uid: u32,
    /// The user that had logged in, if the kernel knows and it is another one: who used sudo.
    pub login: Option<u32>,
    /// The scope it was done in, if in one.
    pub scope: Option<ScopeName>,
    /// What was done.
    pub event: Event,
    /// What else there is to know, for people.
    pub detail: BTreeMap<String, String>,
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Number of the entry, from 0.
    pub seq: u64,
    /// SHA-256 of the line before.
    pub prev: Digest,
    /// When it was done.
    pub time: UtcTime,
    /// The Unix user that did it.
    pub uid: u32,
    /// The user that had logged in, if the kernel knows and it is another one: who used sudo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<u32>,
    /// The scope it was done in, if in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<ScopeName>,
    /// What was done.
    pub event: Event,
    /// What else there is to know, for people.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub detail: BTreeMap<String, String>,
}

/// The end of a log, to which lines can be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    next: u64,
    head: Digest,
}

/// Says why an entry cannot be written or a line is not one.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// The entry has no canonical text.
    #[error("writing an audit entry")]
    Write(#[source] CanonicalError),
    /// The line is not an entry.
    #[error("reading an audit entry")]
    Read(#[source] CanonicalError),
    /// The line is too long.
    #[error("audit entry has {got} bytes; at most {MAX_LINE} are allowed")]
    Length {
        /// Its bytes, the newline included.
        got: usize,
    },
    /// The log has as many entries as can be counted.
    #[error("audit log is full after entry {seq}")]
    Full {
        /// The last entry.
        seq: u64,
    },
}

impl Entry {
    /// Reads one line, with or without its newline; it must be canonical.
    pub fn parse(line: &[u8]) -> Result<Self, EntryError> {
        if line.len() > MAX_LINE {
            return Err(EntryError::Length { got: line.len() });
        }
        canonical::from_slice(without_newline(line)).map_err(EntryError::Read)
    }
}

impl Chain {
    /// Starts an empty log.
    pub fn start() -> Self {
        Self { next: 0, head: ORIGIN }
    }

    /// Continues a log of so many entries, the last of which has this digest.
    pub fn after(entries: u64, head: Digest) -> Self {
        Self { next: entries, head }
    }

    /// Continues a log after its last line, with or without its newline.
    ///
    /// Only that line's form is checked; [`verify`] checks the lines before it.
    pub fn resume(last_line: &[u8]) -> Result<Self, EntryError> {
        let entry = Entry::parse(last_line)?;
        let next = entry.seq.checked_add(1).ok_or(EntryError::Full { seq: entry.seq })?;
        Ok(Self { next, head: line_digest(last_line) })
    }

    /// Returns the line to add to the log, newline included, and moves on; after an error the chain is as before.
    pub fn append(&mut self, record: Record) -> Result<Vec<u8>, EntryError> {
        let Record { time, uid, login, scope, event, detail } = record;
        let entry = Entry { seq: self.next, prev: self.head, time, uid, login, scope, event, detail };
        let mut line = canonical::to_vec(&entry).map_err(EntryError::Write)?;
        line.push(b'\n');
        if line.len() > MAX_LINE {
            return Err(EntryError::Length { got: line.len() });
        }
        let next = self.next.checked_add(1).ok_or(EntryError::Full { seq: self.next })?;
        *self = Self { next, head: line_digest(&line) };
        Ok(line)
    }

    /// Returns the digest of the last line: a log that ends in it is the one that was written.
    pub fn head(&self) -> Digest {
        self.head
    }

    /// Returns the number of entries.
    pub fn entries(&self) -> u64 {
        self.next
    }
}

fn without_newline(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").unwrap_or(line)
}

fn line_digest(line: &[u8]) -> Digest {
    Digest::of(without_newline(line))
}

#[cfg(test)]
mod tests;
