//! All that is known of one VM.

use crate::engine::Engine;
use crate::error::EngineError;
use crate::secrets::NamedSource;
use crate::vm::{self, Phase};
use mvm_launch::confinement::Protection;
use mvm_plan::plan::{Mount, Network};
use mvm_plan::{Plan, SignedPlan};
use mvm_ref::{Digest, ScopeName, VmName};
use mvm_wire::{Health, HealthStatus, ServiceStatus};
use serde::Serialize;
use std::fs;

/// All that is known of one VM. Times are in seconds since 1970.
#[derive(Clone, Debug, Serialize)]
pub struct VmDetails {
    /// Its name.
    pub name: VmName,
    /// How far it has come.
    pub phase: Phase,
    /// Why it failed.
    pub message: Option<String>,
    /// Exit code of its main process.
    pub exit_code: Option<u8>,
    /// When it was created.
    pub created_at: i64,
    /// When its hypervisor started.
    pub started_at: Option<i64>,
    /// When it ended.
    pub finished_at: Option<i64>,
    /// The scope that its image belongs to.
    pub scope: ScopeName,
    /// What was asked for.
    pub image: String,
    /// Root hash of its image.
    pub root_hash: Digest,
    /// Digest of its plan.
    pub plan: Digest,
    /// The policies that it was to be admitted under, beside the host's own.
    pub policy: Vec<String>,
    /// The policy that admitted it, once it has started: the names of all its layers, the host's own among them.
    pub admitted_under: Option<String>,
    /// Its command.
    pub command: Vec<String>,
    /// What its plan gives it.
    pub resources: VmResources,
    /// Its forwarded ports, `ADDRESS:HOST->GUEST/PROTOCOL`.
    pub ports: Vec<String>,
    /// The number of its plan, from 1.
    pub generation: u32,
    /// Plans that it had before and can go back to, the youngest first.
    pub generations: Vec<Generation>,
    /// When it is launched again after it ended.
    pub restart: String,
    /// How often it was launched again since somebody started it.
    pub restarts: u32,
    /// What its health checks amount to, as the guest last said.
    pub health: Option<Health>,
    /// Its services, as the guest last said.
    pub services: Vec<ServiceStatus>,
    /// Its health checks, as the guest last said.
    pub health_checks: Vec<HealthStatus>,
    /// Its kernel.
    pub kernel: Digest,
    /// `kvm` or `emulated`, once it has started.
    pub isolation: Option<String>,
    /// Process ID of its supervisor, while that lives.
    pub supervisor_pid: Option<u32>,
    /// Process ID of its hypervisor, while that lives.
    pub hypervisor_pid: Option<u32>,
    /// What its plan lets it reach.
    pub network: Network,
    /// How the program is confined that carries its packets, once it has started with a network.
    pub network_helper: Option<String>,
    /// What is mounted in it beside its root.
    pub mounts: Vec<Mount>,
    /// Its secrets' names, and where they come from.
    pub secrets: Vec<NamedSource>,
    /// How its hypervisor is confined, once it has started.
    pub confinement: Vec<Protection>,
}

/// A plan that a VM had before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Generation {
    /// Its number.
    pub generation: u32,
    /// Digest of the plan.
    pub plan: Digest,
    /// Root hash of its image.
    pub root_hash: Digest,
}

/// Returns what is kept of earlier generations, the youngest first.
fn generations(directory: &vm::VmDirectory, current: u32) -> Vec<Generation> {
    let found = (1..current).rev().map_while(|number| directory.generation(number).ok());
    found
        .map(|(record, _)| Generation {
            generation: record.generation,
            plan: record.plan,
            root_hash: record.root_hash,
        })
        .collect()
}

/// What a plan gives a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct VmResources {
    /// Virtual processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Space for what it writes over its root, in MiB.
    pub scratch_mib: u64,
}

impl VmResources {
    /// Returns what a plan gives.
    pub(super) fn of(plan: &Plan) -> Self {
        let resources = &plan.resources;
        let (cpus, memory_mib, scratch_mib) = (resources.cpus, resources.memory_mib, resources.scratch_mib);
        Self { cpus, memory_mib, scratch_mib }
    }
}

impl Engine {
    /// Returns all that is known of a VM, running or not.
    pub fn inspect_vm(&self, name: &VmName) -> Result<VmDetails, EngineError> {
        let directory = self.vms.get(name)?;
        let (record, state) = (directory.record()?, directory.state()?);
        let path = directory.file(vm::PLAN);
        let bytes = fs::read(&path).map_err(|source| EngineError::Io { act: "read", path, source })?;
        let plan = SignedPlan::parse(&bytes)
            .map_err(|source| EngineError::Plan { act: "read", source: source.into() })?;
        let plan = plan.unverified_plan();
        let live = |process: &vm::ProcessIdentity| process.alive().then(|| process.pid());
        let (health, ports) = (state.overall_health(), super::ports(plan, &state));
        Ok(VmDetails {
            name: record.name,
            phase: state.phase,
            message: state.message,
            exit_code: state.exit_code,
            created_at: record.created_at,
            started_at: state.started_at,
            finished_at: state.finished_at,
            scope: record.scope,
            image: record.image,
            root_hash: record.root_hash,
            plan: record.plan,
            policy: record.policy.iter().map(ToString::to_string).collect(),
            admitted_under: state.policy,
            command: record.command,
            resources: VmResources::of(plan),
            ports,
            generation: record.generation,
            generations: generations(&directory, record.generation),
            restart: record.restart.to_string(),
            restarts: state.restarts,
            health,
            services: state.services,
            health_checks: state.health,
            kernel: plan.kernel.digest,
            isolation: state.isolation,
            supervisor_pid: live(&state.supervisor),
            hypervisor_pid: state.hypervisor.as_ref().and_then(live),
            network: plan.network.clone(),
            network_helper: state.network,
            mounts: plan.mounts.clone(),
            secrets: record.secrets,
            confinement: state.confinement,
        })
    }
}
