//! The kernel's file systems.

use rustix::fs::{CWD, FileType, Mode, chmodat, statat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use std::ffi::CStr;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

/// A file system of the kernel, or something on it, that can't be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KernelError {
    #[error("mounting {filesystem} on {target} failed")]
    Mount {
        filesystem: &'static str,
        target: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("{act} {path} failed")]
    File {
        act: &'static str,
        path: &'static str,
        #[source]
        source: io::Error,
    },
}

const STRICT: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// Mounts `/proc`, which holds the command line.
pub(crate) fn mount_proc() -> Result<(), KernelError> {
    mount_at("proc", "/proc", STRICT, None)
}

/// Returns whether the host only wants to know if this machine runs a guest.
pub(crate) fn is_probe() -> Result<bool, KernelError> {
    let path = "/proc/cmdline";
    let line = std::fs::read(path).map_err(|source| KernelError::File { act: "reading", path, source })?;
    Ok(line.split(u8::is_ascii_whitespace).any(|word| word == b"mvm.probe"))
}

/// Mounts `/dev` and `/sys`.
pub(crate) fn mount_dev_and_sys() -> Result<(), KernelError> {
    mount_at("devtmpfs", "/dev", MountFlags::NOSUID, Some(c"mode=0755"))?;
    mount_at("sysfs", "/sys", STRICT, None)
}

/// Has whoever waits for all processors to have let go of something wait for microseconds, not for the next ticks.
///
/// A boot waits so many times, and so does each process that enters a control group. The kernel does the same by itself until
/// its first process starts (`rcupdate.rcu_expedited` in its `admin-guide/kernel-parameters`).
pub(crate) fn expedite() {
    // A kernel without it is only slower.
    drop(std::fs::write("/sys/kernel/rcu_expedited", "1"));
}

/// Mounts what belongs below `/dev` and `/sys`, and makes the links and modes that udev makes elsewhere.
pub(crate) fn mount_under_dev_and_sys() -> Result<(), KernelError> {
    let quiet = MountFlags::NOSUID.union(MountFlags::NOEXEC);
    mount_at("devpts", "/dev/pts", quiet, Some(c"gid=5,mode=0620,ptmxmode=0666"))?;
    mount_at("tmpfs", "/dev/shm", MountFlags::NOSUID | MountFlags::NODEV, Some(c"mode=1777"))?;
    mount_if_known("mqueue", "/dev/mqueue", STRICT, None)?;
    mount_if_known("cgroup2", "/sys/fs/cgroup", STRICT, Some(c"nsdelegate"))?;

    for (target, path) in [
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
        ("pts/ptmx", "/dev/ptmx"),
    ] {
        match std::fs::remove_file(path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(KernelError::File { act: "removing", path, source });
            }
            Ok(()) | Err(_) => {}
        }
        symlink(target, path).map_err(|source| KernelError::File { act: "linking", path, source })?;
    }
    for path in ["/dev/fuse", "/dev/net/tun"] {
        if is_char_device(path) {
            let everyone = Mode::from_raw_mode(0o666);
            chmodat(CWD, path, everyone, rustix::fs::AtFlags::empty()).map_err(|error| {
                KernelError::File { act: "changing the mode of", path, source: error.into() }
            })?;
        }
    }
    Ok(())
}

fn is_char_device(path: &str) -> bool {
    statat(CWD, path, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice)
}

fn mount_at(
    filesystem: &'static str,
    target: &'static str,
    flags: MountFlags,
    data: Option<&CStr>,
) -> Result<(), KernelError> {
    let error = |source| KernelError::Mount { filesystem, target, source };
    if !Path::new(target).is_dir() {
        std::fs::create_dir_all(target).map_err(error)?;
    }
    mount(filesystem, target, filesystem, flags, data).map_err(|errno| error(errno.into()))
}

/// Mounts what a kernel may be built without.
fn mount_if_known(
    filesystem: &'static str,
    target: &'static str,
    flags: MountFlags,
    data: Option<&CStr>,
) -> Result<(), KernelError> {
    match mount_at(filesystem, target, flags, data) {
        Err(KernelError::Mount { source, .. })
            if source.raw_os_error() == Some(Errno::NODEV.raw_os_error())
                || source.kind() == io::ErrorKind::NotFound =>
        {
            Ok(())
        }
        other => other,
    }
}
