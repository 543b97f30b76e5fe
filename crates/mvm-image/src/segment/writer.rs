//! Turns the stream of one layer into a segment.

use super::blocks::{BlockWriter, Failed};
use super::format::{HOLE_UNIT, INLINE_TAIL_MAX, MAGIC, RECORD_MAX, SegmentSummary};
use super::framing::FramingWriter;
use crate::{BLOCK, GENERATION};
use mvm_tree::{Change, Content, Extent, LayerSink, Tail};
use std::fmt;
use std::io::{self, BufWriter, Write};

/// Bytes of tails, and of index, that are collected before they are written.
const BUFFER: usize = 256 << 10;

/// One of the byte strings of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Whole blocks of files.
    Data,
    /// Last bytes of files.
    Tails,
    /// Digests of the blocks.
    Leaves,
    /// The changes.
    Index,
    /// What gives the archive back.
    Framing,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Data => "data",
            Self::Tails => "tails",
            Self::Leaves => "leaves",
            Self::Index => "index",
            Self::Framing => "framing",
        })
    }
}

/// Says why a segment could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// An output failed.
    #[error("cannot write the segment's {part}")]
    Write {
        /// Which output.
        part: Part,
        /// The cause.
        source: io::Error,
    },
    /// A change could not be encoded.
    #[error("cannot encode entry {entry} for the segment's index")]
    Encode {
        /// Number of the change, from 0.
        entry: u64,
        /// The cause.
        source: postcard::Error,
    },
    /// The encoding of a change is too long; its file has too many holes.
    #[error("entry {entry} takes {got} bytes in the segment's index, at most {max} are possible")]
    Record {
        /// Number of the change, from 0.
        entry: u64,
        /// Bytes that it takes.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// A file has more or fewer bytes than announced.
    #[error("a file of {expected} bytes got {got} bytes of content before entry {entry}")]
    FileSize {
        /// Number of the next change, from 0.
        entry: u64,
        /// Bytes announced.
        expected: u64,
        /// Bytes seen so far.
        got: u64,
    },
    /// Content came while no file was open.
    #[error("file content without a file before entry {entry}")]
    NoFile {
        /// Number of the next change, from 0.
        entry: u64,
    },
    /// Something else than content came while a file was open.
    #[error("a file was not ended before entry {entry}")]
    OpenFile {
        /// Number of the next change, from 0.
        entry: u64,
    },
}

/// Writes one segment; takes a layer as a [`LayerSink`].
///
/// Long slices of content are hashed and written from where they lie.
pub struct SegmentWriter<W: Write> {
    blocks: BlockWriter<W>,
    tails: BufWriter<W>,
    tail_bytes: u64,
    index: BufWriter<W>,
    entries: u64,
    framing: Option<FramingWriter<W>>,
    record: Vec<u8>,
    file: Option<OpenFile>,
    /// Bytes of the open file after its last whole block.
    partial: Vec<u8>,
}

/// A file between its begin and its end.
struct OpenFile {
    size: u64,
    seen: u64,
    /// Whole blocks that were looked at.
    block: u64,
    /// Blocks that are written or known to be a hole.
    settled: u64,
    /// Blocks at the start of the current unit that are zero and not written, while all of it may be a hole.
    zeros: u64,
    /// The current unit has a block that isn't zero, so all of it is written.
    unit_has_data: bool,
    has_holes: bool,
    extents: Vec<Extent>,
}

impl<W: Write> SegmentWriter<W> {
    /// Starts a segment over four empty outputs.
    ///
    /// Nothing is written before there is something to write, and write errors surface with the method that meets them.
    pub fn new(data: W, tails: W, leaves: W, index: W) -> Result<Self, SegmentError> {
        let mut index = BufWriter::with_capacity(BUFFER, index);
        index.write_all(&MAGIC).map_err(write_error(Part::Index))?;
        index.write_all(&GENERATION.to_le_bytes()).map_err(write_error(Part::Index))?;
        Ok(Self {
            blocks: BlockWriter::new(data, leaves),
            tails: BufWriter::with_capacity(BUFFER, tails),
            tail_bytes: 0,
            index,
            entries: 0,
            framing: None,
            record: Vec::new(),
            file: None,
            partial: Vec::with_capacity(BLOCK),
        })
    }

    /// Writes a framing too, so that the archive can be given back.
    pub fn with_framing(mut self, framing: W) -> Self {
        self.framing = Some(FramingWriter::new(framing));
        self
    }

