//! One process: who it runs as, which file it executes, its environment, and its start.

pub(crate) mod environment;
pub(crate) mod lookup;
pub(crate) mod spawn;
pub(crate) mod user;

use environment::environment;
use mvm_wire::{Failure, FailureKind, Process};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use spawn::{Plan, SpawnError, Spawned, StandardStreams};
use std::os::fd::AsFd;

/// Starts a process in the root that is `/`.
pub(crate) fn start(process: &Process, hostname: &str, streams: StandardStreams) -> Result<Spawned, Failure> {
    let failure = |kind, message: String| Failure { kind, message };
    let user = user::resolve_in_root(&process.user)
        .map_err(|error| failure(error.kind(), crate::console::chain(&error)))?;
    let env = environment(&process.env, &user.home, hostname, process.terminal);
    let directory = if process.working_dir.is_empty() { "/" } else { &process.working_dir };
    std::fs::create_dir_all(directory).map_err(|error| {
        failure(FailureKind::Invalid, format!("making working directory {directory:?} failed: {error}"))
    })?;

    let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| failure(FailureKind::Internal, format!("opening the root failed: {error}")))?;
    let path = env.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or_default();
    let name = process.argv.first().map(String::as_str).unwrap_or_default();
    let program = lookup::find_program(root.as_fd(), name, path, directory).map_err(|error| {
        let kind = match error {
            lookup::LookupError::NotFound { .. } => FailureKind::NotFound,
            lookup::LookupError::NotExecutable { .. } => FailureKind::NotExecutable,
        };
        failure(kind, error.to_string())
    })?;
    let plan = Plan { program: &program, argv: &process.argv, env: &env, directory, user: &user };
    spawn::spawn(&plan, streams).map_err(|error| {
        let kind = error_kind(&error);
        let mut message = crate::console::chain(&error);
        if kind == FailureKind::NotFound && program.exists() {
            message.push_str(" (the file is there: the interpreter or loader that it names is not)");
        }
        failure(kind, message)
    })
}

/// Sorts what execve(2) says: not there, there but not to be executed, or none of the program's doing.
fn error_kind(error: &SpawnError) -> FailureKind {
    let SpawnError::Execute { source, .. } = error else {
        return FailureKind::Internal;
    };
    match source.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT | Errno::NOTDIR) => FailureKind::NotFound,
        Some(
            Errno::ACCESS
            | Errno::PERM
            | Errno::NOEXEC
            | Errno::ISDIR
            | Errno::LIBBAD
            | Errno::LOOP
            | Errno::NAMETOOLONG
            | Errno::TXTBSY
            | Errno::TOOBIG
            | Errno::INVAL,
        ) => FailureKind::NotExecutable,
        _ => FailureKind::Internal,
    }
}
