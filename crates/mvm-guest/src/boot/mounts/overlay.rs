//! A volume that takes what is written over a directory of the root.
//!
//! The volume holds two directories: `upper`, which is what was written, and `work`, which is the kernel's. Nothing in it depends on
//! which files the root has there, so that the root may be another one the next time.

use super::{by_descriptor, copy, remove_lost_and_found};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, chmodat, mkdirat, openat, statat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount as mount_filesystem};
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;

const UPPER: &str = "upper";
const WORK: &str = "work";

/// Mounts `place`, a directory of the root, with the volume whose root is `volume` over it, on the volume's own mount.
pub(super) fn mount(place: &OwnedFd, volume: &OwnedFd) -> io::Result<()> {
    remove_lost_and_found(volume)?;
    let directory = openat(volume, ".", copy::DIRECTORY, Mode::empty())?;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !matches!(name.as_str(), "." | ".." | UPPER | WORK) {
            let why = format!(
                "it holds {name:?}, which no overlay wrote: it has another use, so give a new volume"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
    }
    // The mask must not decide who may go there.
    let mode = Mode::from_raw_mode(statat(place, "", AtFlags::EMPTY_PATH)?.st_mode & 0o7777);
    for name in [UPPER, WORK] {
        match mkdirat(&directory, name, mode) {
            Ok(()) => chmodat(&directory, name, mode, AtFlags::empty())?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let open =
        |name| openat(&directory, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let (upper, work) = (open(UPPER)?, open(WORK)?);
    // Redirections and an index would tie the volume to the very files below it.
    let options = format!(
        "lowerdir={},upperdir={},workdir={},redirect_dir=off,index=off,metacopy=off",
        by_descriptor(place),
        by_descriptor(&upper),
        by_descriptor(&work),
    );
    let options = CString::new(options)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    Ok(mount_filesystem("overlay", by_descriptor(volume), "overlay", flags, options.as_c_str())?)
}
