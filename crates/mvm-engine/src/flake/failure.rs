//! What kind of failure a build's was, by what Nix said of it.
//!
//! That a derivation failed is in Nix's own counts. The other kinds differ only in the words of the error, which are those
//! of Nix 2.8 and 2.26 (kept as they came in `log_tests/`); words that aren't known here are an error of evaluation.

use super::error::BuildError;
use super::log::{BuildLog, Derivation, NixError, name_of};
use crate::builder::BuilderState;

/// Bytes of free space below which a build that failed is taken to have failed for want of it.
const FULL: u64 = 16 << 20;

/// What is known about a build beside its log.
pub struct Circumstances<'a> {
    /// The directory on this machine that the flake's files came from.
    pub root: &'a str,
    /// Whether the builder had a network.
    pub online: bool,
    /// What was left of the builder's disk and memory, if it could still tell.
    pub state: Option<BuilderState>,
    /// Where the whole log is kept.
    pub log: &'a str,
}

/// Returns what went wrong in a build whose program ended with an error.
pub fn judge(log: &BuildLog, around: &Circumstances<'_>) -> BuildError {
    let said = |words: &str| log.errors().iter().any(|error| error.message.contains(words));
    let state = around.state;
    let full = state.is_some_and(|state| state.store_free < FULL || state.scratch_free < FULL);
    let wrote_full = |derivation: &Derivation| {
        derivation.lines.iter().any(|line| line.contains("No space left on device"))
    };
    let failed = log.failed();
    let id = around.log.to_owned();
    if said("No space left on device")
        || said("database or disk is full")
        || (full && failed.as_ref().is_some_and(wrote_full))
    {
        return BuildError::Disk { log: id };
    }
    if state.is_some_and(|state| state.killed_for_memory > 0) || said("out of memory") {
        return BuildError::Memory { log: id };
    }
    if log.counts().failed > 0 || failed.is_some() {
        let derivation = failed.unwrap_or_default();
        let reason = log.errors().iter().find(|error| error.message.contains(&derivation.drv));
        let reason = reason.or(log.errors().first()).map_or_else(String::new, |error| short(&error.message));
        let lines = derivation.lines.into_iter().collect();
        return BuildError::Failed {
            derivation: name_of(&derivation.drv).to_owned(),
            reason,
            lines,
            log: id,
        };
    }
    let Some(error) = log.errors().last() else {
        return BuildError::Silent { log: id };
    };
    let text = located(error, log, around.root);
    let message = &error.message;
    if message.contains("is required to build") && message.contains("but I am a") {
        let system = message.split('\'').nth(1).unwrap_or_default().to_owned();
        return BuildError::System { system };
    }
    if message.contains("is forbidden in pure eval") || message.contains("'--impure'") {
        return BuildError::Impure { text };
    }
    let unreachable = ["unable to download", "cannot fetch", "Failed to fetch", "unable to fetch"];
    if unreachable.iter().any(|words| message.contains(words)) {
        return BuildError::Fetch { text, online: around.online };
    }
    BuildError::Evaluation { text }
}

/// Returns whether the flake hasn't got the attribute that was asked for.
pub fn lacks_attribute(log: &BuildLog) -> bool {
    log.errors().iter().any(|error| error.message.contains("does not provide attribute"))
}

/// Returns an error with places in the flake as this machine calls them.
pub fn located(error: &NixError, log: &BuildLog, root: &str) -> String {
    let mut text = error.text.trim().to_owned();
    if let Some(source) = log.source() {
        text = text.replace(source, root.trim_end_matches('/'));
    }
    let text = text.strip_prefix("error:").unwrap_or(&text).trim_start();
    // Newer ones put the trace first; what is wrong is what a reader looks for.
    match text.starts_with(&error.message) {
        true => text.to_owned(),
        false => format!("{}\n       {text}", error.message.trim()),
    }
}

/// Returns the first line of a message.
fn short(message: &str) -> String {
    message.trim().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
#[path = "failure_tests.rs"]
mod tests;
