//! The QEMU backend: one `qemu-system-x86_64` process a machine, confined from outside and by its own seccomp filter.
//!
//! QEMU opens no file of the machine by name: it gets open descriptors, so a path that changes after the checks changes
//! nothing, no path needs quoting, and its user needs no way to the store. The agent's pipe and the console are socket
//! pairs made here.

mod arguments;
mod probe;
mod tsc;

use crate::backend::{Accelerator, Backend, Disk, LaunchError, Launched, MachineConfig};
use crate::confinement::{Reservation, Task};
use crate::document::{ROOT_SERIAL, image_serial};
use crate::exec::{Invocation, find_program};
use crate::kernel::KernelInfo;
use crate::machine::Machine;
use crate::network::UserNetwork;
use crate::share::DirectoryServer;
use arguments::{AttachedDirectory, AttachedDisk, Console, Hardware};
use mvm_plan::Plan;
use mvm_plan::plan::{Mount, MountKind, Network};
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::pipe::PipeFlags;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;

pub use probe::{Probe, probe_key, probe_kvm};

const PROGRAM: &str = "qemu-system-x86_64";
const PACKAGE: &str = "qemu-system-x86";

/// What a guest needs beside its kernel and twice its initramfs (packed and unpacked) to start its first process.
const BOOT_RESERVE: u64 = 24 << 20;

/// QEMU, found on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qemu {
    program: PathBuf,
}

impl Qemu {
    /// Finds QEMU in the directories of `path`, the text of a `PATH` variable, or where systems keep it.
    pub fn find(path: &OsStr) -> Result<Self, LaunchError> {
        let program = find_program(PROGRAM, path).map_err(|source| LaunchError::NotInstalled {
            program: PROGRAM,
            package: PACKAGE,
            source,
        })?;
        Ok(Self { program })
    }

    /// Returns the path of QEMU's program.
    pub fn program(&self) -> &Path {
        &self.program
    }
}

impl Backend for Qemu {
    fn name(&self) -> &'static str {
        "qemu"
    }

    fn launch(&self, config: &MachineConfig<'_>, confinement: Reservation) -> Result<Launched, LaunchError> {
        let plan = config.plan.plan();
        check(config)?;
        let mut invocation = Invocation::new(&self.program).directory("/").die_with_parent();
        let mut disks = Vec::new();
        let mut largest_file = 0;
        for disk in config.disks {
            let (file, size) = open_disk(disk, plan)?;
            largest_file = if disk.read_only { largest_file } else { size.max(largest_file) };
            disks.push(AttachedDisk {
                serial: &disk.serial,
                read_only: disk.read_only,
                durable: disk.durable,
                descriptor: invocation.inherit(file),
            });
        }
        if config.shared.is_some() {
            // The guest's memory is a file then, which whoever serves a directory has open too.
            largest_file = largest_file.max(u64::from(plan.resources.memory_mib) << 20);
        }
        let (kernel, initrd) = (open(config.kernel)?, open(config.initrd)?);
        let (restrictions, protections) = confinement.restrict(&Task {
            program: &self.program,
            cpus: plan.resources.cpus,
            memory_mib: plan.resources.memory_mib,
            accelerator: config.accelerator,
            readable: &[kernel.as_fd(), initrd.as_fd()],
            largest_file,
        })?;
        let (network, link) = match (&plan.network, &config.network) {
            (Network::None, _) => (None, None),
            (Network::User { egress, host }, Some(network)) => {
                let (network, link) = UserNetwork::start(network, egress.as_deref(), host, &confinement)?;
                (Some(network), Some(link))
            }
            (Network::User { .. }, None) => {
                return Err(LaunchError::NotSupported { what: "networks without a helper" });
            }
        };
        let mut servers = Vec::new();
        let mut directories = Vec::new();
        for (share, shared) in
            config.shared.iter().flat_map(|share| share.directories.iter().map(move |d| (share, d)))
        {
            let (server, link) =
                DirectoryServer::start(share.virtiofsd, &share.socket, shared, &confinement)?;
            servers.push(server);
            directories.push(AttachedDirectory { tag: &shared.tag, descriptor: invocation.inherit(link) });
        }
        let (agent, their_agent) = pair("agent")?;
        let (console, their_console) = pair("console")?;
        console.set_nonblocking(true).map_err(|source| LaunchError::Pipe { what: "console", source })?;
        let arguments = Hardware {
            name: plan.workload.as_str(),
            cpus: plan.resources.cpus,
            memory_mib: plan.resources.memory_mib,
            kernel: &path_of(invocation.inherit(kernel)),
            kernel_info: config.kernel_info,
            initrd: &path_of(invocation.inherit(initrd)),
            disks: &disks,
            directories: &directories,
            agent: Some(invocation.inherit(their_agent.into())),
            console: Console::Socket(invocation.inherit(their_console.into())),
            network: link.map(|link| invocation.inherit(link)),
            accelerator: config.accelerator,
            tsc_khz: tsc_khz(config.accelerator),
            parameters: &[],
        }
        .arguments();
        let (stderr, their_stderr) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
            .map_err(|errno| LaunchError::Pipe { what: "standard error", source: errno.into() })?;
        let invocation = invocation.args(arguments).restrict(restrictions);
        let running = invocation.start(Stdio::null(), Stdio::from(their_stderr))?;
        // The guest boots while the helper starts; without one the machine ends here.
        network.as_ref().map_or(Ok(()), UserNetwork::wait)?;
        let machine = Machine::new(running, stderr, network, servers, confinement);
        Ok(Launched { machine, agent, console: console.into(), protections })
    }
}

