//! What a person should know while something is fetched, and that is no error.

use mvm_ref::Digest;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Something that happened on the way; its text is one sentence without an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Something failed and will be tried again.
    Retry {
        /// Why.
        why: String,
        /// Time until then.
        wait: Duration,
        /// How many more attempts there are, with that one.
        left: u32,
    },
    /// A mirror serves an image.
    Mirror {
        /// The mirror's name of the image.
        name: String,
    },
    /// A mirror doesn't serve what was asked for, and the next place is tried.
    MirrorFailed {
        /// The mirror's host.
        host: String,
        /// Why.
        why: String,
    },
    /// A file of settings has a key that nothing knows.
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// A transfer that broke off goes on.
    Resume {
        /// The blob.
        digest: Digest,
        /// Where it goes on, in bytes.
        at: u64,
        /// Its length.
        size: u64,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry { why, wait, left } => {
                let times = if *left == 1 { "time" } else { "times" };
                write!(f, "{why}; trying again in {} s, at most {left} {times}", wait.as_secs_f64())
            }
            Self::Mirror { name } => write!(f, "served by the mirror as {name}"),
            Self::MirrorFailed { host, why } => write!(f, "mirror {host} is passed over: {why}"),
            Self::UnknownKey { path, key } => {
                write!(f, "{path:?}: the key {key} is not known and changes nothing")
            }
            Self::Resume { digest, at, size } => {
                write!(f, "{} goes on at byte {at} of {size}", digest.short())
            }
        }
    }
}
