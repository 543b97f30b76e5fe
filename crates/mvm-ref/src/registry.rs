//! The name of a registry, as a user gives it to log in.

use crate::reference::{DEFAULT_REGISTRY, is_registry};
use std::fmt;
use std::str::FromStr;

/// Other names that Docker Hub goes by.
const HUB_NAMES: [&str; 2] = ["index.docker.io", "registry-1.docker.io"];

/// A registry's host and optional port; `docker.io` for Docker Hub.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegistryName(String);

/// Says why a text names no registry.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RegistryNameError {
    /// A repository follows the registry.
    #[error("{0:?} names more than a registry; leave out what follows its host and port")]
    Path(String),
    /// The text is not `host[:port]`.
    #[error("{0:?} is not a host name with an optional port")]
    Host(String),
}

impl RegistryName {
    /// Returns the host and the port, if it has one.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for RegistryName {
    fn default() -> Self {
        Self(DEFAULT_REGISTRY.to_owned())
    }
}

impl FromStr for RegistryName {
    type Err = RegistryNameError;

    /// Reads `HOST[:PORT]`; the address of an interface, `https://HOST/v1/`, is taken for its host.
    fn from_str(text: &str) -> Result<Self, RegistryNameError> {
        let name = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
        let name = name.trim_end_matches('/');
        let name = name.strip_suffix("/v1").or_else(|| name.strip_suffix("/v2")).unwrap_or(name);
        if name.contains('/') {
            return Err(RegistryNameError::Path(text.to_owned()));
        }
        if !is_registry(name) {
            return Err(RegistryNameError::Host(text.to_owned()));
        }
        Ok(if HUB_NAMES.contains(&name) { Self::default() } else { Self(name.to_owned()) })
    }
}

impl fmt::Display for RegistryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_named_by_their_hosts() {
        let cases = [
            ("docker.io", "docker.io"),
            ("index.docker.io", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("registry-1.docker.io", "docker.io"),
            ("ghcr.io/", "ghcr.io"),
            ("http://localhost:5000", "localhost:5000"),
            ("https://r.example/v2/", "r.example"),
            ("[::1]:5000", "[::1]:5000"),
            ("host", "host"),
        ];
        for (text, name) in cases {
            assert_eq!(text.parse::<RegistryName>().map(|n| n.to_string()).as_deref(), Ok(name), "{text}");
        }
        let path = |text: &str| RegistryNameError::Path(text.to_owned());
        let host = |text: &str| RegistryNameError::Host(text.to_owned());
        let cases = [
            ("quay.io/team", path("quay.io/team")),
            ("", host("")),
            ("user@host", host("user@host")),
            ("a b", host("a b")),
            ("host:99999", host("host:99999")),
            ("-x", host("-x")),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<RegistryName>(), Err(error), "{text}");
        }
    }
}
