//! Patterns of registries and repositories: `*` stands for any characters of one component, `**` for any components.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Longest pattern, in bytes; a repository's name has at most 255.
const MAX_PATTERN: usize = 512;

/// A pattern of a registry's host and port, as `registry.example.com:5000` or `*.example.com`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RegistryPattern(String);

/// A pattern of a repository with its registry, as `docker.io/library/*` or `ghcr.io/org/**`.
///
/// `*` stands for any number of characters of a component; a component `**` for one component or more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepositoryPattern(String);

/// Says why a text is not a pattern.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PatternError {
    /// The text can't match any registry.
    #[error("{0:?} is not a registry's host and port, which may hold *")]
    Registry(String),
    /// The text can't match any repository.
    #[error("{0:?} is not a repository's name of lower-case components, which may hold *")]
    Repository(String),
    /// The text names no registry.
    #[error("{0:?} names no registry; write docker.io/library/NAME for a name of Docker Hub")]
    NoRegistry(String),
}

impl RegistryPattern {
    /// Says whether the pattern fits a registry's host and optional port.
    pub fn fits(&self, registry: &str) -> bool {
        glob(self.0.as_bytes(), registry.to_ascii_lowercase().as_bytes())
    }
}

impl RepositoryPattern {
    /// Says whether the pattern fits `registry/path`.
    pub fn fits(&self, repository: &str) -> bool {
        let (registry, path) = repository.split_once('/').unwrap_or((repository, ""));
        let lower = registry.to_ascii_lowercase();
        let name: Vec<&str> = std::iter::once(lower.as_str()).chain(path.split('/')).collect();
        let pattern: Vec<&str> = self.0.split('/').collect();
        components(&pattern, &name)
    }
}

/// Matches component by component; `reached[i]` says whether the pattern so far fits the first `i` components.
fn components(pattern: &[&str], name: &[&str]) -> bool {
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for part in pattern {
        let mut next = vec![false; name.len() + 1];
        for (index, component) in name.iter().enumerate() {
            next[index + 1] = match *part {
                "**" => reached[index] || next[index],
                part => reached[index] && glob(part.as_bytes(), component.as_bytes()),
            };
        }
        reached = next;
    }
    reached[name.len()]
}

/// Matches `*` against any characters, in time proportional to the product of the lengths.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut of) = (0, 0);
    // Where to go on if the last `*` has to stand for one character more.
    let mut star: Option<(usize, usize)> = None;
    while of < text.len() {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at + 1, of));
            at += 1;
        } else if pattern.get(at) == Some(&text[of]) {
            (at, of) = (at + 1, of + 1);
        } else if let Some((after, from)) = star {
            (at, of) = (after, from + 1);
            star = Some((after, from + 1));
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

fn is_registry(text: &str) -> bool {
    let known =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']' | b'*');
    !text.is_empty() && text.bytes().all(known)
}

fn is_component(text: &str) -> bool {
    let known = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-' | b'*')
    };
    !text.is_empty() && text.bytes().all(known) && (text == "**" || !text.contains("**"))
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

impl FromStr for RegistryPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if is_registry(text) && text.len() <= MAX_PATTERN {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(PatternError::Registry(shortened(text)))
        }
    }
}

impl FromStr for RepositoryPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let (registry, path) = text.split_once('/').unwrap_or((text, ""));
        if path.is_empty() || !(registry.contains(['.', ':', '*']) || registry == "localhost") {
            return Err(PatternError::NoRegistry(shortened(text)));
        }
        if !is_registry(registry) || !path.split('/').all(is_component) || text.len() > MAX_PATTERN {
            return Err(PatternError::Repository(shortened(text)));
        }
        Ok(Self(format!("{}/{path}", registry.to_ascii_lowercase())))
    }
}

impl TryFrom<String> for RegistryPattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl TryFrom<String> for RepositoryPattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl From<RegistryPattern> for String {
    fn from(pattern: RegistryPattern) -> String {
        pattern.0
    }
}

impl From<RepositoryPattern> for String {
    fn from(pattern: RepositoryPattern) -> String {
        pattern.0
    }
}

impl fmt::Display for RegistryPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Display for RepositoryPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests;
