//! The project that `up`, `down` and `validate` are about.

use crate::commands::flake_options::absolute;
use crate::error::Misuse;
use crate::files::read_limited;
use anyhow::Context as _;
use mvm_engine::{EngineError, MAX_PROJECT, PROJECT_FILE, Project, VmDefinition};
use mvm_ref::{Digest, FlakeAttribute, FlakeReference, VmName};
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

/// Returns the project of one VM that a flake makes, named for its directory and its package.
///
/// It is what this file in the flake's directory would say, but another project than that of a file which is there, or of
/// another directory of that name: whoever takes the one down leaves the others.
pub fn of_flake(flake: &FlakeReference, ports: &[String]) -> anyhow::Result<Project> {
    let flake = absolute(flake.clone())?;
    let path = flake.path().canonicalize().unwrap_or_else(|_| flake.path().to_owned());
    let directory = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let vm = flake.attribute().map_or("default", FlakeAttribute::as_str);
    let (name, vm) = (word(&directory, "flake"), word(vm, "default"));
    // Texts of TOML are those of JSON, but for what no reference holds.
    let (text, ports) = (serde_json::to_string(&flake)?, serde_json::to_string(ports)?);
    let text = format!("name = \"{name}\"\n[vm.\"{vm}\"]\nflake = {text}\nports = {ports}\n");
    let path = path.join(PROJECT_FILE);
    let shown = PathBuf::from(format!("what --flake {flake} stands for"));
    let mut project = Project::parse(text.as_bytes(), &path, &shown).map_err(EngineError::from)?;
    let digest = Digest::of(path.as_os_str().as_encoded_bytes()).hex().to_string();
    project.name = format!("{name}-{}", &digest[..8]).parse()?;
    Ok(project)
}

/// Returns a text as the name of a VM may be, or another one if there is nothing in it.
fn word(text: &str, otherwise: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let word: String = text.chars().map(letter).take(24).collect();
    let word = word.trim_matches('-');
    if word.is_empty() { otherwise.to_owned() } else { word.to_owned() }
}

/// Returns the VMs of these names and those that they start after; all without names.
pub fn chosen<'p>(project: &'p Project, names: &[VmName]) -> anyhow::Result<Vec<&'p VmDefinition>> {
    project.chosen(names).map_err(|name| Misuse(format!("there is no VM {name} in the file")).into())
}

#[cfg(test)]
mod tests {
    use super::{of_flake, word};

    #[test]
    fn words_are_names() {
        let table = [
            ("web", "web"),
            ("My Flake!", "my-flake"),
            ("--", "x"),
            ("", "x"),
            ("ä1", "1"),
            ("a.b_c", "a-b-c"),
        ];
        for (text, expected) in table {
            assert_eq!(word(text, "x"), expected, "{text:?}");
        }
        assert_eq!(word(&"long".repeat(20), "x").len(), 24);
    }

    #[test]
    fn a_flake_is_a_project_of_one_vm() {
        let flake = "path:/srv/My%20%22Site%22#tenant-a".parse().expect("a reference");
        let project = of_flake(&flake, &["8080:80".to_owned()]).expect("a project");
        assert!(project.name.as_str().starts_with("my--site-"), "{}", project.name);
        let other = "path:/srv/www/My%20%22Site%22".parse().expect("a reference");
        assert_ne!(of_flake(&other, &[]).expect("a project").name, project.name);
        let [vm] = &project.vms[..] else { panic!("{:?}", project.vms) };
        assert_eq!(vm.name.as_str(), "my--site-tenant-a");
        assert_eq!(vm.image.to_string(), "flake:path:/srv/My%20%22Site%22#tenant-a");
        assert_eq!(vm.ports.len(), 1);
    }
}
