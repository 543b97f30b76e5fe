//! `mvm.toml`: VMs that belong together, with their services, health checks, ports, mounts and secrets.
//!
//! Reading is pure: a text and the path that it came from become a [`Project`], or every mistake in it with its place. The
//! shape of the file is in `docs/mvm-toml.md`. All keys are known or refused, and relative paths begin at the file.

mod bring;
mod check;
mod mistakes;
mod model;
mod mounts;
mod reader;
mod ready;
mod services;
mod vm;

pub use bring::{Bringing, Brought, ProjectError, ProjectLock};
pub use mistakes::{Mistake, ProjectMistakes};
pub use model::{After, NetworkChoice, Project, Until, VmDefinition, VolumeDefinition};
pub use ready::Trouble;

use mistakes::Span;
use mvm_ref::VmName;
use reader::{Reading, Table};
use std::path::Path;
use toml::de::DeTable;

/// Most bytes of a file.
pub const MAX_PROJECT: usize = 1 << 20;
/// Most VMs of a project.
const MAX_VMS: usize = 256;

impl Project {
    /// Reads the text of the file at `path`, which is absolute; `shown` is how messages name the file.
    pub fn parse(text: &[u8], path: &Path, shown: &Path) -> Result<Self, ProjectMistakes> {
        let failed = |mistakes| ProjectMistakes::new(shown, mistakes);
        let text = match std::str::from_utf8(text) {
            Ok(text) if text.len() <= MAX_PROJECT => text,
            Ok(text) => {
                let problem = format!("the file has {} bytes; at most {MAX_PROJECT} are read", text.len());
                return Err(failed(vec![Mistake::new("", Span::default(), problem, None)]));
            }
            Err(error) => {
                let valid = text.get(..error.valid_up_to()).and_then(|valid| std::str::from_utf8(valid).ok());
                let valid = valid.unwrap_or_default();
                let span = Span { start: valid.len(), end: valid.len() };
                return Err(failed(vec![Mistake::new(valid, span, "this is not UTF-8".to_owned(), None)]));
            }
        };
        let (document, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            let mistake = |error: &toml::de::Error| {
                let span = error.span().map_or_else(Span::default, Span::from);
                let message = error.message().lines().collect::<Vec<_>>().join(", ");
                Mistake::new(text, span, message, None)
            };
            return Err(failed(errors.iter().map(mistake).collect()));
        }
        let mut reading = Reading::new(text);
        let table = Table::new("the file".to_owned(), Span::default(), document.get_ref());
        let project = read(table, path, &mut reading);
        let mistakes = reading.finish();
        match project {
            Some(project) if mistakes.is_empty() => Ok(project),
            _ => Err(failed(mistakes)),
        }
    }
}

fn read<'a>(mut table: Table<'a>, path: &Path, reading: &mut Reading<'a>) -> Option<Project> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let name = match table.get("name") {
        Some(value) => reading.parsed::<VmName>(value),
        None => {
            let name = name_of(directory);
            if name.is_none() {
                let message =
                    "the directory's name gives the project none; write name = \"…\" above all tables";
                reading.mistake(Span::default(), message);
            }
            name
        }
    };
    let volumes = mounts::volumes(table.get("volumes"), name.as_ref(), reading);
    let around = vm::Around { project: name.as_ref(), volumes: &volumes, directory };
    let vms = table.require("vm", reading);
    let entries = services::named(vms, "[vm]", reading);
    if entries.len() > MAX_VMS {
        let message = format!("there are {} VMs; at most {MAX_VMS} belong together", entries.len());
        reading.mistake(entries[MAX_VMS].0, message);
    } else if let Some(value) = vms.filter(|value| entries.is_empty() && value.is_table()) {
        reading.mistake(value.span, "there is no VM; write a table [vm.NAME]");
    }
    let mut read = Vec::new();
    let known: Vec<&str> = entries.iter().map(|(_, value)| value.key).collect();
    for (span, value) in entries.iter().take(MAX_VMS) {
        read.extend(vm::read(*span, value.key, *value, &around, reading));
    }
    table.finish(reading);
    let vms = check::order_and_compare(read, &known, reading);
    let volumes = volumes.into_iter().map(|(_, volume)| volume).collect();
    Some(Project { name: name?, vms, volumes })
}

/// Returns the name that a directory gives to its project: its own, without what a name can't have.
fn name_of(directory: &Path) -> Option<VmName> {
    let name = directory.file_name()?.to_str()?.to_lowercase();
    let sound = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    let name: String = name.chars().filter(sound).collect();
    name.trim_start_matches(['-', '_', '.']).chars().take(40).collect::<String>().parse().ok()
}

/// What the file is called where nothing else is said.
pub const PROJECT_FILE: &str = "mvm.toml";

#[cfg(test)]
mod tests;