    /// Writes all that is buffered and the counts, flushes the outputs, and returns the counts.
    pub fn finish(mut self) -> Result<SegmentSummary, SegmentError> {
        self.expect_no_file()?;
        let blocks = self.blocks.finish()?;
        let summary = SegmentSummary { blocks, tail_bytes: self.tail_bytes, entries: self.entries };
        self.index.write_all(&0u32.to_le_bytes()).map_err(write_error(Part::Index))?;
        self.index.write_all(&summary.encode()).map_err(write_error(Part::Index))?;
        self.index.flush().map_err(write_error(Part::Index))?;
        self.tails.flush().map_err(write_error(Part::Tails))?;
        if let Some(framing) = self.framing {
            framing.finish().map_err(write_error(Part::Framing))?;
        }
        Ok(summary)
    }

    fn expect_no_file(&self) -> Result<(), SegmentError> {
        match self.file {
            Some(_) => Err(SegmentError::OpenFile { entry: self.entries }),
            None => Ok(()),
        }
    }

    /// Counts `len` further bytes and returns the open file.
    fn advance(&mut self, len: u64) -> Result<OpenFile, SegmentError> {
        let entry = self.entries;
        let mut file = self.file.take().ok_or(SegmentError::NoFile { entry })?;
        file.seen = file.seen.saturating_add(len);
        if file.seen > file.size {
            return Err(SegmentError::FileSize { entry, expected: file.size, got: file.seen });
        }
        Ok(file)
    }

    /// Takes whole blocks of the open file.
    fn whole(&mut self, file: &mut OpenFile, run: &[u8]) -> Result<(), SegmentError> {
        let (blocks, _) = run.as_chunks::<BLOCK>();
        let mut written = 0;
        let mut at = 0;
        while at < blocks.len() {
            let room = file.room();
            if file.unit_has_data {
                let now = (room as usize).min(blocks.len() - at);
                at += now;
                file.step(now as u64);
            } else if is_zero(&blocks[at]) {
                self.emit(file, blocks[written..at].as_flattened())?;
                file.zeros += 1;
                file.step(1);
                at += 1;
                written = at;
            } else {
                self.emit_zeros(file)?;
                file.unit_has_data = true;
            }
        }
        self.emit(file, blocks[written..].as_flattened())
    }

    /// Takes whole zero blocks of the open file.
    fn whole_zeros(&mut self, file: &mut OpenFile, mut count: u64) -> Result<(), SegmentError> {
        while count > 0 {
            let room = file.room();
            if room == HOLE_UNIT && count >= HOLE_UNIT {
                let units = count / HOLE_UNIT * HOLE_UNIT;
                file.block += units;
                file.settled = file.block;
                file.has_holes = true;
                count -= units;
                continue;
            }
            let now = room.min(count);
            file.zeros += now;
            if file.unit_has_data {
                self.emit_zeros(file)?;
            }
            file.step(now);
            count -= now;
        }
        Ok(())
    }

    /// Takes the collected partial block as a whole one, once it is full.
    fn settle_partial(&mut self, file: &mut OpenFile) -> Result<(), SegmentError> {
        if self.partial.len() < BLOCK {
            return Ok(());
        }
        let mut block = std::mem::take(&mut self.partial);
        self.whole(file, &block)?;
        block.clear();
        self.partial = block;
        Ok(())
    }

    /// Writes blocks that follow what the open file has.
    fn emit(&mut self, file: &mut OpenFile, run: &[u8]) -> Result<(), SegmentError> {
        if !run.is_empty() {
            file.extend(self.blocks.blocks(), (run.len() / BLOCK) as u64);
            self.blocks.push(run)?;
        }
        Ok(())
    }

    /// Writes the zero blocks that turned out not to be a hole.
    fn emit_zeros(&mut self, file: &mut OpenFile) -> Result<(), SegmentError> {
        if file.zeros > 0 {
            file.extend(self.blocks.blocks(), file.zeros);
            self.blocks.push_zeros(file.zeros)?;
            file.zeros = 0;
        }
        Ok(())
    }

    /// Disposes of the last unit and the bytes after the last whole block.
    fn last(&mut self, file: &mut OpenFile) -> Result<Option<Tail>, SegmentError> {
        let mut partial = std::mem::take(&mut self.partial);
        let all_zero = !file.unit_has_data && is_zero(&partial);
        if all_zero && (file.zeros > 0 || file.has_holes || partial.len() > INLINE_TAIL_MAX) {
            partial.clear();
            self.partial = partial;
            return Ok(None);
        }
        self.emit_zeros(file)?;
        let mut tail = None;
        if !partial.is_empty() && partial.len() <= INLINE_TAIL_MAX && !file.has_holes {
            self.tails.write_all(&partial).map_err(write_error(Part::Tails))?;
            tail = Some(Tail { offset: self.tail_bytes, len: partial.len() as u16 });
            self.tail_bytes += partial.len() as u64;
        } else if !partial.is_empty() {
            partial.resize(BLOCK, 0);
            self.emit(file, &partial)?;
        }
        partial.clear();
        self.partial = partial;
        Ok(tail)
    }
}

