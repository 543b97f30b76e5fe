//! Every environment variable that mvmctl reads. None of them weakens a check.

use crate::error::Misuse;
use anyhow::Context as _;
use mvm_engine::{Proxies, ProxyAddress, RegistriesConf};
use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

/// Returns the directory of the store: `$MVM_ROOT`, else `$XDG_DATA_HOME/mvm`, else `~/.local/share/mvm`.
pub fn store_root() -> Option<PathBuf> {
    path("MVM_ROOT")
        .or_else(|| path("XDG_DATA_HOME").map(|data| data.join("mvm")))
        .or_else(|| path("HOME").map(|home| home.join(".local/share/mvm")))
}

/// Files of registry credentials.
pub struct AuthFiles {
    /// Those that are searched, in order.
    pub search: Vec<PathBuf>,
    /// The one that a login is kept in.
    pub login: Option<PathBuf>,
}

/// Returns the files of registry credentials: `named` or `$REGISTRY_AUTH_FILE` alone, else those of podman, then Docker's.
///
/// A login is kept in Docker's file then, because podman's first one doesn't outlast a reboot.
pub fn auth_files(named: Option<PathBuf>) -> AuthFiles {
    if let Some(named) = named.or_else(|| path("REGISTRY_AUTH_FILE")) {
        return AuthFiles { search: vec![named.clone()], login: Some(named) };
    }
    let home = path("HOME");
    let user = rustix::process::geteuid().as_raw();
    let runtime = path("XDG_RUNTIME_DIR").map(|directory| directory.join("containers/auth.json"));
    let runtime = runtime.unwrap_or_else(|| format!("/run/containers/{user}/auth.json").into());
    let config = path("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
    let docker = path("DOCKER_CONFIG").or_else(|| home.map(|home| home.join(".docker")));
    let docker = docker.map(|directory| directory.join("config.json"));
    let config = config.map(|directory| directory.join("containers/auth.json"));
    AuthFiles {
        search: [Some(runtime), config, docker.clone()].into_iter().flatten().collect(),
        login: docker,
    }
}

/// Returns what credential helpers see: all of it, for each of them finds its keys in a way of its own.
pub fn of_helpers() -> Vec<(OsString, OsString)> {
    env::vars_os().collect()
}

/// Returns the directories that may have certificates for a registry.
pub fn certs_dirs() -> Vec<PathBuf> {
    let own = configuration().map(|directory| directory.join("containers/certs.d"));
    own.into_iter().chain(["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from)).collect()
}

/// Returns where the rules of registries are: `$CONTAINERS_REGISTRIES_CONF`, else podman's files of the user and the system.
pub fn registries_conf() -> RegistriesConf {
    if let Some(path) = path("CONTAINERS_REGISTRIES_CONF") {
        return RegistriesConf::File(path);
    }
    let system = PathBuf::from("/etc/containers/registries.conf");
    let own = configuration().map(|directory| directory.join("containers/registries.conf"));
    let with_d = |path: &PathBuf| path.with_extension("conf.d");
    let directories = std::iter::once(&system).chain(&own).map(with_d).collect();
    RegistriesConf::Search { files: own.into_iter().chain([system]).collect(), directories }
}

/// Returns the proxies of `$HTTPS_PROXY`, `$HTTP_PROXY`, `$ALL_PROXY` and `$NO_PROXY`; small letters go first, as curl has it.
pub fn proxies() -> anyhow::Result<Proxies> {
    let proxy = |names: [&str; 4]| match names.into_iter().find_map(|name| Some((name, text(name)?))) {
        None => Ok(None),
        Some((name, value)) => {
            value.parse::<ProxyAddress>().map(Some).with_context(|| Misuse(format!("the variable {name}")))
        }
    };
    Ok(Proxies {
        https: proxy(["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])?,
        http: proxy(["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])?,
        direct: ["no_proxy", "NO_PROXY"].into_iter().find_map(text).unwrap_or_default(),
    })
}

/// Returns the socket of the service manager that started this process, as sd_notify(3) has it.
pub fn notify_socket() -> Option<OsString> {
    env::var_os("NOTIFY_SOCKET").filter(|value| !value.is_empty())
}

/// Returns the directories in which programs are looked up.
pub fn program_path() -> OsString {
    env::var_os("PATH").unwrap_or_default()
}

/// Returns the value of a variable that `-e NAME` passes into the guest.
pub fn passed_to_guest(name: &str) -> Option<OsString> {
    env::var_os(name)
}

/// Returns whether colour is unwanted (`$NO_COLOR`, or a dumb terminal).
pub fn no_color() -> bool {
    env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// Returns `$XDG_CONFIG_HOME`, else `~/.config`.
fn configuration() -> Option<PathBuf> {
    path("XDG_CONFIG_HOME").or_else(|| path("HOME").map(|home| home.join(".config")))
}

fn text(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn path(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}
