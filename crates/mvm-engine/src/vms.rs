//! What can be done with VMs that exist: list, execute in, stop, remove.

mod control;
mod details;
mod logs;
mod rename;
mod start;
mod status;
mod update;

use crate::attach::ControlConnection;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::journal::{EventLog, Happening};
use crate::supervisor::{self, Mode};
use crate::vm::{self, Phase, State, VmDirectory, VmError};
use mvm_plan::SignedPlan;
use mvm_plan::audit::{Event, Subject};
use mvm_ref::{Digest, VmName};
use mvm_wire::{Health, Process};
use rustix::process::Signal;
use serde::Serialize;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) use control::stored_plan;
pub use details::{Generation, VmDetails, VmResources};
pub use logs::VmLogs;
pub use start::{Lookup, Start, StartError};
pub use status::{GuestReport, Usage, VmStatus};
pub use update::{UpdateError, UpdateRequest};

/// How long a VM may take from the beginning of a launch until its supervisor takes commands.
const LAUNCH_LIMIT: Duration = Duration::from_secs(30);
/// How long a supervisor may take to go once its hypervisor is gone.
const SUPERVISOR_LIMIT: Duration = Duration::from_secs(3);

/// One line of a list of VMs.
#[derive(Clone, Debug, Serialize)]
pub struct VmListing {
    /// Its name.
    pub name: VmName,
    /// What was asked for.
    pub image: String,
    /// Root hash of its image.
    pub root_hash: Digest,
    /// Digest of its plan.
    pub plan: Digest,
    /// How far it has come.
    pub phase: Phase,
    /// `kvm` or `emulated`, once it has started.
    pub isolation: Option<String>,
    /// Exit code of its main process.
    pub exit_code: Option<u8>,
    /// Why it failed.
    pub message: Option<String>,
    /// What its health checks amount to, as the guest says; nothing without checks, or when it doesn't run.
    pub health: Option<Health>,
    /// Its forwarded ports, `ADDRESS:HOST->GUEST/PROTOCOL`.
    pub ports: Vec<String>,
    /// Its command.
    pub command: Vec<String>,
    /// When it was created, in seconds since 1970.
    pub created_at: i64,
    /// When its hypervisor started.
    pub started_at: Option<i64>,
    /// When it ended.
    pub finished_at: Option<i64>,
}

/// A further command for a running VM.
#[derive(Clone, Debug)]
pub struct ExecRequest {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Added to the main process's environment; later ones win.
    pub env: Vec<String>,
    /// Replaces the main process's working directory.
    pub working_dir: Option<String>,
    /// Replaces the main process's user.
    pub user: Option<String>,
    /// Whether the command gets a terminal.
    pub terminal: bool,
}

impl Engine {
    /// Lists all VMs, by name; and says what is wrong with those whose record can't be read.
    pub fn vms(&self) -> Result<(Vec<VmListing>, Vec<VmError>), EngineError> {
        let (mut listings, mut unreadable) = (Vec::new(), Vec::new());
        for directory in self.vms.list()? {
            match listing(&directory) {
                Ok(listing) => listings.push(listing),
                // It was removed since the directory was read.
                Err(VmError::NotFound(_)) => {}
                Err(error @ VmError::Record { .. }) => unreadable.push(error),
                Err(error) => return Err(error.into()),
            }
        }
        Ok((listings, unreadable))
    }

    /// Connects to a running VM for a further command, and completes the command from the VM's plan.
    pub fn exec(
        &self,
        name: &VmName,
        request: ExecRequest,
    ) -> Result<(ControlConnection, Process), EngineError> {
        let directory = self.vms.get(name)?;
        let connection = ControlConnection::new(directory.connect()?)?;
        let path = directory.file(vm::PLAN);
        let bytes = fs::read(&path).map_err(|source| EngineError::Io { act: "read", path, source })?;
        let plan = SignedPlan::parse(&bytes)
            .map_err(|source| EngineError::Plan { act: "read", source: source.into() })?;
        let program: String = request.command.first().map_or("", String::as_str).chars().take(1024).collect();
        let command = mvm_plan::canonical::to_vec(&request.command)
            .map_err(|source| EngineError::Plan { act: "extend", source: source.into() })?;
        let sent =
            Event::Exec { vm: name.clone(), plan: plan.digest(), program, command: Digest::of(&command) };
        self.audit.append(&self.settings.scope, vec![sent])?;
        let plan = plan.unverified_plan();
        let main = plan.process.as_ref();
        // Beside services a command is for whoever looks after them, in their surroundings.
        let like = main.or_else(|| plan.services.first().map(|service| &service.process));
        let (env, directory) = like.map_or((&[][..], "/"), |like| (&like.env, &like.working_dir));
        let process = Process {
            name: "exec".to_owned(),
            root: mvm_launch::ROOT.to_owned(),
            argv: request.command,
            env: crate::run::merge_env(env, &request.env),
            working_dir: crate::run::absolute(request.working_dir.as_deref().unwrap_or(directory)),
            user: request.user.unwrap_or_else(|| main.map_or_else(String::new, |main| main.user.clone())),
            stop_signal: like.map_or(mvm_plan::signal::Signal::TERM, |like| like.stop_signal).number(),
            terminal: request.terminal,
        };
        Ok((connection, process))
    }

