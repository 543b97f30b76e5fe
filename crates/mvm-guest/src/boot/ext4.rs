//! What ext4 does beside mounting: growing to the size of its disk, and telling that it is damaged.
#![expect(unsafe_code, reason = "ext4 is grown by ioctl only")]

use super::disks::Device;
use rustix::fs::{Mode, OFlags, fstatvfs, open};
use rustix::ioctl::{Setter, ioctl, opcode};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt as _;

const SECTOR: u64 = 512;

/// `EXT4_IOC_RESIZE_FS` of `fs/ext4/ext4.h`: the new size in blocks.
const RESIZE: rustix::ioctl::Opcode = opcode::write::<u64>(b'f', 16);

/// Where the superblock is on a disk, and in it the number of blocks, low and high half (`struct ext4_super_block` of
/// `fs/ext4/ext4.h`).
const SUPERBLOCK: u64 = 1024;
const BLOCKS: usize = 0x4;
const BLOCKS_HIGH: usize = 0x150;

/// Returns how many blocks the file system on a disk has.
pub(super) fn blocks(disk: &std::path::Path) -> io::Result<u64> {
    let mut superblock = [0; 1024];
    std::fs::File::open(disk)?.read_exact_at(&mut superblock, SUPERBLOCK)?;
    let half = |at: usize| {
        let bytes = superblock[at..].first_chunk().copied().unwrap_or_default();
        u64::from(u32::from_le_bytes(bytes))
    };
    Ok(half(BLOCKS) | half(BLOCKS_HIGH) << 32)
}

/// Has the file system of `own` blocks that is mounted at `root` fill its disk; the kernel would write one anew that does so
/// already.
pub(super) fn fill_disk(root: impl AsFd, device: Device, own: u64) -> io::Result<()> {
    let path = format!("/sys/dev/block/{}:{}/size", device.major, device.minor);
    let sectors: u64 = std::fs::read_to_string(path)?.trim().parse().map_err(io::Error::other)?;
    // An ioctl needs more than a path's descriptor.
    let root =
        rustix::fs::openat(root, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let block = fstatvfs(&root)?.f_bsize.max(1);
    let blocks = sectors * SECTOR / block;
    if blocks == own {
        return Ok(());
    }
    // SAFETY: RESIZE reads one u64 through its pointer (`fs/ext4/ioctl.c`, `__u64 n_blocks_count`) and writes nothing.
    let grow = unsafe { Setter::<RESIZE, u64>::new(blocks) };
    // SAFETY: the request's type and number are those that the line above vouches for.
    Ok(unsafe { ioctl(&root, grow) }?)
}

/// Returns how many errors the kernel has found in the file system on a disk since it was last repaired.
pub(super) fn errors(device: Device) -> io::Result<u64> {
    let disk = std::fs::read_link(format!("/sys/dev/block/{}:{}", device.major, device.minor))?;
    let name = disk.file_name().unwrap_or_default();
    let path = std::path::Path::new("/sys/fs/ext4").join(name).join("errors_count");
    match std::fs::read_to_string(path) {
        Ok(text) => text.trim().parse().map_err(io::Error::other),
        // A kernel that doesn't count them.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

/// Opens the directory that a mount made of a path's descriptor.
pub(super) fn reopen(path: &str) -> io::Result<std::os::fd::OwnedFd> {
    Ok(open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}
