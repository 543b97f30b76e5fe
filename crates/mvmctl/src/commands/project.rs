//! The project that `up`, `down` and `validate` are about.

use crate::error::Misuse;
use crate::files::read_limited;
use anyhow::Context as _;
use mvm_engine::{EngineError, MAX_PROJECT, PROJECT_FILE, Project, VmDefinition};
use mvm_ref::VmName;
use std::path::PathBuf;

/// Which file is meant.
#[derive(clap::Args)]
pub struct ProjectFile {
    /// The project's file, or the directory that has it
    #[arg(long, short, value_name = "FILE", default_value = PROJECT_FILE)]
    file: PathBuf,
}

impl ProjectFile {
    /// Reads the file.
    pub fn read(&self) -> anyhow::Result<Project> {
        let shown = match self.file.is_dir() {
            true => self.file.join(PROJECT_FILE),
            false => self.file.clone(),
        };
        let path = std::path::absolute(&shown).with_context(|| format!("resolve {}", shown.display()))?;
        let limit = u64::try_from(MAX_PROJECT).unwrap_or(u64::MAX).saturating_add(1);
        let text = read_limited(&shown, limit).with_context(|| format!("read {}", shown.display()))?;
        Ok(Project::parse(&text, &path, &shown).map_err(EngineError::from)?)
    }
}

/// Returns the VMs of these names and those that they start after; all without names.
pub fn chosen<'p>(project: &'p Project, names: &[VmName]) -> anyhow::Result<Vec<&'p VmDefinition>> {
    project.chosen(names).map_err(|name| Misuse(format!("there is no VM {name} in the file")).into())
}
