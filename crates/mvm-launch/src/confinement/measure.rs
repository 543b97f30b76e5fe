//! The measures by name, and what is told of each.

use serde::{Deserialize, Serialize};
use std::fmt;

/// One thing that is taken from a hypervisor's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// It has no descriptors but those of its own disks, files and pipes.
    Descriptors,
    /// Its environment is empty.
    Environment,
    /// It dies with its supervisor.
    DiesWithSupervisor,
    /// No program that it starts could gain privileges.
    NoNewPrivs,
    /// It has no capabilities.
    NoCapabilities,
    /// QEMU's filter of system calls: it can start no program, change no user and no limits.
    Seccomp,
    /// The size of files, the number of descriptors and so on are limited.
    ResourceLimits,
    /// It runs as a user of its own, who owns nothing.
    OwnUser,
    /// It can open its own files only, and connect to nothing.
    Landlock,
    /// Its memory, processes and processor time are limited as a whole.
    Cgroup,
}

impl Measure {
    /// Every measure, in the order in which they are told.
    pub const ALL: [Self; 10] = [
        Self::Descriptors,
        Self::Environment,
        Self::DiesWithSupervisor,
        Self::NoNewPrivs,
        Self::NoCapabilities,
        Self::Seccomp,
        Self::ResourceLimits,
        Self::OwnUser,
        Self::Landlock,
        Self::Cgroup,
    ];

    /// Returns the name that records and policies have for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Descriptors => "descriptors",
            Self::Environment => "environment",
            Self::DiesWithSupervisor => "dies-with-supervisor",
            Self::NoNewPrivs => "no-new-privs",
            Self::NoCapabilities => "no-capabilities",
            Self::Seccomp => "seccomp",
            Self::ResourceLimits => "resource-limits",
            Self::OwnUser => "own-user",
            Self::Landlock => "landlock",
            Self::Cgroup => "cgroup",
        }
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A measure as it holds, or doesn't, for one process or on one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protection {
    /// The measure.
    pub measure: Measure,
    /// Whether nothing is launched without it.
    pub mandatory: bool,
    /// Whether it holds.
    pub active: bool,
    /// How it holds, or what it would take.
    pub detail: String,
}
