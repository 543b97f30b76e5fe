//! What is mounted in the root beside it: volumes, images, memory, and the place of the secrets.
//!
//! A mount's place is looked up inside the root and made where it isn't there. Nothing on a mount is set-id or a device.
//! A volume that is empty gets what the image has at its place, with its owner, as docker gives it.

use super::disks::Device;
use super::dm::{self, DmError};
use super::{copy, ext4};
use mvm_wire::document::mounts::{Mount, MountSource};
use mvm_wire::document::services::Group;
use mvm_wire::{Filesystem, GuestDocument, Verity};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, fchmod, makedev, mkdirat, mknodat, openat, openat2,
    unlinkat,
};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_remount};
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

mod overlay;

/// Where secrets are.
pub(crate) const SECRETS: &str = "/mnt/secrets";
/// Where a service's data is by convention; its volume belongs to the group of services.
const DATA: &str = "/mnt/data";

const FLAGS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
const PLACE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// Links of the kernel's lead out of any root.
const INSIDE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// Something that can't be mounted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountError {
    #[error("making a place for the mount at {target} failed")]
    Place {
        target: String,
        #[source]
        source: io::Error,
    },
    #[error("mounting volume {serial} on {target} failed; it is damaged, or not an ext4 file system")]
    Volume {
        serial: String,
        target: String,
        #[source]
        source: io::Error,
    },
    #[error(
        "volume {serial} for {target} has to be mounted once to be written before it can be read only, since it was not unmounted cleanly"
    )]
    Unclean { serial: String, target: String },
    #[error("volume {serial} for {target} is damaged: the kernel has found {errors} errors in it")]
    Damaged { serial: String, target: String, errors: u64 },
    #[error("{act} volume {serial} on {target} failed")]
    Prepare {
        act: &'static str,
        serial: String,
        target: String,
        #[source]
        source: io::Error,
    },
    #[error("verifying image {serial} for {target} failed")]
    Verity {
        serial: String,
        target: String,
        #[source]
        source: DmError,
    },
    #[error(
        "mounting the {filesystem} image {serial} on {target} failed; it is damaged, or not the one expected"
    )]
    Image {
        filesystem: &'static str,
        serial: String,
        target: String,
        #[source]
        source: io::Error,
    },
    #[error("mounting memory on {target} failed")]
    Memory {
        target: String,
        #[source]
        source: io::Error,
    },
    #[error("mounting a directory of the host on {target} failed")]
    HostDirectory {
        target: String,
        #[source]
        source: io::Error,
    },
    #[error("making the root read-only failed")]
    ReadOnly(#[source] io::Error),
}

/// Returns the serials of the disks of a document's volumes and images, in the document's order.
pub(super) fn serials(document: &GuestDocument) -> Vec<&str> {
    let serials = document.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Volume { serial }
        | MountSource::Overlay { serial }
        | MountSource::Image { serial, .. } => Some(serial.as_str()),
        MountSource::HostDirectory { .. } | MountSource::Tmpfs { .. } => None,
    });
    serials.collect()
}

/// Mounts everything, outer places before inner ones, and returns the roots of the volumes that can be written.
///
/// `disks` are those of [`serials`], in that order.
pub(super) fn mount_all(document: &GuestDocument, disks: &[Device]) -> Result<Vec<OwnedFd>, MountError> {
    let mut devices = disks.iter();
    let mut mounts: Vec<(&Mount, Option<Device>)> = document
        .mounts
        .iter()
        .map(|mount| {
            let on_disk =
                !matches!(mount.source, MountSource::HostDirectory { .. } | MountSource::Tmpfs { .. });
            (mount, if on_disk { devices.next().copied() } else { None })
        })
        .collect();
    mounts.sort_by_key(|(mount, _)| Path::new(&mount.target).components().count());
    let mut written = Vec::new();
    for (described, device) in mounts {
        let Mount { target, source, read_only } = described;
        match source {
            MountSource::Volume { serial } | MountSource::Overlay { serial } => {
                let Some(device) = device else { continue };
                let volume = Volume { serial, target, device, read_only: *read_only };
                let over = matches!(source, MountSource::Overlay { .. });
                written.extend(volume.mount(document.service_group.as_ref(), over)?);
            }
            MountSource::Image { serial, filesystem, verity } => {
                let Some(device) = device else { continue };
                mount_image(target, device, (serial, *filesystem, verity))?;
            }
            MountSource::Tmpfs { size_mib } => {
                let flags = if *read_only { FLAGS | MountFlags::RDONLY } else { FLAGS };
                mount_memory(target, &format!("size={size_mib}m,mode=1777"), flags)?;
            }
            MountSource::HostDirectory { tag } => {
                let flags = if *read_only { FLAGS | MountFlags::RDONLY } else { FLAGS };
                mount_shared(tag, target, flags)?;
            }
        }
    }
    if !document.secrets.is_empty() {
        // Room for all of them at their largest. It is made read-only when they have come.
        let gid = document.service_group.as_ref().map_or(0, |group| group.gid);
        let options = format!("size=80m,mode=0750,uid=0,gid={gid}");
        mount_memory(SECRETS, &options, FLAGS | MountFlags::NOEXEC)?;
    }
    Ok(written)
}

