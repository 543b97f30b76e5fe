//! Where an image comes from: a registry, an OCI layout directory, an OCI archive, an archive of Docker or a flake.
//!
//! The texts are those of skopeo and podman (containers-transports(5)); `flake:` is mvm's own.

use crate::{Digest, DigestError, FlakeError, FlakeReference, Reference, ReferenceError};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The place of an image, as a user names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ImageSource {
    /// `NAME` or `docker://NAME`.
    Registry(Reference),
    /// `oci:DIR[:TAG]`.
    OciLayout {
        /// The directory that holds `oci-layout` and `index.json`.
        path: PathBuf,
        /// Which of its images.
        selector: Option<Selector>,
    },
    /// `oci-archive:FILE[:TAG]`.
    OciArchive {
        /// The tar file that holds an OCI layout.
        path: PathBuf,
        /// Which of its images.
        selector: Option<Selector>,
    },
    /// `docker-archive:FILE[:NAME|:@N]`.
    DockerArchive {
        /// The tar file, as `docker save` makes it.
        path: PathBuf,
        /// Which of its images.
        selector: Option<ArchiveSelector>,
    },
    /// `flake:REF`, built in the builder VM.
    Flake(FlakeReference),
}

/// Which image of an archive of Docker is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ArchiveSelector {
    /// One of its names, `NAME[:TAG]`.
    Name(Reference),
    /// Its place in `manifest.json`, from 0, written `@N`.
    Number(usize),
}

/// Which image of an OCI layout is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Selector {
    /// The value of the annotation `org.opencontainers.image.ref.name`.
    Name(String),
    /// The digest of an entry of `index.json`, written `@sha256:…`.
    Digest(Digest),
}

/// Says why a text names no source of images.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SourceError {
    /// The text starts with a transport that skopeo knows and mvm doesn't.
    #[error(
        "image source {transport}: is not supported; use a registry reference, oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME] (skopeo copy converts) or flake:REF"
    )]
    Transport {
        /// The transport's name.
        transport: String,
    },
    /// The text is the address of a web page.
    #[error("{0:?} is an address, not an image reference; leave out the part up to ://")]
    Url(String),
    /// No path follows the transport.
    #[error("image source {0:?} has no path")]
    NoPath(String),
    /// Nothing follows the colon after the path.
    #[error("image source {0:?} has an empty tag")]
    EmptyTag(String),
    /// The text after `@` is not a digest.
    #[error("image source {text:?} has a bad digest")]
    Digest {
        /// The whole text.
        text: String,
        /// What is wrong with it.
        source: DigestError,
    },
    /// The text after `@` is not a number.
    #[error("image source {0:?} has a bad number after its @")]
    Number(String),
    /// The text after `flake:` names no flake.
    #[error(transparent)]
    Flake(#[from] FlakeError),
    /// The text is not an image reference either.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
}

const UNSUPPORTED: [&str; 7] =
    ["containers-storage", "dir", "docker-daemon", "oci-dir", "ostree", "sif", "tarball"];

impl ImageSource {
    /// Returns the reference of an image in a registry.
    pub fn reference(&self) -> Option<&Reference> {
        match self {
            Self::Registry(reference) => Some(reference),
            Self::OciLayout { .. }
            | Self::OciArchive { .. }
            | Self::DockerArchive { .. }
            | Self::Flake(_) => None,
        }
    }

    /// Returns the reference of a flake.
    pub fn flake(&self) -> Option<&FlakeReference> {
        match self {
            Self::Flake(reference) => Some(reference),
            _ => None,
        }
    }
}

impl FromStr for ImageSource {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        if let Some(name) = text.strip_prefix("docker://") {
            return Ok(Self::Registry(name.parse()?));
        }
        if let Some(flake) = text.strip_prefix("flake:") {
            return Ok(Self::Flake(flake.parse()?));
        }
        if text.contains("://") {
            return Err(SourceError::Url(text.to_owned()));
        }
        match text.split_once(':') {
            Some(("oci", rest)) => {
                let (path, selector) = split_path(text, rest)?;
                Ok(Self::OciLayout { path, selector })
            }
            Some(("oci-archive", rest)) => {
                let (path, selector) = split_path(text, rest)?;
                Ok(Self::OciArchive { path, selector })
            }
            Some(("docker-archive", rest)) => {
                let (path, tag) = split_tag(text, rest)?;
                let selector = tag.map(|tag| archive_selector(text, tag)).transpose()?;
                Ok(Self::DockerArchive { path, selector })
            }
            Some((transport, _)) if UNSUPPORTED.contains(&transport) => {
                Err(SourceError::Transport { transport: transport.to_owned() })
            }
            _ => Ok(Self::Registry(text.parse()?)),
        }
    }
}

/// Splits `PATH[:TAG]` at the first colon: a tag may hold more of them, a path none.
fn split_tag<'a>(text: &str, rest: &'a str) -> Result<(PathBuf, Option<&'a str>), SourceError> {
    let (path, tag) = rest.split_once(':').map_or((rest, None), |(path, tag)| (path, Some(tag)));
    if path.is_empty() {
        return Err(SourceError::NoPath(text.to_owned()));
    }
    if tag == Some("") {
        return Err(SourceError::EmptyTag(text.to_owned()));
    }
    Ok((path.into(), tag))
}

fn split_path(text: &str, rest: &str) -> Result<(PathBuf, Option<Selector>), SourceError> {
    let (path, tag) = split_tag(text, rest)?;
    let selector = match tag {
        None => None,
        Some(tag) => Some(match tag.strip_prefix('@') {
            None => Selector::Name(tag.to_owned()),
            Some(digest) => Selector::Digest(
                digest.parse().map_err(|source| SourceError::Digest { text: text.to_owned(), source })?,
            ),
        }),
    };
    Ok((path, selector))
}

fn archive_selector(text: &str, tag: &str) -> Result<ArchiveSelector, SourceError> {
    let Some(number) = tag.strip_prefix('@') else { return Ok(ArchiveSelector::Name(tag.parse()?)) };
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let number = digits.then(|| number.parse().ok()).flatten();
    number.map(ArchiveSelector::Number).ok_or_else(|| SourceError::Number(text.to_owned()))
}

impl fmt::Display for ArchiveSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Number(number) => write!(f, "@{number}"),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Digest(digest) => write!(f, "@{digest}"),
        }
    }
}

impl fmt::Display for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (transport, path, selector) = match self {
            Self::Registry(reference) => return reference.fmt(f),
            Self::Flake(reference) => return write!(f, "flake:{reference}"),
            Self::OciLayout { path, selector } => ("oci", path, selector),
            Self::OciArchive { path, selector } => ("oci-archive", path, selector),
            Self::DockerArchive { path, selector } => {
                write!(f, "docker-archive:{}", path.display())?;
                return selector.iter().try_for_each(|selector| write!(f, ":{selector}"));
            }
        };
        write!(f, "{transport}:{}", path.display())?;
        selector.iter().try_for_each(|selector| write!(f, ":{selector}"))
    }
}

impl TryFrom<String> for ImageSource {
    type Error = SourceError;

    fn try_from(text: String) -> Result<Self, SourceError> {
        text.parse()
    }
}

impl From<ImageSource> for String {
    fn from(source: ImageSource) -> String {
        source.to_string()
    }
}

#[cfg(test)]
mod tests;
