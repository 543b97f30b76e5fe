//! What to do about a machine that can't be started.

use super::ErrorKind;
use crate::directories::DirectoryError;
use mvm_launch::exec::{ExecError, RestrictionStep};
use mvm_launch::network::NetworkError;
use mvm_launch::{LaunchError, ShareError};

/// Returns what to do about a launch that failed.
pub(super) fn for_launch(error: &LaunchError) -> Option<String> {
    Some(match error {
        LaunchError::NotInstalled { package, .. } => {
            format!("apt-get install --no-install-recommends {package}")
        }
        LaunchError::Network(NetworkError::NotInstalled { package, .. }) => format!(
            "apt-get install --no-install-recommends {package}, or --network none, with which forwarded ports work too"
        ),
        LaunchError::Confinement(_) | LaunchError::Exec(ExecError::Confine { .. }) => {
            "mvmctl doctor says how hypervisors are confined here; none is started without that".to_owned()
        }
        LaunchError::Memory { needed_mib, .. } => format!("--memory {needed_mib}m or more"),
        LaunchError::Share(ShareError::NotInstalled(_)) => {
            "apt-get install virtiofsd (Debian 13), or cargo install virtiofsd (1.13 or later); without it mvmctl cp copies \
             files, and a volume keeps them"
                .to_owned()
        }
        LaunchError::Share(ShareError::Exec(ExecError::Confine { step: RestrictionStep::Namespaces, .. })) => {
            "this host keeps users from making namespaces of users (sysctl user.max_user_namespaces, \
             kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns); without that mvmctl cp copies \
             files, and a volume keeps them"
                .to_owned()
        }
        _ => return None,
    })
}

/// Returns what kind of failure a launch that failed is.
pub(super) fn of_launch(error: &LaunchError) -> ErrorKind {
    match error {
        LaunchError::NotInstalled { .. }
        | LaunchError::Network(NetworkError::NotInstalled { .. })
        | LaunchError::Share(ShareError::NotInstalled(_) | ShareError::Exec(ExecError::Confine { .. }))
        | LaunchError::Confinement(_)
        | LaunchError::Exec(ExecError::Confine { .. }) => ErrorKind::Missing,
        LaunchError::Memory { .. } => ErrorKind::Usage,
        _ => ErrorKind::Failure,
    }
}

/// Returns what to do about a directory of the host that can't be mounted.
pub(super) fn for_directory(error: &DirectoryError) -> Option<String> {
    let text = match error {
        DirectoryError::Absent { .. } => "make it first; a name without a slash is a volume's, which is made",
        DirectoryError::NotADirectory { .. } => {
            "mount the directory that it is in, or copy it with mvmctl cp"
        }
        DirectoryError::Store { .. } => "with it a guest could sign for itself; mount a directory beside it",
        _ => return None,
    };
    Some(text.to_owned())
}

/// Returns what kind of failure that is.
pub(super) fn of_directory(error: &DirectoryError) -> ErrorKind {
    match error {
        DirectoryError::Absent { .. } => ErrorKind::NotFound,
        DirectoryError::Open { .. } => ErrorKind::Failure,
        _ => ErrorKind::Usage,
    }
}
