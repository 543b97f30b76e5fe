//! Gives an archive back.

use super::{BLOCK, BLOCK_LEN, BYTES, DATA, END, HOLE, MAGIC, MEMORIES, Memories, VERSION, WORDS, ZEROS};
use crate::ReadAt;
use crate::segment::{ReadIndexError, read_index};
use mvm_tree::{Change, Content, Kind};
use std::io::{self, BufReader, Read, Write};

/// Bytes that are read ahead, and that are written at a time.
const WINDOW: usize = 256 << 10;

const ZERO: [u8; 16 << 10] = [0; 16 << 10];

/// Says why an archive could not be given back.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The framing could not be read; [`io::ErrorKind::UnexpectedEof`] says that it is truncated.
    #[error("cannot read the layer's framing at byte {offset}")]
    Framing {
        /// Offset of what could not be read.
        offset: u64,
        /// The cause.
        source: io::Error,
    },
    /// The first bytes are not those of a framing.
    #[error("not a layer's framing")]
    Magic,
    /// Another version of mvm wrote the framing.
    #[error("the layer's framing has version {got}, expected {expected}")]
    Version {
        /// The version of this crate.
        expected: u32,
        /// The version found.
        got: u32,
    },
    /// A record can't be what it says.
    #[error("the layer's framing is damaged at byte {offset}: {what}")]
    Record {
        /// Offset after the record.
        offset: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The archive gets longer than it was, or stays shorter.
    #[error("the layer comes out with {got} bytes or more, {expected} were stored")]
    Length {
        /// The length that it had.
        expected: u64,
        /// The length that it gets.
        got: u64,
    },
    /// The index could not be read.
    #[error("read the layer's index")]
    Index(#[source] Box<ReadIndexError<Self>>),
    /// File data could not be read.
    #[error("read file data of the layer")]
    Data(#[source] io::Error),
    /// The archive could not be written.
    #[error("write the layer")]
    Write(#[source] io::Error),
}

/// Where the bytes of a segment's files are.
#[derive(Debug)]
pub struct Places<D, T> {
    /// What holds the blocks.
    pub data: D,
    /// Where the blocks begin in it, in bytes.
    pub data_start: u64,
    /// What holds the tails.
    pub tails: T,
}

/// Writes the archive that a segment was made from: `length` bytes.
///
/// That they are those of the archive is for the caller to see, by their digest: nothing here is checked but that it
/// fits together. Memory is bounded by the longest possible change of an index.
pub fn rebuild<D: ReadAt, T: ReadAt>(
    framing: impl Read,
    index: impl Read,
    places: &Places<D, T>,
    length: u64,
    out: &mut impl Write,
) -> Result<(), RebuildError> {
    let mut rebuild = Rebuild {
        framing: Records::open(framing)?,
        data: Window::new(&places.data),
        data_start: places.data_start,
        tails: Window::new(&places.tails),
        piece: Vec::new(),
        length,
        written: 0,
        out,
    };
    let read = read_index(index, |change| match change {
        Change::Put { kind: Kind::Regular(content), .. } if content.size > 0 => rebuild.file(&content),
        _ => Ok(()),
    });
    match read {
        Ok(_) => rebuild.end(),
        Err(ReadIndexError::Refused(error)) => Err(error),
        Err(error) => Err(RebuildError::Index(Box::new(error))),
    }
}

struct Rebuild<'a, F, D, T, W> {
    framing: Records<F>,
    data: Window<'a, D>,
    data_start: u64,
    tails: Window<'a, T>,
    piece: Vec<u8>,
    length: u64,
    written: u64,
    out: &'a mut W,
}

impl<F: Read, D: ReadAt, T: ReadAt, W: Write> Rebuild<'_, F, D, T, W> {
    /// Goes on to where all of a file has been written.
    fn file(&mut self, content: &Content) -> Result<(), RebuildError> {
        let mut file = OpenFile { content, at: 0, extent: 0 };
        while file.at < content.size {
            match self.framing.next()? {
                Record::Data(len) if len <= content.size - file.at => self.data(&mut file, len)?,
                Record::Hole(len) if len <= content.size - file.at => file.at += len,
                Record::Data(_) | Record::Hole(_) => return Err(self.framing.fault("a file is too long")),
                Record::End(_) => return Err(self.framing.fault("a file is missing")),
                record => self.other(&record)?,
            }
        }
        Ok(())
    }

    /// Goes on to the end of the archive.
    fn end(&mut self) -> Result<(), RebuildError> {
        loop {
            match self.framing.next()? {
                Record::Data(_) | Record::Hole(_) => return Err(self.framing.fault("no file is left")),
                Record::End(length) if length == self.length && length == self.written => {
                    self.framing.expect_end()?;
                    return self.out.flush().map_err(RebuildError::Write);
                }
                Record::End(got) => return Err(RebuildError::Length { expected: self.length, got }),
                record => self.other(&record)?,
            }
        }
    }

    fn other(&mut self, record: &Record) -> Result<(), RebuildError> {
        match record {
            Record::Zeros(len) => {
                self.advance(*len)?;
                zeros(*len, |piece| self.out.write_all(piece)).map_err(RebuildError::Write)
            }
            Record::Bytes(len) => {
                self.advance(*len as u64)?;
                self.out.write_all(&self.framing.bytes[..*len]).map_err(RebuildError::Write)
            }
            Record::Data(_) | Record::Hole(_) | Record::End(_) => Ok(()),
        }
    }

    /// Writes the next bytes of a file.
    fn data(&mut self, file: &mut OpenFile<'_>, len: u64) -> Result<(), RebuildError> {
        self.advance(len)?;
        let mut left = len;
        while left > 0 {
            let place = file.place();
            let now = place.len.min(left).min(WINDOW as u64);
            self.piece.clear();
            self.piece.resize(now as usize, 0);
            match place.kind {
                PlaceKind::Hole => {}
                PlaceKind::Data(offset) => {
                    let offset = self.data_start.saturating_add(offset);
                    self.data.read(offset, &mut self.piece).map_err(RebuildError::Data)?;
                }
                PlaceKind::Tail(offset) => {
                    self.tails.read(offset, &mut self.piece).map_err(RebuildError::Data)?;
                }
            }
            self.out.write_all(&self.piece).map_err(RebuildError::Write)?;
            file.at += now;
            left -= now;
        }
        Ok(())
    }

    /// Counts bytes before they are written.
    fn advance(&mut self, len: u64) -> Result<(), RebuildError> {
        self.written = self.written.saturating_add(len);
        if self.written > self.length {
            return Err(RebuildError::Length { expected: self.length, got: self.written });
        }
        Ok(())
    }
}

/// A file of which the bytes up to `at` have passed.
struct OpenFile<'c> {
    content: &'c Content,
    at: u64,
    /// Number of the first extent that ends behind `at`.
    extent: usize,
}

