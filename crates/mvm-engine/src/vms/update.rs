//! Generations of a VM: its image is resolved anew, and the VM goes over to what that gives; and back, where that doesn't work.

use super::control::stored_signed_plan;
use super::start::{Lookup, Start};
use crate::clock;
use crate::engine::Engine;
use crate::error::{EngineError, chain};
use crate::journal::{EventLog, Happening};
use crate::keys::Signers;
use crate::progress::{Cancel, Progress};
use crate::pull::Pulled;
use crate::run::{Workload, merge_env, process};
use crate::vm::{self, Phase, Record, VmDirectory};
use mvm_plan::audit::Event;
use mvm_plan::cosign::ImageKey;
use mvm_plan::plan::{Initramfs, Process, Source, Validity};
use mvm_plan::{Plan, SignedPlan};
use mvm_ref::{Digest, ImageConfig, ImageSource, VmName};
use mvm_wire::Health;
use std::time::{Duration, Instant};

/// A change of generation that is wanted.
pub struct UpdateRequest<'a> {
    /// Keys each of which must have signed the image.
    pub image_keys: Vec<ImageKey>,
    /// What the processes of the VM before get to end.
    pub grace: Duration,
    /// How long the new generation may take until it is up.
    pub patience: Duration,
    /// Where secrets may come from.
    pub variable: Lookup<'a>,
}

/// Says why a VM does not go over to another generation.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// What the VM runs is somebody else's word.
    #[error("the local key did not sign the plan of VM {0}")]
    Foreign(VmName),
    /// What the VM runs was built of a flake.
    #[error("VM {0} runs what was built of a flake: no registry says what is new")]
    Built(VmName),
    /// There is no generation before.
    #[error("VM {0} has no generation before this one")]
    NoneBefore(VmName),
    /// The new generation failed, and the one before runs again.
    #[error("VM {name} runs as before: its new generation was not up ({reason})")]
    NotUp {
        /// The VM.
        name: VmName,
        /// What was wrong with the new one.
        reason: String,
    },
}

/// How many generations are kept beside the one that is.
const KEPT: u32 = 5;
/// How long a VM without health checks must run until it counts as up.
const STEADY: Duration = Duration::from_secs(5);
/// How often a VM is looked at.
const LOOK: Duration = Duration::from_millis(100);
const CLOCK_SKEW: i64 = 60;

impl Engine {
    /// Resolves the image of a VM anew, and has the VM go over to it. Returns the number of its new generation; nothing if
    /// there is nothing new.
    ///
    /// All else stays as the plan says, but for what it has from the image: those parts come from the new one.
    pub fn update_vm(
        &self,
        name: &VmName,
        request: &UpdateRequest<'_>,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Option<u32>, EngineError> {
        let directory = self.vms.get(name)?;
        let (record, old) = (directory.record()?, stored_signed_plan(&directory)?);
        let signers = self.signers(&Signers::default())?;
        if !self.signed_by_one_of(&old, &signers)? {
            return Err(UpdateError::Foreign(name.clone()).into());
        }
        let plan = old.unverified_plan();
        let Source::Oci { requested, manifest, platform, .. } = &plan.source else {
            return Err(UpdateError::Built(name.clone()).into());
        };
        let image = requested
            .as_str()
            .parse::<ImageSource>()
            .map_err(|source| EngineError::Plan { act: "read", source: source.into() })?;
        let before = self.pulled(requested.as_str(), manifest)?;
        let pulled = self.pull_signed(&image, platform, &request.image_keys, progress, cancel)?;
        let kernel = self.kernel(&plan.kernel.digest)?;
        let initramfs = Digest::of(&self.base_initramfs(&kernel)?);
        if pulled.manifest == *manifest && initramfs == plan.initramfs.digest {
            return Ok(None);
        }
        let new = succeed(plan, before.as_ref().map(|before| &before.config), &pulled, initramfs);
        let signed = mvm_plan::sign(new, &signers.keys().iter().collect::<Vec<_>>())
            .map_err(|source| EngineError::Plan { act: "sign", source: source.into() })?;
        let ids = signers.keys().iter().map(|key| key.public_key().id()).collect();
        self.audit.append(&record.scope, vec![Event::Sign { plan: signed.digest(), signers: ids }])?;
        self.switch(&directory, &signed, request, progress, cancel).map(Some)
    }

    /// Has a VM go back to the generation before, and returns the number that it has now.
    pub fn rollback_vm(
        &self,
        name: &VmName,
        request: &UpdateRequest<'_>,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<u32, EngineError> {
        let directory = self.vms.get(name)?;
        let before = directory.generation_before(directory.record()?.generation);
        let (_, plan) = before.ok_or_else(|| UpdateError::NoneBefore(name.clone()))?;
        let signed = SignedPlan::parse(&plan)
            .map_err(|source| EngineError::Plan { act: "read", source: source.into() })?;
        self.switch(&directory, &signed, request, progress, cancel)
    }

