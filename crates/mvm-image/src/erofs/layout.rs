//! Where everything lies, decided before a byte is written.

use super::data::{FIRST_BLOCK, Placing, Runs};
use super::directory::Directory;
use super::error::AssembleError;
use super::format::{
    BLOCKS_MAX, CHUNKED, EXTENDED_LEN, FLAT_INLINE, FLAT_PLAIN, INCOMPAT_CHUNKED, NAME_MAX, NULL_ADDRESS,
    SLOT, SYMLINK_MAX, Superblock, encode_device,
};
use super::writer::path_of;
use super::xattr::SharedXattrs;
use crate::BLOCK;
use crate::segment::INLINE_TAIL_MAX;
use mvm_tree::{Dirent, InodeId, Node, Tree};
use std::collections::VecDeque;

/// The places left free that are remembered for later inodes.
const GAPS: usize = 8;

/// The place of one inode and of its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Address of the inode in units of 32 bytes.
    pub nid: u32,
    /// Data layout.
    pub layout: u8,
    /// Start block, device number, or chunk format.
    pub place: u32,
}

/// The places of everything in an image.
#[derive(Debug)]
pub(super) struct Layout<'t> {
    pub runs: Runs,
    pub xattrs: SharedXattrs<'t>,
    pub plans: Vec<Plan>,
    pub parents: Vec<InodeId>,
    pub superblock: Superblock,
}

/// What the inodes need, while they are placed one after the other.
struct Planner<'t> {
    tree: &'t Tree,
    runs: Runs,
    xattrs: SharedXattrs<'t>,
    parents: Vec<InodeId>,
    places: Places,
    /// The next free block after file data.
    next_block: u64,
}

/// The bytes that follow an inode and its extended attributes.
enum Body {
    /// Nothing.
    Nothing,
    /// Inline data, in one block.
    Tail(usize),
    /// Inline data, in one block with the inode.
    Together(usize),
    /// A block map, anywhere.
    Map(u64),
}

impl<'t> Layout<'t> {
    /// Computes the places for a tree.
    pub fn of(tree: &'t Tree) -> Result<Self, AssembleError> {
        let runs = Runs::of(tree)?;
        let next_block = FIRST_BLOCK + runs.blocks();
        let xattrs = SharedXattrs::of(tree)?;
        let mut planner =
            Planner { tree, runs, xattrs, parents: parents(tree), places: Places::new(), next_block };
        let mut plans = Vec::with_capacity(tree.len());
        for (id, _) in tree.inodes() {
            plans.push(planner.plan(id)?);
        }
        let Planner { runs, xattrs, parents, places, next_block: after_extra, .. } = planner;
        let meta_block = after_extra + blocks(xattrs.bytes().len() as u64);
        let got = meta_block + blocks(places.end);
        if got > BLOCKS_MAX {
            return Err(AssembleError::Blocks { got, max: BLOCKS_MAX });
        }
        let chunked = plans.iter().any(|plan| plan.layout == CHUNKED);
        let superblock = Superblock {
            incompatible: if chunked { INCOMPAT_CHUNKED } else { 0 },
            root_nid: plans[tree.root().index()].nid as u16,
            inodes: tree.len() as u64,
            blocks: got as u32,
            meta_block: meta_block as u32,
            xattr_block: if xattrs.bytes().is_empty() { 0 } else { after_extra as u32 },
        };
        Ok(Self { runs, xattrs, plans, parents, superblock })
    }

    /// Returns a directory's entries in blocks.
    pub fn directory(
        &self,
        tree: &Tree,
        id: InodeId,
        children: &'t [Dirent],
    ) -> Result<Directory<'t>, AssembleError> {
        directory(tree, id, self.parents[id.index()], children)
    }
}

