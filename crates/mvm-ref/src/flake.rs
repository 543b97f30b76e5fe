//! Where a Nix flake lies and which of its outputs is meant.
//!
//! The texts are those of `nix flake` (nix3-flake(1), "Flake references" and "URL-like syntax"), as far as they name a
//! directory of this machine.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A flake in a directory of this machine, as a user names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FlakeReference {
    kind: FlakeKind,
    path: PathBuf,
    subdirectory: Option<String>,
    attribute: Option<FlakeAttribute>,
}

/// How the files of a flake are found in its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlakeKind {
    /// `DIR`: what git tracks where the directory lies in a work tree, all of it elsewhere.
    Directory,
    /// `path:DIR`: all of that directory.
    Path,
    /// `git+file:DIR`: what git tracks in the work tree that begins there.
    Git,
}

/// An output of a flake: `web`, or in full `packages.x86_64-linux.web`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FlakeAttribute(String);

/// Says why a text names no flake that can be built.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FlakeError {
    /// It lies elsewhere.
    #[error(
        "flake {text:?} is not on this machine; {scheme}: is not supported, since nothing is downloaded for a build before its source is on record: clone it and name the directory"
    )]
    Remote {
        /// The whole text.
        text: String,
        /// Its scheme.
        scheme: String,
    },
    /// It is a name of Nix's registry.
    #[error(
        "flake {0:?} is a name of Nix's flake registry, which is not supported; a directory begins with ./ or /"
    )]
    Registry(String),
    /// There is no path.
    #[error("flake {0:?} has no path")]
    NoPath(String),
    /// The address has a host.
    #[error("flake {0:?} names a host; a directory is written git+file:///DIR")]
    Host(String),
    /// A parameter of the address has no effect here.
    #[error("flake {text:?}: the parameter {name:?} is not supported; {}", advice(name))]
    Parameter {
        /// The whole text.
        text: String,
        /// The parameter.
        name: String,
    },
    /// `dir` leaves the flake's tree.
    #[error(
        "flake {text:?}: dir={directory} is no directory in the tree; write names joined by /, without .."
    )]
    Subdirectory {
        /// The whole text.
        text: String,
        /// What was given.
        directory: String,
    },
    /// A percent sign begins no code of a byte, or the bytes are no text.
    #[error("flake {0:?} has a bad % code")]
    Percent(String),
    /// The path can't be written in a reference.
    #[error("the path of a flake may not hold {found:?}: {path:?}")]
    Character {
        /// The path.
        path: String,
        /// What is in it.
        found: char,
    },
    /// The path isn't text.
    #[error("the path of a flake has to be UTF-8: {0:?}")]
    NotText(PathBuf),
    /// The text after `#` names no output.
    #[error(transparent)]
    Attribute(#[from] FlakeAttributeError),
}

/// Says why a text names no output of a flake.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FlakeAttributeError {
    /// It has characters that names of outputs don't have.
    #[error("{0:?} is no attribute of a flake; names of letters, digits, _, ' and - are joined by dots")]
    Name(String),
    /// It chooses outputs of a derivation.
    #[error("{0:?}: choosing outputs with ^ is not supported; a guest is one output")]
    Outputs(String),
    /// It is too long.
    #[error("an attribute of a flake has at most {limit} bytes, this one {got}")]
    Length {
        /// The limit.
        limit: usize,
        /// The length.
        got: usize,
    },
}

/// Bytes that an attribute may have.
const MAX_ATTRIBUTE: usize = 200;

fn advice(name: &str) -> &'static str {
    match name {
        "ref" | "rev" => "check that revision out, since what is in the directory is what is built",
        _ => "only dir= is",
    }
}

impl FlakeReference {
    /// Makes the reference of a directory; the path may be relative.
    pub fn directory(path: impl Into<PathBuf>) -> Result<Self, FlakeError> {
        Self { kind: FlakeKind::Directory, path: PathBuf::new(), subdirectory: None, attribute: None }
            .at(path.into())
    }

    /// Makes the reference of a tree that holds `flake.nix` in one of its directories.
    pub fn tree(path: impl Into<PathBuf>, subdirectory: Option<String>) -> Result<Self, FlakeError> {
        Self { kind: FlakeKind::Path, path: PathBuf::new(), subdirectory, attribute: None }.at(path.into())
    }

    /// Returns how its files are found.
    pub fn kind(&self) -> FlakeKind {
        self.kind
    }

    /// Returns the directory, which may be relative.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the directory in the tree that holds `flake.nix`, if it isn't the top.
    pub fn subdirectory(&self) -> Option<&str> {
        self.subdirectory.as_deref()
    }

    /// Returns the output that is meant.
    pub fn attribute(&self) -> Option<&FlakeAttribute> {
        self.attribute.as_ref()
    }

    /// Returns the same with another output.
    pub fn with_attribute(self, attribute: Option<FlakeAttribute>) -> Self {
        Self { attribute, ..self }
    }

    /// Returns the same with another directory, as that of a relative path seen from elsewhere.
    pub fn at(self, path: PathBuf) -> Result<Self, FlakeError> {
        let Some(text) = path.to_str() else { return Err(FlakeError::NotText(path)) };
        let bad = |c: char| c.is_control() || (self.kind == FlakeKind::Directory && matches!(c, '#' | '?'));
        match text.chars().find(|c| bad(*c)) {
            Some(found) => Err(FlakeError::Character { path: text.to_owned(), found }),
            None => Ok(Self { path, ..self }),
        }
    }
}

impl FromStr for FlakeReference {
    type Err = FlakeError;

