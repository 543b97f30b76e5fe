//! What can be asked of a run.

use super::WorkloadHealth;
use crate::keys::Signers;
use crate::policies::PolicySource;
use crate::secrets::Secret;
use crate::vm::RestartPolicy;
use mvm_plan::cosign::ImageKey;
use mvm_plan::plan::{Group, HealthCheck, Mount, Network, Port, RequiredIsolation, Service, User};
use mvm_ref::{ImageSource, Platform, SecretName, VmName};
use serde::Serialize;

/// When to ask the registry what a name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PullPolicy {
    /// Always.
    Always,
    /// If the store doesn't know.
    Missing,
    /// Never.
    Never,
}

/// What to run, as far as it differs from what the image says.
#[derive(Clone, Debug, Default)]
pub struct Workload {
    /// Replaces the image's entry point, and clears its command; empty for none.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command unless empty.
    pub command: Vec<String>,
    /// Added to the image's environment, `NAME=VALUE`; later ones win.
    pub env: Vec<String>,
    /// Replaces the image's working directory.
    pub working_dir: Option<String>,
    /// Replaces the image's user.
    pub user: Option<String>,
    /// Whether the command gets a terminal.
    pub terminal: bool,
    /// Whether the command gets the caller's stdin.
    pub stdin: bool,
    /// How to see whether it is well.
    pub health: WorkloadHealth,
}

impl Workload {
    /// Says whether the image alone decides what runs.
    pub(super) fn names_no_command(&self) -> bool {
        self.entrypoint.is_none() && self.command.is_empty()
    }
}

/// What the guest does and has beside its main process.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Whether the image's own command, or what replaces it, is run as the main process.
    pub main: bool,
    /// What is kept running.
    pub services: Vec<Service>,
    /// How the guest tells whether it is well.
    pub health_checks: Vec<HealthCheck>,
    /// Users beside those of the image.
    pub users: Vec<User>,
    /// The group of services and secrets.
    pub service_group: Option<Group>,
    /// What is mounted.
    pub mounts: Vec<Mount>,
    /// The names of its secrets.
    pub secrets: Vec<SecretName>,
    /// Its network.
    pub network: Network,
    /// The ports that are forwarded.
    pub ports: Vec<Port>,
    /// Whether its root is read-only.
    pub read_only: bool,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self {
            main: true,
            services: Vec::new(),
            health_checks: Vec::new(),
            users: Vec::new(),
            service_group: None,
            mounts: Vec::new(),
            secrets: Vec::new(),
            network: Network::None,
            ports: Vec::new(),
            read_only: false,
        }
    }
}

/// A VM that is wanted.
#[derive(Clone, Debug)]
pub struct RunRequest {
    /// Its name; made up if absent.
    pub name: Option<VmName>,
    /// The image.
    pub image: ImageSource,
    /// The platform to choose from the image.
    pub platform: Platform,
    /// When to ask the registry.
    pub pull: PullPolicy,
    /// What to run.
    pub workload: Workload,
    /// What there is beside it.
    pub surroundings: Surroundings,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// The kernel, by a digest or its beginning; the default one if absent.
    pub kernel: Option<String>,
    /// Its secrets; their names are those of the surroundings.
    pub secrets: Vec<Secret>,
    /// Space for what the guest writes over its root, in MiB; the disk is sparse.
    pub scratch_mib: u64,
    /// The policies to be admitted under, beside the one that always holds.
    pub policy: Vec<PolicySource>,
    /// The isolation that the workload needs.
    pub isolation: RequiredIsolation,
    /// How long the plan may be admitted, in seconds.
    pub valid_for: i64,
    /// The keys that sign the plan.
    pub signers: Signers,
    /// Keys each of which must have signed the image.
    pub image_keys: Vec<ImageKey>,
    /// Whether the plan is for one launch only.
    pub single_use: bool,
    /// Whether the VM's directory goes with it.
    pub remove_at_end: bool,
    /// Whether the main process starts without anyone attached.
    pub detached: bool,
    /// When it is launched again after it ended; only without anyone attached.
    pub restart: RestartPolicy,
}

/// A launch that is wanted, of a plan that there is.
#[derive(Clone, Debug, Default)]
pub struct LaunchRequest {
    /// Name of the VM; the plan's if absent, with an ending that is made up if a VM has it.
    pub name: Option<VmName>,
    /// The secrets that the plan names.
    pub secrets: Vec<Secret>,
    /// The policies to be admitted under, beside the one that always holds.
    pub policy: Vec<PolicySource>,
    /// Whether the VM's directory goes with it.
    pub remove_at_end: bool,
    /// Whether the main process starts without anyone attached.
    pub detached: bool,
    /// When it is launched again after it ended; only without anyone attached.
    pub restart: RestartPolicy,
    /// The project that the VM belongs to.
    pub project: Option<VmName>,
}
