//! One file of credentials, read.
//!
//! Source: docker-login(1) and containers-auth.json(5), which adds keys with a path.

use super::{AuthError, Credentials, HelperName, Secret};
use base64::Engine as _;
use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const MAX_FILE: u64 = 1 << 20;
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A file of credentials.
#[derive(Debug, Default)]
pub(super) struct AuthFile {
    path: PathBuf,
    content: Content,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Content {
    #[serde(deserialize_with = "or_default")]
    auths: BTreeMap<String, Entry>,
    #[serde(rename = "credHelpers", deserialize_with = "or_default")]
    helpers: BTreeMap<String, String>,
    #[serde(rename = "credsStore", deserialize_with = "or_default")]
    store: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    #[serde(deserialize_with = "or_default")]
    auth: Secret,
    #[serde(deserialize_with = "or_default")]
    username: String,
    #[serde(deserialize_with = "or_default")]
    password: Secret,
    #[serde(rename = "identitytoken", deserialize_with = "or_default")]
    identity: Secret,
    #[serde(rename = "registrytoken", deserialize_with = "or_default")]
    registry: Secret,
}

/// Reads `null` as if the property weren't there, as Go does.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl AuthFile {
    /// Reads a file; one that doesn't exist has nothing in it.
    pub(super) fn read(path: &Path) -> Result<Self, AuthError> {
        Self::parse(path, &read(path)?)
    }

    /// Reads the text of a file.
    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, AuthError> {
        let content = if bytes.trim_ascii().is_empty() {
            Content::default()
        } else {
            serde_json::from_slice(bytes).map_err(|error| AuthError::json(path, &error))?
        };
        Ok(Self { path: path.to_owned(), content })
    }

    /// Returns the helper that one of the names is assigned to.
    pub(super) fn assigned_helper(&self, names: &[&str]) -> Result<Option<HelperName>, AuthError> {
        let assigned = names.iter().find_map(|name| lookup(&self.content.helpers, name));
        assigned.filter(|name| !name.is_empty()).map(|name| self.helper(name)).transpose()
    }

    /// Returns the helper that keeps everything which has no other place.
    pub(super) fn common_helper(&self) -> Result<Option<HelperName>, AuthError> {
        let store = &self.content.store;
        if store.is_empty() { Ok(None) } else { self.helper(store).map(Some) }
    }

    fn helper(&self, name: &str) -> Result<HelperName, AuthError> {
        name.parse().map_err(|source| AuthError::HelperName { path: self.path.clone(), source })
    }

    /// Returns what stands under a name.
    pub(super) fn credentials(&self, name: &str) -> Result<Option<Credentials>, AuthError> {
        let Some(entry) = lookup(&self.content.auths, name) else { return Ok(None) };
        let registry = || name.to_owned();
        entry.credentials().ok_or_else(|| AuthError::Entry { path: self.path.clone(), registry: registry() })
    }
}

/// Reads a file of credentials; nothing from one that doesn't exist.
pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, AuthError> {
    let failed = |source| AuthError::Read { path: path.to_owned(), source };
    let mut bytes = Zeroizing::new(Vec::new());
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(bytes),
        Err(error) => return Err(failed(error)),
    };
    // Grown in place it would leave copies behind that nobody wipes.
    let length = file.metadata().map_err(failed)?.len();
    bytes.reserve_exact(length.min(MAX_FILE) as usize + 1);
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(AuthError::TooLarge { path: path.to_owned(), limit: MAX_FILE });
    }
    Ok(bytes)
}

/// Finds a key that is `name` itself, or `name` as the address of an interface (`https://name/v1/`).
fn lookup<'a, V>(map: &'a BTreeMap<String, V>, name: &str) -> Option<&'a V> {
    map.get(name).or_else(|| map.iter().find(|(key, _)| plain_name(key) == name).map(|(_, value)| value))
}

/// Returns a key without what only the address of an interface has.
pub(super) fn plain_name(key: &str) -> &str {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key)
}

/// Writes a name and a password as the property `auth` has them.
pub(super) fn encode(user: &str, password: &Secret) -> Zeroizing<String> {
    let pair = Zeroizing::new(format!("{user}:{}", password.expose()));
    Zeroizing::new(BASE64.encode(pair.as_bytes()))
}

impl Entry {
    /// Returns the strongest credentials of the entry; no inner value for an empty entry, none at all for a broken one.
    fn credentials(&self) -> Option<Option<Credentials>> {
        if !self.registry.expose().is_empty() {
            return Some(Some(Credentials::Registry(self.registry.clone())));
        }
        if !self.identity.expose().is_empty() {
            return Some(Some(Credentials::Identity(self.identity.clone())));
        }
        if !self.auth.expose().is_empty() {
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
