//! The image as it is written, from its first block to its last, hashing what was not hashed before.

use super::data::Run;
use super::error::AssembleError;
use super::ports::{ImageOutput, Segments};
use crate::BLOCK;
use crate::verity::{self, DIGEST_LEN, Geometry, TreeBuilder};
use mvm_ref::Digest;

/// Bytes that are collected before they are hashed and written.
const BUFFER: usize = 1 << 20;

/// Digests that are read from a segment at a time.
const LEAVES: u64 = 8192;

/// Appends to an image and builds its hash tree on the way.
pub(super) struct Stream<'o, O> {
    output: &'o mut O,
    tree: TreeBuilder,
    /// Offset of the buffer in the image.
    offset: u64,
    buffer: Vec<u8>,
    digests: Vec<u8>,
}

impl<'o, O: ImageOutput> Stream<'o, O> {
    pub fn new(output: &'o mut O, data_blocks: u64) -> Self {
        let tree = TreeBuilder::new(data_blocks);
        Self { output, tree, offset: 0, buffer: Vec::with_capacity(BUFFER + BLOCK), digests: Vec::new() }
    }

    /// Appends bytes.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), AssembleError> {
        for part in bytes.chunks(BUFFER) {
            self.buffer.extend_from_slice(part);
            self.flush_full()?;
        }
        Ok(())
    }

    /// Appends what `fill` appends to the buffer that it gets, which is at most about a megabyte.
    pub fn append_with<E>(&mut self, fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E>
    where
        E: From<AssembleError>,
    {
        fill(&mut self.buffer)?;
        self.flush_full()?;
        Ok(())
    }

    /// Appends zero bytes up to an offset in the image, which lies less than a few blocks ahead.
    pub fn pad_to(&mut self, offset: u64) -> Result<(), AssembleError> {
        debug_assert!(offset >= self.offset + self.buffer.len() as u64, "everything is written in order");
        self.buffer.resize((offset - self.offset) as usize, 0);
        self.flush_full()
    }

    /// Appends zero bytes up to the end of the block.
    pub fn pad_block(&mut self) -> Result<(), AssembleError> {
        self.pad_to((self.offset + self.buffer.len() as u64).next_multiple_of(BLOCK as u64))
    }

    /// Copies a run from its segment, and its digests.
    pub fn copy(&mut self, run: &Run, segments: &mut impl Segments) -> Result<(), AssembleError> {
        self.pad_block()?;
        self.flush()?;
        let Run { segment, segment_block, count, image_block } = *run;
        debug_assert_eq!(self.offset, image_block * BLOCK as u64, "runs follow each other");
        self.output
            .copy_blocks(segment, segment_block, count, image_block)
            .map_err(|source| AssembleError::Copy { segment, block: segment_block, count, source })?;
        self.offset += count * BLOCK as u64;
        let mut done = 0;
        while done < count {
            let now = LEAVES.min(count - done);
            self.digests.clear();
            let block = segment_block + done;
            segments
                .leaves(segment, block, now, &mut self.digests)
                .and_then(|()| {
                    let expected = now as usize * DIGEST_LEN;
                    if self.digests.len() == expected {
                        Ok(())
                    } else {
                        Err(std::io::ErrorKind::UnexpectedEof.into())
                    }
                })
                .map_err(|source| AssembleError::Leaves { segment, block, count: now, source })?;
            self.tree.push(&self.digests, &mut |at, bytes| self.output.write_at(at, bytes))?;
            done += now;
        }
        Ok(())
    }

    /// Writes what is left, and the hash tree.
    pub fn finish(mut self) -> Result<(Digest, Geometry), AssembleError> {
        self.pad_block()?;
        self.flush()?;
        Ok(self.tree.finish(&mut |at, bytes| self.output.write_at(at, bytes))?)
    }

    fn flush_full(&mut self) -> Result<(), AssembleError> {
        if self.buffer.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    /// Hashes and writes the whole blocks of the buffer.
    fn flush(&mut self) -> Result<(), AssembleError> {
        let whole = self.buffer.len() / BLOCK * BLOCK;
        let blocks = &self.buffer[..whole];
        self.digests.clear();
        verity::leaves(blocks, &mut self.digests);
        let offset = self.offset;
        self.output.write_at(offset, blocks).map_err(|source| AssembleError::Write { offset, source })?;
        self.tree.push(&self.digests, &mut |at, bytes| self.output.write_at(at, bytes))?;
        self.buffer.drain(..whole);
        self.offset += whole as u64;
        Ok(())
    }
}
