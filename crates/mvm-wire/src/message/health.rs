//! How services and health checks do, by the guest's own account.

use super::ExitStatus;
use serde::{Deserialize, Serialize};

/// How a service does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// Where it is in its life.
    pub state: ServiceState,
    /// Its process ID inside the guest while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// How often it was started again.
    pub restarts: u32,
    /// How it ended the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<ExitStatus>,
    /// Why it is not running, for people; at most 1 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Milliseconds since it came into this state.
    pub since_ms: u64,
    /// What its control group counts; absent where the kernel doesn't tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_kib: Option<u64>,
    /// Processor time used, in milliseconds; absent where the kernel doesn't tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
}

/// Where a service is in its life.
///
/// ```text
///  waiting ─► starting ─► running ─► backoff ─► starting …
///     │          │           ├─────► stopped   (asked to, or exit 0 where that isn't restarted)
///     └──────────┴───────────┴─────► failed    (what it needs isn't there, or it isn't restarted)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceState {
    /// A service that it comes after doesn't run yet.
    Waiting,
    /// What runs before it, or itself, is being started.
    Starting,
    /// It runs.
    Running,
    /// It ended and is started again after a while.
    Backoff,
    /// It ended, or could not be started, for good.
    Failed,
    /// It ended as it should.
    Stopped,
}

impl std::fmt::Display for ServiceState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Backoff => "backoff",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        })
    }
}

/// How a health check does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthStatus {
    /// The check's name.
    pub name: String,
    /// The service that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// What its runs amount to.
    pub health: Health,
    /// Failures in a row.
    pub failing: u32,
    /// The last runs, the oldest first: at most 20 where all are asked for, else the last one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub results: Vec<HealthResult>,
}

/// What the runs of a health check amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// It has not succeeded yet, nor failed often enough.
    Starting,
    /// It succeeded, and has not failed often enough since.
    Healthy,
    /// It failed as often in a row as makes it unhealthy.
    Unhealthy,
}

impl std::fmt::Display for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        })
    }
}

/// One run of a health check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthResult {
    /// Milliseconds from its start until now.
    pub ago_ms: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// How it came out.
    pub outcome: HealthOutcome,
    /// The beginning of what it wrote, at most 4 KiB, what is no UTF-8 replaced.
    pub output: String,
}

/// How a run of a health check came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HealthOutcome {
    /// It ended by itself; exit code 0 is success.
    Ended(ExitStatus),
    /// It took too long and was killed.
    TimedOut,
    /// It could not be started.
    NotStarted(String),
}
