//! The on-disk structures of EROFS that this crate writes and reads. All numbers are little endian.

use crate::BLOCK;

/// Offset of the superblock in the image.
pub(super) const SUPER_OFFSET: usize = 1024;
/// The superblock's magic number.
pub(super) const MAGIC: u32 = 0xe0f5_e1e2;
/// Logarithm of the block size.
pub(super) const BLOCK_BITS: u8 = 12;

/// Compatible feature: the superblock has a checksum.
pub(super) const COMPAT_CHECKSUM: u32 = 1;
/// Compatible feature: inode times are times of modification.
pub(super) const COMPAT_MTIME: u32 = 2;
/// Incompatible feature: files with chunks.
pub(super) const INCOMPAT_CHUNKED: u32 = 4;

/// The address that stands for "nowhere": a hole, or no blocks at all.
pub(super) const NULL_ADDRESS: u32 = u32::MAX;
/// The largest number of blocks of an image; addresses stay below [`NULL_ADDRESS`].
pub(super) const BLOCKS_MAX: u64 = u32::MAX as u64 - 1;

/// Bytes of an inode number's unit: an inode lies at a multiple of this.
pub(super) const SLOT: u64 = 32;
/// Bytes of an extended inode.
pub(super) const EXTENDED_LEN: usize = 64;

/// Data layout: all data in blocks, one after the other.
pub(super) const FLAT_PLAIN: u8 = 0;
/// Data layout: the last, partial block follows the inode.
pub(super) const FLAT_INLINE: u8 = 2;
/// Data layout: a map of chunks follows the inode.
pub(super) const CHUNKED: u8 = 4;
/// Bits of a chunk format that hold the logarithm of the blocks in a chunk.
pub(super) const CHUNK_BITS_MASK: u16 = 0x1f;

/// Bytes of a directory entry without its name.
pub(super) const DIRENT_LEN: usize = 12;
/// The longest name.
pub(super) const NAME_MAX: usize = 255;
/// The longest target of a symbolic link that Linux follows.
pub(super) const SYMLINK_MAX: usize = 4095;

/// Bytes of the header of an inode's extended attributes.
pub(super) const XATTR_HEADER_LEN: usize = 12;
/// Bytes of an extended attribute without name and value.
pub(super) const XATTR_ENTRY_LEN: usize = 4;
/// The largest total of an inode's extended attributes.
pub(super) const XATTR_TOTAL_MAX: u64 = XATTR_HEADER_LEN as u64 + 4 * (u16::MAX as u64 - 1);
/// Prefixes of extended attributes with their numbers; those that end in a dot are followed by more.
pub(super) const XATTR_PREFIXES: [(u8, &[u8]); 5] = [
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
];

/// File type bits of a mode.
pub(super) mod mode {
    pub const MASK: u16 = 0o170_000;
    pub const FIFO: u16 = 0o010_000;
    pub const CHAR: u16 = 0o020_000;
    pub const DIRECTORY: u16 = 0o040_000;
    pub const BLOCK: u16 = 0o060_000;
    pub const REGULAR: u16 = 0o100_000;
    pub const SYMLINK: u16 = 0o120_000;
    pub const SOCKET: u16 = 0o140_000;
}

/// Returns the file type of a directory entry for a mode.
pub(super) fn file_type(mode: u16) -> u8 {
    match mode & mode::MASK {
        mode::REGULAR => 1,
        mode::DIRECTORY => 2,
        mode::CHAR => 3,
        mode::BLOCK => 4,
        mode::FIFO => 5,
        mode::SOCKET => 6,
        mode::SYMLINK => 7,
        _ => 0,
    }
}

/// The UUID of every file system: the first 16 bytes of SHA-256 of `mvm image format 1: erofs uuid`.
pub(super) const UUID: [u8; 16] =
    [0x1f, 0x95, 0xc0, 0x45, 0xb2, 0xd0, 0x6d, 0xd0, 0xb1, 0xf3, 0x15, 0x42, 0x9d, 0xbb, 0x65, 0x28];

/// The volume name of every file system.
pub(super) const VOLUME_NAME: [u8; 16] = *b"mvm\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// The fields of a superblock that differ between images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Superblock {
    pub incompatible: u32,
    pub root_nid: u16,
    pub inodes: u64,
    pub blocks: u32,
    pub meta_block: u32,
    pub xattr_block: u32,
}

