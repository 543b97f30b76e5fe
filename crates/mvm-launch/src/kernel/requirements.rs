//! What a kernel must offer for a guest to boot.

use super::BootMachine;
use super::config::{Config, OptionState};
use std::fmt;

/// An option that a guest needs, built in or as a module.
struct Requirement {
    option: &'static str,
    /// The module's name where the option is `m`; options without one must be built in.
    module: Option<&'static str>,
    purpose: &'static str,
}

const fn built_in(option: &'static str, purpose: &'static str) -> Requirement {
    Requirement { option, module: None, purpose }
}

const fn either(option: &'static str, module: &'static str, purpose: &'static str) -> Requirement {
    Requirement { option, module: Some(module), purpose }
}

/// Everything but the bus, in the order in which modules are loaded.
const REQUIREMENTS: [Requirement; 20] = [
    built_in("64BIT", "64-bit programs"),
    built_in("ACPI", "several processors"),
    built_in("BLK_DEV_INITRD", "the initramfs"),
    built_in("BINFMT_ELF", "programs"),
    built_in("BINFMT_SCRIPT", "scripts"),
    built_in("DEVTMPFS", "device nodes"),
    built_in("PROC_FS", "/proc"),
    built_in("SYSFS", "/sys"),
    built_in("TMPFS", "/dev/shm"),
    built_in("UNIX98_PTYS", "terminals"),
    built_in("SERIAL_8250_CONSOLE", "the console"),
    built_in("EROFS_FS_XATTR", "extended attributes of the root"),
    either("VIRTIO_CONSOLE", "virtio_console", "the agent connection"),
    either("VIRTIO_BLK", "virtio_blk", "disks"),
    either("CRYPTO_SHA256", "sha256_generic", "verified roots"),
    either("BLK_DEV_DM", "dm_mod", "verified roots"),
    either("DM_VERITY", "dm_verity", "verified roots"),
    either("EROFS_FS", "erofs", "the root"),
    either("OVERLAY_FS", "overlay", "the writable root"),
    either("EXT4_FS", "ext4", "scratch disks"),
];

/// What only guests need that have a network, or a directory of the host: a module is loaded, and a kernel without is no
/// worse for the others.
const OPTIONAL: [(&str, &str); 2] = [("VIRTIO_NET", "virtio_net"), ("VIRTIO_FS", "virtiofs")];

const MMIO: Requirement = either("VIRTIO_MMIO", "virtio_mmio", "devices");
const PCI: Requirement = either("VIRTIO_PCI", "virtio_pci", "devices");

/// Modules that others reach by an algorithm's name instead of a symbol, so that no dependency leads to them.
const BY_NAME: [(&str, &str); 1] = [("CRYPTO_CRC32C", "crc32c_generic")];

/// The options that a kernel lacks, each with what it is needed for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingOptions(Vec<(&'static str, &'static str)>);

impl fmt::Display for MissingOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (option, purpose)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}CONFIG_{option} ({purpose})")?;
        }
        Ok(())
    }
}

/// The machine and the modules that a configuration asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Selection {
    pub machine: BootMachine,
    /// Names of modules to load, in order, without their dependencies.
    pub modules: Vec<&'static str>,
    /// Whether the kernel refuses modules without a signature.
    pub signed_only: bool,
}

/// Options that make a kernel refuse unsigned modules whatever its command line says.
const SIGNED_ONLY: [&str; 3] =
    ["MODULE_SIG_FORCE", "LOCK_DOWN_KERNEL_FORCE_INTEGRITY", "LOCK_DOWN_KERNEL_FORCE_CONFIDENTIALITY"];

/// Chooses the machine that a kernel with `config` boots fastest on and the modules it needs there.
pub(super) fn select(config: &Config) -> Result<Selection, MissingOptions> {
    let (machine, bus) = machine(config);
    let mut missing = Vec::new();
    let mut modules: Vec<&'static str> = BY_NAME
        .iter()
        .filter(|(option, _)| config.state(option) == OptionState::Module)
        .map(|(_, module)| *module)
        .collect();
    for requirement in std::iter::once(&bus).chain(&REQUIREMENTS) {
        match (config.state(requirement.option), requirement.module) {
            (OptionState::BuiltIn, _) => {}
            (OptionState::Module, Some(module)) => modules.push(module),
            _ => missing.push((requirement.option, requirement.purpose)),
        }
    }
    let optional = OPTIONAL.iter().filter(|(option, _)| config.state(option) == OptionState::Module);
    modules.extend(optional.map(|(_, module)| *module));
    let signed_only = SIGNED_ONLY.iter().any(|option| config.state(option) == OptionState::BuiltIn);
    if missing.is_empty() {
        Ok(Selection { machine, modules, signed_only })
    } else {
        Err(MissingOptions(missing))
    }
}

/// Devices named on the command line need no firmware tables, but a module would not see those names; and virtio-mmio
/// starts faster than PCI.
fn machine(config: &Config) -> (BootMachine, Requirement) {
    let has = |option| config.state(option) != OptionState::Absent;
    let built_in = |option| config.state(option) == OptionState::BuiltIn;
    if built_in("VIRTIO_MMIO") && built_in("VIRTIO_MMIO_CMDLINE_DEVICES") {
        (BootMachine::Microvm, MMIO)
    } else if has("VIRTIO_MMIO") {
        (BootMachine::MicrovmAcpi, MMIO)
    } else {
        (BootMachine::Q35, PCI)
    }
}
