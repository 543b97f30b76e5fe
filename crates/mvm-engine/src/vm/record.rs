//! What is kept about a VM in its directory: what it is, and how it fares.

use super::process::ProcessIdentity;
use super::restart::RestartPolicy;
use crate::policies::PolicySource;
use crate::secrets::NamedSource;
use mvm_launch::confinement::Protection;
use mvm_plan::LaunchNonce;
use mvm_plan::plan::Port;
use mvm_ref::{Digest, ScopeName, VmName};
use mvm_wire::{Health, HealthStatus, ServiceStatus};
use serde::{Deserialize, Deserializer, Serialize};

/// What a VM is; written once, before anything starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The VM's name.
    pub name: VmName,
    /// The scope that its image belongs to.
    pub scope: ScopeName,
    /// What was asked for, in canonical form.
    pub image: String,
    /// Root hash of its image.
    pub root_hash: Digest,
    /// Digest of its plan's canonical bytes.
    pub plan: Digest,
    /// The policies that it is admitted under, beside the one that always holds.
    #[serde(deserialize_with = "one_or_several")]
    pub policy: Vec<PolicySource>,
    /// The command, as asked for.
    pub command: Vec<String>,
    /// When it was created, in seconds since 1970.
    pub created_at: i64,
    /// Whether the directory goes when the VM ends.
    pub remove_at_end: bool,
    /// Its secrets and where they come from, in the order of the plan's names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<NamedSource>,
    /// When it is launched again after it ended.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// The project that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<VmName>,
    /// How many plans it had before, and this one.
    #[serde(default = "first")]
    pub generation: u32,
}

fn first() -> u32 {
    1
}

/// Reads a list; earlier versions wrote one name.
fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PolicySource>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Sources {
        One(PolicySource),
        Several(Vec<PolicySource>),
    }
    Ok(match Sources::deserialize(deserializer)? {
        Sources::One(source) => vec![source],
        Sources::Several(sources) => sources,
    })
}

/// How far a VM has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Its directory exists, nothing runs yet.
    Created,
    /// The hypervisor runs, the agent hasn't answered.
    Booting,
    /// The agent has answered.
    Running,
    /// Its hypervisor is stopped where it is.
    Paused,
    /// It ended and waits to be launched again.
    Restarting,
    /// It ended by itself or was stopped.
    Exited,
    /// It could not start, or something that it needs died.
    Failed,
}

/// How a VM fares; replaced as a whole, by rename.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// How far it has come.
    pub phase: Phase,
    /// The process that answers for it: its supervisor, or at first the command that creates it.
    pub supervisor: ProcessIdentity,
    /// The hypervisor.
    pub hypervisor: Option<ProcessIdentity>,
    /// What tells its launch from others, from before the audit log tells of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<LaunchNonce>,
    /// `kvm` or `emulated`.
    pub isolation: Option<String>,
    /// The policy that admitted it: the names of all its layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// How the hypervisor is confined; nothing before it has started.
    #[serde(default)]
    pub confinement: Vec<Protection>,
    /// The ports that are forwarded, all with the host's numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// How the program is confined that carries the guest's packets, if it has a network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Exit code of the main process, 128 + signal for one that a signal ended.
    pub exit_code: Option<u8>,
    /// Why it failed.
    pub message: Option<String>,
    /// When the hypervisor started, in seconds since 1970.
    pub started_at: Option<i64>,
    /// When it ended, in seconds since 1970.
    pub finished_at: Option<i64>,
    /// How often its supervisor launched it again.
    #[serde(default)]
    pub restarts: u32,
    /// What the guest last said of its services: a self-report.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceStatus>,
    /// What the guest last said of its health checks: a self-report.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub health: Vec<HealthStatus>,
}

impl State {
    /// Returns the state of a VM whose directory `creator` is making.
    pub fn created(creator: ProcessIdentity) -> Self {
        Self {
            phase: Phase::Created,
            supervisor: creator,
            hypervisor: None,
            nonce: None,
            isolation: None,
            policy: None,
            confinement: Vec::new(),
            ports: Vec::new(),
            network: None,
            exit_code: None,
            message: None,
            started_at: None,
            finished_at: None,
            restarts: 0,
            services: Vec::new(),
            health: Vec::new(),
        }
    }

    /// Returns what its health checks amount to, as the guest says: the worst of them; nothing without checks.
    pub fn overall_health(&self) -> Option<Health> {
        let any = |wanted| self.health.iter().any(|check| check.health == wanted);
        match self.health.is_empty() {
            true => None,
            false if any(Health::Unhealthy) => Some(Health::Unhealthy),
            false if any(Health::Starting) => Some(Health::Starting),
            false => Some(Health::Healthy),
        }
    }

    /// Returns whether it has ended, one way or the other.
    pub fn ended(&self) -> bool {
        matches!(self.phase, Phase::Exited | Phase::Failed)
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Created => "created",
            Self::Booting => "booting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
            Self::Failed => "failed",
        })
    }
}
