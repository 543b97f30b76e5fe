//! What a child does to itself between fork and exec.
#![expect(unsafe_code, reason = "pre_exec is the only way to run system calls in the child before exec")]

use rustix::fd::OwnedFd;
use rustix::io::{Errno, FdFlags};
use rustix::process::{Pid, Signal};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Makes the child keep `descriptors` across exec and, if asked, die with the thread that starts it.
pub(super) fn prepare(command: &mut Command, descriptors: Vec<OwnedFd>, die_with_parent: bool) {
    if descriptors.is_empty() && !die_with_parent {
        return;
    }
    let parent = rustix::process::getpid();
    // SAFETY: the closure runs in the forked child, where only async-signal-safe work is allowed: it makes plain
    // system calls on values captured before the fork, and neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(move || {
            for descriptor in &descriptors {
                rustix::io::fcntl_setfd(descriptor, FdFlags::empty())?;
            }
            if die_with_parent { tie_to(parent) } else { Ok(()) }
        });
    }
}

fn tie_to(parent: Pid) -> std::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have died before the request: then no signal will ever come.
    if rustix::process::getppid() == Some(parent) { Ok(()) } else { Err(Errno::SRCH.into()) }
}
