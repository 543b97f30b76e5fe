//! The description of a guest that a flake's `mkGuest` makes: `mvm.guest.v1`, one file of JSON in a Nix store.

use crate::nix::{StorePath, StorePathError};
use crate::{CheckName, MAX_NESTING, ServiceName, VmName, json};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Most bytes of a guest's description.
pub const MAX_GUEST_DEFINITION: usize = 1 << 20;

/// A guest as a flake describes it; every property is there, as the flake library writes them all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GuestDefinition {
    schema: Schema,
    /// Its name.
    pub name: VmName,
    /// Its host name.
    pub hostname: String,
    /// The system that it is built for, in the words of Nix.
    pub system: NixSystem,
    /// The file system that its root is to have.
    pub rootfs_type: RootFsType,
    /// Packages whose programs are on the `PATH`, in its order.
    pub packages: Vec<StorePath>,
    /// The group that services run in.
    pub service_group: String,
    /// Users beside root and the one of the service group.
    pub users: BTreeMap<String, GuestUser>,
    /// What is kept running.
    pub services: BTreeMap<ServiceName, GuestService>,
    /// How to tell whether it is well.
    pub health_checks: BTreeMap<CheckName, GuestCheck>,
    /// The shell, for texts that are commands and as `/bin/sh`.
    pub shell: Option<String>,
    /// What is to be `/usr/bin/env`.
    pub env: Option<String>,
    /// Certificates of authorities.
    pub ca_bundle: Option<String>,
    /// The main process, whose end is the guest's.
    #[serde(default)]
    pub command: Option<GuestCommand>,
    /// Environment of everything in the guest.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Schema {
    #[serde(rename = "mvm.guest.v1")]
    V1,
}

/// A system in the words of Nix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NixSystem {
    /// Linux on amd64.
    #[serde(rename = "x86_64-linux")]
    X86_64Linux,
    /// Linux on arm64.
    #[serde(rename = "aarch64-linux")]
    Aarch64Linux,
}

/// A kind of root file system that a flake can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RootFsType {
    /// EROFS.
    Erofs,
    /// Squashfs.
    Squashfs,
    /// Ext4.
    Ext4,
}

/// A text for the shell, or a program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a text for the shell, or a list of a program and its arguments")]
pub enum GuestCommand {
    /// A text for `sh -c`.
    Text(String),
    /// A program and its arguments.
    Arguments(Vec<String>),
}

/// A user of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestUser {
    /// Its number.
    pub uid: u32,
    /// Its group.
    pub group: String,
    /// The number of its group; its own if absent.
    #[serde(default)]
    pub gid: Option<u32>,
    /// Its home directory.
    pub home: String,
}

/// A service of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GuestService {
    /// What runs.
    pub command: GuestCommand,
    /// What runs as root, once, before it first starts.
    pub pre_start: Option<GuestCommand>,
    /// Its environment beside the guest's.
    pub env: BTreeMap<String, String>,
    /// The user that it runs as.
    pub user: String,
    /// Where its output goes in the guest.
    pub log_file: String,
    /// Services that must run before it starts.
    #[serde(default)]
    pub after: Vec<ServiceName>,
    /// When it is started again: `always`, `on-failure` or `never`.
    #[serde(default)]
    pub restart: GuestRestart,
    /// Seconds that it may take to end.
    #[serde(default)]
    pub stop_grace_secs: Option<u32>,
    /// What it may use.
    #[serde(default)]
    pub limits: GuestLimits,
}

/// When a service is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuestRestart {
    /// However it ended.
    #[default]
    Always,
    /// Unless it exited with code 0.
    OnFailure,
    /// Never.
    Never,
}

/// What a service may use; absent is without a limit of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestLimits {
    /// Memory in MiB.
    #[serde(default, rename = "memoryMiB")]
    pub memory_mib: Option<u32>,
    /// Processes and threads.
    #[serde(default)]
    pub pids: Option<u32>,
    /// Hundredths of a processor's time.
    #[serde(default, rename = "cpuPercent")]
    pub cpu_percent: Option<u32>,
}

/// A health check of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GuestCheck {
    /// What runs; well is exit code 0 in time.
    pub health_cmd: GuestCommand,
    /// Seconds between runs.
    pub health_interval_secs: u32,
    /// Seconds that a run may take.
    pub health_timeout_secs: u32,
    /// Seconds after the start in which failures don't count.
    pub startup_grace_secs: u32,
    /// The service that it is about.
    #[serde(default)]
    pub service: Option<ServiceName>,
}

