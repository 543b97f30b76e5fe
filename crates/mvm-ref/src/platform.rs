//! The platform an image is made for: operating system, architecture, variant.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// An operating system, an architecture and perhaps a variant, in the names of Go's ports.
///
/// Source: OCI image-spec, `image-index.md`, property `platform`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

/// Says why a text is not a platform.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("platform {0:?} is not valid; expected OS/ARCH or OS/ARCH/VARIANT, for example linux/amd64")]
pub struct PlatformError(String);

impl Platform {
    /// Joins the parts as an image config or index entry carries them; an empty variant is none.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        Self {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.filter(|v| !v.is_empty()).map(str::to_owned),
        }
    }

    /// Returns Linux on the architecture that this program was compiled for.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self::new("linux", architecture, None)
    }

    /// Returns the operating system.
    pub fn os(&self) -> &str {
        &self.os
    }

    /// Returns the architecture.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// Returns the variant of the architecture.
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    /// Returns the same platform in one spelling: `x86_64` is `amd64`, `arm64/v8` is `arm64`, `arm` is `arm/v7`.
    ///
    /// The rules are those of containerd's package `platforms`.
    pub fn normalized(&self) -> Self {
        let variant = self.variant().map(str::to_ascii_lowercase);
        let variant = variant.as_deref();
        let (architecture, variant) = match (self.architecture.to_ascii_lowercase().as_str(), variant) {
            ("i386", _) => ("386", None),
            ("x86_64" | "x86-64" | "amd64", None | Some("v1")) => ("amd64", None),
            ("x86_64" | "x86-64" | "amd64", other) => ("amd64", other),
            ("aarch64" | "arm64", None | Some("8" | "v8" | "v8.0")) => ("arm64", None),
            ("aarch64" | "arm64", other) => ("arm64", other),
            ("armhf", _) | ("arm", None | Some("7")) => ("arm", Some("v7")),
            ("armel", _) | ("arm", Some("6")) => ("arm", Some("v6")),
            ("arm", Some("5")) => ("arm", Some("v5")),
            ("arm", Some("8")) => ("arm", Some("v8")),
            (other, variant) => return Self::new(&self.os.to_ascii_lowercase(), other, variant),
        };
        Self::new(&self.os.to_ascii_lowercase(), architecture, variant)
    }

    /// Returns how far `offered` is from what is wanted: 0 for the same, more for older variants of
    /// the same processor, nothing if it doesn't run there.
    pub fn distance(&self, offered: &Self) -> Option<u32> {
        let (wanted, offered) = (self.normalized(), offered.normalized());
        if wanted == offered {
            return Some(0);
        }
        if wanted.os != offered.os || wanted.architecture != offered.architecture {
            return None;
        }
        wanted.level()?.checked_sub(offered.level()?)
    }

    /// Says whether both have the same operating system and architecture, whatever the variants.
    pub fn same_machine(&self, other: &Self) -> bool {
        let (one, other) = (self.normalized(), other.normalized());
        one.os == other.os && one.architecture == other.architecture
    }

    /// Returns the place of a normalised platform's variant among those that run older ones.
    fn level(&self) -> Option<u32> {
        let variants: &[Option<&str>] = match self.architecture.as_str() {
            "amd64" => &[None, Some("v2"), Some("v3"), Some("v4")],
            "arm" => &[Some("v5"), Some("v6"), Some("v7"), Some("v8")],
            _ => return None,
        };
        variants.iter().position(|&variant| variant == self.variant()).and_then(|at| u32::try_from(at).ok())
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|v| write!(f, "/{v}"))
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let refuse = || PlatformError(text.to_owned());
        let word = |part: &&str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.')
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(word) {
            return Err(refuse());
        }
        match parts[..] {
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(refuse()),
        }
    }
}

impl TryFrom<String> for Platform {
    type Error = PlatformError;

    fn try_from(text: String) -> Result<Self, PlatformError> {
        text.parse()
    }
}

impl From<Platform> for String {
    fn from(platform: Platform) -> String {
        platform.to_string()
    }
}

#[cfg(test)]
mod tests;
