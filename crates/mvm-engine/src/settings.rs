//! What the engine is told by the program that it is part of.

use mvm_ref::ScopeName;
use std::ffi::OsString;
use std::path::PathBuf;

/// Where things are and what they are made from; the engine reads no environment.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Directory of the store.
    pub root: PathBuf,
    /// Partition of the store to work in.
    pub scope: ScopeName,
    /// The static program that is PID 1 in every guest.
    pub guest: &'static [u8],
    /// The program whose `supervise` verb runs [`crate::Engine::supervise`].
    pub program: PathBuf,
    /// Directories in which programs are looked up, as in `$PATH`.
    pub program_path: OsString,
    /// Docker's file of registry credentials.
    pub docker_config: Option<PathBuf>,
    /// The KVM device.
    pub kvm: PathBuf,
}
