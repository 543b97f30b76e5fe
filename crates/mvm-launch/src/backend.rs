//! What every hypervisor backend takes and gives.

use crate::confinement::{ConfinementError, Protection, Reservation};
use crate::exec::ExecError;
use crate::kernel::KernelInfo;
use crate::machine::Machine;
use crate::network::{NetworkConfig, NetworkError};
use crate::share::{ShareConfig, ShareError};
use mvm_plan::{AdmittedPlan, Isolation};
use rustix::fd::OwnedFd;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A hypervisor that can run machines.
pub trait Backend {
    /// Returns the backend's name, for records.
    fn name(&self) -> &'static str;

    /// Starts the machine that an admitted plan describes, confined as was promised for its admission.
    ///
    /// The machine dies with the thread that calls this, which must live as long as the machine should.
    fn launch(&self, config: &MachineConfig<'_>, confinement: Reservation) -> Result<Launched, LaunchError>;
}

/// An admitted plan, and where the files are that it names by digest.
///
/// The caller has compared the kernel and the initramfs with the plan's digests; the root needs no comparing, since
/// the guest verifies every block of it.
#[derive(Debug)]
pub struct MachineConfig<'a> {
    /// The plan: processors, memory and isolation are taken from it.
    pub plan: &'a AdmittedPlan,
    /// The kernel image.
    pub kernel: &'a Path,
    /// What is known of that kernel.
    pub kernel_info: &'a KernelInfo,
    /// The whole initramfs: base, modules and guest document.
    pub initrd: &'a Path,
    /// The disks, in the order in which the guest sees them.
    pub disks: &'a [Disk],
    /// What the guest's network is made with, if the plan gives it one.
    pub network: Option<NetworkConfig<'a>>,
    /// The directories of the host that the plan mounts, if any.
    pub shared: Option<ShareConfig<'a>>,
    /// What executes the guest's instructions; it must be what the plan was admitted for.
    pub accelerator: Accelerator,
}

/// A raw disk.
#[derive(Debug, Clone)]
pub struct Disk {
    /// The file with the disk's bytes.
    pub path: PathBuf,
    /// What the guest finds the disk by: 1 to 20 letters, digits, `-`, `_` or `.`.
    pub serial: String,
    /// Whether the guest may only read it.
    pub read_only: bool,
    /// Whether what the guest has flushed survives a loss of power. What ends with the machine needs not.
    pub durable: bool,
    /// The file, if it is open already: a lock that belongs to it lasts as long as the hypervisor has the disk.
    pub held: Option<Arc<File>>,
}

/// What executes a guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accelerator {
    /// The processor, under KVM.
    Kvm,
    /// QEMU's emulator, which is no security boundary.
    Tcg,
}

impl Accelerator {
    /// Returns the isolation that this accelerator gives.
    pub const fn isolation(self) -> Isolation {
        match self {
            Self::Kvm => Isolation::Kvm,
            Self::Tcg => Isolation::Emulated,
        }
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        })
    }
}

/// A started machine and this side's ends of its pipes.
#[derive(Debug)]
pub struct Launched {
    /// The machine; it is killed when this is dropped.
    pub machine: Machine,
    /// The pipe to the agent's port. It reads as ended when the machine has ended; the guest's end hangs up when this
    /// is closed. While nobody reads, the guest's writes wait.
    pub agent: UnixStream,
    /// What the guest prints on its console; reading does not block. While nobody reads, the guest's printing waits.
    pub console: OwnedFd,
    /// How the hypervisor is confined.
    pub protections: Vec<Protection>,
}

/// Says why a machine could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The hypervisor is not on this host.
    #[error("{program} is not installed")]
    NotInstalled {
        /// The hypervisor's program.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
        /// Where it was looked for.
        source: ExecError,
    },
    /// The accelerator is not what the plan was admitted for.
    #[error("plan is admitted for isolation {admitted}, but {accelerator} gives {given}")]
    Isolation {
        /// What the plan was admitted for.
        admitted: Isolation,
        /// What was to be used.
        accelerator: Accelerator,
        /// What that gives.
        given: Isolation,
    },
    /// The plan asks for something that no backend gives yet.
    #[error("{what} are not supported by this version")]
    NotSupported {
        /// What the plan asks for.
        what: &'static str,
    },
    /// The guest could not even boot with so little memory.
    #[error(
        "{given_mib} MiB of memory are too little for kernel {version}; it needs at least {needed_mib} MiB"
    )]
    Memory {
        /// The kernel's version.
        version: String,
        /// What the plan gives.
        given_mib: u32,
        /// The least that boots.
        needed_mib: u64,
    },
    /// A disk's serial could not be told to the guest.
    #[error("disk serial {0:?} is not 1 to 20 letters, digits, '-', '_' or '.'")]
    Serial(String),
    /// Two disks have one serial, so that one could pass for the other.
    #[error("two disks have the serial {0:?}")]
    DuplicateSerial(String),
    /// The root image is not as long as the plan says.
    #[error("root image {} has {got} bytes; the plan says {expected}", path.display())]
    RootSize {
        /// The image file.
        path: PathBuf,
        /// The plan's size in bytes.
        expected: u64,
        /// The file's size in bytes.
        got: u64,
    },
    /// A file that the machine needs cannot be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// A pipe to the machine cannot be made.
    #[error("cannot make the {what} pipe of the machine")]
    Pipe {
        /// Which pipe.
        what: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The guest can't have the network that it should.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The guest can't have a directory of the host that it should.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// The hypervisor cannot be confined.
    #[error(transparent)]
    Confinement(#[from] ConfinementError),
    /// The hypervisor cannot be started.
    #[error(transparent)]
    Exec(#[from] ExecError),
}
