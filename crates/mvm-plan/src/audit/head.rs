//! The record of where a log ends, kept beside it: what tells that lines are missing at the end.

use crate::canonical::{self, CanonicalError};
use mvm_ref::Digest;
use serde::{Deserialize, Serialize};

/// Where a log ends.
///
/// On disk it is canonical JSON, filled up with spaces to [`Head::SIZE`] bytes, the last of which is a newline: it is
/// always written over itself, which needs no room on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Number of entries.
    pub entries: u64,
    /// Digest of the last line.
    pub head: Digest,
    /// Digest of the first line.
    pub origin: Digest,
    /// Number of the first entry in the file that is written to.
    pub first: u64,
    /// Bytes of that file.
    pub bytes: u64,
    /// Number of entries that the last checkpoint covers; 0 if there is none.
    pub checkpoint: u64,
}

/// Says why bytes are no record of a log's end, or none can be made.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// The record could not be written.
    #[error("writing the record of the log's end")]
    Write(#[source] CanonicalError),
    /// The text is too long.
    #[error("record of the log's end has {got} bytes; expected {}", Head::SIZE)]
    Length {
        /// Its bytes.
        got: usize,
    },
    /// The text is no such record.
    #[error("reading the record of the log's end")]
    Read(#[source] CanonicalError),
}

impl Head {
    /// Bytes of a record.
    pub const SIZE: usize = 512;

    /// Returns the record's bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, HeadError> {
        let mut bytes = canonical::to_vec(self).map_err(HeadError::Write)?;
        if bytes.len() >= Self::SIZE {
            return Err(HeadError::Length { got: bytes.len() });
        }
        bytes.resize(Self::SIZE - 1, b' ');
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads a record.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeadError> {
        if bytes.len() != Self::SIZE {
            return Err(HeadError::Length { got: bytes.len() });
        }
        canonical::from_slice(bytes.trim_ascii_end()).map_err(HeadError::Read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        let digest = |byte| Digest::from_sha256([byte; 32]);
        Head { entries: 19, head: digest(1), origin: digest(2), first: 7, bytes: 4096, checkpoint: 12 }
    }

    #[test]
    fn a_record_is_its_bytes() {
        let bytes = head().to_bytes().unwrap();
        assert_eq!(bytes.len(), Head::SIZE);
        let ones = "01".repeat(32);
        let text = format!(
            r#"{{"bytes":4096,"checkpoint":12,"entries":19,"first":7,"head":"sha256:{ones}","origin":"sha256:{}"}}"#,
            "02".repeat(32)
        );
        assert_eq!(bytes.trim_ascii_end(), text.as_bytes());
        assert_eq!(Head::parse(&bytes).unwrap(), head());
        let largest = (1 << 53) - 1;
        let full = Head { entries: largest, first: largest, bytes: largest, checkpoint: largest, ..head() };
        assert_eq!(Head::parse(&full.to_bytes().unwrap()).unwrap(), full);
    }

    #[test]
    fn other_bytes_are_refused() {
        let bytes = head().to_bytes().unwrap();
        let changed = |from: &[u8], to: &[u8]| {
            let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
            let mut changed = bytes.clone();
            changed[at..at + to.len()].copy_from_slice(to);
            changed
        };
        let table = [
            Vec::new(),
            bytes[..511].to_vec(),
            [&bytes[..], b" "].concat(),
            vec![0; Head::SIZE],
            vec![b' '; Head::SIZE],
            changed(b"19", b"9a"),
            changed(b"\"entries\"", b"\"entriez\""),
            changed(b"} ", b"}}"),
        ];
        for bytes in table {
            assert!(Head::parse(&bytes).is_err(), "{:?}", String::from_utf8_lossy(&bytes));
        }
    }
}
