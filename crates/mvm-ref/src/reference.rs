//! Image references: `[registry/]repository[:tag][@digest]`, normalised as Docker does.
//!
//! Source: the grammar in the package `reference` of the CNCF project distribution, and the OCI
//! distribution-spec, section "Pulling manifests".

use crate::{Digest, DigestError};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The registry that a name without one refers to.
pub const DEFAULT_REGISTRY: &str = "docker.io";
const LEGACY_DEFAULT_REGISTRY: &str = "index.docker.io";
const OFFICIAL_PREFIX: &str = "library/";
const DEFAULT_TAG: &str = "latest";
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// The name of an image in a registry, with all that Docker leaves out written in.
///
/// It has a tag, a digest or both; where it has both, the digest says which image is meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Says why a text is not an image reference.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReferenceError {
    /// Nothing is left where the name should be.
    #[error("image reference {0:?} has no name")]
    Empty(String),
    /// The repository has capital letters.
    #[error("image reference {text:?}: repository {repository:?} must be lower case")]
    Uppercase {
        /// The whole text.
        text: String,
        /// The part with capitals.
        repository: String,
    },
    /// The registry is not `host[:port]`.
    #[error("image reference {text:?}: registry {registry:?} is not a host name with an optional port")]
    Registry {
        /// The whole text.
        text: String,
        /// The part that should be a registry.
        registry: String,
    },
    /// The repository has characters or an order of separators that the grammar doesn't allow.
    #[error(
        "image reference {text:?}: repository {repository:?} is not valid; use a-z and 0-9, separated by '/', '.', '_', '__' or '-'"
    )]
    Repository {
        /// The whole text.
        text: String,
        /// The part that should be a repository.
        repository: String,
    },
    /// The tag is empty, too long or has other characters.
    #[error(
        "image reference {text:?}: tag {tag:?} is not valid; use 1 to 128 of A-Z, a-z, 0-9, '_', '.' and '-'"
    )]
    Tag {
        /// The whole text.
        text: String,
        /// The part that should be a tag.
        tag: String,
    },
    /// The part after `@` is not a digest.
    #[error("image reference {text:?} has a bad digest")]
    Digest {
        /// The whole text.
        text: String,
        /// What is wrong with it.
        source: DigestError,
    },
    /// The name alone is 64 hexadecimal digits, or a digest, which users mean as an image ID.
    #[error("{0:?} looks like an image ID; name the image, or write NAME@sha256:{0}")]
    ImageId(String),
    /// Registry and repository together are longer than the grammar allows.
    #[error("image reference of {length} bytes is too long; registry and repository may have {MAX_NAME}")]
    TooLong {
        /// Length of registry, `/` and repository.
        length: usize,
    },
}

impl Reference {
    /// Returns the registry's host and optional port; `docker.io` for Docker Hub.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Returns the repository inside the registry, `library/` included.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Returns the tag; `latest` where neither tag nor digest was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest that pins the reference.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Says whether the reference names one image for ever.
    pub fn is_pinned(&self) -> bool {
        self.digest.is_some()
    }

    /// Returns the same name pinned to `digest`; the tag is kept.
    pub fn pinned(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// Returns the short form that Docker shows: without `docker.io/` and `library/`.
    ///
    /// It parses back to the same reference.
    pub fn familiar(&self) -> String {
        let suffix = self.suffix();
        let short = |name: &str| Some(format!("{name}{suffix}")).filter(|s| s.parse().as_ref() == Ok(self));
        let official = self.repository.strip_prefix(OFFICIAL_PREFIX).and_then(short);
        official.or_else(|| short(&self.repository)).unwrap_or_else(|| self.to_string())
    }

    fn suffix(&self) -> String {
        let tag = self.tag.iter().map(|tag| format!(":{tag}"));
        tag.chain(self.digest.iter().map(|digest| format!("@{digest}"))).collect()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}{}", self.registry, self.repository, self.suffix()))
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let owned = || text.to_owned();
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => {
                let parsed =
                    digest.parse().map_err(|source| ReferenceError::Digest { text: owned(), source })?;
                (rest, Some(parsed))
            }
        };
        // With the algorithm it would be a tag of the repository `sha256`, and stand in the way of the digest.
        let hex = rest.strip_prefix("sha256:").unwrap_or(rest);
        if is_image_id(hex) {
            return Err(ReferenceError::ImageId(hex.to_owned()));
        }
        let (registry, path) = split_registry(rest);
        let (name, tag) = match path.split_once(':') {
            None => (path, None),
            Some((name, tag)) => (name, Some(tag)),
        };
        if name.is_empty() {
            return Err(ReferenceError::Empty(owned()));
        }
        if !is_registry(registry) {
            return Err(ReferenceError::Registry { text: owned(), registry: registry.to_owned() });
        }
        if name.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ReferenceError::Uppercase { text: owned(), repository: name.to_owned() });
        }
        if !name.split('/').all(is_component) {
            return Err(ReferenceError::Repository { text: owned(), repository: name.to_owned() });
        }
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Tag { text: owned(), tag: tag.to_owned() });
        }
        let registry = if registry == LEGACY_DEFAULT_REGISTRY { DEFAULT_REGISTRY } else { registry };
        let official = registry == DEFAULT_REGISTRY && !name.contains('/');
        let repository = if official { format!("{OFFICIAL_PREFIX}{name}") } else { name.to_owned() };
        let length = registry.len() + 1 + repository.len();
        if length > MAX_NAME {
            return Err(ReferenceError::TooLong { length });
        }
        let tag = tag.or(digest.is_none().then_some(DEFAULT_TAG)).map(str::to_owned);
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }
}

impl TryFrom<String> for Reference {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> String {
        reference.to_string()
    }
}

/// Splits before the first `/` where that part can only be a host.
fn split_registry(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some((first, rest))
            if first == "localhost"
                || first.contains(['.', ':'])
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_REGISTRY, text),
    }
}

fn is_image_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

pub(crate) fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => return is_ipv6(host),
        Some((host, port)) => {
            return is_ipv6(host) && port.strip_prefix(':').is_some_and(is_port);
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    port.is_none_or(is_port) && host.split('.').all(is_label)
}

fn is_ipv6(text: &str) -> bool {
    text.parse::<std::net::Ipv6Addr>().is_ok()
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

fn is_label(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Checks one path component: runs of `[a-z0-9]`, between them `.`, `_`, `__` or any number of `-`.
fn is_component(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends_are_words = bytes.first().copied().is_some_and(word) && bytes.last().copied().is_some_and(word);
    ends_are_words
        && bytes.split(|&b| word(b)).all(|separator| {
            matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|&b| b == b'-')
        })
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=MAX_TAG).contains(&text.len())
        && word(text.as_bytes()[0])
        && text.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

#[cfg(test)]
mod tests;