/// Makes the root read-only, and the memory that its places were made in.
pub(super) fn seal_root() -> Result<(), MountError> {
    let fail = |errno: Errno| MountError::ReadOnly(errno.into());
    mount_remount("/", MountFlags::RDONLY | MountFlags::NODEV, c"").map_err(fail)
}

fn mount_memory(target: &str, options: &str, flags: MountFlags) -> Result<(), MountError> {
    let place = place(target)?;
    // Digits and letters: there is no NUL in it.
    let options = CString::new(options).unwrap_or_default();
    mount("tmpfs", by_descriptor(&place), "tmpfs", flags, options.as_c_str())
        .map_err(|error| MountError::Memory { target: target.to_owned(), source: error.into() })
}

/// Mounts an image, each block of which is verified as it is read.
fn mount_image(
    target: &str,
    device: Device,
    (serial, filesystem, verity): (&str, Filesystem, &Verity),
) -> Result<(), MountError> {
    let place = place(target)?;
    let node = format!("/dev/.{serial}");
    dm::open_verity(serial, device, verity, Path::new(&node)).map_err(|source| MountError::Verity {
        serial: serial.to_owned(),
        target: target.to_owned(),
        source,
    })?;
    // An image that was not unmounted has nothing to replay: nobody writes to it.
    let data = (filesystem == Filesystem::Ext4).then_some(c"noload");
    let flags = FLAGS | MountFlags::RDONLY;
    let mounted = mount(node.as_str(), by_descriptor(&place), filesystem.name(), flags, data);
    mounted.and_then(|()| unlinkat(CWD, node.as_str(), AtFlags::empty())).map_err(|error| MountError::Image {
        filesystem: filesystem.name(),
        serial: serial.to_owned(),
        target: target.to_owned(),
        source: error.into(),
    })
}

/// Mounts what the device with this tag shares. That it can only be read is seen to on the host too.
fn mount_shared(tag: &str, target: &str, flags: MountFlags) -> Result<(), MountError> {
    let place = place(target)?;
    mount(tag, by_descriptor(&place), "virtiofs", flags, None).map_err(|error| {
        let source = match error {
            // Older versions took no driver for it from a distribution's modules.
            Errno::NODEV => {
                let why = "this kernel brings no virtiofs, which importing the kernel again may mend";
                io::Error::new(io::ErrorKind::Unsupported, why)
            }
            error => error.into(),
        };
        MountError::HostDirectory { target: target.to_owned(), source }
    })
}

struct Volume<'a> {
    serial: &'a str,
    target: &'a str,
    device: Device,
    read_only: bool,
}

