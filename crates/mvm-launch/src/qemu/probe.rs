//! Finding out whether KVM runs a guest here, by running one.
//!
//! A `/dev/kvm` that opens proves little: it may be a restricted one that runs no ordinary kernel, or spin for ever.

use super::arguments::{Console, Hardware};
use super::{Qemu, needed_memory, path_of};
use crate::backend::{Accelerator, LaunchError};
use crate::confinement::{ConfinementError, Host, Task};
use crate::exec::{ExecError, Invocation, Limits, OutputStream, saying};
use crate::kernel::KernelInfo;
use mvm_ref::Digest;
use rustix::fd::AsFd as _;
use rustix::fs::MemfdFlags;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// The word on the kernel's command line that has the guest print [`ANSWER`] and reboot.
const REQUEST: &str = "mvm.probe";
const ANSWER: &[u8] = b"mvm-probe-ok";

/// How much console output is read before a guest counts as mad.
const MAX_CONSOLE: usize = 256 * 1024;

/// A number that changes with every boot of the host.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Whether KVM runs guests on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// Whether a guest ran.
    pub usable: bool,
    /// What was found, as the end of a sentence.
    pub reason: String,
}

impl Probe {
    fn refused(reason: impl Into<String>) -> Self {
        Self { usable: false, reason: reason.into() }
    }
}

/// Boots `kernel` with `initramfs` (base and modules) under KVM and reports whether the guest spoke within `limit`.
///
/// `device` is KVM's device file. An unusable KVM is an answer; an error means that the probe itself could not be made.
pub fn probe_kvm(
    qemu: &Qemu,
    device: &Path,
    kernel: &Path,
    kernel_info: &KernelInfo,
    initramfs: &[u8],
    limit: Duration,
) -> Result<Probe, LaunchError> {
    if let Err(error) = File::options().read(true).write(true).open(device) {
        return Ok(Probe::refused(format!("cannot open {}: {error}", device.display())));
    }
    match run(qemu, Accelerator::Kvm, device, kernel, kernel_info, initramfs, limit) {
        Err(LaunchError::Confinement(error @ ConfinementError::Kvm { .. })) => {
            Ok(Probe::refused(error.to_string()))
        }
        other => other,
    }
}

/// Boots the probe's guest and judges what it does.
pub(super) fn run(
    qemu: &Qemu,
    accelerator: Accelerator,
    device: &Path,
    kernel: &Path,
    kernel_info: &KernelInfo,
    initramfs: &[u8],
    limit: Duration,
) -> Result<Probe, LaunchError> {
    let archive = memory_file(initramfs).map_err(|source| LaunchError::Pipe { what: "initramfs", source })?;
    let kernel = super::open(kernel)?;
    let memory = needed_memory(kernel_info, initramfs.len() as u64).max(128);
    let memory_mib = u32::try_from(memory).unwrap_or(u32::MAX);
    let confinement = Host::look(device).reserve()?;
    let (restrictions, _) = confinement.restrict(&Task {
        program: qemu.program(),
        cpus: 1,
        memory_mib,
        accelerator,
        // Everyone may open the archive again: it is in memory, which no rule is about.
        readable: &[kernel.as_fd()],
        largest_file: 0,
    })?;
    let mut invocation =
        Invocation::new(qemu.program()).directory("/").die_with_parent().restrict(restrictions);
    let arguments = Hardware {
        name: "mvm-probe",
        cpus: 1,
        memory_mib,
        kernel: &path_of(invocation.inherit(kernel)),
        kernel_info,
        initrd: &path_of(invocation.inherit(archive.into())),
        disks: &[],
        directories: &[],
        agent: None,
        console: Console::Stdout,
        network: None,
        accelerator,
        tsc_khz: super::tsc_khz(accelerator),
        parameters: &[REQUEST],
    }
    .arguments();
    let mut console = Vec::new();
    let limits = Limits { time: limit, output: MAX_CONSOLE };
    let outcome = invocation.args(arguments).run_watched(limits, &mut |stream, bytes| {
        if stream == OutputStream::Stdout {
            console.extend_from_slice(bytes);
        }
    });
    judge(outcome.and_then(crate::exec::Output::success).map(drop), &console, limit)
}

fn judge(outcome: Result<(), ExecError>, console: &[u8], limit: Duration) -> Result<Probe, LaunchError> {
    let spoke = console.windows(ANSWER.len()).any(|window| window == ANSWER);
    let seconds = limit.as_secs();
    match outcome {
        Ok(()) if spoke => Ok(Probe { usable: true, reason: "a guest ran".to_owned() }),
        Ok(()) => Ok(Probe::refused("a guest ended before it could speak")),
        Err(ExecError::TimedOut { .. }) if spoke => {
            Ok(Probe::refused(format!("a guest spoke, but could not end within {seconds} s")))
        }
        Err(ExecError::TimedOut { stderr, .. }) => {
            Ok(Probe::refused(format!("a guest did not run within {seconds} s{}", saying(&stderr))))
        }
        Err(ExecError::Failed { status, stderr, .. }) => {
            Ok(Probe::refused(format!("QEMU ended with {status}{}", saying(first_line(&stderr)))))
        }
        Err(ExecError::TooMuchOutput { .. }) => Ok(Probe::refused("a guest flooded its console")),
        Err(error) => Err(error.into()),
    }
}

/// Returns the first line of what QEMU said: the cause, before what an assertion has to say of QEMU's own source.
fn first_line(stderr: &str) -> &str {
    stderr.trim().lines().next().unwrap_or_default()
}

/// Returns a text that differs whenever a probe's result could: with the host's boot, with QEMU's program, with the
/// kernel and with the device.
pub fn probe_key(qemu: &Qemu, device: &Path, kernel: Digest) -> Result<String, LaunchError> {
    let unreadable = |path: &Path, source| LaunchError::Open { path: path.to_owned(), source };
    let boot = std::fs::read_to_string(BOOT_ID).map_err(|source| unreadable(Path::new(BOOT_ID), source))?;
    let program = qemu.program();
    let meta = program.metadata().map_err(|source| unreadable(program, source))?;
    // Whether the device is there and whose it is, since both change without a reboot.
    let device_state = match device.metadata() {
        Ok(meta) => format!("{:o} {} {} {:x}", meta.mode(), meta.uid(), meta.gid(), meta.rdev()),
        Err(error) => format!("{:?}", error.kind()),
    };
    let caller = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Ok(format!(
        "boot {}\nqemu {:?} {} {}.{}\nkernel {kernel}\ndevice {device:?} {device_state}\ncaller {} {}\n",
        boot.trim(),
        program,
        meta.size(),
        meta.mtime(),
        meta.mtime_nsec(),
        caller.0,
        caller.1,
    ))
}

fn memory_file(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("initramfs", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    Ok(file)
}
