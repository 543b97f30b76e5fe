//! The places of the regular files in a tar file; nothing else of them is looked at.
//!
//! Source: POSIX.1-2017, pax, sections "ustar Interchange Format" and "pax Header Block"; the GNU tar manual,
//! "Basic Tar Format", for numbers in base 256.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const BLOCK: usize = 512;
const MAX_EXTENDED_HEADER: u64 = 1 << 20;

/// Says why a file can't be read as a tar file.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The file can't be read.
    #[error("cannot read the header at byte {offset}")]
    Read {
        /// Where.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// The checksum of a header is wrong, so that it is none.
    #[error("no tar header at byte {offset}")]
    Checksum {
        /// Where it should be.
        offset: u64,
    },
    /// A header has a size that is not a number.
    #[error("bad size in the tar header at byte {offset}")]
    Size {
        /// Where.
        offset: u64,
    },
    /// An extended header is too long or not a list of records.
    #[error("bad extended header at byte {offset}")]
    Extended {
        /// Where.
        offset: u64,
    },
    /// A member goes on after the end of the file.
    #[error("file ends inside the member at byte {offset}")]
    Truncated {
        /// Where the member's header is.
        offset: u64,
    },
}

/// The place of a regular file's content.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub name: Vec<u8>,
    pub offset: u64,
    pub size: u64,
}

/// Walks over the regular files of a tar file of `length` bytes.
pub(super) fn members(file: &File, length: u64) -> impl Iterator<Item = Result<Member, TarError>> {
    let mut walk = Walk { file, length, at: 0 };
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let member = walk.next().transpose();
        ended = !matches!(member, Some(Ok(_)));
        member
    })
}

struct Walk<'a> {
    file: &'a File,
    length: u64,
    at: u64,
}

/// What an extended header says about the next member.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Walk<'_> {
    fn next(&mut self) -> Result<Option<Member>, TarError> {
        let mut extended = Extended::default();
        loop {
            let header_at = self.at;
            let Some(header) = self.header()? else { return Ok(None) };
            let kind = header[156];
            let size = match extended.size {
                Some(size) if !matches!(kind, b'x' | b'g' | b'L' | b'K') => size,
                _ => number(&header[124..136]).ok_or(TarError::Size { offset: header_at })?,
            };
            let offset = header_at + BLOCK as u64;
            // Only files have content; hard and symbolic links may carry a size that means nothing.
            let stored = if matches!(kind, b'1'..=b'6') { 0 } else { size };
            let end =
                stored.checked_next_multiple_of(BLOCK as u64).and_then(|padded| offset.checked_add(padded));
            let end = end.filter(|_| offset.checked_add(stored).is_some_and(|end| end <= self.length));
            self.at = end.ok_or(TarError::Truncated { offset: header_at })?;
            match kind {
                b'x' => extended = self.extended(header_at, offset, size)?,
                b'0' | b'\0' | b'7' => {
                    let name = extended.path.unwrap_or_else(|| name(&header));
                    return Ok(Some(Member { name, offset, size }));
                }
                b'g' | b'L' | b'K' => {}
                _ => extended = Extended::default(),
            }
        }
    }

    /// Reads the header where the walk stands; nothing at the end of the archive.
    fn header(&self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let offset = self.at;
        if offset >= self.length {
            return Ok(None);
        }
        let mut header = [0; BLOCK];
        match self.file.read_exact_at(&mut header, offset) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(TarError::Truncated { offset });
            }
            result => result.map_err(|source| TarError::Read { offset, source })?,
        }
        if header == [0; BLOCK] {
            return Ok(None);
        }
        let sum: u64 = header.iter().map(|&b| u64::from(b)).sum();
        let field: u64 = header[148..156].iter().map(|&b| u64::from(b)).sum();
        if number(&header[148..156]) != Some(sum - field + 8 * u64::from(b' ')) {
            return Err(TarError::Checksum { offset });
        }
        Ok(Some(header))
    }

    fn extended(&self, header_at: u64, offset: u64, size: u64) -> Result<Extended, TarError> {
        let bad = || TarError::Extended { offset: header_at };
        if size > MAX_EXTENDED_HEADER {
            return Err(bad());
        }
        let mut bytes = vec![0; size as usize];
        self.file.read_exact_at(&mut bytes, offset).map_err(|source| TarError::Read { offset, source })?;
        let mut extended = Extended::default();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (record, after) = split_record(rest).ok_or_else(bad)?;
            rest = after;
            match record {
                (b"path", value) => extended.path = Some(value.to_owned()),
                (b"size", value) => extended.size = Some(decimal(value).ok_or_else(bad)?),
                _ => {}
            }
        }
        Ok(extended)
    }
}

/// Key and value of a record, and the bytes after it.
type Record<'a> = ((&'a [u8], &'a [u8]), &'a [u8]);

/// Splits `LENGTH KEY=VALUE\n` off, where the length counts the whole record.
fn split_record(bytes: &[u8]) -> Option<Record<'_>> {
    let space = bytes.iter().take(20).position(|&b| b == b' ')?;
    let length = usize::try_from(decimal(&bytes[..space])?).ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&b| b == b'=')?;
    Some(((&record[..equals], &record[equals + 1..]), rest))
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok()?;
    if text.starts_with('+') { None } else { text.parse().ok() }
}

/// Reads a number of a header: octal digits between spaces and NULs, or base 256 after a byte 0x80.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] == 0x80 {
        let (high, low) = field.split_at(field.len() - 8);
        let low = u64::from_be_bytes(low.try_into().ok()?);
        return high[1..].iter().all(|&b| b == 0).then_some(low);
    }
    let padding = |b: &u8| matches!(b, b' ' | b'\0');
    let start = field.iter().position(|b| !padding(b)).unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(padding).unwrap_or(digits.len());
    digits[..end].iter().try_fold(0_u64, |number, &digit| match digit {
        b'0'..=b'7' => number.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// Joins the name's two fields; the first one has a meaning only in headers that say `ustar` and a NUL.
fn name(header: &[u8; BLOCK]) -> Vec<u8> {
    let text = |field: &[u8]| field.iter().copied().take_while(|&b| b != 0).collect::<Vec<_>>();
    let (name, prefix) = (text(&header[..100]), text(&header[345..500]));
    if &header[257..263] != b"ustar\0" || prefix.is_empty() {
        return name;
    }
    [prefix, b"/".to_vec(), name].concat()
}
