//! What the tests of this crate share: a maker of archives, a sink in memory, an input in small pieces.

use std::convert::Infallible;
use std::io::{self, BufRead, Read};

use crate::{Budget, Change, Content, Extent, LayerSink, LayerSummary, ReadError, UnpackPolicy, read_layer};

/// One header block in the making; ustar, mode 0644, a file without data.
#[derive(Clone)]
pub(crate) struct Block(pub(crate) [u8; 512]);

impl Block {
    pub(crate) fn new(flag: u8, name: &[u8]) -> Self {
        let mut block = Self([0; 512]);
        block.0[..name.len()].copy_from_slice(name);
        block.0[156] = flag;
        block.set(257, b"ustar\x0000").octal(100, 8, 0o644).octal(108, 8, 0).octal(116, 8, 0);
        block.octal(124, 12, 0).octal(136, 12, 0);
        block
    }

    /// Writes bytes at an offset.
    pub(crate) fn set(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// Writes octal digits and a NUL at an offset.
    pub(crate) fn octal(&mut self, at: usize, width: usize, value: u64) -> &mut Self {
        let digits = format!("{value:0digits$o}\0", digits = width - 1);
        self.set(at, digits.as_bytes())
    }

    pub(crate) fn size(&mut self, size: usize) -> &mut Self {
        self.octal(124, 12, size as u64)
    }

    pub(crate) fn link(&mut self, target: &[u8]) -> &mut Self {
        self.set(157, target)
    }

    pub(crate) fn device(&mut self, major: u64, minor: u64) -> &mut Self {
        self.octal(329, 8, major).octal(337, 8, minor)
    }

    /// Returns the block with its checksum, computed over unsigned bytes.
    pub(crate) fn done(&self) -> [u8; 512] {
        let mut block = self.0;
        block[148..156].fill(b' ');
        let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

/// An archive in the making.
#[derive(Clone, Default)]
pub(crate) struct Archive(pub(crate) Vec<u8>);

impl Archive {
    pub(crate) fn block(&mut self, block: &Block) -> &mut Self {
        self.0.extend_from_slice(&block.done());
        self
    }

    /// Adds bytes and pads them to a block.
    pub(crate) fn payload(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn entry(&mut self, flag: u8, name: &str, data: &[u8]) -> &mut Self {
        self.block(Block::new(flag, name.as_bytes()).size(data.len())).payload(data)
    }

    pub(crate) fn file(&mut self, name: &str, data: &str) -> &mut Self {
        self.entry(b'0', name, data.as_bytes())
    }

    pub(crate) fn dir(&mut self, name: &str) -> &mut Self {
        self.entry(b'5', name, b"")
    }

    pub(crate) fn link(&mut self, flag: u8, name: &str, target: &str) -> &mut Self {
        self.block(Block::new(flag, name.as_bytes()).link(target.as_bytes()))
    }

    /// Adds a PAX header.
    pub(crate) fn pax(&mut self, records: &[(&str, &[u8])]) -> &mut Self {
        self.entry(b'x', "PaxHeaders/x", &pax_records(records))
    }

    /// Returns the archive with the mark of its end.
    pub(crate) fn end(&self) -> Vec<u8> {
        [&self.0[..], &[0; 1024]].concat()
    }
}

pub(crate) fn pax_records(records: &[(&str, &[u8])]) -> Vec<u8> {
    records.iter().flat_map(|(key, value)| pax_record(key, value)).collect()
}

fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let body = key.len() + value.len() + 3;
    let mut len = body;
    while len != body + len.to_string().len() {
        len = body + len.to_string().len();
    }
    [format!("{len} {key}=").as_bytes(), value, b"\n"].concat()
}

/// Keeps all that it gets. A file's content has one extent, which starts at its number among the files.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) files: Vec<Vec<u8>>,
    /// Offset and length of each hole, for each file.
    pub(crate) holes: Vec<Vec<(u64, u64)>>,
    pub(crate) changes: Vec<Change>,
    /// Data and framing, put together again.
    archive: Vec<u8>,
    size: u64,
}

/// Returns the content that [`Memory`] gives to a file.
pub(crate) fn content(number: usize, size: u64) -> Content {
    let extent = Extent { file_block: 0, segment_block: number as u64, count: 1 };
    Content { size, extents: [extent].into(), tail: None }
}

impl LayerSink for Memory {
    type Error = Infallible;

    fn begin(&mut self, size: u64) -> Result<(), Infallible> {
        self.files.push(Vec::new());
        self.holes.push(Vec::new());
        self.size = size;
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        assert!(!bytes.is_empty());
        self.files.last_mut().expect("a file began").extend_from_slice(bytes);
        self.archive.extend_from_slice(bytes);
        Ok(())
    }

    fn hole(&mut self, len: u64) -> Result<(), Infallible> {
        assert_ne!(len, 0);
        let file = self.files.last_mut().expect("a file began");
        self.holes.last_mut().expect("a file began").push((file.len() as u64, len));
        file.resize(file.len() + len as usize, 0);
        Ok(())
    }

    fn end(&mut self) -> Result<Content, Infallible> {
        let number = self.files.len() - 1;
        assert_eq!(self.files[number].len() as u64, self.size);
        Ok(content(number, self.size))
    }

    fn change(&mut self, change: Change) -> Result<(), Infallible> {
        self.changes.push(change);
        Ok(())
    }

    fn framing(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        assert!(!bytes.is_empty());
        self.archive.extend_from_slice(bytes);
        Ok(())
    }
}

/// An input whose buffer never holds more than a few bytes, and which is interrupted before each.
pub(crate) struct Chopped<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) piece: usize,
    pub(crate) is_interrupted: bool,
}

impl Read for Chopped<'_> {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl BufRead for Chopped<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.is_interrupted = !self.is_interrupted;
        if self.is_interrupted {
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.is_interrupted = true;
        Ok(&self.bytes[..self.bytes.len().min(self.piece)])
    }

    fn consume(&mut self, count: usize) {
        self.is_interrupted = false;
        self.bytes = &self.bytes[count..];
    }
}

/// Reads an archive, whole and in odd pieces, and asserts that it makes no difference.
pub(crate) fn read(
    archive: &[u8],
    policy: &UnpackPolicy,
) -> (Memory, Result<LayerSummary, ReadError<Infallible>>) {
    let mut memory = Memory::default();
    let mut rest = archive;
    let result = read_layer(&mut rest, &Budget::new(policy), &mut memory);
    if result.is_ok() {
        assert_eq!(rest, b"", "the input is read to its end");
        assert!(memory.archive == archive, "the sink gets every byte of the archive, once and in order");
    }
    // Large archives in single bytes take too long.
    let pieces = if archive.len() < 1 << 20 { &[1, 3, 511, 512, 513][..] } else { &[511, 65_537] };
    for &piece in pieces {
        let mut again = Memory::default();
        let mut input = Chopped { bytes: archive, piece, is_interrupted: false };
        let chopped = read_layer(&mut input, &Budget::new(policy), &mut again);
        assert_eq!(format!("{chopped:?}"), format!("{result:?}"), "in pieces of {piece}");
        assert_eq!(again, memory, "in pieces of {piece}");
    }
    (memory, result)
}

/// Reads an archive that must be good.
pub(crate) fn read_good(archive: &[u8]) -> Memory {
    let (memory, result) = read(archive, &UnpackPolicy::default());
    result.expect("a good archive");
    memory
}
