//! Walks the workspace and collects what its rules object to.
//!
//! An exception stands on the line or the one above it: `// tidy: allow <rule>: <reason>`; the reason is required.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use thiserror::Error;

use crate::{edges, lines, syntax};

/// Directories whose Rust files are checked, under the workspace root.
const SOURCES: [&str; 5] = ["crates", "fuzz", "tests", "xtask", "bench"];

/// Packages that are programs: they may print and read the environment.
const PROGRAMS: [&str; 5] = ["crates/mvmctl/", "crates/mvm-guest/", "fuzz/", "tests/", "xtask/"];

/// One objection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// File, relative to the workspace root.
    pub path: String,
    /// Line number from 1.
    pub line: usize,
    /// Name for `tidy: allow`.
    pub rule: &'static str,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {} [{}]", self.path, self.line, self.message, self.rule)
    }
}

/// What a file is, which decides the rules that it is held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Role {
    /// A library crate of `crates/`: no printing, no environment.
    pub library: bool,
    /// Tests: only the size rules and the marks of unfinished work apply.
    pub test: bool,
}

impl Role {
    /// Returns the role of a file by its path under the workspace root.
    pub fn of(path: &str) -> Role {
        let name = path.rsplit('/').next().unwrap_or(path);
        let program = PROGRAMS.iter().any(|prefix| path.starts_with(prefix)) || name == "build.rs";
        let test = name == "tests.rs"
            || name.ends_with("_tests.rs")
            || path.contains("/tests/")
            || path.starts_with("tests/");
        Role { library: !program, test }
    }
}

/// Why the check could not be made.
#[derive(Debug, Error)]
pub enum TidyError {
    /// A file or directory could not be read.
    #[error("cannot read {path:?}")]
    Read {
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// `cargo metadata` could not be started.
    #[error("cannot run cargo metadata")]
    Spawn(#[source] io::Error),
    /// `cargo metadata` failed.
    #[error("cargo metadata failed: {0}")]
    Metadata(String),
    /// What `cargo metadata` said is not what its format promises.
    #[error("cannot read the output of cargo metadata")]
    MetadataFormat(#[source] serde_json::Error),
}

/// Checks the workspace at `root` and returns its findings in path and line order.
pub fn check(root: &Path) -> Result<Vec<Finding>, TidyError> {
    let mut findings = edges::check(&metadata(root)?);
    let mut files = Vec::new();
    for directory in SOURCES {
        collect(&root.join(directory), &mut files)?;
    }
    for file in files {
        let text =
            fs::read_to_string(&file).map_err(|source| TidyError::Read { path: file.clone(), source })?;
        let path = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().into_owned();
        findings.extend(check_file(&path, &text));
    }
    findings.sort();
    Ok(findings)
}

/// Checks one file, given its path under the workspace root.
pub fn check_file(path: &str, text: &str) -> Vec<Finding> {
    let role = Role::of(path);
    let mut findings = lines::check(path, text);
    findings.extend(syntax::check(path, text, role));
    let source: Vec<&str> = text.lines().collect();
    findings.retain(|finding| !lines::allowed(&source, finding));
    findings
}

fn metadata(root: &Path) -> Result<edges::Metadata, TidyError> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline", "--manifest-path"])
        .arg(root.join("Cargo.toml"))
        .output()
        .map_err(TidyError::Spawn)?;
    if !output.status.success() {
        return Err(TidyError::Metadata(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    serde_json::from_slice(&output.stdout).map_err(TidyError::MetadataFormat)
}

/// Collects Rust files in name order; symbolic links and target directories are not followed.
fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<(), TidyError> {
    let read = |source| TidyError::Read { path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(read(error)),
    };
    let mut entries = entries.collect::<Result<Vec<_>, _>>().map_err(read)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let kind = entry.file_type().map_err(read)?;
        if kind.is_dir() && entry.file_name() != "target" {
            collect(&path, files)?;
        } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "tidy_tests.rs"]
mod tests;
