//! Extended attributes: which are shared, and their bytes.

use super::error::AssembleError;
use super::format::{XATTR_ENTRY_LEN, XATTR_HEADER_LEN, XATTR_PREFIXES, XATTR_TOTAL_MAX};
use super::writer::path_of;
use mvm_tree::{InodeId, Tree, Xattr};
use std::collections::HashMap;

/// The most references to shared attributes that one inode can have.
const SHARED_MAX: usize = 255;

/// The extended attributes that at least two inodes have, stored once.
#[derive(Debug, Default)]
pub(super) struct SharedXattrs<'t> {
    /// Their places, in units of 4 bytes from the start of the shared area.
    places: HashMap<&'t Xattr, u32>,
    /// The shared area.
    bytes: Vec<u8>,
}

impl<'t> SharedXattrs<'t> {
    /// Checks all extended attributes of a tree and collects those that are shared, in the order of first use.
    pub fn of(tree: &'t Tree) -> Result<Self, AssembleError> {
        let mut counts: HashMap<&Xattr, bool> = HashMap::new();
        for (id, inode) in tree.inodes() {
            for xattr in &inode.attributes.xattrs {
                check(tree, id, xattr)?;
                counts.entry(xattr).and_modify(|repeated| *repeated = true).or_insert(false);
            }
        }
        counts.retain(|_, repeated| *repeated);
        let mut shared = Self::default();
        if counts.is_empty() {
            return Ok(shared);
        }
        for (_, inode) in tree.inodes() {
            for xattr in inode.attributes.xattrs.iter().filter(|xattr| counts.contains_key(xattr)) {
                shared.places.entry(xattr).or_insert_with(|| {
                    let place = (shared.bytes.len() / 4) as u32;
                    encode(xattr, &mut shared.bytes);
                    place
                });
            }
        }
        Ok(shared)
    }

    /// Returns the bytes of the shared area.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the bytes that an inode's extended attributes take after it, a multiple of 4; 0 for none.
    ///
    /// The limit is one on all of them, shared or not, so that no other inode decides whether it is met.
    pub fn inline_len(&self, tree: &Tree, id: InodeId) -> Result<u64, AssembleError> {
        let xattrs = &tree.inode(id).attributes.xattrs;
        if xattrs.is_empty() {
            return Ok(0);
        }
        let header = XATTR_HEADER_LEN as u64;
        let got = header + xattrs.iter().map(encoded_len).sum::<u64>();
        if got > XATTR_TOTAL_MAX {
            return Err(AssembleError::XattrTotal { path: path_of(tree, id), got, max: XATTR_TOTAL_MAX });
        }
        let (shared, inline) = self.split(xattrs);
        Ok(header + 4 * shared.len() as u64 + inline.into_iter().map(encoded_len).sum::<u64>())
    }

    /// Appends what follows an inode.
    pub fn encode_inline(&self, xattrs: &[Xattr], into: &mut Vec<u8>) {
        if xattrs.is_empty() {
            return;
        }
        let (shared, inline) = self.split(xattrs);
        let mut header = [0; XATTR_HEADER_LEN];
        header[4] = shared.len() as u8;
        into.extend_from_slice(&header);
        shared.iter().for_each(|place| into.extend_from_slice(&place.to_le_bytes()));
        inline.iter().for_each(|xattr| encode(xattr, into));
    }

    /// Separates the places of shared attributes from those that are stored with the inode.
    fn split<'x>(&self, xattrs: &'x [Xattr]) -> (Vec<u32>, Vec<&'x Xattr>) {
        let mut shared = Vec::new();
        let mut inline = Vec::new();
        for xattr in xattrs {
            match self.places.get(xattr) {
                Some(place) if shared.len() < SHARED_MAX => shared.push(*place),
                _ => inline.push(xattr),
            }
        }
        (shared, inline)
    }
}

/// Returns the number of a name's prefix and what follows the prefix.
fn split_name(name: &[u8]) -> Option<(u8, &[u8])> {
    XATTR_PREFIXES.iter().find_map(|(number, prefix)| {
        let rest = name.strip_prefix(*prefix)?;
        (prefix.ends_with(b".") != rest.is_empty()).then_some((*number, rest))
    })
}

fn check(tree: &Tree, id: InodeId, xattr: &Xattr) -> Result<(), AssembleError> {
    let name = || xattr.name.escape_ascii().to_string();
    let Some((_, rest)) = split_name(&xattr.name) else {
        return Err(AssembleError::XattrName { path: path_of(tree, id), name: name() });
    };
    for (got, max) in [(rest.len(), usize::from(u8::MAX)), (xattr.value.len(), usize::from(u16::MAX))] {
        if got > max {
            return Err(AssembleError::XattrLength { path: path_of(tree, id), name: name(), got, max });
        }
    }
    Ok(())
}

fn encoded_len(xattr: &Xattr) -> u64 {
    let rest = split_name(&xattr.name).map_or(0, |(_, rest)| rest.len());
    ((XATTR_ENTRY_LEN + rest + xattr.value.len()) as u64).next_multiple_of(4)
}

fn encode(xattr: &Xattr, into: &mut Vec<u8>) {
    let (number, rest) = split_name(&xattr.name).unwrap_or((0, &xattr.name));
    into.extend_from_slice(&[rest.len() as u8, number]);
    into.extend_from_slice(&(xattr.value.len() as u16).to_le_bytes());
    into.extend_from_slice(rest);
    into.extend_from_slice(&xattr.value);
    into.resize(into.len().next_multiple_of(4), 0);
}
