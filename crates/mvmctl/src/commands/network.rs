//! The options of all verbs that may ask a registry.

use crate::environment;
use mvm_engine::{FetchConfig, HostPattern, RegistriesConf};
use std::path::PathBuf;
use std::time::Duration;

/// Said at each option, because a heading of the struct would go on over what follows it.
const HEADING: &str = "Network options";

/// How registries are reached.
#[derive(clap::Args)]
pub struct Network {
    /// Use no network: a registry's image must be in the store; layouts, archives and flakes with all they need work
    #[arg(help_heading = HEADING, long)]
    offline: bool,
    /// Trust the authorities in a PEM file beside the system's (may be repeated)
    #[arg(help_heading = HEADING, long, value_name = "FILE")]
    ca_cert: Vec<PathBuf>,
    /// Speak plain HTTP to a registry that has no TLS, as to loopback; a certificate is checked all the same (may be
    /// repeated)
    #[arg(help_heading = HEADING, long, value_name = "HOST[:PORT]")]
    insecure_registry: Vec<HostPattern>,
    /// Rules and mirrors of registries, containers-registries.conf(5) [default: those of podman]
    #[arg(help_heading = HEADING, long, value_name = "FILE")]
    registries_conf: Option<PathBuf>,
    /// Wait so long for the next bytes of a registry before the transfer counts as broken
    #[arg(help_heading = HEADING, long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// Try so often again what failed for a passing reason, after 0.5, 1, 2, 4 and then every 8 seconds or as the
    /// registry asks
    #[arg(help_heading = HEADING, long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(0..=100))]
    retries: u32,
}

impl Network {
    /// Returns whether there is to be none.
    pub fn is_offline(&self) -> bool {
        self.offline
    }

    /// Joins the options with what the environment says.
    pub fn resolve(self) -> anyhow::Result<FetchConfig> {
        let timeout = Duration::from_secs(self.timeout);
        let base = FetchConfig::default();
        Ok(FetchConfig {
            insecure: self.insecure_registry,
            extra_ca: self.ca_cert,
            certs_dirs: environment::certs_dirs(),
            registries_conf: self
                .registries_conf
                .map_or_else(environment::registries_conf, RegistriesConf::File),
            proxies: environment::proxies()?,
            offline: self.offline,
            connect_timeout: base.connect_timeout.min(timeout),
            read_timeout: timeout,
            retries: self.retries,
            ..base
        })
    }
}
