//! What can be asked of a build.

use super::source::MAX_SOURCE;
use crate::policies::PolicySource;
use mvm_ref::{FlakeReference, Reference};
use std::fmt;
use std::str::FromStr;

/// The input that every guest is made with, in whose place the carried library comes.
pub(super) const LIBRARY: &str = "mvm";

/// A flake that is to be built.
#[derive(Clone, Debug)]
pub struct BuildRequest {
    /// The flake and its output.
    pub flake: FlakeReference,
    /// Names for the image, beside the flake's own.
    pub names: Vec<Reference>,
    /// Directories that take the place of inputs.
    pub overrides: Vec<InputOverride>,
    /// Whether inputs that aren't locked are locked now, which writes `flake.lock`.
    pub update_lock: bool,
    /// Inputs that are locked anew, which writes `flake.lock`.
    pub update_inputs: Vec<InputName>,
    /// Whether the builder has no network.
    pub offline: bool,
    /// Whether to build although nothing has changed.
    pub rebuild: bool,
    /// Whether the guest may build into its store, which its own Nix then knows.
    pub writable_store: bool,
    /// Bytes that the flake's files may have, and those of each directory that takes an input's place.
    pub max_source: u64,
    /// The policies that hold beside the one that always does.
    pub policy: Vec<PolicySource>,
}

impl BuildRequest {
    /// Asks for a flake as it is.
    pub fn new(flake: FlakeReference) -> Self {
        Self {
            flake,
            names: Vec::new(),
            overrides: Vec::new(),
            update_lock: false,
            update_inputs: Vec::new(),
            offline: false,
            rebuild: false,
            writable_store: false,
            max_source: MAX_SOURCE,
            policy: Vec::new(),
        }
    }
}

/// A directory that takes the place of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputOverride {
    /// The input.
    pub input: InputName,
    /// The directory.
    pub flake: FlakeReference,
}

/// The name of a flake's input, `nixpkgs`, or of an input of that one, `mvm/nixpkgs`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InputName(String);

/// Says why a text names no input.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no name of an input; names of letters, digits, _ and - are joined by /")]
pub struct InputNameError(String);

impl InputName {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether it is an input of the flake itself.
    pub fn is_own(&self) -> bool {
        !self.0.contains('/')
    }
}

impl FromStr for InputName {
    type Err = InputNameError;

    fn from_str(text: &str) -> Result<Self, InputNameError> {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        let name = |name: &str| !name.is_empty() && !name.starts_with('-') && name.bytes().all(letter);
        match text.len() <= 200 && text.split('/').all(name) {
            true => Ok(Self(text.to_owned())),
            false => Err(InputNameError(text.to_owned())),
        }
    }
}

impl fmt::Display for InputName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
