//! The 512-byte header block (POSIX.1-2017, `pax`, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format").

use std::ops::Range;

use super::error::Refusal;
use super::number;
use crate::Escaped;

pub(super) const BLOCK: usize = 512;

/// Largest number of a user or group; the one after it is -1, which tells `chown` to change nothing.
pub(super) const MAX_ID: u32 = u32::MAX - 1;

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const TYPE: usize = 156;
const LINK: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..265;
const MAJOR: Range<usize> = 329..337;
const MINOR: Range<usize> = 337..345;
const PREFIX: Range<usize> = 345..500;
const STAR_PREFIX: Range<usize> = 345..476;
const STAR_TRAILER: Range<usize> = 508..512;
const GNU_ATIME: Range<usize> = 345..357;
const GNU_CTIME: Range<usize> = 357..369;
const GNU_SPARSE: Range<usize> = 386..482;
const GNU_EXTENDED: usize = 482;
const GNU_REAL_SIZE: Range<usize> = 483..495;
const GNU_EXTENSION_SPARSE: Range<usize> = 0..504;
const GNU_EXTENSION_EXTENDED: usize = 504;

/// A header whose checksum is right.
pub(super) struct Header {
    block: [u8; BLOCK],
}

impl Header {
    /// Checks a block's checksum, the sum of its bytes with the checksum taken as spaces. Some old writers summed
    /// signed bytes.
    pub(super) fn new(block: [u8; BLOCK]) -> Result<Self, Refusal> {
        let header = Self { block };
        let expected = header.number("checksum", CHECKSUM)?;
        let (mut unsigned, mut signed) = (0i64, 0i64);
        for byte in block[..CHECKSUM.start].iter().chain(&[b' '; 8]).chain(&block[CHECKSUM.end..]) {
            unsigned += i64::from(*byte);
            signed += i64::from(*byte as i8);
        }
        if expected != unsigned && expected != signed {
            return Err(Refusal::Checksum { expected, got: unsigned });
        }
        Ok(header)
    }

    pub(super) fn type_flag(&self) -> u8 {
        self.block[TYPE]
    }

    /// Returns the name, with the prefix where the dialect has one.
    pub(super) fn name(&self) -> Vec<u8> {
        let name = until_nul(&self.block[NAME]);
        match self.prefix() {
            b"" => name.to_vec(),
            prefix => [prefix, b"/", name].concat(),
        }
    }

    fn prefix(&self) -> &[u8] {
        if self.block[MAGIC].starts_with(b"ustar\0") {
            // star keeps times in the last bytes of the prefix.
            let is_star = &self.block[STAR_TRAILER] == b"tar\0";
            return until_nul(&self.block[if is_star { STAR_PREFIX } else { PREFIX }]);
        }
        // GNU's magic announces times in the place of the prefix. Go before 1.8 wrote a prefix all the same, and
        // layers of that time are around; Go's reader takes as one what is ASCII and no times.
        let is_time =
            |range: Range<usize>| self.block[range.start] == 0 || number::field(&self.block[range]).is_some();
        let prefix = until_nul(&self.block[PREFIX]);
        let is_prefix = self.is_gnu() && !(is_time(GNU_ATIME) && is_time(GNU_CTIME)) && prefix.is_ascii();
        if is_prefix { prefix } else { b"" }
    }

    pub(super) fn link(&self) -> &[u8] {
        until_nul(&self.block[LINK])
    }

    /// Returns the permission bits; others, which some writers copy from `st_mode`, are dropped.
    pub(super) fn mode(&self) -> Result<u16, Refusal> {
        Ok((self.number("mode", MODE)? & 0o7777) as u16)
    }

    pub(super) fn uid(&self) -> Result<u32, Refusal> {
        self.id("uid", UID)
    }

    pub(super) fn gid(&self) -> Result<u32, Refusal> {
        self.id("gid", GID)
    }

    pub(super) fn size(&self) -> Result<u64, Refusal> {
        self.number_u63("size", SIZE)
    }

    pub(super) fn mtime(&self) -> Result<i64, Refusal> {
        self.number("mtime", MTIME)
    }

    pub(super) fn major(&self) -> Result<u32, Refusal> {
        self.number_u32("devmajor", MAJOR)
    }

    pub(super) fn minor(&self) -> Result<u32, Refusal> {
        self.number_u32("devminor", MINOR)
    }

    /// Says whether the header has the fields of old GNU tar.
    pub(super) fn is_gnu(&self) -> bool {
        &self.block[MAGIC] == b"ustar  \0"
    }

    /// Returns the length of a sparse file, holes counted.
    pub(super) fn real_size(&self) -> Result<u64, Refusal> {
        self.number_u63("realsize", GNU_REAL_SIZE)
    }

    /// Returns the first regions of a sparse file, and whether a block with more of them follows.
    pub(super) fn sparse(&self, regions: &mut Vec<(u64, u64)>) -> Result<bool, Refusal> {
        sparse_regions(&self.block[GNU_SPARSE], regions)?;
        Ok(self.block[GNU_EXTENDED] != 0)
    }

    fn number(&self, field: &'static str, range: Range<usize>) -> Result<i64, Refusal> {
        let bytes = &self.block[range];
        number::field(bytes).ok_or_else(|| Refusal::Number { field, value: Escaped::new(bytes) })
    }

    fn number_u32(&self, field: &'static str, range: Range<usize>) -> Result<u32, Refusal> {
        let value = self.number(field, range)?;
        u32::try_from(value).map_err(|_| Refusal::Range { field, value, limit: u32::MAX.into() })
    }

    /// Returns a user's or group's number.
    fn id(&self, field: &'static str, range: Range<usize>) -> Result<u32, Refusal> {
        let value = self.number(field, range)?;
        let id = u32::try_from(value).ok().filter(|id| *id <= MAX_ID);
        id.ok_or(Refusal::Range { field, value, limit: MAX_ID.into() })
    }

    fn number_u63(&self, field: &'static str, range: Range<usize>) -> Result<u64, Refusal> {
        let value = self.number(field, range)?;
        u64::try_from(value).map_err(|_| Refusal::Range { field, value, limit: i64::MAX as u64 })
    }
}

/// Reads a block with further regions of a sparse file; returns whether yet another follows.
pub(super) fn sparse_extension(block: &[u8; BLOCK], regions: &mut Vec<(u64, u64)>) -> Result<bool, Refusal> {
    sparse_regions(&block[GNU_EXTENSION_SPARSE], regions)?;
    Ok(block[GNU_EXTENSION_EXTENDED] != 0)
}

fn sparse_regions(bytes: &[u8], regions: &mut Vec<(u64, u64)>) -> Result<(), Refusal> {
    for region in bytes.chunks_exact(24) {
        // An empty field, not a zero, ends the list: an empty region may stand at the end of a file. Of a region
        // with one empty field some readers say that it ends the list, others that it doesn't.
        if region[0] == 0 && region[12] == 0 {
            break;
        }
        let number = |bytes: &[u8]| {
            let value = number::field(bytes).and_then(|value| u64::try_from(value).ok());
            let value = value.filter(|_| bytes[0] != 0);
            value.ok_or_else(|| Refusal::Number { field: "sparse map", value: Escaped::new(bytes) })
        };
        regions.push((number(&region[..12])?, number(&region[12..])?));
    }
    Ok(())
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len())]
}
