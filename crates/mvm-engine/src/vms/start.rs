//! VMs that ended are started again, by the plan that they have.

use super::control::stored_signed_plan;
use crate::clock;
use crate::engine::Engine;
use crate::error::{EngineError, chain};
use crate::keys::Signers;
use crate::progress::{Cancel, Progress};
use crate::run::Launched;
use crate::secrets::read_secrets;
use crate::supervisor::{self, Mode, Notifier};
use crate::vm::{self, Phase, State, VmDirectory};
use mvm_plan::SignedPlan;
use mvm_plan::audit::Event;
use mvm_plan::plan::Validity;
use mvm_ref::VmName;
use std::ffi::{OsStr, OsString};
use std::time::Duration;

/// Looks up a variable of the caller's environment, where a secret may come from.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// How a VM is started again.
#[derive(Clone, Copy)]
pub struct Start<'a> {
    /// Whether its main process starts without anyone attached.
    pub detached: bool,
    /// Where secrets may come from.
    pub variable: Lookup<'a>,
}

/// Says why a VM is not started again.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its plan is used up.
    #[error("the plan of VM {0} is for one launch only")]
    SingleUse(VmName),
    /// Its plan has expired, and is somebody else's.
    #[error("the plan of VM {0} has expired, and the local key did not sign it")]
    Expired(VmName),
}

/// A plan that expires so soon is renewed before a launch, in seconds.
const MARGIN: i64 = 60;

impl Engine {
    /// Starts a VM that has ended, by its plan. Its scratch disk is a new one; what it wrote over its root is gone.
    ///
    /// A plan that has expired is renewed if the local key signed it: the same content, valid for as long again.
    pub fn start_vm(
        &self,
        name: &VmName,
        how: Start<'_>,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Launched, EngineError> {
        let directory = self.vms.get(name)?;
        let before = directory.state()?;
        directory.begin_again()?;
        let launched = self.launch_again(&directory, how, progress, cancel);
        if let Err(error) = &launched {
            // A supervisor that got further has said so itself.
            let state = directory.state()?;
            if !state.ended() {
                directory.end(&State {
                    phase: Phase::Failed,
                    message: Some(chain(error)),
                    finished_at: Some(clock::unix_seconds()),
                    exit_code: None,
                    ..before
                })?;
            }
        }
        launched
    }

    /// Starts a VM that has ended, and is its supervisor until it ends. Returns the exit code of its main process, if that ran,
    /// and whether it failed; neither if it was stopped.
    ///
    /// `notify` is the address of a service manager's socket, as `$NOTIFY_SOCKET` has it (sd_notify(3)): it hears when the VM is
    /// up, which is when its health checks, if it has any, succeed.
    pub fn run_vm(
        &self,
        name: &VmName,
        notify: Option<&OsStr>,
        variable: Lookup<'_>,
    ) -> Result<(Option<u8>, bool), EngineError> {
        let directory = self.vms.get(name)?;
        directory.begin_again()?;
        let launch = || {
            self.renew_plan(&directory)?;
            let secrets = read_secrets(&directory.record()?.secrets, variable, false)?;
            let notifier = notify.map(Notifier::new);
            supervisor::supervise(self, directory.path(), Mode::Foreground { notifier, secrets })
        };
        let outcome = launch();
        let state = directory.state()?;
        if let Err(error) = &outcome
            && !state.ended()
        {
            directory.end(&State {
                phase: Phase::Failed,
                message: Some(chain(error)),
                finished_at: Some(clock::unix_seconds()),
                ..state
            })?;
        }
        // To be ended by a signal is no failure for who was asked to end.
        outcome.map(|ended| if ended.asked { (None, false) } else { (ended.exit_code, ended.failed) })
    }

    /// Stops a VM, if it runs, and starts it again.
    pub fn restart_vm(
        &self,
        name: &VmName,
        grace: Duration,
        variable: Lookup<'_>,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Launched, EngineError> {
        self.check_start(&self.vms.get(name)?, variable)?;
        self.stop(name, grace)?;
        self.start_vm(name, Start { detached: true, variable }, progress, cancel)
    }

    fn launch_again(
        &self,
        directory: &VmDirectory,
        how: Start<'_>,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Launched, EngineError> {
        let secrets = read_secrets(&directory.record()?.secrets, how.variable, false)?;
        let signed = self.renew_plan(directory)?;
        let main = signed.unverified_plan().process.as_ref();
        let (terminal, stdin) = main.map_or((false, false), |main| (main.tty, main.stdin));
        let connection = self.start(directory, &signed, (how.detached, &secrets), progress, cancel)?;
        Ok(Launched { name: directory.name(), terminal, stdin, connection })
    }

    /// Says whether one of some keys signed a plan, and is trusted now.
    pub(super) fn signed_by_one_of(&self, plan: &SignedPlan, signers: &Signers) -> Result<bool, EngineError> {
        let trust = self.key_store().trust()?;
        let known = trust.signers(plan.envelope(), clock::unix_seconds());
        Ok(known.valid.iter().any(|key| signers.keys().iter().any(|ours| ours.public_key().id() == key.id())))
    }

    /// Fails if a VM that runs could not be started again once it is stopped, as far as that can be known.
    pub(super) fn check_start(
        &self,
        directory: &VmDirectory,
        variable: Lookup<'_>,
    ) -> Result<(), EngineError> {
        read_secrets(&directory.record()?.secrets, variable, false)?;
        self.renewal(directory).map(drop)
    }

    /// Returns the plan of a VM that is to be started, and the keys that renew it, if it has to be renewed.
    fn renewal(&self, directory: &VmDirectory) -> Result<(SignedPlan, Option<Signers>), EngineError> {
        let signed = stored_signed_plan(directory)?;
        let plan = signed.unverified_plan();
        if plan.single_use {
            return Err(StartError::SingleUse(directory.name()).into());
        }
        if clock::unix_seconds().saturating_add(MARGIN) < plan.validity.not_after {
            return Ok((signed, None));
        }
        let signers = self.signers(&Signers::default())?;
        if !self.signed_by_one_of(&signed, &signers)? {
            return Err(StartError::Expired(directory.name()).into());
        }
        Ok((signed, Some(signers)))
    }

    /// Returns the plan of a VM, renewed if it has to be.
    pub(crate) fn renew_plan(&self, directory: &VmDirectory) -> Result<SignedPlan, EngineError> {
        let (signed, signers) = self.renewal(directory)?;
        let Some(signers) = signers else { return Ok(signed) };
        let ours: Vec<mvm_plan::KeyId> = signers.keys().iter().map(|key| key.public_key().id()).collect();
        let now = clock::unix_seconds();
        let mut plan = signed.unverified_plan().clone();
        let Validity { not_before, not_after } = plan.validity;
        plan.validity = Validity {
            not_before: now - MARGIN,
            not_after: now.saturating_add(not_after.saturating_sub(not_before)),
        };
        let signed = mvm_plan::sign(plan, &signers.keys().iter().collect::<Vec<_>>())
            .map_err(|source| EngineError::Plan { act: "renew", source: source.into() })?;
        let mut record = directory.record()?;
        record.plan = signed.digest();
        self.audit.append(&record.scope, vec![Event::Sign { plan: signed.digest(), signers: ours }])?;
        let path = directory.file(vm::PLAN);
        vm::write_atomically(&path, signed.as_bytes()).map_err(|source| EngineError::Io {
            act: "write",
            path,
            source,
        })?;
        directory.write_record(&record)?;
        Ok(signed)
    }
}
