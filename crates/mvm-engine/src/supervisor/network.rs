//! The guest's network: the helper that carries it, and what the audit log hears of it.

use crate::audit_log::Note;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::vm::{self, Record, VmDirectory, VmError};
use mvm_launch::LaunchError;
use mvm_launch::network::{DenialSink, Denials, NetworkConfig, Slirp};
use mvm_plan::audit::Event;
use mvm_plan::plan::{Network, Plan};
use mvm_plan::{AdmittedPlan, LaunchNonce};

/// Finds the program that carries the packets of a plan's network, if it has one.
pub(super) fn helper(engine: &Engine, plan: &Plan) -> Result<Option<Slirp>, EngineError> {
    match plan.network {
        Network::None => Ok(None),
        Network::User { .. } => {
            Ok(Some(Slirp::find(&engine.settings.program_path).map_err(LaunchError::from)?))
        }
    }
}

/// Returns what the network of a VM is made with.
pub(super) fn config<'a>(
    slirp: &'a Slirp,
    engine: &Engine,
    directory: &VmDirectory,
    record: &Record,
    admitted: &AdmittedPlan,
) -> Result<NetworkConfig<'a>, VmError> {
    // It may get another name while the VM runs, and a helper is started again then too.
    let held = directory.held()?;
    let socket = held.file(vm::NETWORK);
    let (audit, record, nonce) = (engine.audit.clone(), record.clone(), admitted.nonce());
    let tell = move |denials: Denials| {
        // Lives as long as the network, and the directory is found by it.
        let _directory = &held;
        // A guest's attempts, which came to nothing, end no VM; a log that takes no entries is told of by all else.
        drop(audit.append_notes(&record.scope, vec![note(&record, nonce, &denials)]));
    };
    Ok(NetworkConfig { slirp, directory: socket, denials: DenialSink::new(tell) })
}

fn note(record: &Record, nonce: LaunchNonce, denials: &Denials) -> Note {
    let named: u64 = denials.named.values().sum();
    let count = named + denials.unnamed;
    let event = Event::Deny { vm: record.name.clone(), plan: record.plan, nonce, count };
    let words: Vec<String> = denials
        .named
        .iter()
        .map(|((what, reason), count)| format!("{what} ({reason}) {count} times"))
        .chain((denials.unnamed > 0).then(|| format!("others {} times", denials.unnamed)))
        .collect();
    Note::from(event).with("tried", &words.join("; "))
}