impl OpenFile {
    /// Returns the number of blocks left in the current unit, at least 1.
    fn room(&self) -> u64 {
        HOLE_UNIT - self.block % HOLE_UNIT
    }

    /// Goes on by `count` blocks, at most to the end of the unit.
    fn step(&mut self, count: u64) {
        self.block += count;
        if self.block.is_multiple_of(HOLE_UNIT) {
            if self.zeros > 0 {
                self.has_holes = true;
                self.settled = self.block;
                self.zeros = 0;
            }
            self.unit_has_data = false;
        }
    }

    /// Records that `count` blocks are about to be written.
    fn extend(&mut self, segment_block: u64, count: u64) {
        let file_block = self.settled;
        self.settled += count;
        match self.extents.last_mut() {
            Some(last)
                if last.file_block + last.count == file_block
                    && last.segment_block + last.count == segment_block =>
            {
                last.count += count;
            }
            _ => self.extents.push(Extent { file_block, segment_block, count }),
        }
    }
}

impl<W: Write> LayerSink for SegmentWriter<W> {
    type Error = SegmentError;

    fn begin(&mut self, size: u64) -> Result<(), SegmentError> {
        self.expect_no_file()?;
        self.partial.clear();
        if let Some(framing) = &mut self.framing {
            framing.begin();
        }
        self.file = Some(OpenFile {
            size,
            seen: 0,
            block: 0,
            settled: 0,
            zeros: 0,
            unit_has_data: false,
            has_holes: false,
            extents: Vec::new(),
        });
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), SegmentError> {
        let mut file = self.advance(bytes.len() as u64)?;
        if let Some(framing) = &mut self.framing {
            framing.data(bytes.len() as u64);
        }
        let mut rest = bytes;
        if !self.partial.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(BLOCK - self.partial.len()));
            self.partial.extend_from_slice(now);
            rest = later;
            self.settle_partial(&mut file)?;
        }
        let (whole, partial) = rest.split_at(rest.len() / BLOCK * BLOCK);
        self.whole(&mut file, whole)?;
        self.partial.extend_from_slice(partial);
        self.file = Some(file);
        Ok(())
    }

    fn hole(&mut self, len: u64) -> Result<(), SegmentError> {
        let mut file = self.advance(len)?;
        if let Some(framing) = &mut self.framing {
            framing.hole(len);
        }
        let mut left = len;
        if !self.partial.is_empty() {
            let now = left.min((BLOCK - self.partial.len()) as u64);
            self.partial.resize(self.partial.len() + now as usize, 0);
            left -= now;
            self.settle_partial(&mut file)?;
        }
        self.whole_zeros(&mut file, left / BLOCK as u64)?;
        self.partial.resize(self.partial.len() + (left % BLOCK as u64) as usize, 0);
        self.file = Some(file);
        Ok(())
    }

    fn end(&mut self) -> Result<Content, SegmentError> {
        let mut file = self.advance(0)?;
        if file.seen != file.size {
            return Err(SegmentError::FileSize { entry: self.entries, expected: file.size, got: file.seen });
        }
        let tail = self.last(&mut file)?;
        Ok(Content { size: file.size, extents: file.extents.into(), tail })
    }

    fn change(&mut self, change: Change) -> Result<(), SegmentError> {
        self.expect_no_file()?;
        let entry = self.entries;
        let mut record = std::mem::take(&mut self.record);
        record.clear();
        let record =
            postcard::to_extend(&change, record).map_err(|source| SegmentError::Encode { entry, source })?;
        let got = record.len();
        if got > RECORD_MAX {
            return Err(SegmentError::Record { entry, got, max: RECORD_MAX });
        }
        self.index.write_all(&(got as u32).to_le_bytes()).map_err(write_error(Part::Index))?;
        self.index.write_all(&record).map_err(write_error(Part::Index))?;
        self.record = record;
        self.entries += 1;
        Ok(())
    }

    fn framing(&mut self, bytes: &[u8]) -> Result<(), SegmentError> {
        match &mut self.framing {
            Some(framing) => framing.framing(bytes).map_err(write_error(Part::Framing)),
            None => Ok(()),
        }
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(64).all(|chunk| chunk.iter().fold(0, |all, byte| all | byte) == 0)
}

fn write_error(part: Part) -> impl Fn(io::Error) -> SegmentError {
    move |source| SegmentError::Write { part, source }
}

impl From<Failed> for SegmentError {
    fn from(failed: Failed) -> Self {
        let (part, source) = match failed {
            Failed::Data(source) => (Part::Data, source),
            Failed::Leaves(source) => (Part::Leaves, source),
        };
        Self::Write { part, source }
    }
}

impl<W: Write> fmt::Debug for SegmentWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentWriter")
            .field("blocks", &self.blocks.blocks())
            .field("tail_bytes", &self.tail_bytes)
            .field("entries", &self.entries)
            .finish_non_exhaustive()
    }
}
