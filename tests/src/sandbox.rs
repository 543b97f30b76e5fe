//! One test's own store, and the program under test working in it.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use thiserror::Error;

use crate::process::{ProcessError, Program};
use crate::workspace;

/// Why a sandbox could not be prepared or looked into.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// A file operation failed.
    #[error("cannot prepare a store: {0}")]
    File(#[from] io::Error),
    /// A program failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// What should be JSON is not.
    #[error("not JSON: {source}\n{text}")]
    Json {
        /// What was printed.
        text: String,
        /// The cause.
        source: serde_json::Error,
    },
    /// There is not exactly one image in the store.
    #[error("expected one image in the store, found {0:?}")]
    Images(Vec<PathBuf>),
}

/// A store in a directory of its own. VMs that a test leaves behind end when it is dropped.
#[derive(Debug)]
pub struct Sandbox {
    directory: TempDir,
    program: PathBuf,
    user: Option<u32>,
}

impl Sandbox {
    /// Makes an empty store.
    pub fn new() -> Result<Self, SandboxError> {
        let directory = tempfile::Builder::new().prefix("mvm-test.").tempdir()?;
        Ok(Self { directory, program: workspace::mvmctl(), user: None })
    }

    /// Makes a store with the kernel that tests boot.
    pub fn with_kernel() -> Result<Self, SandboxError> {
        let sandbox = Self::new()?;
        sandbox.import_kernel()?;
        Ok(sandbox)
    }

    /// Makes a store that belongs to another user, who runs a copy of the program in it.
    pub fn of_user(id: u32) -> Result<Self, SandboxError> {
        let mut sandbox = Self::new()?;
        sandbox.program = sandbox.path().join("mvmctl");
        fs::copy(workspace::mvmctl(), &sandbox.program)?;
        sandbox.user = Some(id);
        sandbox.give_away()?;
        Ok(sandbox)
    }

    /// Gives everything in the sandbox's directory to its user.
    pub fn give_away(&self) -> Result<(), SandboxError> {
        if let Some(id) = self.user {
            Program::new("chown").arg("-Rh").arg(format!("{id}:{id}")).arg(self.path()).run()?.ok()?;
        }
        Ok(())
    }

    /// Imports the kernel that tests boot: the tuned one where it has been built, else the distribution's.
    pub fn import_kernel(&self) -> Result<(), SandboxError> {
        let kernel = workspace::tuned_kernel().unwrap_or_else(workspace::distribution_kernel);
        self.mvmctl(["kernel", "import"]).arg(kernel).run()?.ok()?;
        Ok(())
    }

    /// Returns a directory that the test may use, beside the store.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Returns the directory of the store.
    pub fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    /// Describes a run of the program under test in this store.
    pub fn mvmctl<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Program {
        let program = Program::new(&self.program)
            .clean_env()
            .env("HOME", self.directory.path())
            .arg("--root")
            .arg(self.store())
            .args(arguments);
        match self.user {
            Some(id) => program.user(id),
            None => program,
        }
    }

    /// Runs the program and reads its output as JSON.
    pub fn json<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Value, SandboxError> {
        let text = self.mvmctl(arguments).run()?.ok()?.out();
        serde_json::from_str(&text).map_err(|source| SandboxError::Json { text, source })
    }

    /// Returns the file of the only image in the store.
    pub fn image_file(&self) -> Result<PathBuf, SandboxError> {
        let mut images = self.image_files()?;
        match images.pop() {
            Some(image) if images.is_empty() => Ok(image),
            other => Err(SandboxError::Images(images.into_iter().chain(other).collect())),
        }
    }

    /// Returns the files of all images in the store, whose names are their root hashes, in order.
    pub fn image_files(&self) -> Result<Vec<PathBuf>, SandboxError> {
        let mut images = Vec::new();
        for entry in fs::read_dir(self.store().join("scopes/default/images"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "img") {
                images.push(path);
            }
        }
        images.sort();
        Ok(images)
    }

    /// Returns the names of VMs, running or not.
    pub fn vms(&self) -> Result<Vec<String>, SandboxError> {
        let list = self.json(["vm", "ls", "--all", "--json"])?;
        let names = list.as_array().into_iter().flatten().filter_map(|vm| vm["name"].as_str());
        Ok(names.map(str::to_owned).collect())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if !self.store().join("vms").is_dir() {
            return;
        }
        for name in self.vms().unwrap_or_default() {
            let removed = self.mvmctl(["vm", "rm", "--force", &name]).limit(Duration::from_secs(30)).run();
            if !removed.is_ok_and(|output| output.status.success()) {
                eprintln!("warning: cannot remove VM {name}");
            }
        }
    }
}
