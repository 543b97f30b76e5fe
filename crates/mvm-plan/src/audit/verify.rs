//! The check of a whole log, line by line.

use super::{Chain, MAX_LINE, line_digest};
use crate::time::UtcTime;
use mvm_ref::Digest;
use serde::Deserialize;
use std::borrow::Cow;
use std::io::{self, BufRead, Read as _};

/// What a log that is whole says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainSummary {
    /// Number of entries.
    pub entries: u64,
    /// Digest of the last line, zeros if there is none; kept elsewhere, it shows later that no line is missing.
    pub head: Digest,
    /// Bytes of the entries.
    pub bytes: u64,
}

/// Says which entry of a log is the first that is wrong; lines count from 1.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The log could not be read.
    #[error("reading line {line}")]
    Read {
        /// The line.
        line: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line is too long to be an entry.
    #[error("line {line}, in place of entry {entry}, has more than {MAX_LINE} bytes: it was overwritten")]
    Length {
        /// The line.
        line: u64,
        /// The entry that belongs there.
        entry: u64,
    },
    /// A line is not an entry.
    #[error("line {line}, in place of entry {entry}, is not an entry: it was overwritten")]
    NotAnEntry {
        /// The line.
        line: u64,
        /// The entry that belongs there.
        entry: u64,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A line is not as it was written.
    #[error("entry {entry} (line {line}) was edited")]
    Edited {
        /// The line.
        line: u64,
        /// The entry.
        entry: u64,
    },
    /// The last line and the one before it do not fit; no later line tells which of them is as it was written.
    #[error("entry {entry} (line {line}) or the one after it was edited")]
    EditedNearEnd {
        /// The first of the two.
        line: u64,
        /// Its entry.
        entry: u64,
    },
    /// Entries are missing.
    #[error("{} removed before line {line}, which is entry {got}", were(*expected, *got - 1))]
    Removed {
        /// The line that comes too early.
        line: u64,
        /// The first entry that is missing.
        expected: u64,
        /// The entry that stands there.
        got: u64,
    },
    /// An entry stands further down than it was written.
    #[error(
        "entry {got} stands on line {line}, where entry {expected} belongs, which comes later: they were reordered"
    )]
    Reordered {
        /// The first line that is wrong.
        line: u64,
        /// The entry that belongs there.
        expected: u64,
        /// The entry that stands there.
        got: u64,
    },
    /// A line has the number of an entry before it.
    #[error("line {line} was put in: it is entry {got} a second time, expected entry {expected}")]
    PutIn {
        /// The line.
        line: u64,
        /// The entry that belongs there.
        expected: u64,
        /// The number that it has.
        got: u64,
    },
    /// The last line has no newline: its writing was cut short. The lines before it are whole.
    #[error("line {line}, the last one, was cut short while it was written")]
    Torn {
        /// The line.
        line: u64,
        /// What comes before it, and continues when the log is cut to `whole.bytes`.
        whole: ChainSummary,
    },
}

/// A line that follows the one before it.
#[derive(Clone, Copy, Debug)]
pub struct LineInPlace<'a> {
    /// Number of its entry.
    pub seq: u64,
    /// Its text, newline included.
    pub text: &'a [u8],
    /// Its digest.
    pub digest: Digest,
    /// When it was written, if it says so as this version does.
    pub time: Option<UtcTime>,
}

/// The members that make the chain. The others are left alone, so that a log with newer events can still be checked.
#[derive(Deserialize)]
struct Link<'a> {
    seq: u64,
    prev: Digest,
    #[serde(borrow, default)]
    time: Cow<'a, str>,
}

/// One line as it stands.
struct Line {
    text: Vec<u8>,
    seq: u64,
    prev: Digest,
    time: Option<UtcTime>,
    digest: Digest,
}

enum Next {
    Line(Line),
    Torn,
    End,
}

/// Reads a log to its end and checks that every line follows the one before it.
pub fn verify(reader: impl BufRead) -> Result<ChainSummary, VerifyError> {
    walk(reader, Chain::start(), None, &mut |_| {})
}

