//! The root: a verified image, a writable layer over it, and the switch to it.

use super::disks::Device;
use mvm_wire::{BootStage, Filesystem, Overlay, Root};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps, makedev, mknodat, open, utimensat,
};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_move, mount_remount};
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// Where the root is until the switch.
pub(crate) const MERGED: &str = "/mvm/root";
const LOWER: &str = "/mvm/lower";
const SCRATCH: &str = "/mvm/scratch";
const UPPER: &str = "/mvm/scratch/upper";
const WORK: &str = "/mvm/scratch/work";

/// A root that can't be mounted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootError {
    #[error(
        "mounting the {filesystem} image of root {name:?} failed; it is damaged, or not the one expected"
    )]
    Image {
        filesystem: &'static str,
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("mounting the disk for what is written failed")]
    Scratch(#[source] io::Error),
    #[error("mounting the memory for what is written failed")]
    Memory(#[source] io::Error),
    #[error("mounting the overlay failed; does the kernel have overlayfs?")]
    Overlay(#[source] io::Error),
    #[error("{act} {path} failed")]
    Path {
        act: &'static str,
        path: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("switching to the root failed while {act}")]
    Switch {
        act: &'static str,
        #[source]
        source: io::Error,
    },
}

impl RootError {
    pub(crate) fn stage(&self) -> BootStage {
        match self {
            Self::Image { .. } => BootStage::Root,
            Self::Scratch(_) | Self::Memory(_) | Self::Overlay(_) | Self::Path { .. } => BootStage::Overlay,
            Self::Switch { .. } => BootStage::Prepare,
        }
    }
}

/// Mounts the image on `verified` read-only, with a writable layer over it, and returns that layer's file system
/// where it is on a disk. No device node that either of them holds can be used.
pub(crate) fn mount_image(
    described: &Root,
    verified: &Path,
    scratch: Option<Device>,
) -> Result<Option<OwnedFd>, RootError> {
    for path in [LOWER, SCRATCH, MERGED] {
        std::fs::create_dir_all(path).map_err(|source| RootError::Path { act: "making", path, source })?;
    }
    let filesystem = described.filesystem.name();
    // An image that was not unmounted has nothing to replay: nobody writes to it.
    let data = (described.filesystem == Filesystem::Ext4).then_some(c"noload");
    mount(verified, LOWER, filesystem, MountFlags::RDONLY | MountFlags::NODEV, data).map_err(|error| {
        RootError::Image { filesystem, name: described.name.clone(), source: error.into() }
    })?;

    match (&described.overlay, scratch) {
        (Overlay::Disk { .. }, Some(device)) => mount_scratch(device).map_err(RootError::Scratch)?,
        (Overlay::Disk { serial }, None) => {
            let missing = io::Error::new(io::ErrorKind::NotFound, format!("no disk {serial:?}"));
            return Err(RootError::Scratch(missing));
        }
        // The mount points and names that the root may lack are written to memory before it is made read-only.
        (Overlay::None {}, _) => mount("tmpfs", SCRATCH, "tmpfs", MountFlags::NODEV, c"size=16m,mode=0755")
            .map_err(|error| RootError::Memory(error.into()))?,
        (Overlay::Tmpfs { size_mib }, _) => {
            // Digits and letters: there is no NUL in it.
            let data = CString::new(format!("size={size_mib}m,mode=0755")).unwrap_or_default();
            mount("tmpfs", SCRATCH, "tmpfs", MountFlags::NODEV, data.as_c_str())
                .map_err(|error| RootError::Memory(error.into()))?;
        }
    }
    make_layers()?;
    let layers = c"lowerdir=/mvm/lower,upperdir=/mvm/scratch/upper,workdir=/mvm/scratch/work,redirect_dir=on";
    mount("overlay", MERGED, "overlay", MountFlags::NODEV, layers)
        .map_err(|error| RootError::Overlay(error.into()))?;
    match described.overlay {
        Overlay::Tmpfs { .. } | Overlay::None {} => Ok(None),
        Overlay::Disk { .. } => {
            open(SCRATCH, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map(Some)
                .map_err(|error| RootError::Path { act: "opening", path: SCRATCH, source: error.into() })
        }
    }
}

fn mount_scratch(device: Device) -> io::Result<()> {
    let node = PathBuf::from("/mvm/scratch-disk");
    let number = makedev(device.major, device.minor);
    mknodat(CWD, &node, FileType::BlockDevice, Mode::RUSR | Mode::WUSR, number)?;
    // The blank's inode tables are left unwritten; the kernel would zero all of them, to a disk that is about to go.
    Ok(mount(&node, SCRATCH, "ext4", MountFlags::NODEV, c"noinit_itable")?)
}

/// Makes the overlay's directories. The root directory's attributes are those of the upper layer, so a new one
/// gets the image's.
fn make_layers() -> Result<(), RootError> {
    for path in [UPPER, WORK] {
        match std::fs::create_dir(path) {
            Ok(()) if path == UPPER => {
                copy_attributes().map_err(|source| RootError::Path {
                    act: "setting the attributes of",
                    path,
                    source,
                })?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Ok(()) => {}
            Err(source) => return Err(RootError::Path { act: "making", path, source }),
        }
    }
    Ok(())
}

fn copy_attributes() -> io::Result<()> {
    let image = std::fs::metadata(LOWER)?;
    chown(UPPER, Some(image.uid()), Some(image.gid()))?;
    std::fs::set_permissions(UPPER, std::fs::Permissions::from_mode(image.mode() & 0o7777))?;
    let mut names = vec![0; 64 * 1024];
    let length = match rustix::fs::listxattr(LOWER, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => 0,
        Err(error) => return Err(error.into()),
    };
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 64 * 1024];
        let length = rustix::fs::getxattr(LOWER, name, &mut value[..])?;
        match rustix::fs::setxattr(UPPER, name, &value[..length], rustix::fs::XattrFlags::empty()) {
            // Memory takes fewer kinds of attributes than a disk.
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let modified = Timespec { tv_sec: image.mtime(), tv_nsec: image.mtime_nsec() };
    Ok(utimensat(
        CWD,
        UPPER,
        &Timestamps { last_access: modified, last_modification: modified },
        AtFlags::empty(),
    )?)
}

/// Moves the kernel's file systems into the root, frees the initramfs and makes the root `/`.
///
/// The root becomes the mount namespace's, as user namespaces are refused in a mere chroot.
pub(crate) fn switch() -> Result<(), RootError> {
    let error = |act| move |source: io::Error| RootError::Switch { act, source };
    for (from, to) in [("/dev", "/mvm/root/dev"), ("/sys", "/mvm/root/sys"), ("/proc", "/mvm/root/proc")] {
        mount_move(from, to).map_err(|errno| error("moving the kernel's file systems")(errno.into()))?;
    }
    let flags =
        MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount_remount("/mvm/root/sys", flags, c"")
        .map_err(|errno| error("making /sys read-only")(errno.into()))?;
    free_initramfs().map_err(error("freeing the initramfs"))?;
    std::env::set_current_dir(MERGED).map_err(error("entering it"))?;
    mount_move(".", "/").map_err(|errno| error("moving it")(errno.into()))?;
    std::os::unix::fs::chroot(".").map_err(error("making it the root"))?;
    std::env::set_current_dir("/").map_err(error("entering it"))
}

/// Removes the files of the initramfs that take memory.
fn free_initramfs() -> io::Result<()> {
    for path in ["/init", "/mvm/guest.json"] {
        std::fs::remove_file(path)?;
    }
    match std::fs::remove_dir_all("/lib/modules") {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
