//! Maps of sparse files: old GNU, and PAX versions 0.0, 0.1 and 1.0 (GNU tar manual, "Storing Sparse Files").

use std::io::BufRead;

use super::error::{Refusal, SparseFault};
use super::header::{BLOCK, Header, sparse_extension};
use super::input::{Fault, Input};
use super::number::decimal;
use crate::LayerSink;

/// Most regions that a map may have, which bounds its memory to 2 MiB.
const MAX_REGIONS: usize = 1 << 17;

/// What PAX records with the prefix `GNU.sparse.` say.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    major: Option<u64>,
    minor: Option<u64>,
    name: Option<Vec<u8>>,
    real_size: Option<u64>,
    /// Numbers of the map: offset and length in turn.
    map: Vec<u64>,
    is_present: bool,
}

/// A regular file with holes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sparse {
    /// Length of the file, holes counted.
    pub(super) size: u64,
    /// Bytes in the archive that are data, without a map.
    pub(super) stored: u64,
    /// Offset and length of what is stored, ascending.
    pub(super) regions: Vec<(u64, u64)>,
}

impl From<SparseFault> for Refusal {
    fn from(reason: SparseFault) -> Self {
        Self::Sparse { reason }
    }
}

impl Records {
    /// Sets a record; `key` is without its prefix.
    pub(super) fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), Refusal> {
        let number = || decimal(value).filter(|n| i64::try_from(*n).is_ok()).ok_or(SparseFault::Number);
        match key {
            b"major" => self.major = Some(number()?),
            b"minor" => self.minor = Some(number()?),
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.real_size = Some(number()?),
            b"offset" | b"numbytes" => {
                // Version 0.0 repeats the two keys, in turn.
                if self.map.len().is_multiple_of(2) != (key == b"offset") {
                    return Err(SparseFault::Order.into());
                }
                self.push(number()?)?;
            }
            b"map" => {
                self.map.clear();
                for number in value.split(|b| *b == b',').filter(|_| !value.is_empty()) {
                    self.push(decimal(number).ok_or(SparseFault::Number)?)?;
                }
            }
            _ => return Ok(()),
        }
        self.is_present = true;
        Ok(())
    }

    fn push(&mut self, number: u64) -> Result<(), SparseFault> {
        if self.map.len() >= 2 * MAX_REGIONS {
            return Err(SparseFault::Long);
        }
        self.map.push(number);
        Ok(())
    }

    /// Says whether there are any.
    pub(super) fn is_present(&self) -> bool {
        self.is_present
    }

    /// Returns the file's name, which the header has in a changed form.
    pub(super) fn name(&self) -> Option<&[u8]> {
        self.name.as_deref()
    }

    /// Returns the file's shape; a map at the start of its data is read from `input`. `archived` is the size of the
    /// entry.
    pub(super) fn file<R: BufRead, S: LayerSink>(
        self,
        archived: u64,
        input: &mut Input<'_, R, S>,
    ) -> Result<Sparse, Fault<S::Error>> {
        let (numbers, stored) = match (self.major, self.minor) {
            (Some(1), Some(0)) => read_map(archived, input)?,
            (None, None) | (Some(0), Some(0 | 1)) => (self.map, archived),
            _ => return Err(SparseFault::Version.into()),
        };
        let size = self.real_size.ok_or(SparseFault::Size)?;
        let (pairs, odd) = numbers.as_chunks::<2>();
        if !odd.is_empty() {
            return Err(SparseFault::Number.into());
        }
        let regions = pairs.iter().map(|[offset, len]| (*offset, *len)).collect();
        Ok(Sparse { size, stored, regions }.checked()?)
    }
}

/// Reads the map of version 1.0: decimal numbers, each with a line feed, the first one the number of regions,
/// padded to a whole block. Returns it and the bytes of data that follow.
fn read_map<R: BufRead, S: LayerSink>(
    archived: u64,
    input: &mut Input<'_, R, S>,
) -> Result<(Vec<u64>, u64), Fault<S::Error>> {
    let mut stored = archived;
    let mut numbers: Vec<u64> = Vec::new();
    let mut wanted = 1;
    let mut digits: Vec<u8> = Vec::new();
    while numbers.len() < wanted {
        stored = stored.checked_sub(BLOCK as u64).ok_or(SparseFault::Size)?;
        for byte in input.block()? {
            if byte != b'\n' {
                digits.push(byte);
                if digits.len() > 20 {
                    return Err(SparseFault::Number.into());
                }
                continue;
            }
            let number = decimal(&digits).ok_or(SparseFault::Number)?;
            digits.clear();
            if numbers.is_empty() {
                let count = usize::try_from(number).ok().filter(|count| *count <= MAX_REGIONS);
                wanted = 1 + 2 * count.ok_or(SparseFault::Long)?;
            }
            numbers.push(number);
            if numbers.len() == wanted {
                break;
            }
        }
    }
    numbers.remove(0);
    Ok((numbers, stored))
}

impl Sparse {
    /// Returns a file without holes.
    pub(super) fn dense(size: u64) -> Self {
        Self { size, stored: size, regions: vec![(0, size)] }
    }

    /// Reads the map of old GNU tar, which starts in the header and goes on in the blocks after it.
    pub(super) fn old_gnu<R: BufRead, S: LayerSink>(
        header: &Header,
        stored: u64,
        input: &mut Input<'_, R, S>,
    ) -> Result<Self, Fault<S::Error>> {
        if !header.is_gnu() {
            return Err(SparseFault::Version.into());
        }
        let mut regions = Vec::new();
        let mut is_extended = header.sparse(&mut regions)?;
        while is_extended {
            if regions.len() > MAX_REGIONS {
                return Err(SparseFault::Long.into());
            }
            let count = regions.len();
            is_extended = sparse_extension(&input.block()?, &mut regions)?;
            // A chain of empty blocks would never reach the bound.
            if is_extended && regions.len() == count {
                return Err(SparseFault::Order.into());
            }
        }
        Ok(Self { size: header.real_size()?, stored, regions }.checked()?)
    }

    fn checked(self) -> Result<Self, SparseFault> {
        let (mut end, mut sum) = (0u64, 0u64);
        let last = self.regions.iter().rposition(|(_, len)| *len > 0).unwrap_or(0);
        for (index, (offset, len)) in self.regions.iter().enumerate() {
            if *offset < end {
                return Err(SparseFault::Order);
            }
            end = offset.checked_add(*len).filter(|end| *end <= self.size).ok_or(SparseFault::Order)?;
            sum += len;
            if index < last && len % BLOCK as u64 != 0 {
                return Err(SparseFault::Unaligned);
            }
        }
        if sum != self.stored {
            return Err(SparseFault::Size);
        }
        Ok(self)
    }
}
