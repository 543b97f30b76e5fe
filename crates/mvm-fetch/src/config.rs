//! How to fetch: whom to trust, how long to wait.

use crate::{CancelToken, CredentialHelper, ExpansionLimit, HostPattern, Notice, Proxies};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

/// What a [`crate::Fetcher`] is made of. Nothing else, such as the environment, is looked at, but for the
/// system's certificates.
#[derive(Clone, Debug)]
pub struct FetchConfig {
    /// Files of credentials, in the order in which they are searched; one that doesn't exist has none.
    pub auth_files: Vec<PathBuf>,
    /// Where archives are unpacked to that are compressed or come through a pipe.
    pub spool: PathBuf,
    /// Who asks the credential helpers that these files name.
    pub helper: Option<Arc<dyn CredentialHelper>>,
    /// Registries that are spoken to without TLS where they have none. Loopback ones always are.
    pub insecure: Vec<HostPattern>,
    /// Files of PEM certificates to trust beside those of the system.
    pub extra_ca: Vec<PathBuf>,
    /// Directories that have, for a registry, a directory of its name with certificates.
    pub certs_dirs: Vec<PathBuf>,
    /// Where the rules and mirrors of registries are written.
    pub registries_conf: RegistriesConf,
    /// The proxies to go through to all but loopback hosts.
    pub proxies: Proxies,
    /// Whether no registry may be asked anything.
    pub offline: bool,
    /// The value of the header User-Agent.
    pub user_agent: String,
    /// Time to wait for a connection.
    pub connect_timeout: Duration,
    /// Time to wait for the next bytes of an answer, or until the next bytes of an upload are taken.
    pub read_timeout: Duration,
    /// How often what failed for a passing reason is tried again.
    pub retries: u32,
    /// Time to wait before the first of these, and half the time before the second.
    pub backoff: Duration,
    /// How much larger than its stored bytes a layer may become.
    pub expansion: ExpansionLimit,
    /// Stops what the fetcher does.
    pub cancel: CancelToken,
    /// Hears what a person should know while it goes on.
    pub notices: Option<Sender<Notice>>,
}

/// Files of rules for registries, containers-registries.conf(5).
#[derive(Clone, Debug)]
pub enum RegistriesConf {
    /// This one, which must exist, and no other.
    File(PathBuf),
    /// The first of `files` that exists, then each `*.conf` in `directories`, later ones replacing the rules of
    /// earlier ones.
    Search {
        /// Files, of which one is read.
        files: Vec<PathBuf>,
        /// Directories, of which all are read.
        directories: Vec<PathBuf>,
    },
}

impl Default for RegistriesConf {
    /// Returns no file at all.
    fn default() -> Self {
        Self::Search { files: Vec::new(), directories: Vec::new() }
    }
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self {
            auth_files: Vec::new(),
            spool: PathBuf::from("/var/tmp"),
            helper: None,
            insecure: Vec::new(),
            extra_ca: Vec::new(),
            certs_dirs: Vec::new(),
            registries_conf: RegistriesConf::default(),
            proxies: Proxies::default(),
            offline: false,
            user_agent: concat!("mvm/", env!("CARGO_PKG_VERSION")).to_owned(),
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(60),
            retries: 4,
            backoff: Duration::from_millis(500),
            expansion: ExpansionLimit::default(),
            cancel: CancelToken::default(),
            notices: None,
        }
    }
}
