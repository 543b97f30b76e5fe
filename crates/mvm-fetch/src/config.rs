//! How to fetch: whom to trust, how long to wait.

use crate::{CancelToken, CredentialHelper};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What a [`crate::Fetcher`] is made of. Nothing else, such as the environment, is looked at, but for the
/// system's certificates.
#[derive(Clone, Debug)]
pub struct FetchConfig {
    /// Files of credentials, in the order in which they are searched; one that doesn't exist has none.
    pub auth_files: Vec<PathBuf>,
    /// Who asks the credential helpers that these files name.
    pub helper: Option<Arc<dyn CredentialHelper>>,
    /// Registries, each `host` or `host:port`, that are spoken to without TLS. Loopback ones always are.
    pub plain_http: Vec<String>,
    /// Files of PEM certificates to trust beside those of the system.
    pub extra_ca: Vec<PathBuf>,
    /// Address of an HTTP proxy for all but loopback hosts.
    pub proxy: Option<String>,
    /// Hosts, domains and networks that are reached without the proxy.
    pub no_proxy: Vec<String>,
    /// The value of the header User-Agent.
    pub user_agent: String,
    /// Time to wait for a connection.
    pub connect_timeout: Duration,
    /// Time to wait for the next bytes of an answer.
    pub read_timeout: Duration,
    /// Stops what the fetcher does.
    pub cancel: CancelToken,
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self {
            auth_files: Vec::new(),
            helper: None,
            plain_http: Vec::new(),
            extra_ca: Vec::new(),
            proxy: None,
            no_proxy: Vec::new(),
            user_agent: concat!("mvm/", env!("CARGO_PKG_VERSION")).to_owned(),
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(60),
            cancel: CancelToken::default(),
        }
    }
}
