//! A writer of tar archives that puts every byte where it is told, right or wrong.
//!
//! Layout of headers: POSIX.1-2017, `pax`, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format".

use std::ops::Range;

/// Size of a header and unit of everything else.
pub const BLOCK: usize = 512;

/// Modification time of entries that say nothing else: an ordinary day.
pub const TIME: i64 = 1_600_000_000;

/// Fields of the header.
pub mod field {
    use std::ops::Range;

    /// First 100 bytes of the path.
    pub const NAME: Range<usize> = 0..100;
    /// Permission bits.
    pub const MODE: Range<usize> = 100..108;
    /// Owner.
    pub const UID: Range<usize> = 108..116;
    /// Group.
    pub const GID: Range<usize> = 116..124;
    /// Bytes of data.
    pub const SIZE: Range<usize> = 124..136;
    /// Modification time.
    pub const MTIME: Range<usize> = 136..148;
    /// Sum of all bytes of the header.
    pub const CHECKSUM: Range<usize> = 148..156;
    /// Kind of the entry.
    pub const TYPE: usize = 156;
    /// Target of a link.
    pub const LINK: Range<usize> = 157..257;
    /// Magic and version.
    pub const MAGIC: Range<usize> = 257..265;
    /// Major number of a device.
    pub const MAJOR: Range<usize> = 329..337;
    /// Minor number of a device.
    pub const MINOR: Range<usize> = 337..345;
    /// What comes before the name in ustar.
    pub const PREFIX: Range<usize> = 345..500;
    /// Regions of a sparse file in old GNU headers.
    pub const GNU_SPARSE: Range<usize> = 386..482;
    /// Whether more regions follow.
    pub const GNU_EXTENDED: usize = 482;
    /// Length of a sparse file.
    pub const GNU_REAL_SIZE: Range<usize> = 483..495;
}

/// Magic and version of POSIX.
pub const USTAR: &[u8] = b"ustar\x0000";
/// Magic and version of GNU tar.
pub const GNU: &[u8] = b"ustar  \0";
/// No magic: tar of the seventh edition.
pub const V7: &[u8] = &[0; 8];

/// How the checksum is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sum {
    Unsigned,
    Signed,
    OffBy(i64),
}

/// One entry with what comes before and after it.
#[derive(Debug, Clone)]
pub struct Entry {
    header: [u8; BLOCK],
    /// Whole extended headers, written first.
    before: Vec<u8>,
    pax: Vec<u8>,
    data: Vec<u8>,
    sum: Sum,
}

impl Entry {
    /// Describes an entry of this type. A long path or link target goes into a PAX record.
    pub fn new(flag: u8, path: impl AsRef<[u8]>) -> Self {
        let mut entry = Self {
            header: [0; BLOCK],
            before: Vec::new(),
            pax: Vec::new(),
            data: Vec::new(),
            sum: Sum::Unsigned,
        };
        entry.header[field::TYPE] = flag;
        let mode = match flag {
            b'5' => 0o755,
            b'2' => 0o777,
            _ => 0o644,
        };
        let entry = entry.put(field::MAGIC, USTAR).mode(mode).owner(0, 0).mtime(TIME).size(0);
        let path = path.as_ref();
        if path.len() > field::NAME.len() {
            entry.pax("path", path).put(field::NAME, &path[..field::NAME.len()])
        } else {
            entry.put(field::NAME, path)
        }
    }

    /// Describes a directory.
    pub fn dir(path: impl AsRef<[u8]>) -> Self {
        Self::new(b'5', path)
    }

    /// Describes a regular file.
    pub fn file(path: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Self {
        Self::new(b'0', path).data(data)
    }

    /// Describes a symbolic link.
    pub fn symlink(path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Self::new(b'2', path).target(target)
    }

    /// Describes a hard link.
    pub fn link(path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Self::new(b'1', path).target(target)
    }

    /// Describes a device, `b'3'` for characters and `b'4'` for blocks.
    pub fn device(flag: u8, path: impl AsRef<[u8]>, major: u64, minor: u64) -> Self {
        Self::new(flag, path).octal(field::MAJOR, major).octal(field::MINOR, minor)
    }

    /// Describes a global PAX header with these records.
    pub fn global(records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            data.extend(record(key, value));
        }
        Self::new(b'g', "pax_global_header").data(data)
    }

    /// Sets the target of a link.
    pub fn target(self, target: impl AsRef<[u8]>) -> Self {
        let target = target.as_ref();
        if target.len() > field::LINK.len() {
            self.pax("linkpath", target).put(field::LINK, &target[..field::LINK.len()])
        } else {
            self.put(field::LINK, target)
        }
    }

    /// Sets the data, and the size that the header says.
    pub fn data(mut self, data: impl AsRef<[u8]>) -> Self {
        self.data = data.as_ref().to_vec();
        let size = self.data.len() as u64;
        self.size(size)
    }

    /// Sets the size that the header says, whatever follows.
    pub fn size(self, size: u64) -> Self {
        self.octal(field::SIZE, size)
    }

    /// Sets the permission bits.
    pub fn mode(self, mode: u64) -> Self {
        self.octal(field::MODE, mode)
    }

    /// Sets owner and group.
    pub fn owner(self, uid: u64, gid: u64) -> Self {
        self.octal(field::UID, uid).octal(field::GID, gid)
    }

    /// Sets the modification time, in base-256 where octal digits can't say it.
    pub fn mtime(self, seconds: i64) -> Self {
        match u64::try_from(seconds) {
            Ok(seconds) => self.octal(field::MTIME, seconds),
            Err(_) => self.base256(field::MTIME, seconds.into()),
        }
    }

