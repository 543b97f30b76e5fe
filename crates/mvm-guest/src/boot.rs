//! From `/init` to a root in which processes can be started.

mod copy;
mod disks;
mod dm;
mod ext4;
mod kernel;
mod modules;
pub(crate) mod mounts;
mod netlink;
mod network;
mod port;
mod prepare;
mod root;
mod store;
mod users;

pub(crate) use port::open as open_port;

use crate::{console, end};
use mvm_wire::{BootStage, DocumentError, GuestDocument};
use rustix::process::{Resource, Rlimit, setrlimit, umask};
use rustix::system::RebootCommand;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

/// How long disks and the agent's port may take to appear.
const DEVICE_WAIT: Duration = Duration::from_secs(10);
const DOCUMENT: &str = "/mvm/guest.json";

/// What a boot leaves to the agent.
pub(crate) struct Booted {
    pub(crate) document: GuestDocument,
    /// The file system that holds what the root's overlay wrote, where it is on a disk.
    pub(crate) scratch: Option<OwnedFd>,
    /// The roots of volumes that can be written.
    pub(crate) volumes: Vec<OwnedFd>,
    /// The connection to the host.
    pub(crate) port: OwnedFd,
}

/// A boot that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootError {
    #[error(transparent)]
    Kernel(#[from] kernel::KernelError),
    #[error(transparent)]
    Modules(#[from] modules::ModuleError),
    #[error("reading {DOCUMENT} failed")]
    ReadDocument(#[source] io::Error),
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error("the guest document has {got} roots, and this guest mounts one")]
    Roots { got: usize },
    #[error(transparent)]
    Disks(#[from] disks::DiskError),
    #[error(transparent)]
    Verity(#[from] dm::DmError),
    #[error(transparent)]
    Root(#[from] root::RootError),
    #[error(transparent)]
    Prepare(#[from] prepare::PrepareError),
    #[error(transparent)]
    Mounts(#[from] mounts::MountError),
    #[error(transparent)]
    Store(#[from] store::StoreError),
    #[error(transparent)]
    Users(#[from] users::UsersError),
    #[error(transparent)]
    Network(#[from] network::NetworkError),
    #[error(transparent)]
    Port(#[from] port::PortError),
}

impl BootError {
    /// Returns what the guest was doing.
    pub(crate) fn stage(&self) -> BootStage {
        match self {
            Self::Kernel(_) => BootStage::KernelFilesystems,
            Self::Modules(_) => BootStage::Modules,
            Self::ReadDocument(_) | Self::Document(_) | Self::Roots { .. } => BootStage::Document,
            Self::Disks(_) => BootStage::Disks,
            Self::Verity(_) => BootStage::Verity,
            Self::Root(error) => error.stage(),
            Self::Prepare(_) | Self::Users(_) => BootStage::Prepare,
            Self::Mounts(_) | Self::Store(_) => BootStage::Mounts,
            Self::Network(_) => BootStage::Network,
            Self::Port(_) => BootStage::Agent,
        }
    }
}

/// Boots; does not return when the host only probes.
pub(crate) fn boot() -> Result<Booted, BootError> {
    kernel::mount_proc()?;
    if kernel::is_probe()? {
        console::say("mvm-probe-ok");
        end::restart();
    }
    kernel::mount_dev_and_sys()?;
    kernel::expedite();
    set_process_defaults();
    modules::load(Path::new("/lib/modules/mvm.order"))?;

    let document = GuestDocument::parse(&std::fs::read(DOCUMENT).map_err(BootError::ReadDocument)?)?;
    let [described] = document.roots.as_slice() else {
        return Err(BootError::Roots { got: document.roots.len() });
    };
    let mut serials = vec![described.disk.as_str()];
    if let mvm_wire::Overlay::Disk { serial } = &described.overlay {
        serials.push(serial);
    }
    let own = serials.len();
    serials.extend(mounts::serials(&document));
    let disks = disks::find(Path::new("/sys/class/block"), &serials, DEVICE_WAIT)?;
    let verified = Path::new("/mvm/verified");
    dm::open_verity(&described.name, disks[0], &described.verity, verified)?;
    let scratch = root::mount_image(described, verified, disks[1..own].first().copied())?;
    kernel::mount_under_dev_and_sys()?;
    prepare::prepare(Path::new(root::MERGED), &document.hostname, document.interface.as_ref())?;
    users::add(Path::new(root::MERGED), &document)?;
    root::switch()?;

    let volumes = mounts::mount_all(&document, &disks[own..])?;
    store::load(&document)?;
    network::set_up(&document.hostname, document.interface.as_ref(), DEVICE_WAIT)?;
    if matches!(described.overlay, mvm_wire::Overlay::None {}) {
        mounts::seal_root()?;
    }
    let port = port::open(DEVICE_WAIT)?;
    Ok(Booted { document, scratch, volumes, port })
}

/// Sets what every process inherits. None of it is worth a failed boot.
fn set_process_defaults() {
    umask(rustix::fs::Mode::WGRP | rustix::fs::Mode::WOTH);
    // The soft limit keeps select(2) and programs that close every possible descriptor well; servers raise it.
    let files = Rlimit { current: Some(1024), maximum: Some(524_288) };
    if let Err(error) = setrlimit(Resource::Nofile, files) {
        console::say(&format!("setting the limit of open files failed: {error}"));
    }
    if let Err(error) = rustix::system::reboot(RebootCommand::CadOff) {
        console::say(&format!("switching Ctrl-Alt-Del off failed: {error}"));
    }
}
