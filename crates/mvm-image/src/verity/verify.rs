//! Checks every byte of an image file against its root hash.

use super::DIGEST_LEN;
use super::format::{FANOUT, Geometry, Level, superblock};
use super::leaf::leaves;
use crate::{BLOCK, ReadAt};
use mvm_ref::Digest;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// Blocks that one thread reads and hashes at a time; a multiple of the digests in a hash block.
const BATCH: u64 = 2 * FANOUT;

/// What an image file should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Root hash of its dm-verity tree.
    pub root_hash: Digest,
    /// Number of data blocks before the verity superblock.
    pub data_blocks: u64,
}

/// Says where an image file differs from what its root hash promises.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The file could not be read.
    #[error("cannot read the image at byte {offset}")]
    Read {
        /// Offset in the file.
        offset: u64,
        /// The cause.
        source: io::Error,
    },
    /// The number of data blocks can't be that of any image.
    #[error("an image can't have {data_blocks} data blocks")]
    DataBlocks {
        /// The number given.
        data_blocks: u64,
    },
    /// The file is shorter or longer than its data and hash tree.
    #[error("the image has {got} bytes, expected {expected}")]
    Size {
        /// Bytes expected.
        expected: u64,
        /// Bytes found.
        got: u64,
    },
    /// The verity superblock is not the one of this format.
    #[error("the verity superblock differs at byte {offset}")]
    Superblock {
        /// Offset of the first differing byte in the file.
        offset: u64,
    },
    /// A block of the hash tree differs.
    #[error("verity hash block {block} of level {level} (byte {offset}) is corrupted")]
    HashBlock {
        /// Level, 0 for the one that hashes the data.
        level: usize,
        /// Number of the block in its level.
        block: u64,
        /// Offset of the block in the file.
        offset: u64,
    },
    /// A block of data differs.
    #[error("data block {block} (byte {offset}) is corrupted")]
    DataBlock {
        /// Number of the block.
        block: u64,
        /// Offset of the block in the file.
        offset: u64,
    },
}

impl VerifyError {
    /// Returns where in the file the damage begins, as far as it has a place: the byte itself in the superblock, else the
    /// start of the block.
    pub fn offset(&self) -> Option<u64> {
        match self {
            Self::Read { offset, .. }
            | Self::Superblock { offset }
            | Self::HashBlock { offset, .. }
            | Self::DataBlock { offset, .. } => Some(*offset),
            Self::Size { expected, got } => Some(*expected.min(got)),
            Self::DataBlocks { .. } => None,
        }
    }
}

/// Reads the whole image on all cores and returns the first thing, from the root down, that is not as expected.
///
/// Covers data, every level of the tree with its padding, the superblock block, and the length of the file.
pub fn verify<R: ReadAt + Sync + ?Sized>(image: &R, expected: &Expected) -> Result<(), VerifyError> {
    let data_blocks = expected.data_blocks;
    if data_blocks == 0 || data_blocks > u64::from(u32::MAX) {
        return Err(VerifyError::DataBlocks { data_blocks });
    }
    let geometry = Geometry::new(data_blocks);
    let got = image.size().map_err(|source| VerifyError::Read { offset: 0, source })?;
    if got != geometry.size() {
        return Err(VerifyError::Size { expected: geometry.size(), got });
    }
    verify_superblock(image, &geometry)?;
    let root = Parent::Root(expected.root_hash);
    let mut parent = root;
    for (number, level) in geometry.levels.iter().enumerate().rev() {
        let corrupted = |block| VerifyError::HashBlock {
            level: number,
            block,
            offset: (level.start + block) * BLOCK as u64,
        };
        verify_blocks(image, level.start, level.blocks, &parent, &corrupted)?;
        parent = Parent::Level(*level);
    }
    let corrupted = |block| VerifyError::DataBlock { block, offset: block * BLOCK as u64 };
    verify_blocks(image, 0, data_blocks, &parent, &corrupted)
}

