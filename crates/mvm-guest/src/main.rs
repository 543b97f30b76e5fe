//! PID 1 and agent in every guest: the `/init` of the initramfs.
//!
//! ```text
//! boot   kernel file systems ─ modules ─ document ─ disks ─ verity ─ root ─ overlay ─ prepare ─ network
//! agent  one loop over the agent's port, the processes' pipes and terminals, and their ends
//! end    kill, sync, read-only, reboot
//! ```
//!
//! It is synchronous and single-threaded. The root that it switches to is the user's and is not trusted to
//! be well-formed: names are resolved inside it, and nothing in it is read without a limit.

mod agent;
mod boot;
mod cgroup;
mod console;
mod end;
mod process;

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::process::id() != 1 {
        console::say("this program is the first process of a guest, and does nothing elsewhere");
        return ExitCode::from(2);
    }
    let booted = match boot::boot() {
        Ok(booted) => booted,
        Err(error) => {
            let message = console::chain(&error);
            console::say(&format!("boot failed at {}: {message}", error.stage()));
            agent::report_failure(error.stage(), message);
            end::restart();
        }
    };
    if let Err(error) = agent::serve(booted.port, booted.document) {
        console::say(&console::chain(&error));
    }
    end::end_machine(booted.scratch.as_ref(), &booted.volumes);
}
