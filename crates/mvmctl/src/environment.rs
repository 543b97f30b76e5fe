//! Every environment variable that mvmctl reads. None of them weakens a check.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

/// Returns the directory of the store: `$MVM_ROOT`, else `$XDG_DATA_HOME/mvm`, else `~/.local/share/mvm`.
pub fn store_root() -> Option<PathBuf> {
    path("MVM_ROOT")
        .or_else(|| path("XDG_DATA_HOME").map(|data| data.join("mvm")))
        .or_else(|| path("HOME").map(|home| home.join(".local/share/mvm")))
}

/// Returns Docker's file of registry credentials: `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`.
pub fn docker_config() -> Option<PathBuf> {
    path("DOCKER_CONFIG")
        .or_else(|| path("HOME").map(|home| home.join(".docker")))
        .map(|directory| directory.join("config.json"))
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

fn path(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}