    /// Sets magic and version.
    pub fn magic(self, magic: &[u8]) -> Self {
        self.put(field::MAGIC, magic)
    }

    /// Fills a field with bytes, the rest of it with zeros.
    pub fn put(mut self, range: Range<usize>, bytes: impl AsRef<[u8]>) -> Self {
        let (bytes, place) = (bytes.as_ref(), &mut self.header[range]);
        let length = bytes.len().min(place.len());
        place[..length].copy_from_slice(&bytes[..length]);
        place[length..].fill(0);
        self
    }

    /// Fills a field with octal digits, or in base-256 if they have no room.
    pub fn octal(self, range: Range<usize>, value: u64) -> Self {
        let width = range.len() - 1;
        let digits = format!("{value:0width$o}");
        if digits.len() > width { self.base256(range, value.into()) } else { self.put(range, digits) }
    }

    /// Fills a field with a two's complement number under GNU's mark.
    pub fn base256(self, range: Range<usize>, value: i128) -> Self {
        let bytes = value.to_be_bytes();
        let mut bytes = bytes[bytes.len() - range.len()..].to_vec();
        bytes[0] |= 0x80;
        self.put(range, bytes)
    }

    /// Adds a record to the entry's PAX header.
    pub fn pax(mut self, key: &str, value: impl AsRef<[u8]>) -> Self {
        self.pax.extend(record(key, value.as_ref()));
        self
    }

    /// Adds an extended attribute as GNU tar and star write it.
    pub fn xattr(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.pax(&format!("SCHILY.xattr.{name}"), value)
    }

    /// Adds bytes to the entry's PAX header as they are.
    pub fn raw_pax(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.pax.extend(bytes.as_ref());
        self
    }

    /// Puts an extended header of another type before the entry: `L` and `K` are GNU's long name and link target.
    pub fn extended(mut self, flag: u8, payload: impl AsRef<[u8]>) -> Self {
        let header = Self::new(flag, "././@LongLink").magic(GNU).data(payload);
        self.before.extend(header.bytes());
        self
    }

    /// Sums signed bytes, as some old writers did.
    pub fn signed_checksum(mut self) -> Self {
        self.sum = Sum::Signed;
        self
    }

    /// Writes a checksum that is wrong by this much.
    pub fn checksum_off_by(mut self, error: i64) -> Self {
        self.sum = Sum::OffBy(error);
        self
    }

    /// Returns the entry's blocks: extended headers, header, data, padding.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.before.clone();
        if !self.pax.is_empty() {
            let header = Self::new(b'x', "PaxHeaders/entry").data(&self.pax);
            bytes.extend(header.bytes());
        }
        bytes.extend(self.header_block());
        bytes.extend(&self.data);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }

    fn header_block(&self) -> [u8; BLOCK] {
        let mut block = self.header;
        block[field::CHECKSUM].fill(b' ');
        let unsigned: i64 = block.iter().map(|byte| i64::from(*byte)).sum();
        let signed: i64 = block.iter().map(|byte| i64::from(*byte as i8)).sum();
        let sum = match self.sum {
            Sum::Unsigned => unsigned,
            Sum::Signed => signed,
            Sum::OffBy(error) => unsigned + error,
        };
        let text = format!("{sum:06o}\0 ");
        block[field::CHECKSUM].copy_from_slice(&text.as_bytes()[..8]);
        block
    }
}

/// Returns a PAX record, `LENGTH KEY=VALUE` and a line feed.
pub fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let body = key.len() + value.len() + 3;
    let mut length = body + 1;
    while length != body + length.to_string().len() {
        length = body + length.to_string().len();
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

/// An archive in the making.
#[derive(Debug, Clone, Default)]
pub struct Tar {
    bytes: Vec<u8>,
    is_open: bool,
}

impl Tar {
    /// Returns an archive without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry.
    pub fn with(mut self, entry: Entry) -> Self {
        self.push(entry);
        self
    }

    /// Adds an entry in place.
    pub fn push(&mut self, entry: Entry) {
        self.bytes.extend(entry.bytes());
    }

    /// Adds entries.
    pub fn all(mut self, entries: impl IntoIterator<Item = Entry>) -> Self {
        entries.into_iter().for_each(|entry| self.push(entry));
        self
    }

    /// Adds a directory.
    pub fn dir(self, path: impl AsRef<[u8]>) -> Self {
        self.with(Entry::dir(path))
    }

    /// Adds a regular file.
    pub fn file(self, path: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Self {
        self.with(Entry::file(path, data))
    }

    /// Adds a symbolic link.
    pub fn symlink(self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.with(Entry::symlink(path, target))
    }

    /// Adds a hard link.
    pub fn link(self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.with(Entry::link(path, target))
    }

    /// Adds bytes as they are.
    pub fn raw(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.bytes.extend(bytes.as_ref());
        self
    }

    /// Leaves out the two zero blocks at the end.
    pub fn open_end(mut self) -> Self {
        self.is_open = true;
        self
    }

    /// Cuts the last bytes off; implies an open end.
    pub fn cut(mut self, bytes: usize) -> Self {
        self.bytes.truncate(self.bytes.len() - bytes);
        self.open_end()
    }

    /// Returns the archive.
    pub fn finish(mut self) -> Vec<u8> {
        if !self.is_open {
            self.bytes.resize(self.bytes.len() + 2 * BLOCK, 0);
        }
        self.bytes
    }
}
