//! Builds the hash tree from the digests of the data blocks, in order, in bounded memory.

use super::DIGEST_LEN;
use super::format::{Geometry, superblock};
use super::leaf::leaves;
use crate::BLOCK;
use mvm_ref::Digest;
use std::io::{self, Read};

/// Hash bytes that a level collects before it writes and hashes them.
const BATCH: usize = 64 * BLOCK;

/// Says why a hash tree could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The data could not be read.
    #[error("cannot read data block {block} to hash it")]
    Read {
        /// Number of the first block of the read that failed.
        block: u64,
        /// The cause.
        source: io::Error,
    },
    /// A part of the tree could not be written.
    #[error("cannot write verity hashes at byte {offset}")]
    Write {
        /// Offset in the image file.
        offset: u64,
        /// The cause.
        source: io::Error,
    },
    /// More or fewer digests came than there are data blocks.
    #[error("expected the digests of {expected} data blocks, got {got}")]
    Count {
        /// Data blocks announced.
        expected: u64,
        /// Digests seen.
        got: u64,
    },
}

/// Writes bytes at an offset of the image file.
pub type WriteAt<'a> = dyn FnMut(u64, &[u8]) -> io::Result<()> + 'a;

/// Takes the digests of all data blocks in order and writes superblock and levels.
#[derive(Debug)]
pub struct TreeBuilder {
    geometry: Geometry,
    /// One per level, then one for the root.
    pending: Vec<Pending>,
    leaves: u64,
}

/// The digests of one level that are not written yet.
#[derive(Debug)]
struct Pending {
    offset: u64,
    bytes: Vec<u8>,
}

impl TreeBuilder {
    /// Starts the tree of `data_blocks` blocks (at least 1).
    pub fn new(data_blocks: u64) -> Self {
        let geometry = Geometry::new(data_blocks);
        let pending = geometry
            .levels
            .iter()
            .map(|level| level.start * BLOCK as u64)
            .chain([u64::MAX])
            .map(|offset| Pending { offset, bytes: Vec::new() })
            .collect();
        Self { geometry, pending, leaves: 0 }
    }

    /// Takes the digests of the next data blocks, 32 bytes each.
    pub fn push(&mut self, digests: &[u8], write: &mut WriteAt<'_>) -> Result<(), BuildError> {
        debug_assert!(digests.len().is_multiple_of(DIGEST_LEN), "callers pass whole digests");
        self.leaves += (digests.len() / DIGEST_LEN) as u64;
        if self.leaves > self.geometry.data_blocks {
            return Err(self.count());
        }
        let mut rest = digests;
        while !rest.is_empty() {
            let room = BATCH - self.pending[0].bytes.len();
            let (now, later) = rest.split_at(rest.len().min(room));
            self.pending[0].bytes.extend_from_slice(now);
            rest = later;
            self.flush_full(write)?;
        }
        Ok(())
    }

    /// Pads and writes what is left and the superblock, and returns the root hash with the places of everything.
    pub fn finish(mut self, write: &mut WriteAt<'_>) -> Result<(Digest, Geometry), BuildError> {
        if self.leaves != self.geometry.data_blocks {
            return Err(self.count());
        }
        for level in 0..self.geometry.levels.len() {
            let bytes = &mut self.pending[level].bytes;
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
            self.flush(level, write)?;
            self.flush_full(write)?;
        }
        let root = self.pending.last().and_then(|root| root.bytes.first_chunk());
        let root = root.copied().ok_or_else(|| self.count())?;
        let offset = self.geometry.hash_start();
        write(offset, &superblock(self.geometry.data_blocks))
            .map_err(|source| BuildError::Write { offset, source })?;
        Ok((Digest::from_sha256(root), self.geometry))
    }

    fn flush_full(&mut self, write: &mut WriteAt<'_>) -> Result<(), BuildError> {
        for level in 0..self.geometry.levels.len() {
            if self.pending[level].bytes.len() >= BATCH {
                self.flush(level, write)?;
            }
        }
        Ok(())
    }

    /// Writes the whole blocks that a level holds and gives their digests to the level above.
    fn flush(&mut self, level: usize, write: &mut WriteAt<'_>) -> Result<(), BuildError> {
        let (below, above) = self.pending.split_at_mut(level + 1);
        let Pending { offset, bytes } = &mut below[level];
        if bytes.is_empty() {
            return Ok(());
        }
        write(*offset, bytes).map_err(|source| BuildError::Write { offset: *offset, source })?;
        leaves(bytes, &mut above[0].bytes);
        *offset += bytes.len() as u64;
        bytes.clear();
        Ok(())
    }

    fn count(&self) -> BuildError {
        BuildError::Count { expected: self.geometry.data_blocks, got: self.leaves }
    }
}

/// Hashes `data_blocks` blocks of `data` and writes their tree through `write`, as [`TreeBuilder`] does.
pub fn hash_data<R: Read>(
    mut data: R,
    data_blocks: u64,
    write: &mut WriteAt<'_>,
) -> Result<(Digest, Geometry), BuildError> {
    let mut tree = TreeBuilder::new(data_blocks);
    let mut buffer = vec![0; BATCH];
    let mut digests = Vec::new();
    let mut block = 0;
    while block < data_blocks {
        let count = (data_blocks - block).min((BATCH / BLOCK) as u64);
        let bytes = &mut buffer[..count as usize * BLOCK];
        data.read_exact(bytes).map_err(|source| BuildError::Read { block, source })?;
        digests.clear();
        leaves(bytes, &mut digests);
        tree.push(&digests, write)?;
        block += count;
    }
    tree.finish(write)
}
