//! Services, health checks, users: what a guest does beside its main process.

use super::{DocumentError, Process, check_name, count, unique};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A process that the guest keeps running, in a control group of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// What to run; its name is the service's. Its user must not turn out to be root.
    pub process: Process,
    /// Program and arguments that run as root, once, before the first start; empty for nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pre_start: Vec<String>,
    /// The services that must run before this one starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
    /// When it is started again.
    pub restart: Restart,
    /// The file in the root that takes its output; absent, it goes to the streams that the host gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_file: Option<String>,
    /// Milliseconds between stop signal and SIGKILL.
    pub stop_grace_ms: u64,
    /// What it may use.
    #[serde(default, skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
}

/// When a service is started again after it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// However it ended.
    Always,
    /// Unless it exited with code 0.
    OnFailure,
    /// Never.
    Never,
}

/// What a service may use (cgroup v2); absent means no limit of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// `memory.max` in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// `pids.max`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// `cpu.max` in hundredths of one processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<u32>,
}

/// A command whose exit code tells whether the guest is well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// What to run; its name is the check's.
    pub process: Process,
    /// The service that it is about, or the guest as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Milliseconds from the end of one run to the start of the next.
    pub interval_ms: u64,
    /// Milliseconds after which a run counts as failed and its process group is killed.
    pub timeout_ms: u64,
    /// Milliseconds after the start in which failures don't count.
    pub start_period_ms: u64,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
}

/// A user that the root gets unless it has one of that name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its number, above 0.
    pub uid: u32,
    /// Its group, which the root gets likewise.
    pub group: Group,
    /// Its home, made and given to it.
    pub home: String,
}

/// A group of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its number, above 0.
    pub gid: u32,
}

impl Limits {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Checks services, health checks and users; `roots` are the names of the document's roots.
pub(super) fn validate(document: &super::GuestDocument) -> Result<(), DocumentError> {
    count("services", document.services.len(), 0, 64)?;
    count("health checks", document.health_checks.len(), 0, 64)?;
    count("users", document.users.len(), 0, 128)?;
    let names: BTreeSet<&str> =
        document.services.iter().map(|service| service.process.name.as_str()).collect();
    let mut seen = BTreeSet::new();
    for service in &document.services {
        let process = &service.process;
        document.check_process(process)?;
        unique(&mut seen, "services", &process.name)?;
        if process.terminal {
            return Err(field("terminal", process, "absent for a service", "true".to_owned()));
        }
        if let Some(name) = service.after.iter().find(|name| !names.contains(name.as_str())) {
            return Err(field("after", process, "the name of a service", format!("{name:?}")));
        }
        if service.pre_start.iter().any(|argument| argument.contains('\0'))
            || service.pre_start.first().is_some_and(String::is_empty)
        {
            let got = format!("{:?}", service.pre_start);
            return Err(field("pre start", process, "a program and arguments without NUL", got));
        }
        if let Some(path) = service.log_file.as_ref().filter(|path| !is_path(path)) {
            return Err(field("log file", process, "an absolute path without NUL", format!("{path:?}")));
        }
    }
    let mut seen = BTreeSet::new();
    for check in &document.health_checks {
        let process = &check.process;
        document.check_process(process)?;
        unique(&mut seen, "health checks", &process.name)?;
        if let Some(name) = check.service.as_ref().filter(|name| !names.contains(name.as_str())) {
            return Err(field("service", process, "the name of a service", format!("{name:?}")));
        }
        if check.interval_ms == 0 || check.timeout_ms == 0 || check.retries == 0 {
            return Err(field("interval, timeout or retries", process, "above 0", "0".to_owned()));
        }
    }
    let mut seen = BTreeSet::new();
    for user in &document.users {
        check_account(&user.name, user.uid)?;
        check_account(&user.group.name, user.group.gid)?;
        unique(&mut seen, "users", &user.name)?;
        if !is_path(&user.home) || user.home.contains([':', '\n']) {
            let (owner, got) = (user.name.clone(), format!("{:?}", user.home));
            let expected = "an absolute path without ':', newline and NUL";
            return Err(DocumentError::Field { field: "home", owner, expected, got });
        }
    }
    match &document.service_group {
        Some(group) => check_account(&group.name, group.gid),
        None => Ok(()),
    }
}

fn field(field: &'static str, owner: &Process, expected: &'static str, got: String) -> DocumentError {
    DocumentError::Field { field, owner: owner.name.clone(), expected, got }
}

pub(super) fn is_path(path: &str) -> bool {
    path.starts_with('/') && !path.contains('\0')
}

/// Checks what goes into passwd(5) and group(5), whose fields are separated by `:` and whose ends are newlines.
fn check_account(name: &str, number: u32) -> Result<(), DocumentError> {
    check_name("name", name)?;
    if name.contains(':') || number == 0 {
        let got = format!("{number}");
        let expected = "a name without ':' and a number above 0";
        return Err(DocumentError::Field { field: "account", owner: name.to_owned(), expected, got });
    }
    Ok(())
}
