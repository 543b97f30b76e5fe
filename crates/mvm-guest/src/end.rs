//! The machine's end.

use crate::console;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::mount::{MountFlags, mount_remount};
use rustix::process::{WaitOptions, wait};
use rustix::system::{RebootCommand, reboot};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long killed processes may take to go.
const KILL_WAIT: Duration = Duration::from_secs(2);

/// Kills every other process; what can't be killed is left.
pub(crate) fn kill_all() {
    match kill(Pid::from_raw(-1), Signal::SIGKILL) {
        Ok(()) | Err(nix::Error::ESRCH) => {}
        Err(error) => console::say(&format!("killing the remaining processes failed: {error}")),
    }
}

/// Kills every other process, brings the file systems under `scratch` and of `volumes` into a clean state and ends the
/// machine.
pub(crate) fn end_machine(scratch: Option<&OwnedFd>, volumes: &[OwnedFd]) -> ! {
    kill_all();
    let until = Instant::now() + KILL_WAIT;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) => {}
            Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(1)),
            // No child is left, or one that doesn't go.
            Ok(None) | Err(_) => break,
        }
    }
    rustix::fs::sync();
    let by_descriptor = |root: &OwnedFd| format!("/proc/self/fd/{}", root.as_raw_fd());
    let mut targets: Vec<String> = volumes.iter().map(by_descriptor).collect();
    if let Some(scratch) = scratch {
        targets.extend(["/".to_owned(), by_descriptor(scratch)]);
    }
    for target in targets {
        if let Err(error) = mount_remount(target.as_str(), MountFlags::RDONLY, c"") {
            console::say(&format!("remounting {target} read-only failed: {error}"));
        }
    }
    restart()
}

/// Restarts the machine, which the hypervisor takes for its end.
pub(crate) fn restart() -> ! {
    loop {
        if let Err(error) = reboot(RebootCommand::Restart) {
            console::say(&format!("restarting failed: {error}"));
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}
