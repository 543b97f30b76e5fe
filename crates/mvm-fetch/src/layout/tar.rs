//! The places of the members of a tar file, and where its links lead; nothing else of them is looked at.
//!
//! Source: POSIX.1-2017, pax, sections "ustar Interchange Format" and "pax Header Block"; the GNU tar manual,
//! "Basic Tar Format", for numbers in base 256 and for long names.

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

/// A member and the place of its content.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub name: Vec<u8>,
    pub kind: MemberKind,
    pub offset: u64,
    pub size: u64,
}

/// What a member is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum MemberKind {
    File,
    /// To a path from the directory of the member.
    SymbolicLink(Vec<u8>),
    /// To a path from the root of the archive.
    HardLink(Vec<u8>),
    /// A directory, a device, or a file that isn't stored as it is.
    Other,
}

/// Walks over the members of a tar file of `length` bytes.
pub(crate) fn members(file: &File, length: u64) -> impl Iterator<Item = Result<Member, TarError>> {
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
    link: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
    /// Of GNU tar, which a pax header overrules.
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
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
                b'x' => self.extended(header_at, offset, size, &mut extended)?,
                b'L' => extended.long_path = Some(self.long_name(header_at, offset, size)?),
                b'K' => extended.long_link = Some(self.long_name(header_at, offset, size)?),
                b'g' => {}
                _ => {
                    let Extended { path, link, sparse, long_path, long_link, .. } = extended;
                    let name = path.or(long_path).unwrap_or_else(|| name(&header));
                    let target = link.or(long_link).unwrap_or_else(|| text(&header[157..257]));
                    let kind = match kind {
                        // A directory of the oldest format.
                        b'0' | b'\0' | b'7' if sparse || name.ends_with(b"/") => MemberKind::Other,
                        b'0' | b'\0' | b'7' => MemberKind::File,
                        b'1' => MemberKind::HardLink(target),
                        b'2' => MemberKind::SymbolicLink(target),
                        _ => MemberKind::Other,
                    };
                    return Ok(Some(Member { name, kind, offset, size: stored }));
                }
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

    fn extended(
        &self,
        header_at: u64,
        offset: u64,
        size: u64,
        extended: &mut Extended,
    ) -> Result<(), TarError> {
        let bad = || TarError::Extended { offset: header_at };
        let bytes = self.body(header_at, offset, size)?;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (record, after) = split_record(rest).ok_or_else(bad)?;
            rest = after;
            match record {
                (b"path", value) => extended.path = Some(value.to_owned()),
                (b"linkpath", value) => extended.link = Some(value.to_owned()),
                (b"size", value) => extended.size = Some(decimal(value).ok_or_else(bad)?),
                (key, _) => extended.sparse |= key.starts_with(b"GNU.sparse."),
            }
        }
        Ok(())
    }

    fn long_name(&self, header_at: u64, offset: u64, size: u64) -> Result<Vec<u8>, TarError> {
        Ok(text(&self.body(header_at, offset, size)?))
    }

    /// Reads what belongs to a header about the next one.
    fn body(&self, header_at: u64, offset: u64, size: u64) -> Result<Vec<u8>, TarError> {
        if size > MAX_EXTENDED_HEADER {
            return Err(TarError::Extended { offset: header_at });
        }
        let mut bytes = vec![0; size as usize];
        self.file.read_exact_at(&mut bytes, offset).map_err(|source| TarError::Read { offset, source })?;
        Ok(bytes)
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
    if let [0x80, digits @ ..] = field {
        return digits
            .iter()
            .try_fold(0_u64, |number, &digit| number.checked_mul(256)?.checked_add(u64::from(digit)));
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

/// Returns what is before the first NUL.
fn text(field: &[u8]) -> Vec<u8> {
    field.iter().copied().take_while(|&b| b != 0).collect()
}

/// Joins the name's two fields; the first one has a meaning only in headers that say `ustar` and a NUL.
fn name(header: &[u8; BLOCK]) -> Vec<u8> {
    let (name, prefix) = (text(&header[..100]), text(&header[345..500]));
    if &header[257..263] != b"ustar\0" || prefix.is_empty() {
        return name;
    }
    [prefix, b"/".to_vec(), name].concat()
}
