//! What a test needs, and the words for what is missing.

use crate::workspace;

/// Something without which a test can't run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The program under test.
    Mvmctl,
    /// The unpacked registry.
    Registry,
    /// A kernel to boot, QEMU to boot it in, and what carries its network.
    Guest,
    /// What serves directories of the host.
    Virtiofsd,
    /// An installed program, and the package that has it.
    Program(&'static str, &'static str),
    /// Root, for mounts and owners.
    Root,
    /// A kernel that mounts EROFS from a loop device.
    ErofsMount,
    /// A kernel that mounts this file system from a loop device.
    Mount(&'static str),
}

impl Need {
    /// Returns what is missing and how to get it, or nothing if it is there.
    pub fn missing(self) -> Option<String> {
        match self {
            Need::Mvmctl => {
                let program = workspace::mvmctl();
                (!program.is_file()).then(|| {
                    format!("{} is not there: cargo build --release, or set MVMCTL", program.display())
                })
            }
            Need::Registry => (!workspace::docker_registry().is_file())
                .then(|| "docker-registry is not unpacked: setup/setup test".to_owned()),
            Need::Guest => Need::Program("qemu-system-x86_64", "qemu-system-x86")
                .missing()
                .or_else(|| Need::Program("slirp4netns", "slirp4netns").missing())
                .or_else(|| {
                    (!workspace::distribution_kernel().is_dir())
                        .then(|| "no kernel is unpacked: setup/setup test".to_owned())
                }),
            Need::Virtiofsd => workspace::virtiofsd().is_none().then(|| {
                "virtiofsd is not there: setup/setup test, or apt-get install virtiofsd (Debian 13)"
                    .to_owned()
            }),
            Need::Program(name, package) => workspace::find(name)
                .is_none()
                .then(|| format!("{name} is not installed: apt-get install {package}")),
            Need::Root => (!rustix::process::geteuid().is_root()).then(|| "needs root".to_owned()),
            Need::ErofsMount => Need::Mount("erofs").missing(),
            Need::Mount(kind) => {
                let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
                if !known.lines().any(|line| line.trim() == kind) {
                    Some(format!("this kernel does not know {kind}: modprobe {kind}"))
                } else if !std::path::Path::new("/dev/loop-control").exists() {
                    Some("this kernel has no loop devices: modprobe loop".to_owned())
                } else {
                    None
                }
            }
        }
    }
}
