//! Writes an image from a tree and its segments.

use super::data::{Run, Runs};
use super::directory::Directory;
use super::error::AssembleError;
use super::format::{CHUNKED, EXTENDED_LEN, ExtendedInode, FLAT_INLINE, NULL_ADDRESS, SLOT, file_type, mode};
use super::format::{XATTR_ENTRY_LEN, XATTR_HEADER_LEN};
use super::layout::{Layout, Plan};
use super::ports::{ImageOutput, ImageSummary, Segments};
use super::stream::Stream;
use crate::BLOCK;
use mvm_tree::{Content, Inode, InodeId, Node, Tree};

/// Writes the file system of `tree`, and the dm-verity tree over it, to an empty `output`.
///
/// The bytes depend only on the tree and on the content of its segments. Data blocks are copied, in long runs and
/// each once, and not hashed again: their digests come from the segments. On an error the output
/// holds a part of an image and must be thrown away.
pub fn assemble(
    tree: &Tree,
    segments: &mut impl Segments,
    output: &mut impl ImageOutput,
) -> Result<ImageSummary, AssembleError> {
    let layout = Layout::of(tree)?;
    let mut stream = Stream::new(output, u64::from(layout.superblock.blocks));
    stream.append(&layout.superblock.encode())?;
    for run in layout.runs.iter() {
        stream.copy(run, segments)?;
    }
    append_blocks(tree, &layout, &mut stream)?;
    stream.append(layout.xattrs.bytes())?;
    stream.pad_block()?;
    append_inodes(tree, &layout, segments, &mut stream)?;
    let (root_hash, geometry) = stream.finish()?;
    Ok(ImageSummary {
        root_hash,
        data_blocks: geometry.data_blocks,
        hash_start: geometry.hash_start(),
        size: geometry.size(),
        copied_blocks: layout.runs.iter().map(|run: &Run| run.count).sum(),
        inodes: tree.len() as u64,
    })
}

/// Returns whether the image of a tree is, from its second block on, at first all `blocks` blocks of a segment in
/// their own order, so that the segment's data need not be copied where it can become the image.
pub fn begins_with(tree: &Tree, segment: u32, blocks: u64) -> Result<bool, AssembleError> {
    Ok(Runs::of(tree)?.begins_with(segment, blocks))
}

