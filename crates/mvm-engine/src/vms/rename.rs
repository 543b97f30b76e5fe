//! VMs get another name, running or not.

use crate::engine::Engine;
use crate::error::EngineError;
use crate::journal::{EventLog, Happening};
use crate::vm::{Phase, VmError};
use mvm_plan::audit::{Event, Subject};
use mvm_ref::VmName;
use mvm_store::{LeaseTerm, ProcessId};

impl Engine {
    /// Gives a VM another name. Its hostname stays: the plan says it.
    pub fn rename_vm(&self, name: &VmName, to: &VmName) -> Result<(), EngineError> {
        let directory = self.vms.get(name)?;
        let state = directory.state()?;
        let record = directory.record()?;
        let subject = Subject::Vm { name: name.clone() };
        let set = Event::Set { subject, setting: "name".to_owned(), value: to.to_string() };
        self.vms.check_free(to)?;
        if !state.ended() {
            if !matches!(state.phase, Phase::Running | Phase::Paused) {
                return Err(VmError::NotRunning { name: name.clone(), phase: state.phase }.into());
            }
            if record.scope != self.settings.scope {
                let problem = format!("must be {}, the scope of the VM", record.scope);
                return Err(EngineError::Option { option: "--scope", problem });
            }
            let supervisor = ProcessId::of(state.supervisor.pid()).map_err(VmError::from)?;
            let held = self.scope.leases()?.into_iter().filter(|lease| lease.holder == format!("vm:{name}"));
            for lease in held {
                self.scope.lease(&lease.root_hash, &format!("vm:{to}"), LeaseTerm::Process(supervisor))?;
            }
        }
        self.audit.append(&record.scope, vec![set])?;
        self.vms.rename(&directory, to)?;
        self.scope.release(&format!("vm:{name}"))?;
        EventLog::new(&self.settings.root).tell(to, Happening::Renamed { from: name.clone() });
        Ok(())
    }
}
