//! What a policy doesn't allow.

use super::Knob;
use crate::Escaped;

/// Something in a layer that the policy refuses.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Breach {
    /// A limit is exceeded.
    #[error("{what}: {got}, at most {limit} are allowed")]
    OverLimit {
        /// The setting that has the limit.
        knob: Knob,
        /// What is counted.
        what: &'static str,
        /// How much there is, at least.
        got: u64,
        /// The limit.
        limit: u64,
    },
    /// A device that a container has no use for.
    #[error("{kind} device {major}:{minor} is not among the devices allowed")]
    Device {
        /// `character` or `block`.
        kind: &'static str,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A whiteout.
    #[error("a whiteout, and whiteouts are refused")]
    Whiteout,
    /// A symbolic link with an absolute target.
    #[error("a symbolic link to {target}, and absolute targets are refused")]
    AbsoluteSymlink {
        /// Its target.
        target: Escaped,
    },
    /// A hard link.
    #[error("a hard link to {target}, and hard links are refused")]
    HardLink {
        /// Its target.
        target: Escaped,
    },
    /// A hard link to what another layer put.
    #[error("a hard link to {target}, which another layer put, and only those within a layer are allowed")]
    HardLinkAcross {
        /// Its target.
        target: Escaped,
    },
    /// A set-user-ID or set-group-ID bit.
    #[error("mode {mode:04o}, and set-user-ID and set-group-ID bits are refused")]
    SetId {
        /// The mode.
        mode: u16,
    },
    /// A file capability.
    #[error("extended attribute security.capability, and file capabilities are refused")]
    FileCapability,
}

impl Breach {
    /// Returns the setting that could allow it.
    pub fn knob(&self) -> Knob {
        match self {
            Self::OverLimit { knob, .. } => *knob,
            Self::Device { .. } => Knob::Devices,
            Self::Whiteout => Knob::Whiteouts,
            Self::AbsoluteSymlink { .. } => Knob::AbsoluteSymlinks,
            Self::HardLink { .. } | Self::HardLinkAcross { .. } => Knob::HardLinks,
            Self::SetId { .. } => Knob::SetId,
            Self::FileCapability => Knob::FileCapabilities,
        }
    }
}
