//! `mvmctl audit verify`: whether the log is as it was written, and what that can't be known from.

use super::text::visible;
use crate::context::Context;
use mvm_engine::{AuditReport, Verification};
use std::path::PathBuf;

/// Checks the log and says what is known of it.
pub fn run(
    context: &Context,
    witness: Option<PathBuf>,
    keys: Vec<PathBuf>,
    json: bool,
) -> anyhow::Result<()> {
    let report = context.engine_of_existing()?.audit_verify_with(&Verification { witness, keys })?;
    if json {
        return context.printer.json(&report);
    }
    context.printer.line(format!("ok: {} entries, head {}", report.entries, report.head))?;
    for line in words(&report) {
        context.printer.words(visible(&line));
    }
    Ok(())
}

fn words(report: &AuditReport) -> Vec<String> {
    let mut words = Vec::new();
    if let Some(last) = report.signed_entries.checked_sub(1) {
        let keys: Vec<String> = report.signers.iter().map(ToString::to_string).collect();
        words.push(format!("entries 0 to {last} are signed by key {}", keys.join(" and ")));
    }
    if let Some(witness) = &report.witness {
        words.push(format!(
            "the witness {} has seen entries 0 to {}",
            witness.path.display(),
            witness.signed_entries.saturating_sub(1)
        ));
        if witness.torn > 0 {
            words.push(format!(
                "{} lines of the witness were cut short while they were written",
                witness.torn
            ));
        }
    }
    if report.clock_steps_back > 0 {
        words.push(format!("the clock had been set back before {} entries", report.clock_steps_back));
    }
    words.extend(report.cannot_know.iter().map(|what| format!("can't be known: {what}")));
    words
}
