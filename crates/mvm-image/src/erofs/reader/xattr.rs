//! Extended attributes.

use super::{ReadError, Reader};
use crate::erofs::format::{
    XATTR_ENTRY_LEN, XATTR_HEADER_LEN, XATTR_PREFIXES, XATTR_TOTAL_MAX, u16_at, u32_at,
};
use crate::{BLOCK, ReadAt};
use mvm_tree::Xattr;

impl<R: ReadAt> Reader<R> {
    /// Reads what follows an inode; returns the attributes sorted by name, and its length in bytes.
    pub(super) fn xattrs(&self, nid: u64, offset: u64, count: u16) -> Result<(Box<[Xattr]>, u64), ReadError> {
        if count == 0 {
            return Ok((Box::default(), 0));
        }
        let fault = |what| ReadError::Xattr { nid, what };
        let mut bytes = vec![0; XATTR_HEADER_LEN + (usize::from(count) - 1) * XATTR_ENTRY_LEN];
        self.read(nid, offset, &mut bytes)?;
        let shared = usize::from(bytes[4]);
        let inline = bytes.get(XATTR_HEADER_LEN + 4 * shared..).ok_or(fault("too many are shared"))?;
        let mut xattrs = Vec::new();
        let mut total = XATTR_HEADER_LEN as u64;
        for place in bytes[XATTR_HEADER_LEN..].chunks_exact(4).take(shared) {
            xattrs.push(self.shared_xattr(nid, u32_at(place, 0), &mut total)?);
        }
        let mut rest = inline;
        while !rest.is_empty() {
            // Lengths are multiples of 4, so there is a head.
            let len = entry_len(rest);
            total += len as u64;
            let entry = rest.get(..len).ok_or(fault("one is cut off"))?;
            xattrs.push(decode(entry).ok_or(fault("one has an unknown prefix"))?);
            rest = &rest[len..];
        }
        if total > XATTR_TOTAL_MAX {
            return Err(fault("they are too long together"));
        }
        xattrs.sort_unstable();
        if xattrs.windows(2).any(|pair| pair[0].name == pair[1].name) {
            return Err(fault("a name occurs twice"));
        }
        Ok((xattrs.into(), bytes.len() as u64))
    }

    /// Reads an attribute from the shared area and counts its length.
    fn shared_xattr(&self, nid: u64, place: u32, total: &mut u64) -> Result<Xattr, ReadError> {
        let fault = |what| ReadError::Xattr { nid, what };
        let start = u64::from(self.superblock.xattr_block) * BLOCK as u64 + u64::from(place) * 4;
        let mut head = [0; XATTR_ENTRY_LEN];
        self.read(nid, start, &mut head)?;
        let len = entry_len(&head);
        *total += len as u64;
        if *total > XATTR_TOTAL_MAX {
            return Err(fault("they are too long together"));
        }
        let mut entry = vec![0; len];
        self.read(nid, start, &mut entry)?;
        decode(&entry).ok_or(fault("one has an unknown prefix"))
    }
}

/// Returns the length of an entry with its padding; `entry` has at least a head.
fn entry_len(entry: &[u8]) -> usize {
    (XATTR_ENTRY_LEN + usize::from(entry[0]) + usize::from(u16_at(entry, 2))).next_multiple_of(4)
}

fn decode(entry: &[u8]) -> Option<Xattr> {
    let (_, prefix) = XATTR_PREFIXES.iter().find(|(number, _)| *number == entry[1])?;
    let (name_len, value_len) = (usize::from(entry[0]), usize::from(u16_at(entry, 2)));
    let (name, rest) = entry.get(XATTR_ENTRY_LEN..)?.split_at_checked(name_len)?;
    let value = rest.get(..value_len)?;
    Some(Xattr { name: [prefix, name].concat().into(), value: value.into() })
}
