//! The data of inodes.

use super::inode::Place;
use super::{FileInode, ReadError, Reader};
use crate::erofs::format::NULL_ADDRESS;
use crate::{BLOCK, ReadAt};
use std::io;

/// A run of bytes of a file that lies in one piece in the image, or is a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Length in bytes, at least 1.
    pub len: u64,
    /// Offset in the image, or nothing for a hole.
    pub place: Option<u64>,
}

impl<R: ReadAt> Reader<R> {
    /// Returns the piece of a file that starts at `offset`, which is below its size, and ends with its run or chunk.
    pub fn piece(&self, inode: &FileInode, offset: u64) -> Result<Piece, ReadError> {
        let block = BLOCK as u64;
        let left = inode.size().saturating_sub(offset);
        Ok(match inode.place {
            Place::Nothing => Piece { len: left, place: None },
            Place::Flat { start } => Piece { len: left, place: Some(start + offset) },
            Place::Inline { start, tail } => {
                let whole = inode.size() / block * block;
                if offset < whole {
                    Piece { len: whole - offset, place: Some(start + offset) }
                } else {
                    Piece { len: left, place: Some(tail + (offset - whole)) }
                }
            }
            Place::Chunks { map, bits } => {
                let mut entry = [0; 4];
                self.read(inode.nid(), map + 4 * (offset >> bits), &mut entry)?;
                let address = u32::from_le_bytes(entry);
                let within = offset & ((1 << bits) - 1);
                let len = left.min((1 << bits) - within);
                if address == NULL_ADDRESS {
                    return Ok(Piece { len, place: None });
                }
                let place = u64::from(address) * block + within;
                self.within(inode.nid(), place, len)?;
                Piece { len, place: Some(place) }
            }
        })
    }

    /// Returns the bytes of a regular file.
    pub fn data<'r>(&'r self, inode: &'r FileInode) -> FileData<'r, R> {
        FileData { reader: self, inode, offset: 0 }
    }

    /// Fills `into` from `offset`; the bytes must be within the file's size.
    pub(super) fn read_data(&self, inode: &FileInode, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let mut done = 0;
        while done < into.len() {
            let at = offset + done as u64;
            if at >= inode.size() {
                let len = (into.len() - done) as u64;
                return Err(ReadError::Outside { nid: inode.nid(), offset: at, len });
            }
            let piece = self.piece(inode, at)?;
            let len = usize::try_from(piece.len).unwrap_or(usize::MAX).min(into.len() - done);
            let part = &mut into[done..done + len];
            match piece.place {
                Some(place) => self.read(inode.nid(), place, part)?,
                None => part.fill(0),
            }
            done += len;
        }
        Ok(())
    }
}

/// Reads the bytes of one file in order. Errors carry a [`ReadError`].
#[derive(Debug)]
pub struct FileData<'r, R> {
    reader: &'r Reader<R>,
    inode: &'r FileInode,
    offset: u64,
}

impl<R: ReadAt> io::Read for FileData<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.inode.size() - self.offset;
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(into.len());
        self.reader.read_data(self.inode, self.offset, &mut into[..len]).map_err(io::Error::other)?;
        self.offset += len as u64;
        Ok(len)
    }
}
