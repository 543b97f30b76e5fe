//! What kind of failure a build's is, and what to do about it.

use crate::error::ErrorKind;
use crate::flake::{BuildError, SourceError};

/// Returns which of a program's exit codes fits.
pub(super) fn kind(error: &BuildError) -> ErrorKind {
    match error {
        BuildError::Source(
            SourceError::NoDirectory(_) | SourceError::NoFlake(_) | SourceError::NotGit(_),
        )
        | BuildError::Attribute { .. }
        | BuildError::NoTemplate { .. }
        | BuildError::NoInput { .. }
        | BuildError::NoLog(_) => ErrorKind::NotFound,
        BuildError::Source(
            SourceError::Untracked(_)
            | SourceError::Special { .. }
            | SourceError::Large { .. }
            | SourceError::Many { .. },
        )
        | BuildError::Reference(_)
        | BuildError::Override { .. }
        | BuildError::NoSystem { .. }
        | BuildError::System { .. }
        | BuildError::Inside { .. } => ErrorKind::Usage,
        BuildError::NotLocked { .. } | BuildError::Unlocked { .. } | BuildError::LockRefused { .. } => {
            ErrorKind::Refused
        }
        BuildError::Evaluation { .. } | BuildError::Impure { .. } => ErrorKind::Evaluation,
        BuildError::Fetch { .. } => ErrorKind::Network,
        BuildError::Failed { .. } => ErrorKind::Build,
        BuildError::Disk { .. } | BuildError::Memory { .. } => ErrorKind::Exhausted,
        BuildError::InTheWay(_) => ErrorKind::Conflict,
        BuildError::Source(
            SourceError::Git { .. }
            | SourceError::Changed(_)
            | SourceError::Io { .. }
            | SourceError::Walk { .. },
        )
        | BuildError::Lock { .. }
        | BuildError::WriteLock { .. }
        | BuildError::Silent { .. }
        | BuildError::Output { .. }
        | BuildError::Io { .. } => ErrorKind::Failure,
    }
}

/// Returns what to do about it, where the message itself doesn't say.
pub(super) fn hint(error: &BuildError) -> Option<String> {
    Some(match error {
        BuildError::Source(SourceError::Untracked(path)) => format!("git add {}", path.display()),
        BuildError::Source(SourceError::NoFlake(_)) => "mvmctl flake init begins one".to_owned(),
        BuildError::Source(SourceError::NotGit(_)) => {
            "name the directory without git+file:, or its top".to_owned()
        }
        BuildError::Source(SourceError::Special { .. }) => "name it in a .gitignore, or remove it".to_owned(),
        BuildError::Source(SourceError::Large { .. }) => {
            "name what the flake does not need in a .gitignore; --max-source SIZE allows more".to_owned()
        }
        BuildError::Source(SourceError::Changed(_)) => "run the command again".to_owned(),
        BuildError::NotLocked { .. } | BuildError::Unlocked { .. } => {
            "--update-lock locks them and writes flake.lock; --override-input NAME DIR gives a directory"
                .to_owned()
        }
        BuildError::LockRefused { .. } => {
            "mvmctl build --update-lock where that policy does not hold, and commit flake.lock".to_owned()
        }
        BuildError::Impure { .. } => {
            "a flake sees its own files and its locked inputs; --impure is not supported".to_owned()
        }
        BuildError::Fetch { online: false, .. } => {
            "without --offline the builder has a network; --override-input NAME DIR gives a directory"
                .to_owned()
        }
        BuildError::Failed { log, .. } | BuildError::Silent { log } => format!("mvmctl build log {log}"),
        BuildError::Disk { .. } => {
            "mvmctl builder gc frees what is not needed; mvmctl builder grow --size SIZE gives it more"
                .to_owned()
        }
        BuildError::Memory { .. } => "mvmctl builder init --memory SIZE gives the builder more".to_owned(),
        BuildError::Inside { .. } => {
            "mvmctl builder init with a newer Nix (Debian 13's), or a flake at the top of its tree".to_owned()
        }
        BuildError::NoLog(_) => "mvmctl build ls lists them".to_owned(),
        BuildError::InTheWay(_) => "nothing was written; choose another directory".to_owned(),
        _ => return None,
    })
}
