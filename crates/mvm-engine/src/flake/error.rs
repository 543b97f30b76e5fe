//! Why a flake can't be built.

use super::lock::LockError;
use super::request::InputName;
use super::source::SourceError;
use mvm_ref::{FlakeError, FlakeReference};
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

/// Says why a flake can't be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Its files can't be had.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Its path can't be written in a reference.
    #[error(transparent)]
    Reference(FlakeError),
    /// Its lock file is none.
    #[error("read {}", path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: LockError,
    },
    /// Its inputs are not locked.
    #[error("{} has no flake.lock, and the flake has inputs ({})", directory.display(), join(inputs))]
    NotLocked {
        /// The flake's directory.
        directory: PathBuf,
        /// Its inputs.
        inputs: BTreeSet<String>,
    },
    /// Some of its inputs are not locked.
    #[error("{} does not lock {}", path.display(), join(inputs))]
    Unlocked {
        /// The lock file.
        path: PathBuf,
        /// The inputs.
        inputs: BTreeSet<String>,
    },
    /// Nothing may be locked anew under this policy.
    #[error("the policy {policy} does not let a build lock inputs: {what}")]
    LockRefused {
        /// The policy.
        policy: String,
        /// What was asked for.
        what: &'static str,
    },
    /// The lock file could not be written.
    #[error("write {}", path.display())]
    WriteLock {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The flake has no such output.
    #[error("flake {flake} has no output {wanted} for {system}{}", has(there))]
    Attribute {
        /// The flake.
        flake: FlakeReference,
        /// What was asked for.
        wanted: String,
        /// The system that is built for.
        system: &'static str,
        /// What there is.
        there: Vec<String>,
    },
    /// The flake offers nothing for the system.
    #[error("flake {flake} has no packages for {system}{}", only(systems))]
    NoSystem {
        /// The flake.
        flake: FlakeReference,
        /// The system that is built for.
        system: &'static str,
        /// The systems that it has packages for.
        systems: Vec<String>,
    },
    /// What is asked for can't be built on this machine.
    #[error("the output is built on {system}; this builder is {}", super::SYSTEM)]
    System {
        /// What it is built on.
        system: String,
    },
    /// The flake doesn't evaluate.
    #[error("the flake does not evaluate: {text}")]
    Evaluation {
        /// Nix's own message.
        text: String,
    },
    /// The flake reads what isn't part of it.
    #[error("the flake is impure: {text}")]
    Impure {
        /// Nix's own message.
        text: String,
    },
    /// An input or a source could not be fetched.
    #[error("{}: {text}", if *online { "could not fetch" } else { "the builder has no network, and something has to be fetched" })]
    Fetch {
        /// Nix's own message.
        text: String,
        /// Whether the builder had a network.
        online: bool,
    },
    /// A derivation could not be built.
    #[error("{derivation} did not build: {reason}")]
    Failed {
        /// Its name.
        derivation: String,
        /// Nix's own message.
        reason: String,
        /// The last lines that it wrote.
        lines: Vec<String>,
        /// Which log has all of it.
        log: String,
    },
    /// The builder's disk is full.
    #[error("the builder's disk is full")]
    Disk {
        /// Which log has all of it.
        log: String,
    },
    /// The builder ran out of memory.
    #[error("the builder ran out of memory")]
    Memory {
        /// Which log has all of it.
        log: String,
    },
    /// Nix failed and said nothing.
    #[error("nix failed without a word")]
    Silent {
        /// Which log has all of it.
        log: String,
    },
    /// Nix printed what can't be understood.
    #[error("what {command} printed can't be understood: {problem}")]
    Output {
        /// The command.
        command: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Flakes in a directory of their tree need a newer Nix.
    #[error("the flake is in {directory:?} of its tree, which Nix {version} of the builder does not support")]
    Inside {
        /// The directory.
        directory: String,
        /// The version.
        version: String,
    },
    /// An input's place can't be used.
    #[error("--override-input {input}: {problem}")]
    Override {
        /// The input.
        input: String,
        /// What is wrong with it.
        problem: String,
    },
    /// What is to be locked anew is no input.
    #[error("{} has no input {wanted}; it has {}", directory.display(), join(there))]
    NoInput {
        /// The flake's directory.
        directory: PathBuf,
        /// What was asked for.
        wanted: InputName,
        /// The inputs that there are.
        there: BTreeSet<String>,
    },
    /// There is no such log.
    #[error("there is no log of {}", if .0.is_empty() { "any build".to_owned() } else { format!("a build {:?}", .0) })]
    NoLog(String),
    /// The log of a build could not be written or read.
    #[error("{act} {}", path.display())]
    Io {
        /// What was tried.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The directory for a new flake has what would be overwritten.
    #[error("{} is there already", .0.display())]
    InTheWay(PathBuf),
    /// There is no such template.
    #[error("there is no template {name:?}; there are {}", there.join(", "))]
    NoTemplate {
        /// What was asked for.
        name: String,
        /// What there is.
        there: Vec<String>,
    },
}

impl BuildError {
    /// Returns the last lines of the derivation that did not build.
    pub fn last_lines(&self) -> &[String] {
        match self {
            Self::Failed { lines, .. } => lines,
            _ => &[],
        }
    }
}

fn join(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn has(there: &[String]) -> String {
    match there.is_empty() {
        true => ", and no other one".to_owned(),
        false => format!("; it has {}", there.join(", ")),
    }
}

fn only(systems: &[String]) -> String {
    match systems.is_empty() {
        true => " or any other system".to_owned(),
        false => format!("; only for {}", systems.join(", ")),
    }
}
