//! Reads the index of a segment back.

use super::format::{MAGIC, RECORD_MAX, SUMMARY_LEN, SegmentSummary};
use crate::GENERATION;
use mvm_tree::Change;
use std::io::{self, BufReader, Read};

/// Says why an index could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadIndexError<E> {
    /// Reading failed; [`io::ErrorKind::UnexpectedEof`] says that the index is truncated.
    #[error("cannot read the segment index after entry {entries} (byte {offset})")]
    Read {
        /// Changes read so far.
        entries: u64,
        /// Offset of what could not be read.
        offset: u64,
        /// The cause.
        source: io::Error,
    },
    /// The first bytes are not those of an index.
    #[error("not a segment index")]
    Magic,
    /// The index belongs to another image format generation.
    #[error("the segment index has generation {got}, expected {expected}")]
    Generation {
        /// The generation of this crate.
        expected: u32,
        /// The generation found.
        got: u32,
    },
    /// A change claims to be longer than any can be.
    #[error("segment index entry {entry} (byte {offset}) claims {got} bytes, at most {max} are possible")]
    Length {
        /// Number of the change, from 0.
        entry: u64,
        /// Offset of its length.
        offset: u64,
        /// The length found.
        got: u32,
        /// The limit.
        max: usize,
    },
    /// A change can't be decoded.
    #[error("cannot decode segment index entry {entry} (byte {offset})")]
    Decode {
        /// Number of the change, from 0.
        entry: u64,
        /// Offset of its encoding.
        offset: u64,
        /// The cause.
        source: postcard::Error,
    },
    /// Bytes are left over in a change.
    #[error("segment index entry {entry} (byte {offset}) has {surplus} bytes too many")]
    Surplus {
        /// Number of the change, from 0.
        entry: u64,
        /// Offset of its encoding.
        offset: u64,
        /// Bytes left over.
        surplus: usize,
    },
    /// The number of changes at the end is not the number seen.
    #[error("the segment index has {got} entries, its end says {expected}")]
    Count {
        /// The number at the end.
        expected: u64,
        /// The number seen.
        got: u64,
    },
    /// Something follows the end of the index.
    #[error("bytes follow the end of the segment index at byte {offset}")]
    Trailing {
        /// Offset of the first of them.
        offset: u64,
    },
    /// The receiver of the changes refused one.
    #[error(transparent)]
    Refused(E),
}

/// Reads an index, gives each change to `receive` in order, and returns the counts at its end.
///
/// Rejects other generations, truncation and anything after the end. Memory is bounded by the longest
/// possible change, and follows the bytes that are really there.
pub fn read_index<R: Read, E>(
    input: R,
    mut receive: impl FnMut(Change) -> Result<(), E>,
) -> Result<SegmentSummary, ReadIndexError<E>> {
    let mut input = Input { reader: BufReader::with_capacity(256 << 10, input), offset: 0, entries: 0 };
    if input.array()? != MAGIC {
        return Err(ReadIndexError::Magic);
    }
    let got = u32::from_le_bytes(input.array()?);
    if got != GENERATION {
        return Err(ReadIndexError::Generation { expected: GENERATION, got });
    }
    let mut record = Vec::new();
    loop {
        let entry = input.entries;
        let offset = input.offset;
        let len = u32::from_le_bytes(input.array()?);
        if len == 0 {
            break;
        }
        if len as usize > RECORD_MAX {
            return Err(ReadIndexError::Length { entry, offset, got: len, max: RECORD_MAX });
        }
        let offset = input.offset;
        input.bytes(len, &mut record)?;
        let (change, rest) = postcard::take_from_bytes(&record).map_err(|source| ReadIndexError::Decode {
            entry,
            offset,
            source,
        })?;
        if !rest.is_empty() {
            return Err(ReadIndexError::Surplus { entry, offset, surplus: rest.len() });
        }
        receive(change).map_err(ReadIndexError::Refused)?;
        input.entries += 1;
    }
    let summary = SegmentSummary::decode(&input.array::<SUMMARY_LEN, E>()?);
    if summary.entries != input.entries {
        return Err(ReadIndexError::Count { expected: summary.entries, got: input.entries });
    }
    input.expect_end()?;
    Ok(summary)
}

struct Input<R> {
    reader: R,
    offset: u64,
    entries: u64,
}

impl<R: Read> Input<R> {
    fn array<const N: usize, E>(&mut self) -> Result<[u8; N], ReadIndexError<E>> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).map_err(|source| self.error(source))?;
        self.offset += N as u64;
        Ok(bytes)
    }

    fn bytes<E>(&mut self, len: u32, into: &mut Vec<u8>) -> Result<(), ReadIndexError<E>> {
        into.clear();
        let got = self
            .reader
            .by_ref()
            .take(u64::from(len))
            .read_to_end(into)
            .map_err(|source| self.error(source))?;
        if got < len as usize {
            return Err(self.error(io::ErrorKind::UnexpectedEof.into()));
        }
        self.offset += u64::from(len);
        Ok(())
    }

    fn expect_end<E>(&mut self) -> Result<(), ReadIndexError<E>> {
        match io::copy(&mut self.reader.by_ref().take(1), &mut io::sink()) {
            Ok(0) => Ok(()),
            Ok(_) => Err(ReadIndexError::Trailing { offset: self.offset }),
            Err(source) => Err(self.error(source)),
        }
    }

    fn error<E>(&self, source: io::Error) -> ReadIndexError<E> {
        ReadIndexError::Read { entries: self.entries, offset: self.offset, source }
    }
}
