//! What mvmctl prints and exits with, without a hypervisor, a registry or a kernel.

#![expect(clippy::unwrap_used, reason = "a test may panic, and its helpers are part of it")]

mod errors;
mod help;
mod output;
mod project;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// An empty store in a directory of its own, and the program in an environment that names nothing else.
struct Sandbox {
    directory: tempfile::TempDir,
}

/// What a run of the program gave.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Sandbox {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn root(&self) -> PathBuf {
        self.path("store")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mvmctl"));
        command.env_clear().env("MVM_ROOT", self.root()).stdin(Stdio::null());
        command.current_dir(self.directory.path());
        command
    }

    fn mvmctl(&self, arguments: &[&str]) -> Outcome {
        let Output { status, stdout, stderr } = self.command().args(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Outcome { code: status.code().unwrap(), stdout: text(stdout), stderr: text(stderr) }
    }

    /// Runs the program, which must succeed and say nothing on stderr, and returns what it printed.
    fn prints(&self, arguments: &[&str]) -> String {
        let Outcome { code, stdout, stderr } = self.mvmctl(arguments);
        assert_eq!((code, stderr.as_str()), (0, ""), "{arguments:?}");
        stdout
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.prints(arguments)).unwrap()
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
