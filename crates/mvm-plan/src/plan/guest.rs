//! What a guest does beside its main process: services, health checks, users and mounts.

use super::{Process, Root};
use crate::signal::Signal;
use mvm_ref::{CheckName, ServiceName, VolumeName};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A process that the guest keeps running.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// What to run; it has neither a terminal nor input, and its user is never root.
    pub process: Process,
    /// What runs as root, once, before the service first starts; empty for nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pre_start: Vec<String>,
    /// The services that must run before this one starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<ServiceName>,
    /// When it is started again.
    pub restart: Restart,
    /// The file in the guest that takes its output in place of the host's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_file: Option<String>,
    /// How long it may take to end after its stop signal, in seconds.
    pub stop_grace_secs: u32,
    /// What it may use.
    #[serde(default, skip_serializing_if = "ServiceLimits::is_empty")]
    pub limits: ServiceLimits,
}

/// When a service is started again after it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// However it ended.
    Always,
    /// Unless it exited with code 0.
    OnFailure,
    /// Never.
    Never,
}

/// What a service may use; absent means no limit of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceLimits {
    /// Memory in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// Processes and threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// Processor time in hundredths of one processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<u32>,
}

/// A command whose exit code tells whether the guest is well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// Its name.
    pub name: CheckName,
    /// The service that it is about, or the guest as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// What to run, as which user: healthy is exit code 0 within the timeout.
    pub process: Process,
    /// Seconds from the end of one run to the start of the next.
    pub interval_secs: u32,
    /// Seconds after which a run counts as failed and is killed.
    pub timeout_secs: u32,
    /// Seconds after the start in which failures don't count.
    pub start_period_secs: u32,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
}

/// A user that the guest has beside those of its root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Its name.
    pub name: AccountName,
    /// Its number, above 0.
    pub uid: u32,
    /// Its group.
    pub group: Group,
    /// Its home directory.
    pub home: String,
}

/// A group of the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Its name.
    pub name: AccountName,
    /// Its number, above 0.
    pub gid: u32,
}

/// The name of a user or group: 1 to 32 letters, digits, `-`, `_` and `.`, a letter or `_` first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccountName(String);

/// Says why a text is no name of a user or group.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "account name {0:?} is not valid; use 1 to 32 letters, digits, '-', '_' and '.', a letter or '_' first"
)]
pub struct AccountNameError(String);

/// Something mounted beside the root; nothing on it is set-id or a device to the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Absolute path in the guest, made if it isn't there.
    pub target: String,
    /// What is mounted.
    pub source: MountSource,
    /// Whether the guest may only read it.
    pub read_only: bool,
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum MountSource {
    /// A volume of the plan's scope.
    Volume {
        /// Its name.
        name: VolumeName,
    },
    /// A directory of the host, as it is while the guest runs.
    HostDirectory {
        /// Its absolute path.
        path: String,
    },
    /// Memory of the guest.
    Tmpfs {
        /// Most that it may take, in MiB.
        size_mib: u32,
    },
    /// The root file system of another image of the plan's scope, under verity like the root; it can only be read.
    Image {
        /// The image.
        root: Root,
    },
}

/// The kinds of things that a guest can have mounted beside its root and its scratch space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountKind {
    /// A volume.
    Volume,
    /// A directory of the host.
    HostDirectory,
    /// Memory of the guest.
    Tmpfs,
    /// Another image.
    Image,
}

impl ServiceLimits {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl MountSource {
    /// Returns what kind of thing it is.
    pub fn kind(&self) -> MountKind {
        match self {
            Self::Volume { .. } => MountKind::Volume,
            Self::HostDirectory { .. } => MountKind::HostDirectory,
            Self::Tmpfs { .. } => MountKind::Tmpfs,
            Self::Image { .. } => MountKind::Image,
        }
    }
}

impl Group {
    /// Returns the group that services run in where a plan names none.
    pub fn service() -> Self {
        Self { name: AccountName("mvm".to_owned()), gid: 900 }
    }
}

impl AccountName {
    /// Returns the name as text; it fits passwd(5) and group(5).
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AccountName {
    type Err = AccountNameError;

    fn from_str(text: &str) -> Result<Self, AccountNameError> {
        let first = |b: u8| b.is_ascii_alphabetic() || b == b'_';
        let rest = |b: u8| first(b) || b.is_ascii_digit() || b"-.".contains(&b);
        let sound = (1..=32).contains(&text.len()) && first(text.as_bytes()[0]) && text.bytes().all(rest);
        if sound { Ok(Self(text.to_owned())) } else { Err(AccountNameError(text.to_owned())) }
    }
}

impl TryFrom<String> for AccountName {
    type Error = AccountNameError;

    fn try_from(text: String) -> Result<Self, AccountNameError> {
        text.parse()
    }
}

impl From<AccountName> for String {
    fn from(name: AccountName) -> String {
        name.0
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl HealthCheck {
    /// Seconds between runs where nothing else is said.
    pub const INTERVAL_SECS: u32 = 30;
    /// Seconds that a run may take where nothing else is said.
    pub const TIMEOUT_SECS: u32 = 10;
}

impl Service {
    /// Seconds between stop signal and end where nothing else is said.
    pub const STOP_GRACE_SECS: u32 = 10;
    /// The signal that asks a service to end where nothing else is said.
    pub const STOP_SIGNAL: Signal = Signal::TERM;
}

impl fmt::Display for MountKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Volume => "volume",
            Self::HostDirectory => "host-directory",
            Self::Tmpfs => "tmpfs",
            Self::Image => "image",
        })
    }
}
