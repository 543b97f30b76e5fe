//! Why a change can't be merged.

use crate::{Breach, Escaped, Knob};

/// Why a change can't be merged into the tree.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum MergeError {
    /// A change came before the first layer began.
    #[error("merge {path} before a layer began")]
    NoLayer {
        /// Path of the change.
        path: Escaped,
    },
    /// The root would become something other than a directory.
    #[error("replace the root directory by something else")]
    RootReplaced,
    /// A whiteout names the root.
    #[error("remove the root directory")]
    RootRemoved,
    /// A component can't be a file's name.
    #[error("merge {path}: {name} is not a file name")]
    BadName {
        /// Path of the change.
        path: Escaped,
        /// The component.
        name: Escaped,
    },
    /// The policy doesn't allow the change.
    #[error("merge {path}")]
    Policy {
        /// Path of the change.
        path: Escaped,
        /// Why not.
        source: Breach,
    },
    /// A component is longer than the limit.
    #[error("merge {path}: a name of {got} bytes, at most {limit} are allowed")]
    NameTooLong {
        /// Path of the change.
        path: Escaped,
        /// Length of the component.
        got: usize,
        /// The limit.
        limit: usize,
    },
    /// The path is longer than the limit once symbolic links are followed.
    #[error("merge {path}: its place in the tree has a path longer than {limit} bytes")]
    PathTooLong {
        /// Path of the change.
        path: Escaped,
        /// The limit.
        limit: usize,
    },
    /// The parent directory leads through too many symbolic links, or through a loop of them.
    #[error("merge {path}: more than {limit} symbolic links on the way to its directory")]
    TooManySymlinks {
        /// Path of the change.
        path: Escaped,
        /// The limit.
        limit: u32,
    },
    /// A parent is something other than a directory, made so by the same layer.
    #[error("merge {path}: {parent} is not a directory")]
    NotDirectory {
        /// Path of the change.
        path: Escaped,
        /// The parent's name.
        parent: Escaped,
    },
    /// A hard link's target doesn't exist.
    #[error("link {path} to {target}: no such file")]
    TargetMissing {
        /// Path of the link.
        path: Escaped,
        /// Path of the target.
        target: Escaped,
    },
    /// A hard link's target is a directory.
    #[error("link {path} to {target}: the target is a directory")]
    TargetDirectory {
        /// Path of the link.
        path: Escaped,
        /// Path of the target.
        target: Escaped,
    },
    /// The tree has more names than the limit.
    #[error("merge {path}: the tree has more than {limit} names")]
    TooManyNames {
        /// Path of the change.
        path: Escaped,
        /// The limit.
        limit: u64,
    },
    /// Names, link targets, extended attributes and extents take more memory than the limit.
    #[error("merge {path}: names, link targets, attributes and extents of the tree exceed {limit} bytes")]
    TooMuchMetadata {
        /// Path of the change.
        path: Escaped,
        /// The limit.
        limit: u64,
    },
}

impl MergeError {
    /// Returns the setting of the policy that could allow it, if there is one.
    pub fn knob(&self) -> Option<Knob> {
        match self {
            Self::Policy { source, .. } => Some(source.knob()),
            Self::NameTooLong { .. } => Some(Knob::Name),
            Self::PathTooLong { .. } => Some(Knob::Path),
            Self::TooManySymlinks { .. } => Some(Knob::SymlinkDepth),
            Self::TooManyNames { .. } => Some(Knob::Entries),
            Self::TooMuchMetadata { .. } => Some(Knob::Metadata),
            Self::NoLayer { .. }
            | Self::RootReplaced
            | Self::RootRemoved
            | Self::BadName { .. }
            | Self::NotDirectory { .. }
            | Self::TargetMissing { .. }
            | Self::TargetDirectory { .. } => None,
        }
    }
}
