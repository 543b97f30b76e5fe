//! The check of a whole log, line by line.

use super::{MAX_LINE, ORIGIN, line_digest};
use mvm_ref::Digest;
use serde::Deserialize;
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

/// Says which line of a log is the first that is wrong; lines count from 1.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The log could not be read.
    #[error("reading audit line {line}")]
    Read {
        /// The line.
        line: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line is too long to be an entry.
    #[error("audit line {line} has more than {MAX_LINE} bytes")]
    Length {
        /// The line.
        line: u64,
    },
    /// A line is not an entry.
    #[error("audit line {line} is not an entry: it was overwritten")]
    NotAnEntry {
        /// The line.
        line: u64,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A line is not as it was written.
    #[error("audit line {line} was edited")]
    Edited {
        /// The line.
        line: u64,
    },
    /// The last line and the one before it do not fit; no later line tells which of them is as it was written.
    #[error("audit line {line} or the one after it was edited")]
    EditedNearEnd {
        /// The first of the two.
        line: u64,
    },
    /// A line does not follow the one before it.
    #[error(
        "audit line {line} is entry {got}, expected entry {expected}: lines were removed, added or reordered"
    )]
    Sequence {
        /// The line.
        line: u64,
        /// The entry that belongs there.
        expected: u64,
        /// The entry that stands there.
        got: u64,
    },
    /// The last line has no newline: its writing was cut short. The lines before it are whole.
    #[error("audit line {line} was cut short while it was written; {} whole bytes come before it", whole.bytes)]
    Torn {
        /// The line.
        line: u64,
        /// What comes before it, and continues when the log is cut to `whole.bytes`.
        whole: ChainSummary,
    },
}

/// The members that make the chain. The others are left alone, so that a log with newer events can still be checked.
#[derive(Clone, Copy, Deserialize)]
struct Link {
    seq: u64,
    prev: Digest,
}

/// One line as it stands.
struct Line {
    link: Link,
    digest: Digest,
    bytes: u64,
}

enum Next {
    Line(Line),
    Torn,
    End,
}

/// Reads a log to its end and checks that every line follows the one before it.
///
/// Memory is bounded by the longest line. Names the first line that is wrong, as closely as the chain can tell.
pub fn verify(mut reader: impl BufRead) -> Result<ChainSummary, VerifyError> {
    let mut whole = ChainSummary { entries: 0, head: ORIGIN, bytes: 0 };
    loop {
        let number = whole.entries + 1;
        let line = match next_line(&mut reader, number)? {
            Next::End => return Ok(whole),
            Next::Torn => return Err(VerifyError::Torn { line: number, whole }),
            Next::Line(line) => line,
        };
        let (linked, counted) = (line.link.prev == whole.head, line.link.seq == whole.entries);
        match (linked, counted) {
            (true, true) => {}
            (true, false) => return Err(VerifyError::Edited { line: number }),
            (false, true) => return Err(edited(&mut reader, number, line.digest)),
            (false, false) => {
                let (expected, got) = (whole.entries, line.link.seq);
                return Err(VerifyError::Sequence { line: number, expected, got });
            }
        }
        whole = ChainSummary { entries: number, head: line.digest, bytes: whole.bytes + line.bytes };
    }
}

/// Tells whether line `number`, whose link is broken, or the one before it was edited: if the line after still holds
/// the hash of line `number`, that line is as it was written.
fn edited(reader: &mut impl BufRead, number: u64, digest: Digest) -> VerifyError {
    if number == 1 {
        return VerifyError::Edited { line: 1 };
    }
    match next_line(reader, number + 1) {
        Ok(Next::Line(after)) if after.link.prev == digest => VerifyError::Edited { line: number - 1 },
        Ok(Next::Line(_)) => VerifyError::Edited { line: number },
        Ok(Next::Torn | Next::End) | Err(_) => VerifyError::EditedNearEnd { line: number - 1 },
    }
}

fn next_line(reader: &mut impl BufRead, line: u64) -> Result<Next, VerifyError> {
    let mut text = Vec::new();
    let limit = MAX_LINE as u64 + 1;
    let read = reader.by_ref().take(limit).read_until(b'\n', &mut text);
    read.map_err(|source| VerifyError::Read { line, source })?;
    if text.is_empty() {
        return Ok(Next::End);
    }
    if text.len() > MAX_LINE {
        return Err(VerifyError::Length { line });
    }
    if text.last() != Some(&b'\n') {
        return Ok(Next::Torn);
    }
    let link = serde_json::from_slice(&text).map_err(|source| VerifyError::NotAnEntry { line, source })?;
    Ok(Next::Line(Line { link, digest: line_digest(&text), bytes: text.len() as u64 }))
}