impl Superblock {
    /// Returns the fields of a superblock in block 0, without checking anything.
    pub fn decode(block: &[u8; BLOCK]) -> Self {
        let at = |field| SUPER_OFFSET + field;
        Self {
            incompatible: u32_at(block, at(80)),
            root_nid: u16_at(block, at(14)),
            inodes: u64_at(block, at(16)),
            blocks: u32_at(block, at(36)),
            meta_block: u32_at(block, at(40)),
            xattr_block: u32_at(block, at(44)),
        }
    }

    /// Returns block 0 of the image.
    pub fn encode(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| {
            block[SUPER_OFFSET + at..SUPER_OFFSET + at + bytes.len()].copy_from_slice(bytes);
        };
        put(0, &MAGIC.to_le_bytes());
        put(8, &(COMPAT_CHECKSUM | COMPAT_MTIME).to_le_bytes());
        put(12, &[BLOCK_BITS]);
        put(14, &self.root_nid.to_le_bytes());
        put(16, &self.inodes.to_le_bytes());
        put(36, &self.blocks.to_le_bytes());
        put(40, &self.meta_block.to_le_bytes());
        put(44, &self.xattr_block.to_le_bytes());
        put(48, &UUID);
        put(64, &VOLUME_NAME);
        put(80, &self.incompatible.to_le_bytes());
        let checksum = checksum(&block);
        block[SUPER_OFFSET + 4..SUPER_OFFSET + 8].copy_from_slice(&checksum.to_le_bytes());
        block
    }
}

/// Returns the checksum of a superblock's block whose checksum field is 0: CRC-32C without the final inversion.
pub(super) fn checksum(block: &[u8; BLOCK]) -> u32 {
    !crc32c::crc32c(&block[SUPER_OFFSET..])
}

/// The fields of an extended inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ExtendedInode {
    pub layout: u8,
    pub xattr_count: u16,
    pub mode: u16,
    pub size: u64,
    /// Start block, device number, or chunk format.
    pub place: u32,
    pub number: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: i64,
    pub mtime_nanos: u32,
    pub links: u32,
}

impl ExtendedInode {
    /// Returns the fields of an inode, if it is an extended one.
    pub fn decode(inode: &[u8; EXTENDED_LEN]) -> Option<Self> {
        let format = u16_at(inode, 0);
        let layout = (format >> 1) as u8;
        (format & 1 == 1 && format >> 4 == 0).then(|| Self {
            layout,
            xattr_count: u16_at(inode, 2),
            mode: u16_at(inode, 4),
            size: u64_at(inode, 8),
            place: u32_at(inode, 16),
            number: u32_at(inode, 20),
            uid: u32_at(inode, 24),
            gid: u32_at(inode, 28),
            mtime: u64_at(inode, 32) as i64,
            mtime_nanos: u32_at(inode, 40),
            links: u32_at(inode, 44),
        })
    }

    /// Returns the inode's bytes.
    pub fn encode(&self) -> [u8; EXTENDED_LEN] {
        let mut inode = [0; EXTENDED_LEN];
        let mut put = |at: usize, bytes: &[u8]| inode[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &(1 | u16::from(self.layout) << 1).to_le_bytes());
        put(2, &self.xattr_count.to_le_bytes());
        put(4, &self.mode.to_le_bytes());
        put(8, &self.size.to_le_bytes());
        put(16, &self.place.to_le_bytes());
        put(20, &self.number.to_le_bytes());
        put(24, &self.uid.to_le_bytes());
        put(28, &self.gid.to_le_bytes());
        put(32, &self.mtime.to_le_bytes());
        put(40, &self.mtime_nanos.to_le_bytes());
        put(44, &self.links.to_le_bytes());
        inode
    }
}

/// Encodes a device number as Linux does (`new_encode_dev`), if it can be.
pub(super) fn encode_device(major: u32, minor: u32) -> Option<u32> {
    let fits = major < 1 << 12 && minor < 1 << 20;
    fits.then_some(minor & 0xff | major << 8 | (minor & !0xff) << 12)
}

/// Decodes a device number as Linux does (`new_decode_dev`).
pub(super) fn decode_device(number: u32) -> (u32, u32) {
    ((number >> 8) & 0xfff, number & 0xff | (number >> 12) & 0xf_ff00)
}

/// Reads a number at a place that exists.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Reads a number at a place that exists.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

/// Reads a number at a place that exists.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