    /// Stops a VM: its processes get their stop signal and `grace` to end. One that has ended is no error.
    pub fn stop(&self, name: &VmName, grace: Duration) -> Result<(), EngineError> {
        match self.end_vm(&self.vms.get(name)?, grace) {
            Err(EngineError::Vm(VmError::NotRunning { phase: Phase::Exited | Phase::Failed, .. })) => Ok(()),
            Err(EngineError::Vm(VmError::NotFound(_))) => Ok(()),
            ended => ended,
        }
    }

    /// Has the supervisor of a VM end it. One that is being launched, or is about to be launched again, takes nobody for a
    /// moment, and is asked after that.
    fn end_vm(&self, directory: &VmDirectory, grace: Duration) -> Result<(), EngineError> {
        let patience = Instant::now() + LAUNCH_LIMIT;
        loop {
            match directory.connect() {
                Ok(socket) => {
                    if ControlConnection::new(socket)?.stop(grace)? || directory.state()?.ended() {
                        return Ok(());
                    }
                }
                // It has just ended.
                Err(VmError::Io { .. }) if directory.state().is_ok_and(|state| state.ended()) => {
                    return Ok(());
                }
                Err(VmError::Io { .. } | VmError::NotRunning { phase: Phase::Created, .. })
                    if Instant::now() < patience => {}
                Err(error) => return Err(error.into()),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Removes a VM; with `force` also a running one, which is ended at once.
    pub fn remove_vm(&self, name: &VmName, force: bool) -> Result<(), EngineError> {
        let directory = self.vms.get(name)?;
        let state = directory.state()?;
        if !state.ended() && force {
            self.end_at_once(&directory, &state)?;
        }
        match directory.remove() {
            // It removed itself when it ended.
            Err(VmError::NotFound(_)) if force => {}
            other => other?,
        }
        EventLog::new(&self.settings.root).tell(name, Happening::Removed {});
        let subject = Subject::Vm { name: name.clone() };
        Ok(self.audit.append(&self.settings.scope, vec![Event::Delete { subject }])?)
    }

    /// Ends a VM without asking its guest, and waits until its supervisor has gone.
    fn end_at_once(&self, directory: &VmDirectory, state: &State) -> Result<(), EngineError> {
        let failed = |source| EngineError::Io { act: "end", path: directory.path().to_owned(), source };
        // It is not to be launched again.
        state.supervisor.signal(Signal::TERM).map_err(failed)?;
        if let Some(hypervisor) = &state.hypervisor {
            hypervisor.signal(Signal::KILL).map_err(failed)?;
        }
        let patience = Instant::now() + SUPERVISOR_LIMIT;
        while state.supervisor.alive() && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(5));
        }
        // One that hangs; should its hypervisor still live, it goes with it.
        state.supervisor.signal(Signal::KILL).map_err(failed)?;
        Ok(())
    }

    /// Owns the VM of a directory until it ends; the body of mvmctl's `supervise`.
    pub fn supervise(&self, directory: &Path, detached: bool) -> Result<(), EngineError> {
        let mode = if detached { Mode::Detached } else { Mode::Attached };
        supervisor::supervise(self, directory, mode).map(drop)
    }
}

/// Returns the ports that are forwarded, as they are shown: those of the plan, but with the host's own numbers once they
/// are known.
fn ports(plan: &mvm_plan::Plan, state: &State) -> Vec<String> {
    let ports = if state.ports.is_empty() { &plan.ports } else { &state.ports };
    ports
        .iter()
        .map(|port| {
            let (host, protocol) = (SocketAddr::new(port.address, port.host), port.protocol);
            format!("{host}->{}/{protocol}", port.guest)
        })
        .collect()
}

fn listing(directory: &VmDirectory) -> Result<VmListing, VmError> {
    let record = directory.record()?;
    let state = directory.state()?;
    let health = if state.ended() { None } else { state.overall_health() };
    let ports = control::stored_plan(directory).map(|plan| ports(&plan, &state)).unwrap_or_default();
    Ok(VmListing {
        name: record.name,
        image: record.image,
        root_hash: record.root_hash,
        plan: record.plan,
        phase: state.phase,
        isolation: state.isolation,
        exit_code: state.exit_code,
        health,
        ports,
        message: state.message,
        command: record.command,
        created_at: record.created_at,
        started_at: state.started_at,
        finished_at: state.finished_at,
    })
}
