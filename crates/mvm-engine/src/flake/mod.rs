//! Flakes: from a directory of this machine to an image, by way of the builder.
//!
//! The host finds and measures the flake's files, and looks whether it has built just these before. If not, a read-only
//! image of a copy goes into the builder, where Nix evaluates and builds; what comes back are the paths that this scope
//! hasn't got. Nothing of a flake is run or evaluated on the host, and all that a builder says is a stranger's word.

mod build;
mod error;
mod failure;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod git;
mod git_index;
mod inspect;
mod kept;
mod library;
mod listing;
mod lock;
mod locking;
mod log;
mod nix;
mod request;
mod source;
mod stage;

pub use build::Built;
pub use error::BuildError;
pub use inspect::{FlakeOutputs, init_flake};
pub use kept::{BuildLogReader, BuildOutcome, BuildRecord};
pub use library::FlakeLibrary;
pub use lock::LockError;
pub use log::Counts as BuildCounts;
pub use request::{BuildRequest, InputName, InputNameError, InputOverride};
pub use source::{MAX_SOURCE, SourceError};

use mvm_ref::NixSystem;

#[cfg(target_arch = "x86_64")]
const HOST: NixSystem = NixSystem::X86_64Linux;
#[cfg(target_arch = "aarch64")]
const HOST: NixSystem = NixSystem::Aarch64Linux;

/// What Nix calls the platform that is built for, which is this machine's.
#[cfg(target_arch = "x86_64")]
pub const SYSTEM: &str = "x86_64-linux";
/// What Nix calls the platform that is built for, which is this machine's.
#[cfg(target_arch = "aarch64")]
pub const SYSTEM: &str = "aarch64-linux";
