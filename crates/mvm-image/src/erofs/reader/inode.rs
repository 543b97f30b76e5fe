//! Inodes.

use super::{ReadError, Reader};
use crate::erofs::format::{
    CHUNK_BITS_MASK, CHUNKED, EXTENDED_LEN, ExtendedInode, FLAT_INLINE, FLAT_PLAIN, SYMLINK_MAX,
    decode_device, file_type, mode,
};
use crate::{BLOCK, ReadAt};
use mvm_tree::{Attributes, Device, Timestamp};

/// The kind of an inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InodeKind {
    /// A directory.
    Directory,
    /// A regular file.
    Regular,
    /// A symbolic link and its target.
    Symlink(Box<[u8]>),
    /// A character device.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// One inode of an image, whose places were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInode {
    nid: u64,
    attributes: Attributes,
    kind: InodeKind,
    links: u32,
    size: u64,
    pub(super) place: Place,
}

/// Where the data of an inode lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nowhere.
    Nothing,
    /// In one piece from an offset.
    Flat {
        /// Offset in the image.
        start: u64,
    },
    /// Whole blocks in one piece and the rest elsewhere.
    Inline {
        /// Offset of the blocks in the image.
        start: u64,
        /// Offset of the rest.
        tail: u64,
    },
    /// In chunks.
    Chunks {
        /// Offset of the map.
        map: u64,
        /// Logarithm of the length of a chunk in bytes.
        bits: u32,
    },
}

impl FileInode {
    /// Returns the address of the inode, equal for all names of one file.
    pub fn nid(&self) -> u64 {
        self.nid
    }

    /// Returns owner, mode, times and extended attributes.
    pub fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// Returns the kind.
    pub fn kind(&self) -> &InodeKind {
        &self.kind
    }

    /// Returns the file type that directory entries have for this inode.
    pub(super) fn file_type(&self) -> u8 {
        file_type(match self.kind {
            InodeKind::Directory => mode::DIRECTORY,
            InodeKind::Regular => mode::REGULAR,
            InodeKind::Symlink(_) => mode::SYMLINK,
            InodeKind::CharDevice(_) => mode::CHAR,
            InodeKind::BlockDevice(_) => mode::BLOCK,
            InodeKind::Fifo => mode::FIFO,
            InodeKind::Socket => mode::SOCKET,
        })
    }

    /// Returns the number of links.
    pub fn links(&self) -> u32 {
        self.links
    }

    /// Returns the length of a file, a symbolic link's target or a directory in bytes, else 0.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl<R: ReadAt> Reader<R> {
    /// Reads the inode at an address, with its extended attributes and a symbolic link's target.
    pub fn inode(&self, nid: u64) -> Result<FileInode, ReadError> {
        let offset = self.offset_of(nid);
        let mut bytes = [0; EXTENDED_LEN];
        self.read(nid, offset, &mut bytes)?;
        let unknown = ReadError::Inode { nid, mode: 0, layout: 0, size: 0 };
        let raw = ExtendedInode::decode(&bytes).ok_or(unknown)?;
        let (xattrs, xattr_len) = self.xattrs(nid, offset + EXTENDED_LEN as u64, raw.xattr_count)?;
        let body = offset + EXTENDED_LEN as u64 + xattr_len;
        let place = self.place(nid, &raw, body)?;
        let mut inode = FileInode {
            nid,
            attributes: Attributes {
                mode: raw.mode & 0o7777,
                uid: raw.uid,
                gid: raw.gid,
                mtime: Timestamp { secs: raw.mtime, nanos: raw.mtime_nanos },
                xattrs,
            },
            kind: InodeKind::Fifo,
            links: raw.links,
            size: raw.size,
            place,
        };
        let (major, minor) = decode_device(raw.place);
        inode.kind = match raw.mode & mode::MASK {
            mode::DIRECTORY => InodeKind::Directory,
            mode::REGULAR => InodeKind::Regular,
            mode::SYMLINK => {
                let mut target = vec![0; raw.size as usize];
                self.read_data(&inode, 0, &mut target)?;
                InodeKind::Symlink(target.into())
            }
            mode::CHAR => InodeKind::CharDevice(Device { major, minor }),
            mode::BLOCK => InodeKind::BlockDevice(Device { major, minor }),
            mode::FIFO => InodeKind::Fifo,
            _ => InodeKind::Socket,
        };
        Ok(inode)
    }

    /// Checks type, layout and size of an inode and finds its data; `body` is the end of its extended attributes.
    fn place(&self, nid: u64, raw: &ExtendedInode, body: u64) -> Result<Place, ReadError> {
        let ExtendedInode { layout, mode: type_and_mode, size, .. } = *raw;
        let unknown = || ReadError::Inode { nid, mode: type_and_mode, layout, size };
        if raw.mtime_nanos >= 1_000_000_000 {
            return Err(unknown());
        }
        let block = BLOCK as u64;
        let start = u64::from(raw.place) * block;
        match (type_and_mode & mode::MASK, layout) {
            (mode::CHAR | mode::BLOCK | mode::FIFO | mode::SOCKET, FLAT_PLAIN) if size == 0 => {
                Ok(Place::Nothing)
            }
            (mode::REGULAR, FLAT_PLAIN) if size == 0 => Ok(Place::Nothing),
            (mode::REGULAR | mode::DIRECTORY | mode::SYMLINK, FLAT_PLAIN | FLAT_INLINE)
                if size == 0 || type_and_mode & mode::MASK == mode::SYMLINK && size > SYMLINK_MAX as u64 =>
            {
                Err(unknown())
            }
            (mode::REGULAR | mode::DIRECTORY | mode::SYMLINK, FLAT_PLAIN) => {
                self.within(nid, start, size)?;
                Ok(Place::Flat { start })
            }
            (mode::REGULAR | mode::DIRECTORY | mode::SYMLINK, FLAT_INLINE) => {
                let tail_len = size % block;
                if size >= block {
                    self.within(nid, start, size - tail_len)?;
                }
                self.within(nid, body, tail_len)?;
                if tail_len == 0 || body % block + tail_len > block {
                    return Err(unknown());
                }
                Ok(Place::Inline { start, tail: body })
            }
            (mode::REGULAR, CHUNKED) if size > 0 => {
                if raw.place & !u32::from(CHUNK_BITS_MASK) != 0 {
                    return Err(unknown());
                }
                let bits = raw.place + block.trailing_zeros();
                self.within(nid, body, 4 * size.div_ceil(1 << bits))?;
                Ok(Place::Chunks { map: body, bits })
            }
            _ => Err(unknown()),
        }
    }
}