/// Returns the path by which a process opens again what it has open under a number.
fn path_of(descriptor: i32) -> PathBuf {
    PathBuf::from(format!("/dev/fd/{descriptor}"))
}

/// Returns the frequency that the kernel must be told, since it cannot measure it reliably under emulation.
fn tsc_khz(accelerator: Accelerator) -> Option<u32> {
    match accelerator {
        Accelerator::Tcg => tsc::frequency_khz(),
        Accelerator::Kvm => None,
    }
}

fn check(config: &MachineConfig<'_>) -> Result<(), LaunchError> {
    check_supported(config)?;
    let (admitted, given) = (config.plan.isolation(), config.accelerator.isolation());
    if admitted != given {
        return Err(LaunchError::Isolation { admitted, accelerator: config.accelerator, given });
    }
    let initrd = file_size(config.initrd)?;
    check_memory(config.kernel_info, initrd, config.plan.plan().resources.memory_mib)?;
    let mut serials = BTreeSet::new();
    for Disk { serial, .. } in config.disks {
        let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if !(1..=20).contains(&serial.len()) || !serial.bytes().all(sound) {
            return Err(LaunchError::Serial(serial.clone()));
        }
        if !serials.insert(serial) {
            return Err(LaunchError::DuplicateSerial(serial.clone()));
        }
    }
    Ok(())
}

/// Refuses a plan of which a part would be silently left out.
fn check_supported(config: &MachineConfig<'_>) -> Result<(), LaunchError> {
    let of_host = |mount: &&Mount| mount.source.kind() == MountKind::HostDirectory;
    let asked = config.plan.plan().mounts.iter().filter(of_host).count();
    let given = config.shared.as_ref().map_or(0, |share| share.directories.len());
    if asked == given {
        return Ok(());
    }
    Err(LaunchError::NotSupported { what: "directories of the host that nobody serves" })
}

/// Returns the least memory, in MiB, that a guest starts its first process with.
fn needed_memory(kernel: &KernelInfo, initrd: u64) -> u64 {
    let bytes = kernel.load_end.saturating_add(initrd.saturating_mul(2)).saturating_add(BOOT_RESERVE);
    bytes.div_ceil(1 << 20)
}

fn check_memory(kernel: &KernelInfo, initrd: u64, given_mib: u32) -> Result<(), LaunchError> {
    let needed_mib = needed_memory(kernel, initrd);
    if u64::from(given_mib) >= needed_mib {
        return Ok(());
    }
    Err(LaunchError::Memory { version: kernel.version.clone(), given_mib, needed_mib })
}

fn open(path: &Path) -> Result<OwnedFd, LaunchError> {
    let file = File::open(path).map_err(|source| LaunchError::Open { path: path.to_owned(), source })?;
    Ok(file.into())
}

/// Opens a disk and returns its size too.
fn open_disk(disk: &Disk, plan: &Plan) -> Result<(OwnedFd, u64), LaunchError> {
    let unopenable = |source| LaunchError::Open { path: disk.path.clone(), source };
    let file = match &disk.held {
        Some(file) => file.try_clone(),
        None => File::options().read(true).write(!disk.read_only).open(&disk.path),
    };
    let file = file.map_err(unopenable)?;
    let got = file.metadata().map_err(unopenable)?.len();
    let mut images = plan.mounted_images().map(|(index, root)| (image_serial(index), root.size));
    let expected = match disk.serial == ROOT_SERIAL {
        true => Some(plan.root.size),
        false => images.find(|(serial, _)| *serial == disk.serial).map(|(_, size)| size),
    };
    if let Some(expected) = expected.filter(|expected| *expected != got) {
        return Err(LaunchError::RootSize { path: disk.path.clone(), expected, got });
    }
    Ok((file.into(), got))
}

fn file_size(path: &Path) -> Result<u64, LaunchError> {
    let size = path.metadata().map(|meta| meta.len());
    size.map_err(|source| LaunchError::Open { path: path.to_owned(), source })
}

fn pair(what: &'static str) -> Result<(UnixStream, UnixStream), LaunchError> {
    UnixStream::pair().map_err(|source: io::Error| LaunchError::Pipe { what, source })
}

#[cfg(test)]
mod boot_tests;
#[cfg(test)]
mod tests;