/// Reads the rest of a log after `from`, checks that every line follows the one before it, and shows each that does.
///
/// Memory is bounded by the longest line. Names the first entry that is wrong, as closely as the chain can tell; what is
/// `known` of one entry, its number and digest, helps to tell which of the last two was edited.
pub fn walk(
    mut reader: impl BufRead,
    from: Chain,
    known: Option<(u64, Digest)>,
    visit: &mut dyn FnMut(LineInPlace<'_>),
) -> Result<ChainSummary, VerifyError> {
    let mut whole = ChainSummary { entries: from.entries(), head: from.head(), bytes: 0 };
    let mut number = 0;
    loop {
        number += 1;
        let line = match next_line(&mut reader, number, whole.entries)? {
            Next::End => return Ok(whole),
            Next::Torn => return Err(VerifyError::Torn { line: number, whole }),
            Next::Line(line) => line,
        };
        match (line.prev == whole.head, line.seq == whole.entries) {
            (true, true) => {}
            (true, false) => return Err(VerifyError::Edited { line: number, entry: whole.entries }),
            (false, true) => return Err(edited(&mut reader, number, &line, known)),
            (false, false) => return Err(displaced(&mut reader, number, &whole, line.seq)),
        }
        visit(LineInPlace { seq: line.seq, text: &line.text, digest: line.digest, time: line.time });
        let bytes = whole.bytes + line.text.len() as u64;
        whole = ChainSummary { entries: line.seq + 1, head: line.digest, bytes };
    }
}

/// Tells whether line `number`, whose link is broken, or the one before it was edited: if the line after still holds
/// the hash of line `number`, that line is as it was written.
fn edited(reader: &mut impl BufRead, number: u64, line: &Line, known: Option<(u64, Digest)>) -> VerifyError {
    let this = VerifyError::Edited { line: number, entry: line.seq };
    let (Some(before), Some(entry)) =
        (number.checked_sub(1).filter(|&line| line > 0), line.seq.checked_sub(1))
    else {
        return this;
    };
    let next = match next_line(reader, number + 1, line.seq + 1) {
        Ok(Next::Line(after)) => Some(after.prev),
        Ok(Next::Torn | Next::End) | Err(_) => None,
    };
    let witnessed = known.filter(|(seq, _)| *seq == line.seq).map(|(_, digest)| digest);
    match next.or(witnessed) {
        Some(digest) if digest == line.digest => VerifyError::Edited { line: before, entry },
        Some(_) => this,
        None => VerifyError::EditedNearEnd { line: before, entry },
    }
}

/// Tells what became of the entry that belongs on line `number`, where another one stands.
fn displaced(reader: &mut impl BufRead, number: u64, whole: &ChainSummary, got: u64) -> VerifyError {
    let expected = whole.entries;
    if got < expected {
        return VerifyError::PutIn { line: number, expected, got };
    }
    let mut found = number;
    loop {
        found += 1;
        match next_line(reader, found, expected) {
            Ok(Next::Line(line)) if line.seq == expected && line.prev == whole.head => {
                return VerifyError::Reordered { line: number, expected, got };
            }
            Ok(Next::Line(_)) | Err(VerifyError::NotAnEntry { .. }) => {}
            Ok(Next::Torn | Next::End) | Err(_) => {
                return VerifyError::Removed { line: number, expected, got };
            }
        }
    }
}

impl VerifyError {
    /// Returns the line that is named.
    pub fn line(&self) -> u64 {
        match self {
            Self::Read { line, .. }
            | Self::Length { line, .. }
            | Self::NotAnEntry { line, .. }
            | Self::Edited { line, .. }
            | Self::EditedNearEnd { line, .. }
            | Self::Removed { line, .. }
            | Self::Reordered { line, .. }
            | Self::PutIn { line, .. }
            | Self::Torn { line, .. } => *line,
        }
    }

    /// Returns the first entry that is wrong, if it is one: not if the log could not be read, or ends in a torn line.
    pub fn entry(&self) -> Option<u64> {
        match self {
            Self::Length { entry, .. }
            | Self::NotAnEntry { entry, .. }
            | Self::Edited { entry, .. }
            | Self::EditedNearEnd { entry, .. } => Some(*entry),
            Self::Removed { expected, .. }
            | Self::Reordered { expected, .. }
            | Self::PutIn { expected, .. } => Some(*expected),
            Self::Read { .. } | Self::Torn { .. } => None,
        }
    }

    /// Returns the same of a log in several files, with lines counted from the start of the file that holds the line:
    /// `before` lines are in files before it.
    pub fn in_file(mut self, before: u64) -> Self {
        match &mut self {
            Self::Read { line, .. }
            | Self::Length { line, .. }
            | Self::NotAnEntry { line, .. }
            | Self::Edited { line, .. }
            | Self::EditedNearEnd { line, .. }
            | Self::Removed { line, .. }
            | Self::Reordered { line, .. }
            | Self::PutIn { line, .. }
            | Self::Torn { line, .. } => *line -= before,
        }
        self
    }
}

/// Puts a range of entries into words, with their verb.
fn were(first: u64, last: u64) -> String {
    if first == last { format!("entry {first} was") } else { format!("entries {first} to {last} were") }
}

fn next_line(reader: &mut impl BufRead, line: u64, entry: u64) -> Result<Next, VerifyError> {
    let mut text = Vec::new();
    let limit = MAX_LINE as u64 + 1;
    let read = reader.by_ref().take(limit).read_until(b'\n', &mut text);
    read.map_err(|source| VerifyError::Read { line, source })?;
    if text.is_empty() {
        return Ok(Next::End);
    }
    if text.len() > MAX_LINE {
        return Err(VerifyError::Length { line, entry });
    }
    if text.last() != Some(&b'\n') {
        return Ok(Next::Torn);
    }
    let link: Link<'_> =
        serde_json::from_slice(&text).map_err(|source| VerifyError::NotAnEntry { line, entry, source })?;
    let (seq, prev, time) = (link.seq, link.prev, link.time.parse().ok());
    let digest = line_digest(&text);
    Ok(Next::Line(Line { text, seq, prev, time, digest }))
}
