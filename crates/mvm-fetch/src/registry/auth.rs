//! Docker's file of credentials.
//!
//! Source: docker-login(1) and containers-auth.json(5), which adds keys with a path.

use base64::Engine as _;
use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use mvm_ref::{DEFAULT_REGISTRY, Reference};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const MAX_FILE: u64 = 1 << 20;
/// Names under which the credentials of Docker Hub are filed.
const HUB_NAMES: [&str; 3] = ["index.docker.io", "docker.io", "registry-1.docker.io"];
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Says why credentials can't be read. No variant carries a part of them.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The file can't be read.
    #[error("cannot read credentials from {path:?}")]
    Read {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not JSON of the expected shape.
    #[error("credentials in {path:?} are not valid at line {line}, column {column}")]
    Json {
        /// Its path.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// The file is longer than mvm reads.
    #[error("credentials in {path:?} are longer than {MAX_FILE} bytes")]
    TooLarge {
        /// Its path.
        path: PathBuf,
    },
    /// The entry of a registry doesn't decode to a name and a password.
    #[error(
        "credentials of {registry} in {path:?} don't decode to USER:PASSWORD; run `docker login {registry}` again"
    )]
    Entry {
        /// Its path.
        path: PathBuf,
        /// The registry.
        registry: String,
    },
    /// The credentials are with a program that mvm doesn't call.
    #[error(
        "credentials of {registry} are kept by the helper {helper:?}, which is not supported yet; \
         log in with a file that has no credsStore and credHelpers"
    )]
    Helper {
        /// The registry.
        registry: String,
        /// The helper's name.
        helper: String,
    },
}

/// Text that is wiped from memory after use and never shown.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub(super) struct Secret(Zeroizing<String>);

impl Secret {
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// What a registry is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Credentials {
    /// A name and a password.
    Password { user: String, password: Secret },
    /// A token that is exchanged for others.
    Identity(Secret),
    /// A token that the registry takes as it is.
    Registry(Secret),
}

/// What is known about a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    Credentials(Credentials),
    /// A helper program has them.
    Helper(String),
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AuthFile {
    auths: BTreeMap<String, Entry>,
    #[serde(rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(rename = "credsStore")]
    store: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Secret,
    username: String,
    password: Secret,
    #[serde(rename = "identitytoken")]
    identity: Secret,
    #[serde(rename = "registrytoken")]
    registry: Secret,
}

/// Looks for the credentials of a reference; a file that doesn't exist has none.
pub(super) fn find(path: &Path, reference: &Reference) -> Result<Found, AuthError> {
    let Some(bytes) = read(path)? else { return Ok(Found::Nothing) };
    let file: AuthFile = serde_json::from_slice(&bytes).map_err(|error| AuthError::Json {
        path: path.to_owned(),
        line: error.line(),
        column: error.column(),
    })?;
    let registry = reference.registry();
    let hosts: &[&str] = if registry == DEFAULT_REGISTRY { &HUB_NAMES } else { &[registry] };
    if let Some(helper) = hosts.iter().find_map(|&host| lookup(&file.helpers, host)) {
        return Ok(Found::Helper(helper.clone()));
    }
    for name in names(hosts, reference.repository()) {
        let entry = lookup(&file.auths, &name);
        let broken = || AuthError::Entry { path: path.to_owned(), registry: registry.to_owned() };
        if let Some(found) = entry.map(|entry| entry.credentials().ok_or_else(broken)).transpose()?.flatten()
        {
            return Ok(Found::Credentials(found));
        }
    }
    Ok(if file.store.is_empty() { Found::Nothing } else { Found::Helper(file.store) })
}

fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, AuthError> {
    let failed = |source| AuthError::Read { path: path.to_owned(), source };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(AuthError::TooLarge { path: path.to_owned() });
    }
    Ok(Some(bytes))
}

/// Returns `host/a/b`, `host/a`, `host` for each host, the longest first.
fn names(hosts: &[&str], repository: &str) -> Vec<String> {
    let mut path = Some(repository);
    let mut names = Vec::new();
    while let Some(prefix) = path {
        names.extend(hosts.iter().map(|host| format!("{host}/{prefix}")));
        path = prefix.rsplit_once('/').map(|(parent, _)| parent);
    }
    names.extend(hosts.iter().map(|&host| host.to_owned()));
    names
}

/// Finds a key that is `name` itself, or `name` as the address of an interface (`https://name/v1/`).
fn lookup<'a, V>(map: &'a BTreeMap<String, V>, name: &str) -> Option<&'a V> {
    map.get(name).or_else(|| map.iter().find(|(key, _)| plain_name(key) == name).map(|(_, value)| value))
}

fn plain_name(key: &str) -> &str {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key)
}

impl Entry {
    /// Returns the strongest credentials of the entry; no inner value for an empty entry, none at all for a broken one.
    fn credentials(&self) -> Option<Option<Credentials>> {
        if !self.registry.0.is_empty() {
            return Some(Some(Credentials::Registry(self.registry.clone())));
        }
        if !self.identity.0.is_empty() {
            return Some(Some(Credentials::Identity(self.identity.clone())));
        }
        if !self.auth.0.is_empty() {
            let bytes = Zeroizing::new(BASE64.decode(self.auth.expose().trim()).ok()?);
            let (user, password) = std::str::from_utf8(&bytes).ok()?.split_once(':')?;
            // Docker itself leaves NUL bytes out at the end.
            let password = Secret::from(password.trim_end_matches('\0').to_owned());
            return Some(Some(Credentials::Password { user: user.to_owned(), password }));
        }
        if self.username.is_empty() {
            return Some(None);
        }
        let (user, password) = (self.username.clone(), self.password.clone());
        Some(Some(Credentials::Password { user, password }))
    }
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