impl Planner<'_> {
    fn plan(&mut self, id: InodeId) -> Result<Plan, AssembleError> {
        let tree = self.tree;
        let head = EXTENDED_LEN as u64 + self.xattrs.inline_len(tree, id)?;
        let (layout, place, body) = match &tree.inode(id).node {
            Node::Directory(children) => self.directory(id, children)?,
            Node::Regular { segment, content } => match self.runs.placing(tree, id, *segment, content)? {
                Placing::Chunks { bits, entries } => (CHUNKED, u32::from(bits), Body::Map(4 * entries)),
                Placing::Flat(start) => match content.tail {
                    Some(tail) => {
                        (FLAT_INLINE, start.unwrap_or(NULL_ADDRESS), Body::Tail(usize::from(tail.len)))
                    }
                    None => (FLAT_PLAIN, start.unwrap_or(NULL_ADDRESS), Body::Nothing),
                },
            },
            Node::Symlink(target) => self.symlink(id, target, head)?,
            Node::CharDevice(device) | Node::BlockDevice(device) => {
                let place =
                    encode_device(device.major, device.minor).ok_or_else(|| AssembleError::Device {
                        path: path_of(tree, id),
                        major: device.major,
                        minor: device.minor,
                    })?;
                (FLAT_PLAIN, place, Body::Nothing)
            }
            Node::Fifo | Node::Socket => (FLAT_PLAIN, 0, Body::Nothing),
        };
        let nid = self.places.place(head, &body) / SLOT;
        let max = u64::from(u32::MAX) * SLOT;
        if self.places.end > max {
            return Err(AssembleError::Metadata { got: self.places.end, max });
        }
        Ok(Plan { nid: nid as u32, layout, place })
    }

    fn directory(&mut self, id: InodeId, children: &[Dirent]) -> Result<(u8, u32, Body), AssembleError> {
        let directory = directory(self.tree, id, self.parents[id.index()], children)?;
        let inline = directory.last_len() <= INLINE_TAIL_MAX;
        let count = directory.full_blocks() + u64::from(!inline);
        let start = self.take_blocks(count);
        Ok(if inline {
            (FLAT_INLINE, start, Body::Tail(directory.last_len()))
        } else {
            (FLAT_PLAIN, start, Body::Nothing)
        })
    }

    fn symlink(&mut self, id: InodeId, target: &[u8], head: u64) -> Result<(u8, u32, Body), AssembleError> {
        let got = target.len();
        if got == 0 || got > SYMLINK_MAX {
            return Err(AssembleError::SymlinkLength { path: path_of(self.tree, id), got, max: SYMLINK_MAX });
        }
        Ok(if head + got as u64 <= BLOCK as u64 {
            (FLAT_INLINE, NULL_ADDRESS, Body::Together(got))
        } else {
            (FLAT_PLAIN, self.take_blocks(1), Body::Nothing)
        })
    }

    /// Takes blocks after the file data; an address that doesn't fit makes the whole image refused later.
    fn take_blocks(&mut self, count: u64) -> u32 {
        let start = self.next_block;
        self.next_block += count;
        if count == 0 { NULL_ADDRESS } else { start as u32 }
    }
}

fn directory<'t>(
    tree: &Tree,
    id: InodeId,
    parent: InodeId,
    children: &'t [Dirent],
) -> Result<Directory<'t>, AssembleError> {
    Directory::new(children, id, parent).map_err(|got| AssembleError::NameLength {
        path: path_of(tree, id),
        got,
        max: NAME_MAX,
    })
}

/// Returns the parent directory of each directory; the root's is the root.
fn parents(tree: &Tree) -> Vec<InodeId> {
    let mut parents = vec![tree.root(); tree.len()];
    for (id, inode) in tree.inodes() {
        if let Node::Directory(children) = &inode.node {
            children.iter().for_each(|child| parents[child.inode.index()] = id);
        }
    }
    parents
}

fn blocks(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK as u64)
}

/// Gives inodes their places, in bytes from the start of the metadata.
struct Places {
    end: u64,
    /// Start and end of free places before `end`, oldest first.
    gaps: VecDeque<(u64, u64)>,
}

impl Places {
    fn new() -> Self {
        // Linux hides the entry of an inode at address 0 from directory listings.
        Self { end: SLOT, gaps: VecDeque::with_capacity(GAPS + 1) }
    }

    fn place(&mut self, head: u64, body: &Body) -> u64 {
        let len = head
            + match body {
                Body::Nothing => 0,
                Body::Tail(len) | Body::Together(len) => *len as u64,
                Body::Map(len) => *len,
            };
        for (start, end) in &mut self.gaps {
            if len <= *end - *start {
                let at = first_fit(*start, head, body);
                if at + len <= *end {
                    *start = (at + len).next_multiple_of(SLOT).min(*end);
                    return at;
                }
            }
        }
        let at = first_fit(self.end, head, body);
        if at - self.end >= EXTENDED_LEN as u64 {
            self.gaps.retain(|(start, end)| end - start >= EXTENDED_LEN as u64);
            if self.gaps.len() == GAPS {
                self.gaps.pop_front();
            }
            self.gaps.push_back((self.end, at));
        }
        self.end = (at + len).next_multiple_of(SLOT);
        at
    }
}

/// Returns the first place from `start` where neither the inode nor its inline data crosses a block.
fn first_fit(start: u64, head: u64, body: &Body) -> u64 {
    let in_block = |at: u64, len: u64| at % BLOCK as u64 + len <= BLOCK as u64;
    let fits = |at: u64| match body {
        Body::Nothing | Body::Map(_) => in_block(at, EXTENDED_LEN as u64),
        Body::Tail(len) => in_block(at, EXTENDED_LEN as u64) && in_block(at + head, *len as u64),
        Body::Together(len) => in_block(at, head + *len as u64),
    };
    let mut at = start;
    // Ends within a block: inline data is at most half a block, or fits into one together with the inode.
    while !fits(at) {
        at += SLOT;
    }
    at
}