/// Appends the blocks of directories and of symbolic links that are not in their inodes.
fn append_blocks<O: ImageOutput>(
    tree: &Tree,
    layout: &Layout<'_>,
    stream: &mut Stream<'_, O>,
) -> Result<(), AssembleError> {
    for (id, inode) in tree.inodes() {
        let plan = layout.plans[id.index()];
        match &inode.node {
            Node::Directory(children) if plan.place != NULL_ADDRESS => {
                let directory = layout.directory(tree, id, children)?;
                let count = directory.full_blocks() + u64::from(plan.layout != FLAT_INLINE);
                for block in 0..count {
                    stream.append_with(|buffer| {
                        directory.encode(block, |child| describe(tree, layout, child), buffer);
                        Ok::<_, AssembleError>(())
                    })?;
                    stream.pad_block()?;
                }
            }
            Node::Symlink(target) if plan.layout != FLAT_INLINE => {
                stream.append(target)?;
                stream.pad_block()?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Appends the inodes with what follows each, by place.
fn append_inodes<O: ImageOutput>(
    tree: &Tree,
    layout: &Layout<'_>,
    segments: &mut impl Segments,
    stream: &mut Stream<'_, O>,
) -> Result<(), AssembleError> {
    let mut order: Vec<InodeId> = tree.inodes().map(|(id, _)| id).collect();
    order.sort_unstable_by_key(|id| layout.plans[id.index()].nid);
    let start = u64::from(layout.superblock.meta_block) * BLOCK as u64;
    let mut head = Vec::with_capacity(EXTENDED_LEN);
    for id in order {
        let inode = tree.inode(id);
        let plan = layout.plans[id.index()];
        let directory = match &inode.node {
            Node::Directory(children) => Some(layout.directory(tree, id, children)?),
            _ => None,
        };
        let size = match &inode.node {
            Node::Regular { content, .. } => content.size,
            Node::Symlink(target) => target.len() as u64,
            _ => directory.as_ref().map_or(0, Directory::size),
        };
        head.clear();
        encode_head(tree, layout, id, size, &mut head);
        stream.pad_to(start + u64::from(plan.nid) * SLOT)?;
        stream.append(&head)?;
        match &inode.node {
            Node::Symlink(target) if plan.layout == FLAT_INLINE => stream.append(target)?,
            Node::Regular { segment, content } if plan.layout == CHUNKED => {
                append_map(layout, *segment, content, plan, stream)?;
            }
            Node::Regular { segment, content } => {
                append_tail(tree, id, *segment, content, segments, stream)?;
            }
            _ => {}
        }
        if let Some(directory) = directory.filter(|_| plan.layout == FLAT_INLINE) {
            stream.append_with(|buffer| {
                let last = directory.full_blocks();
                directory.encode(last, |child| describe(tree, layout, child), buffer);
                Ok::<_, AssembleError>(())
            })?;
        }
    }
    Ok(())
}

/// Appends the inode itself and its extended attributes.
fn encode_head(tree: &Tree, layout: &Layout<'_>, id: InodeId, size: u64, into: &mut Vec<u8>) {
    let inode = tree.inode(id);
    let plan = layout.plans[id.index()];
    let attributes = &inode.attributes;
    into.resize(EXTENDED_LEN, 0);
    layout.xattrs.encode_inline(&attributes.xattrs, into);
    let xattr_count = match into.len() - EXTENDED_LEN {
        0 => 0,
        len => (len - XATTR_HEADER_LEN) / XATTR_ENTRY_LEN + 1,
    };
    let encoded = ExtendedInode {
        layout: plan.layout,
        xattr_count: xattr_count as u16,
        mode: type_bits(inode) | attributes.mode & 0o7777,
        size,
        place: plan.place,
        number: id.index() as u32 + 1,
        uid: attributes.uid,
        gid: attributes.gid,
        mtime: attributes.mtime.secs,
        mtime_nanos: attributes.mtime.nanos,
        links: inode.links,
    };
    into[..EXTENDED_LEN].copy_from_slice(&encoded.encode());
}

fn append_map<O: ImageOutput>(
    layout: &Layout<'_>,
    segment: u32,
    content: &Content,
    plan: Plan,
    stream: &mut Stream<'_, O>,
) -> Result<(), AssembleError> {
    let chunk = 1u64 << plan.place;
    let entries = content.size.div_ceil(BLOCK as u64).div_ceil(chunk);
    let mut pieces = layout.runs.pieces(segment, content);
    let mut piece = pieces.next();
    for entry in 0..entries {
        let block = entry * chunk;
        if piece.is_some_and(|(start, count, _)| block >= start + count) {
            piece = pieces.next();
        }
        let address = match piece {
            Some((start, _, address)) if block >= start => address + (block - start) as u32,
            _ => NULL_ADDRESS,
        };
        stream.append(&address.to_le_bytes())?;
    }
    Ok(())
}

fn append_tail<O: ImageOutput>(
    tree: &Tree,
    id: InodeId,
    segment: u32,
    content: &Content,
    segments: &mut impl Segments,
    stream: &mut Stream<'_, O>,
) -> Result<(), AssembleError> {
    let Some(tail) = content.tail else { return Ok(()) };
    let error =
        |source| AssembleError::Tail { path: path_of(tree, id), segment, offset: tail.offset, source };
    stream.append_with(|buffer| {
        let end = buffer.len() + usize::from(tail.len);
        segments.tail(segment, tail, buffer).map_err(error)?;
        match buffer.len() == end {
            true => Ok(()),
            false => Err(error(std::io::ErrorKind::UnexpectedEof.into())),
        }
    })
}

/// Returns an inode's address and directory entry type.
fn describe(tree: &Tree, layout: &Layout<'_>, id: InodeId) -> (u64, u8) {
    (u64::from(layout.plans[id.index()].nid), file_type(type_bits(tree.inode(id))))
}

fn type_bits(inode: &Inode) -> u16 {
    match inode.node {
        Node::Directory(_) => mode::DIRECTORY,
        Node::Regular { .. } => mode::REGULAR,
        Node::Symlink(_) => mode::SYMLINK,
        Node::CharDevice(_) => mode::CHAR,
        Node::BlockDevice(_) => mode::BLOCK,
        Node::Fifo => mode::FIFO,
        Node::Socket => mode::SOCKET,
    }
}

/// Returns a path of an inode for a message.
pub(super) fn path_of(tree: &Tree, id: InodeId) -> String {
    let mut parents = vec![None; tree.len()];
    for (parent, inode) in tree.inodes() {
        if let Node::Directory(children) = &inode.node {
            for child in children.iter().rev() {
                parents[child.inode.index()] = Some((parent, &child.name));
            }
        }
    }
    let mut names = Vec::new();
    let mut at = id;
    while let Some((parent, name)) = parents[at.index()].take() {
        names.push(name.escape_ascii().to_string());
        at = parent;
    }
    names.reverse();
    names.join("/")
}