/// Says why a file is no description of a guest.
#[derive(Debug, thiserror::Error)]
pub enum GuestDefinitionError {
    /// The text is too long.
    #[error("the description of the guest has {got} bytes, more than {MAX_GUEST_DEFINITION}")]
    Size {
        /// Its bytes.
        got: usize,
    },
    /// Arrays and objects are in each other too often.
    #[error("the description of the guest nests deeper than {MAX_NESTING} levels")]
    Nesting,
    /// The text is not of the shape that mkGuest writes.
    #[error("the build's output is not a guest as mkGuest of this version makes it")]
    Json(#[from] serde_json::Error),
    /// A file that the guest names is not in a store.
    #[error("{property} of the guest")]
    Path {
        /// The property.
        property: &'static str,
        /// What is wrong with it.
        source: StorePathError,
    },
    /// A path leads out of where it begins.
    #[error("{property} of the guest is {path:?}, which has a . or .. in it")]
    Dots {
        /// The property.
        property: &'static str,
        /// The path.
        path: String,
    },
    /// A text that becomes an argument, a variable or a path holds a NUL byte or a line's end where none may be.
    #[error("{property} of the guest holds a NUL byte, or an end of a line where none may be")]
    Character {
        /// The property.
        property: String,
    },
    /// A variable's name is none.
    #[error("{property} of the guest has a variable named {name:?}")]
    Variable {
        /// The property.
        property: String,
        /// The name.
        name: String,
    },
    /// A command is empty, or needs a shell that isn't there.
    #[error("{property} of the guest {problem}")]
    Command {
        /// The property.
        property: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl GuestDefinition {
    /// Reads a guest's description.
    pub fn parse(text: &[u8]) -> Result<Self, GuestDefinitionError> {
        if text.len() > MAX_GUEST_DEFINITION {
            return Err(GuestDefinitionError::Size { got: text.len() });
        }
        if json::nests_too_deep(text) {
            return Err(GuestDefinitionError::Nesting);
        }
        let guest: Self = serde_json::from_slice(text)?;
        guest.check()?;
        Ok(guest)
    }

    /// Returns the store paths that the description itself needs in the closure.
    pub fn store_paths(&self) -> BTreeSet<StorePath> {
        let files = [&self.shell, &self.env, &self.ca_bundle];
        let split = |path: &String| StorePath::split(path).ok().map(|(path, _)| path);
        self.packages.iter().cloned().chain(files.into_iter().flatten().filter_map(split)).collect()
    }

    /// Returns a command's program and arguments.
    pub fn argv(&self, command: &GuestCommand) -> Vec<String> {
        match command {
            GuestCommand::Arguments(argv) => argv.clone(),
            GuestCommand::Text(text) => {
                let shell = self.shell.clone().unwrap_or_else(|| "/bin/sh".to_owned());
                vec![shell, "-c".to_owned(), text.clone()]
            }
        }
    }

    /// Returns the directories of programs, in their order.
    pub fn path(&self) -> Vec<String> {
        self.packages.iter().map(|package| format!("{package}/bin")).collect()
    }

    fn check(&self) -> Result<(), GuestDefinitionError> {
        let files = [("shell", &self.shell), ("env", &self.env), ("caBundle", &self.ca_bundle)];
        for (property, path) in
            files.into_iter().filter_map(|(property, path)| Some((property, path.as_ref()?)))
        {
            let (_, rest) =
                StorePath::split(path).map_err(|source| GuestDefinitionError::Path { property, source })?;
            if rest.split('/').any(|part| matches!(part, "." | "..")) {
                return Err(GuestDefinitionError::Dots { property, path: path.clone() });
            }
            check_line(property, rest)?;
        }
        check_line("hostname", &self.hostname)?;
        check_line("serviceGroup", &self.service_group)?;
        check_variables("variables", &self.variables)?;
        for (name, user) in &self.users {
            for text in [name, &user.group, &user.home] {
                check_line(&format!("users.{name}"), text)?;
            }
        }
        if let Some(command) = &self.command {
            self.check_command("command", command)?;
        }
        for (name, service) in &self.services {
            let at = |part: &str| format!("services.{name}.{part}");
            self.check_command(&at("command"), &service.command)?;
            if let Some(command) = &service.pre_start {
                self.check_command(&at("preStart"), command)?;
            }
            check_variables(&at("env"), &service.env)?;
            check_line(&at("user"), &service.user)?;
            check_line(&at("logFile"), &service.log_file)?;
        }
        for (name, check) in &self.health_checks {
            self.check_command(&format!("healthChecks.{name}.healthCmd"), &check.health_cmd)?;
        }
        Ok(())
    }

    fn check_command(&self, property: &str, command: &GuestCommand) -> Result<(), GuestDefinitionError> {
        let wrong = |problem| Err(GuestDefinitionError::Command { property: property.to_owned(), problem });
        match command {
            GuestCommand::Text(_) if self.shell.is_none() => {
                wrong("is a text for a shell, and the guest has none")
            }
            GuestCommand::Text(text) if text.trim().is_empty() => wrong("is empty"),
            GuestCommand::Arguments(argv) if argv.first().is_none_or(String::is_empty) => {
                wrong("names no program")
            }
            GuestCommand::Text(text) => check_nul(property, text),
            GuestCommand::Arguments(argv) => argv.iter().try_for_each(|word| check_nul(property, word)),
        }
    }
}

fn check_variables(property: &str, variables: &BTreeMap<String, String>) -> Result<(), GuestDefinitionError> {
    for (name, value) in variables {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(GuestDefinitionError::Variable { property: property.to_owned(), name: name.clone() });
        }
        check_nul(property, value)?;
    }
    Ok(())
}

fn check_nul(property: &str, text: &str) -> Result<(), GuestDefinitionError> {
    match text.contains('\0') {
        true => Err(GuestDefinitionError::Character { property: property.to_owned() }),
        false => Ok(()),
    }
}

/// Checks a text that becomes part of a line of a file.
fn check_line(property: &str, text: &str) -> Result<(), GuestDefinitionError> {
    match text.contains(['\0', '\n', '\r', ':']) {
        true => Err(GuestDefinitionError::Character { property: property.to_owned() }),
        false => Ok(()),
    }
}

impl NixSystem {
    /// Returns the architecture in the words of images.
    pub fn architecture(self) -> &'static str {
        match self {
            Self::X86_64Linux => "amd64",
            Self::Aarch64Linux => "arm64",
        }
    }
}

impl fmt::Display for NixSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::X86_64Linux => "x86_64-linux",
            Self::Aarch64Linux => "aarch64-linux",
        })
    }
}

impl fmt::Display for RootFsType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Erofs => "erofs",
            Self::Squashfs => "squashfs",
            Self::Ext4 => "ext4",
        })
    }
}

#[cfg(test)]
#[path = "guest_tests.rs"]
mod tests;