    fn from_str(text: &str) -> Result<Self, FlakeError> {
        let (address, attribute) = text.split_once('#').unwrap_or((text, ""));
        let attribute = if attribute.is_empty() { None } else { Some(attribute.parse()?) };
        let (place, query) = address.split_once('?').unwrap_or((address, ""));
        let (kind, path) = if let Some(path) = place.strip_prefix("path:") {
            (FlakeKind::Path, decoded(text, without_host(text, path)?)?)
        } else if let Some(path) = place.strip_prefix("git+file:") {
            (FlakeKind::Git, decoded(text, without_host(text, path)?)?)
        } else if place.starts_with(['.', '/']) || place.is_empty() && !text.is_empty() {
            (FlakeKind::Directory, if place.is_empty() { "." } else { place }.to_owned())
        } else if let Some((scheme, _)) = place.split_once(':') {
            return Err(FlakeError::Remote { text: text.to_owned(), scheme: scheme.to_owned() });
        } else if place.is_empty() {
            return Err(FlakeError::NoPath(text.to_owned()));
        } else {
            return Err(FlakeError::Registry(text.to_owned()));
        };
        if path.is_empty() {
            return Err(FlakeError::NoPath(text.to_owned()));
        }
        let mut subdirectory = None;
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("dir", directory)) => subdirectory = inner(text, &decoded(text, directory)?)?,
                _ => {
                    let name = parameter.split('=').next().unwrap_or_default().to_owned();
                    return Err(FlakeError::Parameter { text: text.to_owned(), name });
                }
            }
        }
        Self { kind, path: PathBuf::new(), subdirectory, attribute }.at(path.into())
    }
}

/// Takes away the `//` that an empty host stands between.
fn without_host<'a>(text: &str, path: &'a str) -> Result<&'a str, FlakeError> {
    match path.strip_prefix("//") {
        Some(path) if !path.starts_with('/') => Err(FlakeError::Host(text.to_owned())),
        Some(path) => Ok(path),
        None => Ok(path),
    }
}

fn decoded(text: &str, part: &str) -> Result<String, FlakeError> {
    let bad = || FlakeError::Percent(text.to_owned());
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |at: usize| tail.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        let (Some(high), Some(low)) = (digit(0), digit(1)) else { return Err(bad()) };
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| bad())?);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

/// Returns a directory inside of the tree; nothing for the top.
fn inner(text: &str, directory: &str) -> Result<Option<String>, FlakeError> {
    let directory = directory.strip_prefix("./").unwrap_or(directory).trim_end_matches('/');
    if directory.is_empty() || directory == "." {
        return Ok(None);
    }
    let plain = |name: &str| !matches!(name, "" | "." | "..") && !name.contains(char::is_control);
    match directory.split('/').all(plain) {
        true => Ok(Some(directory.to_owned())),
        false => Err(FlakeError::Subdirectory { text: text.to_owned(), directory: directory.to_owned() }),
    }
}

/// Writes a path with `%` codes for what has a meaning in an address.
struct Encoded<'a>(&'a str);

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.bytes().try_for_each(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b'+' | b'@' => {
                write!(f, "{}", char::from(byte))
            }
            byte => write!(f, "%{byte:02X}"),
        })
    }
}

impl fmt::Display for FlakeReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // UTF-8, as its constructor saw to.
        let path = self.path.to_str().unwrap_or_default();
        match self.kind {
            FlakeKind::Directory => match path.starts_with(['.', '/']) {
                true => f.write_str(path)?,
                false => write!(f, "./{path}")?,
            },
            FlakeKind::Path => write!(f, "path:{}", Encoded(path))?,
            FlakeKind::Git => write!(f, "git+file:{}", Encoded(path))?,
        }
        if let Some(directory) = &self.subdirectory {
            write!(f, "?dir={}", Encoded(directory))?;
        }
        self.attribute.iter().try_for_each(|attribute| write!(f, "#{attribute}"))
    }
}

impl TryFrom<String> for FlakeReference {
    type Error = FlakeError;

    fn try_from(text: String) -> Result<Self, FlakeError> {
        text.parse()
    }
}

impl From<FlakeReference> for String {
    fn from(reference: FlakeReference) -> String {
        reference.to_string()
    }
}

impl FlakeAttribute {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether it is one name, which stands for a package of the system that is built for.
    pub fn is_name(&self) -> bool {
        !self.0.contains('.')
    }
}

impl FromStr for FlakeAttribute {
    type Err = FlakeAttributeError;

    fn from_str(text: &str) -> Result<Self, FlakeAttributeError> {
        if text.len() > MAX_ATTRIBUTE {
            return Err(FlakeAttributeError::Length { limit: MAX_ATTRIBUTE, got: text.len() });
        }
        if text.contains('^') {
            return Err(FlakeAttributeError::Outputs(text.to_owned()));
        }
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'\'');
        let name = |name: &str| !name.is_empty() && !name.starts_with('-') && name.bytes().all(letter);
        match text.split('.').all(name) {
            true => Ok(Self(text.to_owned())),
            false => Err(FlakeAttributeError::Name(text.to_owned())),
        }
    }
}

impl fmt::Display for FlakeAttribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for FlakeAttribute {
    type Error = FlakeAttributeError;

    fn try_from(text: String) -> Result<Self, FlakeAttributeError> {
        text.parse()
    }
}

impl From<FlakeAttribute> for String {
    fn from(attribute: FlakeAttribute) -> String {
        attribute.0
    }
}

#[cfg(test)]
#[path = "flake_tests.rs"]
mod tests;