/// A run of bytes of a file that lies in one piece.
struct Place {
    kind: PlaceKind,
    len: u64,
}

enum PlaceKind {
    Hole,
    /// Offset in the blocks.
    Data(u64),
    /// Offset in the tails.
    Tail(u64),
}

impl OpenFile<'_> {
    /// Finds the byte at which the file stands, and how many follow it. An extent that can't be leads beyond the data.
    fn place(&mut self) -> Place {
        let bytes = |blocks: u64| blocks.saturating_mul(crate::BLOCK as u64);
        let Content { size, extents, tail } = self.content;
        let tail_start = tail.map_or(*size, |tail| size.saturating_sub(u64::from(tail.len)));
        if let Some(tail) = tail.filter(|_| self.at >= tail_start) {
            let offset = tail.offset.saturating_add(self.at - tail_start);
            return Place { kind: PlaceKind::Tail(offset), len: size - self.at };
        }
        while let Some(extent) = extents.get(self.extent) {
            let (start, len) = (bytes(extent.file_block), bytes(extent.count));
            let end = start.saturating_add(len).min(tail_start);
            if self.at >= end {
                self.extent += 1;
                continue;
            }
            if self.at < start {
                return Place { kind: PlaceKind::Hole, len: start.min(tail_start) - self.at };
            }
            let offset = bytes(extent.segment_block).saturating_add(self.at - start);
            return Place { kind: PlaceKind::Data(offset), len: end - self.at };
        }
        Place { kind: PlaceKind::Hole, len: tail_start - self.at }
    }
}

/// Reads what is mostly asked for in ascending order.
struct Window<'r, R> {
    source: &'r R,
    offset: u64,
    bytes: Vec<u8>,
}

