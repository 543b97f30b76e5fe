//! Directories of the host: what they are served with, and what becomes of the VM without that.

use super::{Supervisor, SupervisorError, io_error, timespec};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::vm::VmDirectory;
use mvm_launch::{LaunchError, ShareConfig, Virtiofsd};
use mvm_plan::plan::{MountKind, Plan};
use rustix::event::{PollFd, PollFlags, poll};
use std::time::Duration;

/// The socket of what serves a directory; it is there for a moment only.
const SOCKET: &str = "shared.sock";
/// How much earlier than the hypervisor what serves it directories may end.
const PARTING_LIMIT: Duration = Duration::from_secs(1);

/// Finds the program that serves directories of the host, if a plan mounts one.
pub(super) fn server(engine: &Engine, plan: &Plan) -> Result<Option<Virtiofsd>, EngineError> {
    if !plan.mount_kinds().contains(&MountKind::HostDirectory) {
        return Ok(None);
    }
    Ok(Some(Virtiofsd::find(&engine.settings.program_path).map_err(LaunchError::from)?))
}

/// Opens the directories of the host that a plan mounts.
pub(super) fn config<'a>(
    virtiofsd: Option<&'a Virtiofsd>,
    engine: &Engine,
    directory: &VmDirectory,
    plan: &Plan,
) -> Result<Option<ShareConfig<'a>>, EngineError> {
    let Some(virtiofsd) = virtiofsd else { return Ok(None) };
    let directories = engine.open_directories(&plan.mounts)?;
    Ok(Some(ShareConfig { virtiofsd, socket: directory.file(SOCKET), directories }))
}

impl Supervisor {
    /// Finds out whether the program ended with the hypervisor, which it does a little earlier.
    pub(super) fn directory_ended(&mut self) -> Result<(), SupervisorError> {
        let failure = self.machine.failed_directory();
        let mut polled = [PollFd::from_borrowed_fd(self.machine.pidfd(), PollFlags::IN)];
        match poll(&mut polled, Some(&timespec(PARTING_LIMIT))) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) if failure.is_none() => {
                self.machine.release_directories();
                return Ok(());
            }
            Ok(_) => {}
            Err(error) => return Err(io_error("wait for the hypervisor")(error.into())),
        }
        let words = failure.unwrap_or_else(|| "what serves a directory of the host ended".to_owned());
        Err(SupervisorError::DirectoryLost(words))
    }
}