fn verify_superblock<R: ReadAt + ?Sized>(image: &R, geometry: &Geometry) -> Result<(), VerifyError> {
    let start = geometry.hash_start();
    let mut found = [0; BLOCK];
    read(image, start, &mut found)?;
    let expected = superblock(geometry.data_blocks);
    match found.iter().zip(&expected).position(|(found, expected)| found != expected) {
        Some(at) => Err(VerifyError::Superblock { offset: start + at as u64 }),
        None => Ok(()),
    }
}

/// What holds the digests of a run of blocks.
enum Parent {
    /// The root hash itself, for a run of one block.
    Root(Digest),
    /// A level of the tree, already checked.
    Level(Level),
}

impl Parent {
    /// Reads the digests of `count` blocks from `first`, which is a multiple of [`BATCH`].
    fn digests<R: ReadAt + ?Sized>(
        &self,
        image: &R,
        first: u64,
        count: u64,
        into: &mut Vec<u8>,
    ) -> Result<(), VerifyError> {
        into.clear();
        match self {
            Self::Root(root) => into.extend_from_slice(root.as_bytes()),
            Self::Level(level) => {
                into.resize(count as usize * DIGEST_LEN, 0);
                read(image, level.start * BLOCK as u64 + first * DIGEST_LEN as u64, into)?;
            }
        }
        Ok(())
    }
}

/// Compares `count` blocks from `start` with their digests; the lowest block that differs is the one reported.
fn verify_blocks<R: ReadAt + Sync + ?Sized>(
    image: &R,
    start: u64,
    count: u64,
    parent: &Parent,
    corrupted: &(dyn Fn(u64) -> VerifyError + Sync),
) -> Result<(), VerifyError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let batches = count.div_ceil(BATCH);
    let workers = cores.min(usize::try_from(batches).unwrap_or(cores));
    let next = AtomicU64::new(0);
    let failed = AtomicU64::new(u64::MAX);
    let work = || -> Result<(), (u64, VerifyError)> {
        let mut blocks = Vec::new();
        let mut digests = Vec::new();
        let mut scratch = Vec::new();
        loop {
            let first = next.fetch_add(BATCH, Ordering::Relaxed);
            if first >= count || first > failed.load(Ordering::Relaxed) {
                return Ok(());
            }
            let length = BATCH.min(count - first);
            blocks.resize(length as usize * BLOCK, 0);
            let bad = parent
                .digests(image, first, length, &mut digests)
                .and_then(|()| read(image, (start + first) * BLOCK as u64, &mut blocks))
                .map(|()| first_difference(&blocks, &digests, &mut scratch));
            let (block, error) = match bad {
                Ok(None) => continue,
                Ok(Some(at)) => (first + at, corrupted(first + at)),
                Err(error) => (first, error),
            };
            failed.fetch_min(first, Ordering::Relaxed);
            return Err((block, error));
        }
    };
    let failures = std::thread::scope(|scope| {
        let others: Vec<_> = (1..workers).map(|_| scope.spawn(work)).collect();
        let mut results = vec![work()];
        for other in others {
            results.push(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        results
    });
    let first = failures.into_iter().filter_map(Result::err).min_by_key(|(block, _)| *block);
    first.map_or(Ok(()), |(_, error)| Err(error))
}

/// Hashes `blocks` into `scratch` and returns the first whose digest is another.
fn first_difference(blocks: &[u8], digests: &[u8], scratch: &mut Vec<u8>) -> Option<u64> {
    scratch.clear();
    leaves(blocks, scratch);
    let (got, _) = scratch.as_chunks::<DIGEST_LEN>();
    let (expected, _) = digests.as_chunks::<DIGEST_LEN>();
    got.iter().zip(expected).position(|(got, expected)| got != expected).map(|at| at as u64)
}

fn read<R: ReadAt + ?Sized>(image: &R, offset: u64, into: &mut [u8]) -> Result<(), VerifyError> {
    image.read_exact_at(offset, into).map_err(|source| VerifyError::Read { offset, source })
}
