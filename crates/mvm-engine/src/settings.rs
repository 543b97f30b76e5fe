//! What the engine is told by the program that it is part of.

use crate::flake::FlakeLibrary;
use crate::login::Helpers;
use crate::progress::Cancel;
use mvm_fetch::{ExpansionLimit, FetchConfig};
use mvm_ref::ScopeName;
use mvm_tree::UnpackPolicy;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Where things are and what they are made from; the engine reads no environment.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Directory of the store.
    pub root: PathBuf,
    /// Partition of the store to work in.
    pub scope: ScopeName,
    /// The static program that is PID 1 in every guest.
    pub guest: &'static [u8],
    /// The library that flakes are built with.
    pub flake_library: FlakeLibrary,
    /// The program whose `supervise` verb runs [`crate::Engine::supervise`].
    pub program: PathBuf,
    /// Directories in which programs are looked up, as in `$PATH`.
    pub program_path: OsString,
    /// Files of registry credentials, in the order in which they are searched.
    pub auth_files: Vec<PathBuf>,
    /// The file that a login is kept in.
    pub login_file: Option<PathBuf>,
    /// What the credential helpers see that these files name.
    pub helper_environment: HelperEnvironment,
    /// How registries are reached, but for the credentials and what stops it.
    pub network: FetchConfig,
    /// What layers may hold, if the user has an opinion; else an image in the store is taken as it is, and another one
    /// has to keep to the default.
    pub unpack: Option<UnpackPolicy>,
    /// The KVM device.
    pub kvm: PathBuf,
}

/// The environment of credential helpers, which find by it what they keep. Its values may be secret.
#[derive(Clone, Default)]
pub struct HelperEnvironment(Vec<(OsString, OsString)>);

impl HelperEnvironment {
    /// Takes names and values.
    pub fn new(variables: Vec<(OsString, OsString)>) -> Self {
        Self(variables)
    }

    pub(crate) fn variables(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.0.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }
}

impl fmt::Debug for HelperEnvironment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} variables)", self.0.len())
    }
}

impl Settings {
    /// Returns what layers may hold that are unpacked now.
    pub(crate) fn unpack_policy(&self) -> UnpackPolicy {
        self.unpack.clone().unwrap_or_default()
    }

    /// Returns how registries are spoken to.
    pub(crate) fn fetch_config(&self, cancel: &Cancel) -> FetchConfig {
        let policy = self.unpack_policy();
        FetchConfig {
            auth_files: self.auth_files.clone(),
            helper: Some(Arc::new(Helpers::new(self))),
            cancel: cancel.flag().clone().into(),
            expansion: ExpansionLimit { ratio: policy.ratio, from: policy.ratio_from },
            ..self.network.clone()
        }
    }
}
