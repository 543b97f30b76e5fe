//! Which blocks of the segments are live, and where they go.

use super::error::AssembleError;
use super::format::BLOCKS_MAX;
use super::writer::path_of;
use crate::BLOCK;
use crate::segment::INLINE_TAIL_MAX;
use mvm_tree::{Content, Extent, InodeId, Node, Tree};

/// The most entries that a file's block map may have.
pub(super) const MAP_MAX: u64 = 1 << 26;

/// The first block for file data.
pub(super) const FIRST_BLOCK: u64 = 1;

/// Blocks that are next to each other in a segment and in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Run {
    pub segment: u32,
    pub segment_block: u64,
    pub count: u64,
    pub image_block: u64,
}

/// The live blocks of all segments, each once, by segment and place.
#[derive(Debug)]
pub(super) struct Runs(Vec<Run>);

/// How the bytes of a regular file lie in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placing {
    /// In one piece from this block; `None` if there are no whole blocks.
    Flat(Option<u32>),
    /// In chunks of 2^bits blocks, `entries` of them, some of them holes.
    Chunks { bits: u8, entries: u64 },
}

impl Runs {
    /// Collects the extents of all files and gives each block its place; checks the extents.
    pub fn of(tree: &Tree) -> Result<Self, AssembleError> {
        let mut runs = Vec::new();
        for (id, inode) in tree.inodes() {
            if let Node::Regular { segment, content } = &inode.node {
                check(tree, id, content)?;
                runs.extend(content.extents.iter().map(|extent| Run {
                    segment: *segment,
                    segment_block: extent.segment_block,
                    count: extent.count,
                    image_block: 0,
                }));
            }
        }
        runs.sort_unstable();
        runs.dedup_by(|next, run| {
            let end = run.segment_block + run.count;
            let joins = next.segment == run.segment && next.segment_block <= end;
            if joins {
                run.count = end.max(next.segment_block + next.count) - run.segment_block;
            }
            joins
        });
        let mut image_block = FIRST_BLOCK;
        for run in &mut runs {
            run.image_block = image_block;
            image_block = image_block.saturating_add(run.count);
        }
        if image_block > BLOCKS_MAX {
            return Err(AssembleError::Blocks { got: image_block, max: BLOCKS_MAX });
        }
        Ok(Self(runs))
    }

    /// Returns whether the image's data begins with all `blocks` blocks of a segment, each where it is there.
    pub fn begins_with(&self, segment: u32, blocks: u64) -> bool {
        let whole = Run { segment, segment_block: 0, count: blocks, image_block: FIRST_BLOCK };
        self.0.first() == Some(&whole)
    }

    /// Returns the runs in the order of the image.
    pub fn iter(&self) -> impl Iterator<Item = &Run> {
        self.0.iter()
    }

    /// Returns the number of live blocks.
    pub fn blocks(&self) -> u64 {
        self.0.iter().map(|run| run.count).sum()
    }

    /// Returns the place of an extent's first block in the image; the others follow it.
    fn address(&self, segment: u32, extent: &Extent) -> u32 {
        let after =
            self.0.partition_point(|run| (run.segment, run.segment_block) <= (segment, extent.segment_block));
        let run = self.0[after - 1];
        (run.image_block + (extent.segment_block - run.segment_block)) as u32
    }

    /// Returns the pieces of a file that lie in one piece in file and image: file block, count, image block.
    pub fn pieces(&self, segment: u32, content: &Content) -> impl Iterator<Item = (u64, u64, u32)> {
        let mut extents = content.extents.iter().peekable();
        std::iter::from_fn(move || {
            let first = extents.next()?;
            let address = self.address(segment, first);
            let mut count = first.count;
            while let Some(next) = extents.next_if(|next| {
                next.file_block == first.file_block + count
                    && u64::from(self.address(segment, next)) == u64::from(address) + count
            }) {
                count += next.count;
            }
            Some((first.file_block, count, address))
        })
    }

    /// Decides how a file lies in the image.
    pub fn placing(
        &self,
        tree: &Tree,
        id: InodeId,
        segment: u32,
        content: &Content,
    ) -> Result<Placing, AssembleError> {
        let blocks = content.size.div_ceil(BLOCK as u64);
        let in_blocks = if content.tail.is_some() { blocks - 1 } else { blocks };
        let mut pieces = self.pieces(segment, content);
        let (first, second) = (pieces.next(), pieces.next());
        match (first, second) {
            (None, _) if in_blocks == 0 => return Ok(Placing::Flat(None)),
            (Some((0, count, address)), None) if count == in_blocks => {
                return Ok(Placing::Flat(Some(address)));
            }
            _ => {}
        }
        if let Some(tail) = content.tail {
            return Err(AssembleError::TailPlace {
                path: path_of(tree, id),
                size: content.size,
                got: tail.len,
            });
        }
        // Every boundary between data and hole, or between pieces, must be one between chunks.
        let mut bits =
            blocks.next_power_of_two().trailing_zeros().min(u32::from(super::format::CHUNK_BITS_MASK));
        for (file_block, count, _) in self.pieces(segment, content) {
            let end = file_block + count;
            bits = bits.min(file_block.trailing_zeros());
            if end != blocks {
                bits = bits.min(end.trailing_zeros());
            }
        }
        let entries = blocks.div_ceil(1 << bits);
        if entries > MAP_MAX {
            let path = path_of(tree, id);
            return Err(AssembleError::BlockMap { path, size: content.size, got: entries, max: MAP_MAX });
        }
        Ok(Placing::Chunks { bits: bits as u8, entries })
    }
}

/// Checks that a file's extents ascend, don't overlap and lie within the file, and that a tail has a right length.
fn check(tree: &Tree, id: InodeId, content: &Content) -> Result<(), AssembleError> {
    let blocks = content.size.div_ceil(BLOCK as u64);
    let mut end = 0;
    for extent in &content.extents {
        let past = extent.file_block.checked_add(extent.count).filter(|past| *past <= blocks);
        let in_segment = extent.segment_block.checked_add(extent.count);
        let (Some(past), Some(_), true) = (past, in_segment, extent.count > 0 && extent.file_block >= end)
        else {
            let (path, file_block) = (path_of(tree, id), extent.file_block);
            return Err(AssembleError::Extent { path, size: content.size, file_block });
        };
        end = past;
    }
    match content.tail {
        Some(tail)
            if u64::from(tail.len) != content.size % BLOCK as u64
                || tail.len == 0
                || usize::from(tail.len) > INLINE_TAIL_MAX =>
        {
            Err(AssembleError::TailPlace { path: path_of(tree, id), size: content.size, got: tail.len })
        }
        _ => Ok(()),
    }
}