    /// Stops a VM, gives it another plan and starts it, if it ran; goes back where it isn't up in time.
    fn switch(
        &self,
        directory: &VmDirectory,
        new: &SignedPlan,
        request: &UpdateRequest<'_>,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<u32, EngineError> {
        let name = directory.name();
        let (record, old) = (directory.record()?, stored_signed_plan(directory)?);
        let ran = !directory.state()?.ended();
        // What is in the way of a start is told while it still runs.
        if ran {
            self.check_start(directory, request.variable)?;
        }
        directory.keep_generation(&record, old.as_bytes(), KEPT)?;
        self.stop(&name, request.grace)?;
        let generation = record.generation + 1;
        let plan = new.unverified_plan();
        let changed = Record {
            generation,
            plan: new.digest(),
            root_hash: plan.root.root_hash,
            command: plan.process.as_ref().map_or_else(Vec::new, |main| main.argv.clone()),
            ..record.clone()
        };
        install(directory, &changed, new)?;
        let again = Start { detached: true, variable: request.variable };
        let up = match ran {
            true => self
                .start_vm(&name, again, progress, cancel)
                .map_err(|error| chain(&error))
                .and_then(|_| await_up(directory, !plan.health_checks.is_empty(), request.patience, cancel)),
            false => Ok(()),
        };
        let Err(reason) = up else {
            EventLog::new(&self.settings.root).tell(&name, Happening::Updated { generation });
            return Ok(generation);
        };
        self.stop(&name, Duration::ZERO)?;
        install(directory, &record, &old)?;
        // Also for whoever has lost patience.
        self.start_vm(&name, again, progress, &Cancel::default())?;
        Err(UpdateError::NotUp { name, reason }.into())
    }
}

/// Makes a plan and its record those of a VM.
fn install(directory: &VmDirectory, record: &Record, plan: &SignedPlan) -> Result<(), EngineError> {
    // In this order: after a crash between the two, the plan that was is that of a generation which can be left again.
    directory.write_record(record)?;
    let path = directory.file(vm::PLAN);
    vm::write_atomically(&path, plan.as_bytes()).map_err(|source| EngineError::Io {
        act: "write",
        path,
        source,
    })
}

/// Waits until a VM is up: healthy, if it has checks, else running for a while. Or says why it isn't.
fn await_up(
    directory: &VmDirectory,
    checked: bool,
    patience: Duration,
    cancel: &Cancel,
) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        let state = directory.state().map_err(|error| error.to_string())?;
        if state.phase == Phase::Exited && state.exit_code == Some(0) && !checked {
            return Ok(());
        }
        if state.ended() {
            let code = state.exit_code.map_or_else(String::new, |code| format!(" with {code}"));
            return Err(state.message.unwrap_or_else(|| format!("it ended{code}")));
        }
        let health = state.overall_health();
        let up = match checked || health.is_some() {
            true => health == Some(Health::Healthy),
            false => begun.elapsed() >= STEADY.min(patience),
        };
        if state.phase == Phase::Running && up {
            return Ok(());
        }
        if begun.elapsed() >= patience || cancel.requested() {
            let health =
                health.map_or_else(|| "no word of its health".to_owned(), |health| health.to_string());
            return Err(format!("{health} after {} seconds", begun.elapsed().as_secs()));
        }
        std::thread::sleep(LOOK);
    }
}

/// Returns a plan with another image.
fn succeed(plan: &Plan, before: Option<&ImageConfig>, image: &Pulled, initramfs: Digest) -> Plan {
    let mut new = plan.clone();
    // Only images of registries, directories and archives are resolved anew.
    if let Source::Oci { manifest, config, .. } = &mut new.source {
        (*manifest, *config) = (image.manifest, image.config_digest);
    }
    new.root = image.root();
    new.initramfs = Initramfs { digest: initramfs };
    if let (Some(main), Some(before)) = (&mut new.process, before) {
        *main = adapt(main, before, &image.config);
    }
    let Validity { not_before, not_after } = plan.validity;
    let now = clock::unix_seconds();
    let validity = not_after.saturating_sub(not_before);
    new.validity = Validity { not_before: now - CLOCK_SKEW, not_after: now.saturating_add(validity) };
    new
}

/// Returns a process with what it had from one image taken from another.
fn adapt(main: &Process, before: &ImageConfig, after: &ImageConfig) -> Process {
    let defaults = |config| process(&Workload::default(), config, "").ok();
    let mut new = main.clone();
    let (entry, next) = (&before.process().entrypoint, &after.process().entrypoint);
    if let Some(arguments) = main.argv.strip_prefix(entry.as_slice()).filter(|_| !entry.is_empty()) {
        let cmd = if arguments == before.process().cmd { &after.process().cmd } else { arguments };
        new.argv = [next.as_slice(), cmd].concat();
    } else if main.argv == before.process().cmd {
        new.argv = [next.as_slice(), &after.process().cmd].concat();
    }
    let asked: Vec<String> =
        main.env.iter().filter(|variable| !before.process().env.contains(variable)).cloned().collect();
    new.env = merge_env(&after.process().env, &asked);
    if let (Some(old), Some(next)) = (defaults(before), defaults(after)) {
        if main.working_dir == old.working_dir {
            new.working_dir = next.working_dir;
        }
        if main.user == old.user {
            new.user = next.user;
        }
        if main.stop_signal == old.stop_signal {
            new.stop_signal = next.stop_signal;
        }
    }
    new
}

#[cfg(test)]
mod tests;
