//! Admitted plan to running machine: hypervisor backends, initramfs, transport.
//!
//! [`Backend::launch`] is the only way to a machine, and it takes an [`mvm_plan::AdmittedPlan`]. Beside it are what a
//! launch needs: kernels in bootable form ([`kernel`]), the initramfs ([`initramfs`]), the guest document of a plan,
//! scratch disks, how hypervisors are confined ([`confinement`]), and the one place that starts programs ([`exec`]).

mod backend;
pub mod confinement;
mod cpio;
mod document;
pub mod exec;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod initramfs;
pub mod kernel;
mod machine;
pub mod network;
mod qemu;
mod scratch;
mod share;
mod volume;

pub use backend::{Accelerator, Backend, Disk, LaunchError, Launched, MachineConfig};
pub use document::{
    MAIN_PROCESS, ROOT, ROOT_SERIAL, SCRATCH_SERIAL, directory_tag, guest_document, image_serial,
    volume_serial,
};
pub use initramfs::document_archive;
pub use machine::Machine;
pub use qemu::{Probe, Qemu, probe_key, probe_kvm};
pub use scratch::{ScratchError, copy_open, copy_sparse, is_blank, make_blank};
pub use share::{ShareConfig, ShareError, SharedDirectory, Virtiofsd};
pub use volume::make_volume;
