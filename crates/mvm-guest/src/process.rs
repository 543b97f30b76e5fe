//! One process: who it runs as, which file it executes, its environment, and its start.

pub(crate) mod environment;
mod log_file;
pub(crate) mod lookup;
pub(crate) mod spawn;
pub(crate) mod user;

use crate::cgroup::Group;
use environment::environment;
use mvm_wire::{Failure, FailureKind, Process};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use spawn::{OutputTo, Plan, SpawnError, Spawned, StandardStreams};
use std::os::fd::AsFd;

/// What a process is started with beside what it says of itself.
#[derive(Debug, Default)]
pub(crate) struct Circumstances<'a> {
    pub(crate) hostname: &'a str,
    /// The control group that it joins.
    pub(crate) group: Option<&'a Group>,
    /// A group that it is in whatever its user is.
    pub(crate) supplementary: Option<u32>,
    pub(crate) rights: Rights,
}

/// What a process may be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Rights {
    /// Whatever its user is.
    #[default]
    Users,
    /// Never root, and nothing that it executes either.
    Confined,
    /// As [`Rights::Confined`] unless its user is root.
    ConfinedUnlessRoot,
}

/// Starts a process in the root that is `/`.
pub(crate) fn start(
    process: &Process,
    circumstances: &Circumstances<'_>,
    streams: StandardStreams,
) -> Result<Spawned, Failure> {
    let failure = |kind, message: String| Failure { kind, message };
    let Circumstances { hostname, group, supplementary, rights } = *circumstances;
    let mut user = user::resolve_in_root(&process.user)
        .map_err(|error| failure(error.kind(), crate::console::chain(&error)))?;
    let confined = match rights {
        Rights::Users => false,
        Rights::ConfinedUnlessRoot => user.uid != 0,
        Rights::Confined if user.uid == 0 => {
            let message =
                format!("user {:?} is root in the image, and services never run as root", process.user);
            return Err(failure(FailureKind::NoSuchUser, message));
        }
        Rights::Confined => true,
    };
    if let Some(gid) = supplementary
        && !user.groups.contains(&gid)
    {
        user.groups.push(gid);
    }
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
    let door = group
        .map(Group::door)
        .transpose()
        .map_err(|error| failure(FailureKind::Internal, crate::console::chain(&error)))?;
    if let StandardStreams::Output(OutputTo::File(path)) = &streams {
        log_file::prepare(root.as_fd(), path, &user)
            .map_err(|error| failure(FailureKind::Invalid, crate::console::chain(&error)))?;
    }
    let plan =
        Plan { program: &program, argv: &process.argv, env: &env, directory, user: &user, door, confined };
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
