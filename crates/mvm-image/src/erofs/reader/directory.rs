//! Directories.

use super::{FileInode, ReadError, Reader};
use crate::erofs::format::{DIRENT_LEN, NAME_MAX, u16_at, u64_at};
use crate::{BLOCK, ReadAt};

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name, without `/` or NUL.
    pub name: Box<[u8]>,
    /// Address of the inode.
    pub nid: u64,
    /// The file type that the directory names, as in `struct erofs_dirent`.
    pub file_type: u8,
}

impl<R: ReadAt> Reader<R> {
    /// Returns the entries of a directory in name order, without `.` and `..`, which must name it and `parent`.
    pub fn entries(&self, directory: &FileInode, parent: u64) -> Result<Vec<Entry>, ReadError> {
        let nid = directory.nid();
        let mut entries = Vec::new();
        let mut last = Box::<[u8]>::default();
        let mut specials = 0;
        let mut bytes = [0; BLOCK];
        for block in 0..directory.size().div_ceil(BLOCK as u64) {
            let offset = block * BLOCK as u64;
            let len = (directory.size() - offset).min(BLOCK as u64) as usize;
            self.read_data(directory, offset, &mut bytes[..len])?;
            let fault = |what| ReadError::Directory { nid, block, what };
            for entry in split(&bytes[..len]).map_err(fault)? {
                let entry = entry.map_err(fault)?;
                if entry.name <= last {
                    return Err(fault("names are not in order"));
                }
                last.clone_from(&entry.name);
                let expected = match &*entry.name {
                    b"." => nid,
                    b".." => parent,
                    _ => {
                        entries.push(entry);
                        continue;
                    }
                };
                specials += 1;
                if entry.nid != expected {
                    return Err(fault("`.` or `..` is another directory"));
                }
            }
        }
        if specials != 2 {
            return Err(ReadError::Directory { nid, block: 0, what: "there is no `.` or no `..`" });
        }
        Ok(entries)
    }
}

type Fault = &'static str;

/// Separates the entries of one block.
fn split(block: &[u8]) -> Result<impl Iterator<Item = Result<Entry, Fault>>, Fault> {
    if block.len() < DIRENT_LEN {
        return Err("the block is too short for an entry");
    }
    let name_offset = |at: usize| usize::from(u16_at(block, at * DIRENT_LEN + 8));
    let first = name_offset(0);
    if first == 0 || !first.is_multiple_of(DIRENT_LEN) || first > block.len() {
        return Err("the first name is at an impossible place");
    }
    let count = first / DIRENT_LEN;
    Ok((0..count).map(move |at| {
        let start = name_offset(at);
        let end = if at + 1 < count { name_offset(at + 1) } else { block.len() };
        let name =
            block.get(start..end).filter(|_| start >= first).ok_or("a name is at an impossible place")?;
        // The last name of a block ends with the block or at the padding.
        let len = if at + 1 < count { name.len() } else { length(name)? };
        let name = &name[..len];
        if name.is_empty() || name.len() > NAME_MAX || name.iter().any(|byte| [b'/', 0].contains(byte)) {
            return Err("a name is no file name");
        }
        let head = at * DIRENT_LEN;
        Ok(Entry { name: name.into(), nid: u64_at(block, head), file_type: block[head + 10] })
    }))
}

fn length(name: &[u8]) -> Result<usize, Fault> {
    let len = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    if name[len..].iter().any(|byte| *byte != 0) {
        return Err("bytes follow the last name");
    }
    Ok(len)
}
