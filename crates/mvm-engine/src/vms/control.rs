//! Acts on a running VM: attach, pause, resume, kill, wait.

use crate::attach::ControlConnection;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::progress::Cancel;
use crate::run::Launched;
use crate::supervisor::MAIN;
use crate::vm::{self, VmDirectory, VmError};
use mvm_plan::signal::Signal;
use mvm_plan::{Plan, SignedPlan};
use mvm_ref::VmName;
use mvm_wire::{Failure, FailureKind, ProcessStatus, Reply, Request};
use std::fs;
use std::time::Duration;

/// How long a supervisor may take to do what it does alone.
const SUPERVISOR_PATIENCE: Duration = Duration::from_secs(10);
/// How long a guest may take to answer; emulation on a busy machine is slow.
const GUEST_PATIENCE: Duration = Duration::from_secs(30);
/// How often a waiting command looks at a VM that it can't be told of.
const LOOK: Duration = Duration::from_millis(100);
const SIGKILL: i32 = 9;

impl Engine {
    /// Connects to a running VM whose main process somebody wants to attach to.
    pub fn attach_vm(&self, name: &VmName) -> Result<Launched, EngineError> {
        let directory = self.vms.get(name)?;
        let plan = stored_plan(&directory)?;
        let main = plan.process.as_ref();
        let (terminal, stdin) = main.map_or((false, false), |main| (main.tty, main.stdin));
        let connection = ControlConnection::new(directory.connect()?)?;
        Ok(Launched { name: name.clone(), terminal, stdin, connection })
    }

    /// Stops a VM's hypervisor where it is.
    pub fn pause_vm(&self, name: &VmName) -> Result<(), EngineError> {
        self.ask(name, Request::Pause {}, SUPERVISOR_PATIENCE).map(drop)
    }

    /// Lets a paused VM go on; its clock is set to the host's.
    pub fn resume_vm(&self, name: &VmName) -> Result<(), EngineError> {
        self.ask(name, Request::Resume {}, SUPERVISOR_PATIENCE).map(drop)
    }

    /// Sends a signal to a VM's main process. `SIGKILL` ends all processes and the VM, also one that doesn't answer.
    pub fn kill_vm(&self, name: &VmName, signal: Signal) -> Result<(), EngineError> {
        if signal.number() == SIGKILL {
            return self.end_vm(&self.vms.get(name)?, Duration::ZERO);
        }
        let mut connection = ControlConnection::new(self.vms.get(name)?.connect()?)?;
        let reply = connection.ask(Request::Status {}, GUEST_PATIENCE)?;
        let Reply::Status { processes, .. } = reply else { return Err(no_main(name)) };
        let main = processes.iter().find(|ProcessStatus { name, .. }| name == MAIN);
        let handle = main.ok_or_else(|| no_main(name))?.handle;
        connection.ask(Request::Signal { handle, signal: signal.number() }, GUEST_PATIENCE)?;
        Ok(())
    }

    /// Waits until a VM has ended, and returns the exit code of its main process, if that is known.
    pub fn wait_vm(&self, name: &VmName, cancel: &Cancel) -> Result<Option<u8>, EngineError> {
        let directory = self.vms.get(name)?;
        let mut told = None;
        // One that goes with its directory can only be heard of while it runs.
        if let Ok(socket) = directory.connect() {
            told = ControlConnection::new(socket)?.wait_for_main(MAIN, &|| cancel.requested()).ok();
        }
        loop {
            if cancel.requested() {
                return Err(EngineError::Interrupted);
            }
            match directory.state() {
                Ok(state) if state.ended() => return Ok(state.exit_code.or(told)),
                Ok(_) => std::thread::sleep(LOOK),
                Err(VmError::NotFound(_)) if told.is_some() => return Ok(told),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Asks a VM's supervisor, or through it its guest, for something.
    pub(crate) fn ask(
        &self,
        name: &VmName,
        request: Request,
        patience: Duration,
    ) -> Result<Reply, EngineError> {
        let mut connection = ControlConnection::new(self.vms.get(name)?.connect()?)?;
        Ok(connection.ask(request, patience)?)
    }
}

/// Returns the plan in a VM's directory, which says what the VM is; it is believed for words only.
pub(crate) fn stored_plan(directory: &VmDirectory) -> Result<Plan, EngineError> {
    Ok(stored_signed_plan(directory)?.unverified_plan().clone())
}

/// Returns the plan in a VM's directory with its signatures.
pub(super) fn stored_signed_plan(directory: &VmDirectory) -> Result<SignedPlan, EngineError> {
    let path = directory.file(vm::PLAN);
    let bytes = fs::read(&path).map_err(|source| EngineError::Io { act: "read", path, source })?;
    SignedPlan::parse(&bytes).map_err(|source| EngineError::Plan { act: "read", source: source.into() })
}

fn no_main(name: &VmName) -> EngineError {
    let message = format!("VM {name} has no main process that could get a signal");
    crate::attach::AttachError::Refused(Failure { kind: FailureKind::Invalid, message }).into()
}