impl Volume<'_> {
    /// Mounts the volume, or what the root has there with the volume over it, and returns its root if it can be written.
    fn mount(&self, group: Option<&Group>, over: bool) -> Result<Option<OwnedFd>, MountError> {
        let place = place(self.target)?;
        let (serial, target) = (self.serial.to_owned(), self.target.to_owned());
        let blocks = self.mount_on(&place).map_err(|error| match error {
            // A journal that would have to be replayed onto a disk that can't be written.
            Errno::ROFS if self.read_only => MountError::Unclean { serial, target },
            error => MountError::Volume { serial, target, source: error.into() },
        })?;
        let root = ext4::reopen(self.target).map_err(|source| self.failed("opening", source))?;
        let errors = ext4::errors(self.device).map_err(|source| self.failed("checking", source))?;
        if errors > 0 {
            let (serial, target) = (self.serial.to_owned(), self.target.to_owned());
            return Err(MountError::Damaged { serial, target, errors });
        }
        if self.read_only {
            return Ok(None);
        }
        ext4::fill_disk(&root, self.device, blocks).map_err(|source| self.failed("growing", source))?;
        match over {
            true => overlay::mount(&place, &root).map_err(|source| self.failed("overlaying", source))?,
            false => self.furnish(&root, &place, group).map_err(|source| self.failed("filling", source))?,
        }
        Ok(Some(root))
    }

    fn failed(&self, act: &'static str, source: io::Error) -> MountError {
        MountError::Prepare { act, serial: self.serial.to_owned(), target: self.target.to_owned(), source }
    }

    /// Mounts the volume as it is, and returns how many blocks its file system has.
    fn mount_on(&self, place: &OwnedFd) -> rustix::io::Result<u64> {
        let node = format!("/dev/.{}", self.serial);
        let number = makedev(self.device.major, self.device.minor);
        mknodat(CWD, node.as_str(), FileType::BlockDevice, Mode::RUSR | Mode::WUSR, number)?;
        // What is unused is given back to the host. Its tables need no zeroing: they are holes in the host's file.
        let (flags, options): (_, &CStr) = match self.read_only {
            true => (FLAGS | MountFlags::RDONLY, c"errors=remount-ro"),
            false => (FLAGS, c"errors=remount-ro,noinit_itable,discard"),
        };
        let mounted = mount(node.as_str(), by_descriptor(place), "ext4", flags, options);
        // The kernel has the superblock in memory now. One that can't be read has no blocks, and is made to fill its disk.
        let blocks = mounted.map(|()| ext4::blocks(node.as_ref()).unwrap_or(0));
        unlinkat(CWD, node.as_str(), AtFlags::empty())?;
        blocks
    }

    /// Gives an empty volume what the image has at its place.
    fn furnish(&self, root: &OwnedFd, place: &OwnedFd, group: Option<&Group>) -> io::Result<()> {
        remove_lost_and_found(root)?;
        let root = openat(root, ".", copy::DIRECTORY, Mode::empty())?;
        if !copy::is_empty(root.as_fd())? {
            return Ok(());
        }
        let image = openat(place, ".", copy::DIRECTORY, Mode::empty())?;
        copy::tree(image.as_fd(), root.as_fd())?;
        if let Some(group) = group.filter(|_| self.target == DATA) {
            std::os::unix::fs::fchown(&root, Some(0), Some(group.gid))?;
            fchmod(&root, Mode::from_raw_mode(0o2770))?;
        }
        Ok(())
    }
}

/// Removes what the formatting program made: a volume is the user's from its root on.
fn remove_lost_and_found(root: &OwnedFd) -> io::Result<()> {
    match unlinkat(root, "lost+found", AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::NOTDIR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Opens the directory that is to be mounted on, making it if it isn't there.
fn place(target: &str) -> Result<OwnedFd, MountError> {
    let open = || {
        let root = openat(CWD, "/", PLACE, Mode::empty())?;
        directory_inside(root.as_fd(), target)
    };
    open().map_err(|source| MountError::Place { target: target.to_owned(), source })
}

/// Opens the directory that an absolute path leads to inside the root, and makes what is missing of it.
fn directory_inside(root: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    let mut here = openat(root, ".", PLACE, Mode::empty())?;
    let mut walked = String::new();
    for name in path.split('/').filter(|name| !name.is_empty()) {
        walked.push('/');
        walked.push_str(name);
        here = match openat2(root, walked.as_str(), PLACE, Mode::empty(), INSIDE) {
            Err(Errno::NOENT) => {
                mkdirat(&here, name, Mode::from_raw_mode(0o755))?;
                // Other users may go there, whatever the mask says.
                let made = openat(&here, name, PLACE | OFlags::NOFOLLOW, Mode::empty())?;
                rustix::fs::chmodat(&here, name, Mode::from_raw_mode(0o755), AtFlags::empty())?;
                made
            }
            opened => opened?,
        };
    }
    Ok(here)
}

/// Returns the path by which the kernel finds again what is open.
fn by_descriptor(place: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", place.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn places_are_found_and_made_inside_the_root() {
        let outside = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        symlink("/a", dir.path().join("absolute")).unwrap();
        symlink("../../../../a", dir.path().join("a/up")).unwrap();
        symlink("/nowhere", dir.path().join("dangling")).unwrap();
        symlink(outside.path(), dir.path().join("out")).unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        let root = openat(CWD, dir.path(), PLACE, Mode::empty()).unwrap();
        for (path, expected) in [
            ("/a/b", Ok("a/b")),
            ("/new/deep/er", Ok("new/deep/er")),
            ("/absolute/b", Ok("a/b")),
            ("/absolute/made", Ok("a/made")),
            ("/a/up/b", Ok("a/b")),
            ("/file/x", Err("Not a directory")),
            ("/dangling", Err("File exists")),
            ("/out", Err("File exists")),
            ("/loop", Err("Too many levels")),
        ] {
            match (directory_inside(root.as_fd(), path), expected) {
                (Ok(got), Ok(expected)) => {
                    let at = fs::metadata(dir.path().join(expected)).unwrap();
                    assert_eq!(rustix::fs::fstat(&got).unwrap().st_ino, at.ino(), "{path}");
                }
                (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{path}: {error}"),
                (got, _) => panic!("{path}: {got:?}"),
            }
        }
        assert_eq!(fs::metadata(dir.path().join("new/deep")).unwrap().mode() & 0o7777, 0o755);
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}
