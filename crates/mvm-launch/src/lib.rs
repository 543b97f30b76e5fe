//! Admitted plan to running machine: hypervisor backends, initramfs, transport.
