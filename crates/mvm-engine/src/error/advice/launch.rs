//! What to do about a machine that can't be started.

use mvm_launch::LaunchError;
use mvm_launch::exec::ExecError;
use mvm_launch::network::NetworkError;

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
        LaunchError::NotSupported { what: "directories of the host" } => {
            "mvmctl cp copies files into a VM and out of it; what is to stay is kept in a volume".to_owned()
        }
        _ => return None,
    })
}