impl<'r, R: ReadAt> Window<'r, R> {
    fn new(source: &'r R) -> Self {
        Self { source, offset: 0, bytes: Vec::new() }
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        if into.len() * 2 > WINDOW {
            return self.source.read_exact_at(offset, into);
        }
        if let Some(bytes) = self.find(offset, into.len()) {
            into.copy_from_slice(bytes);
            return Ok(());
        }
        let left = self.source.size()?.saturating_sub(offset);
        self.bytes.resize(WINDOW.min(usize::try_from(left).unwrap_or(WINDOW)), 0);
        self.offset = offset;
        if let Err(error) = self.source.read_exact_at(offset, &mut self.bytes) {
            self.bytes.clear();
            return Err(error);
        }
        let bytes = self.find(offset, into.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(bytes);
        Ok(())
    }

    fn find(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let start = usize::try_from(offset.checked_sub(self.offset)?).ok()?;
        self.bytes.get(start..start.checked_add(len)?)
    }
}

enum Record {
    End(u64),
    Zeros(u64),
    /// So many of [`Records::bytes`].
    Bytes(usize),
    Data(u64),
    Hole(u64),
}

/// The records of a framing.
struct Records<R> {
    input: BufReader<R>,
    offset: u64,
    memories: Box<Memories>,
    /// What the record that was read last stands for.
    bytes: [u8; BLOCK_LEN],
}

impl<R: Read> Records<R> {
    fn open(input: R) -> Result<Self, RebuildError> {
        let memories = Box::new([[0; BLOCK_LEN]; MEMORIES]);
        let mut records = Self {
            input: BufReader::with_capacity(WINDOW, input),
            offset: 0,
            memories,
            bytes: [0; BLOCK_LEN],
        };
        if records.array()? != MAGIC {
            return Err(RebuildError::Magic);
        }
        let got = u32::from_le_bytes(records.array()?);
        if got != VERSION {
            return Err(RebuildError::Version { expected: VERSION, got });
        }
        Ok(records)
    }

    fn next(&mut self) -> Result<Record, RebuildError> {
        let [tag] = self.array()?;
        match tag {
            END => Ok(Record::End(u64::from_le_bytes(self.array()?))),
            ZEROS => Ok(Record::Zeros(self.number()?)),
            BYTES => {
                let len = self.number()?;
                let len = usize::try_from(len).ok().filter(|len| *len < BLOCK_LEN);
                let len = len.ok_or_else(|| self.fault("bytes that are more than a block"))?;
                let mut bytes = [0; BLOCK_LEN];
                self.fill(&mut bytes[..len])?;
                self.bytes = bytes;
                Ok(Record::Bytes(len))
            }
            DATA => Ok(Record::Data(self.number()?)),
            HOLE => Ok(Record::Hole(self.number()?)),
            _ => {
                let memory = usize::from(tag.wrapping_sub(BLOCK));
                if memory >= MEMORIES {
                    return Err(self.fault("no such record"));
                }
                self.bytes = self.block(memory)?;
                Ok(Record::Bytes(BLOCK_LEN))
            }
        }
    }

    fn block(&mut self, memory: usize) -> Result<[u8; BLOCK_LEN], RebuildError> {
        let mut mask = u64::from_le_bytes(self.array()?);
        let mut differences = [0; BLOCK_LEN];
        let count = mask.count_ones() as usize;
        self.fill(&mut differences[..count * 8])?;
        let (differences, _) = differences.as_chunks::<8>();
        let (words, _) = self.memories[memory].as_chunks_mut::<8>();
        for difference in &differences[..count.min(WORDS)] {
            let word = &mut words[mask.trailing_zeros() as usize];
            *word = (u64::from_le_bytes(*word) ^ u64::from_le_bytes(*difference)).to_le_bytes();
            mask &= mask - 1;
        }
        Ok(self.memories[memory])
    }

    fn number(&mut self) -> Result<u64, RebuildError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(self.fault("a length over 64 bits"));
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(self.fault("a length over 64 bits"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RebuildError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, into: &mut [u8]) -> Result<(), RebuildError> {
        let offset = self.offset;
        self.input.read_exact(into).map_err(|source| RebuildError::Framing { offset, source })?;
        self.offset += into.len() as u64;
        Ok(())
    }

    fn expect_end(&mut self) -> Result<(), RebuildError> {
        let offset = self.offset;
        match io::copy(&mut self.input.by_ref().take(1), &mut io::sink()) {
            Ok(0) => Ok(()),
            Ok(_) => Err(self.fault("something follows its end")),
            Err(source) => Err(RebuildError::Framing { offset, source }),
        }
    }

    fn fault(&self, what: &'static str) -> RebuildError {
        RebuildError::Record { offset: self.offset, what }
    }
}

fn zeros(len: u64, mut write: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut left = len;
    while left > 0 {
        let now = left.min(ZERO.len() as u64);
        write(&ZERO[..now as usize])?;
        left -= now;
    }
    Ok(())
}
