//! Health checks that the root brings: `/etc/mvm/integrations.d/*.json`.
//!
//! ```json
//! {"name": "http", "health_cmd": "curl -f http://localhost/", "health_interval_secs": 30,
//!  "health_timeout_secs": 10, "startup_grace_secs": 0}
//! ```
//!
//! The command is a text for `/bin/sh -c`, or a list of program and arguments. Properties that aren't known are
//! passed over: the files are made for other readers as well.

use crate::console;
use mvm_wire::Process;
use mvm_wire::document::services::HealthCheck;
use rustix::fs::{Mode, OFlags};
use serde::Deserialize;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

pub(super) const DIRECTORY: &str = "/etc/mvm/integrations.d";
/// Most files that are read.
const MAX_FILES: usize = 64;
/// Most names that are looked at.
const MAX_NAMES: usize = 4096;
/// Most bytes in a file.
const MAX_FILE: u64 = 64 * 1024;
/// A day.
const MAX_SECONDS: u64 = 24 * 60 * 60;

/// A health check of the root, or why a file holds none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Integration {
    pub(super) check: HealthCheck,
    pub(super) broken: Option<String>,
}

#[derive(Deserialize)]
struct Description {
    name: String,
    health_cmd: Command,
    #[serde(default = "interval")]
    health_interval_secs: u64,
    #[serde(default = "timeout")]
    health_timeout_secs: u64,
    #[serde(default)]
    startup_grace_secs: u64,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
enum Command {
    Text(String),
    List(Vec<String>),
}

fn interval() -> u64 {
    30
}

fn timeout() -> u64 {
    10
}

/// A file that describes no health check.
#[derive(Debug, thiserror::Error)]
enum IntegrationError {
    #[error("reading it failed")]
    Read(#[source] io::Error),
    #[error("it is no regular file of at most {MAX_FILE} bytes")]
    File,
    #[error("parsing it failed")]
    Parse(#[source] serde_json::Error),
    #[error("{field} is {got}, expected {expected}")]
    Field { field: &'static str, got: String, expected: &'static str },
}

/// Reads the checks, in the order of the files' names; each runs as `like` does in all that its file doesn't say.
pub(super) fn read(directory: &Path, like: &Process) -> Vec<Integration> {
    // There mostly are none.
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<_> = entries.take(MAX_NAMES).flatten().map(|entry| entry.file_name()).collect();
    names.retain(|name| Path::new(name).extension().is_some_and(|extension| extension == "json"));
    names.sort_unstable();
    if names.len() > MAX_FILES {
        console::say(&format!("{DIRECTORY} holds more than {MAX_FILES} files; the rest is not read"));
        names.truncate(MAX_FILES);
    }
    names
        .iter()
        .map(|name| {
            let path = directory.join(name);
            read_file(&path)
                .and_then(|bytes| parse(&bytes, like))
                .map_or_else(|error| broken(&path, &error, like), |check| Integration { check, broken: None })
        })
        .collect()
}

fn read_file(path: &Path) -> Result<Vec<u8>, IntegrationError> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())
        .map(File::from)
        .map_err(|errno| IntegrationError::Read(errno.into()))?;
    if !file.metadata().map_err(IntegrationError::Read)?.is_file() {
        return Err(IntegrationError::File);
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(IntegrationError::Read)?;
    if bytes.len() as u64 > MAX_FILE { Err(IntegrationError::File) } else { Ok(bytes) }
}

fn parse(bytes: &[u8], like: &Process) -> Result<HealthCheck, IntegrationError> {
    let description: Description = serde_json::from_slice(bytes).map_err(IntegrationError::Parse)?;
    let seconds = |field, seconds: u64, least: u64| {
        if (least..=MAX_SECONDS).contains(&seconds) {
            return Ok(seconds * 1000);
        }
        let expected = if least == 0 { "at most a day" } else { "1 second to a day" };
        Err(IntegrationError::Field { field, got: seconds.to_string(), expected })
    };
    let argv = match description.health_cmd {
        Command::Text(text) => vec!["/bin/sh".to_owned(), "-c".to_owned(), text],
        Command::List(list) => list,
    };
    let process = Process { name: description.name, argv, terminal: false, ..like.clone() };
    process.validate().map_err(|error| IntegrationError::Field {
        field: "name or health_cmd",
        got: error.to_string(),
        expected: "a printable name and a program",
    })?;
    Ok(HealthCheck {
        process,
        service: None,
        interval_ms: seconds("health_interval_secs", description.health_interval_secs, 1)?,
        timeout_ms: seconds("health_timeout_secs", description.health_timeout_secs, 1)?,
        start_period_ms: seconds("startup_grace_secs", description.startup_grace_secs, 0)?,
        retries: 1,
    })
}

fn broken(path: &Path, error: &IntegrationError, like: &Process) -> Integration {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let name = crate::agent::words::output(name.as_bytes(), 128).replace(['\n', '\t'], " ");
    let process = Process { name, argv: vec!["/bin/false".to_owned()], terminal: false, ..like.clone() };
    let check = HealthCheck {
        process,
        service: None,
        interval_ms: 1000,
        timeout_ms: 1000,
        start_period_ms: 0,
        retries: 1,
    };
    let reason = format!("{} is not used: {}", path.display(), console::chain(error));
    Integration { check, broken: Some(reason) }
}

#[cfg(test)]
#[path = "integrations_tests.rs"]
mod tests;
