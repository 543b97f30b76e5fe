//! Identity of a process that outlives the command which started it.

use mvm_store::{ProcessError, ProcessId};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;

/// A process as the kernel told it apart when it was recorded: a process id alone is reused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessIdentity {
    pid: u32,
    /// Field 22 of `/proc/PID/stat`: start time in clock ticks since boot.
    start_time: u64,
    /// `/proc/sys/kernel/random/boot_id`.
    boot_id: String,
}

impl ProcessIdentity {
    /// Identifies the calling process.
    pub fn current() -> Result<Self, ProcessError> {
        Self::of(std::process::id())
    }

    /// Identifies a live process.
    pub fn of(pid: u32) -> Result<Self, ProcessError> {
        let start_time = ProcessId::of(pid)?.start_time();
        Ok(Self { pid, start_time, boot_id: boot_id()? })
    }

    /// Returns its number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns whether it was recorded since the host's kernel started.
    pub fn of_this_boot(&self) -> bool {
        boot_id().is_ok_and(|id| id == self.boot_id)
    }

    /// Returns whether this very process still runs. A zombie doesn't; neither does one of another boot.
    pub fn alive(&self) -> bool {
        self.of_this_boot() && ProcessId::from_parts(self.pid, self.start_time).is_alive().unwrap_or(false)
    }

    /// Sends a signal to this very process; one that is gone is no error.
    ///
    /// The pidfd is opened before the identity is compared, so the signal can't reach a successor.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
        let descriptor = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => descriptor,
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if !self.alive() {
            return Ok(());
        }
        match rustix::process::pidfd_send_signal(descriptor, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Returns this boot's id.
fn boot_id() -> Result<String, ProcessError> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = fs::read_to_string(path).map_err(|source| ProcessError::Read { path: path.into(), source })?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests;
