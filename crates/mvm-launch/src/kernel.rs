//! Kernels that mvm can boot: what one needs, how it is started, and how one is imported from a package.
//!
//! An import turns what a distribution ships (a compressed image, its configuration, a tree of modules) into what a
//! launch needs: an image in the form that boots fastest, a [`KernelInfo`] that is stored beside it, and the few
//! modules that go into the initramfs, in load order. Nothing is installed and no module tool is run.

mod config;
mod elf;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod image;
mod import;
mod inflate;
mod modules;
mod requirements;

use serde::{Deserialize, Serialize};
use std::fmt;

pub use config::{Config, ConfigError, OptionState};
pub use elf::ElfError;
pub use image::ImageError;
pub use import::{ImportError, ImportedKernel, import_elf, import_package};
pub use inflate::InflateError;
pub use modules::{Module, ModuleError};
pub use requirements::MissingOptions;

/// What a launch must know about a kernel image, as stored beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelInfo {
    /// The version of this record's layout.
    pub schema: KernelSchema,
    /// The release as `uname -r` would print it, or the version alone where only that is known.
    pub version: String,
    /// The form of the image file.
    pub format: KernelFormat,
    /// The machine that this kernel can find its devices on.
    pub machine: BootMachine,
    /// The guest physical address up to which the running kernel needs memory, in bytes.
    pub load_end: u64,
    /// The modules that the initramfs must carry, in load order; empty where everything is built in.
    pub modules: Vec<String>,
}

/// The version of a [`KernelInfo`] record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KernelSchema {
    /// The first layout.
    #[serde(rename = "mvm.kernel.v1")]
    V1,
}

/// The form of a kernel image file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelFormat {
    /// An uncompressed ELF image with a PVH entry point, which skips firmware and decompression.
    Elf,
    /// A compressed image in the x86 boot protocol's format.
    Bzimage,
}

/// A machine type, by how the kernel learns about its devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootMachine {
    /// virtio-mmio devices named on the kernel's command line; no PCI, and ACPI only where there are several processors.
    Microvm,
    /// virtio-mmio devices described by ACPI; no PCI.
    MicrovmAcpi,
    /// virtio-pci devices on a full PC.
    Q35,
}

impl fmt::Display for BootMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Microvm => "microvm",
            Self::MicrovmAcpi => "microvm-acpi",
            Self::Q35 => "q35",
        })
    }
}

#[cfg(test)]
mod tests;
