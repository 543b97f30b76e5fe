//! Admitted plan to running machine: hypervisor backends, initramfs, transport.

pub mod cpio;
pub mod exec;
pub mod kernel;
