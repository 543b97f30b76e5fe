//! Writes whole blocks and their digests.

use crate::{BLOCK, verity};
use std::io::{self, Write};
use std::sync::LazyLock;

/// Data bytes that are collected before they are written.
const DATA_BUFFER: usize = 256 << 10;

/// Runs of at least this many bytes are written from where they lie, without a copy.
const DIRECT: usize = 128 << 10;

/// Digest bytes that are collected before they are written.
const LEAF_BUFFER: usize = 64 << 10;

/// Blocks of zero bytes that are written at a time.
static ZEROS: [u8; 16 * BLOCK] = [0; 16 * BLOCK];

static ZERO_LEAF: LazyLock<[u8; 32]> = LazyLock::new(|| verity::leaf(&[0; BLOCK]));

/// Appends blocks to the data and digests to the leaves of a segment.
pub(super) struct BlockWriter<W> {
    data: W,
    leaves: W,
    data_buffer: Vec<u8>,
    leaf_buffer: Vec<u8>,
    blocks: u64,
}

/// Which of the two outputs failed, and why.
pub(super) enum Failed {
    Data(io::Error),
    Leaves(io::Error),
}

impl<W: Write> BlockWriter<W> {
    pub fn new(data: W, leaves: W) -> Self {
        let data_buffer = Vec::with_capacity(DATA_BUFFER);
        let leaf_buffer = Vec::with_capacity(LEAF_BUFFER + verity::DIGEST_LEN);
        Self { data, leaves, data_buffer, leaf_buffer, blocks: 0 }
    }

    /// Returns the number of blocks so far.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Appends a whole number of blocks.
    pub fn push(&mut self, run: &[u8]) -> Result<(), Failed> {
        for part in run.chunks(LEAF_BUFFER / verity::DIGEST_LEN * BLOCK) {
            verity::leaves(part, &mut self.leaf_buffer);
            self.flush_leaves(LEAF_BUFFER)?;
        }
        self.blocks += (run.len() / BLOCK) as u64;
        self.write(run)
    }

    /// Appends blocks of zero bytes.
    pub fn push_zeros(&mut self, count: u64) -> Result<(), Failed> {
        for _ in 0..count {
            self.leaf_buffer.extend_from_slice(&*ZERO_LEAF);
            self.flush_leaves(LEAF_BUFFER)?;
        }
        self.blocks += count;
        let mut left = count;
        while left > 0 {
            let now = left.min((ZEROS.len() / BLOCK) as u64);
            self.write(&ZEROS[..now as usize * BLOCK])?;
            left -= now;
        }
        Ok(())
    }

    /// Writes what is buffered and flushes both outputs.
    pub fn finish(mut self) -> Result<u64, Failed> {
        self.flush_leaves(1)?;
        self.flush_data()?;
        self.data.flush().map_err(Failed::Data)?;
        self.leaves.flush().map_err(Failed::Leaves)?;
        Ok(self.blocks)
    }

    fn write(&mut self, run: &[u8]) -> Result<(), Failed> {
        if self.data_buffer.len() + run.len() > DATA_BUFFER || run.len() >= DIRECT {
            self.flush_data()?;
        }
        if run.len() >= DIRECT {
            return self.data.write_all(run).map_err(Failed::Data);
        }
        self.data_buffer.extend_from_slice(run);
        Ok(())
    }

    fn flush_data(&mut self) -> Result<(), Failed> {
        self.data.write_all(&self.data_buffer).map_err(Failed::Data)?;
        self.data_buffer.clear();
        Ok(())
    }

    fn flush_leaves(&mut self, at_least: usize) -> Result<(), Failed> {
        if self.leaf_buffer.len() >= at_least {
            self.leaves.write_all(&self.leaf_buffer).map_err(Failed::Leaves)?;
            self.leaf_buffer.clear();
        }
        Ok(())
    }
}
