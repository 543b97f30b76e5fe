//! The image config: what to run in an image, and the diff IDs of its layers.
//!
//! Source: OCI image-spec, `config.md`; Docker's config of schema 2 has the same properties.

use crate::document::null_is_default;
use crate::{Digest, DigestError, MAX_NESTING, Platform, json};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// Length in bytes over which an image config is refused.
pub const MAX_CONFIG_SIZE: u64 = 4 << 20;

/// An image config, checked: it is for Linux, its diff IDs are digests, no text has a NUL byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageConfig {
    platform: Platform,
    diff_ids: Vec<Digest>,
    created: Option<String>,
    process: ProcessConfig,
}

/// How the image's maker wants its process to be run. All of it is text from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ProcessConfig {
    /// The program and its first arguments.
    #[serde(deserialize_with = "words")]
    pub entrypoint: Vec<String>,
    /// The arguments after the entrypoint, or the program if there is none.
    #[serde(deserialize_with = "words")]
    pub cmd: Vec<String>,
    /// Variables, each `NAME=VALUE`.
    #[serde(deserialize_with = "null_is_default")]
    pub env: Vec<String>,
    /// The directory to start in; empty for `/`.
    #[serde(deserialize_with = "null_is_default")]
    pub working_dir: String,
    /// `user`, `uid`, `user:group`, `uid:gid`, `uid:group` or `user:gid`; empty for root.
    #[serde(deserialize_with = "null_is_default")]
    pub user: String,
    /// The signal that asks the process to end; empty for SIGTERM.
    #[serde(deserialize_with = "null_is_default")]
    pub stop_signal: String,
    /// Ports that the process listens on, each `port`, `port/tcp` or `port/udp`.
    #[serde(deserialize_with = "keys")]
    pub exposed_ports: BTreeSet<String>,
    /// Directories that the maker wants to be volumes.
    #[serde(deserialize_with = "keys")]
    pub volumes: BTreeSet<String>,
    /// Free text by key.
    #[serde(deserialize_with = "labels")]
    pub labels: BTreeMap<String, String>,
    /// How to see whether the process is well (Docker only).
    pub healthcheck: Option<Healthcheck>,
}

/// Docker's health check of a container; times are in nanoseconds and 0 where not given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// Empty to inherit, `["NONE"]`, `["CMD", argument…]` or `["CMD-SHELL", command]`.
    #[serde(deserialize_with = "null_is_default")]
    pub test: Vec<String>,
    /// Time between checks.
    #[serde(deserialize_with = "null_is_default")]
    pub interval: i64,
    /// Time after which a check has failed.
    #[serde(deserialize_with = "null_is_default")]
    pub timeout: i64,
    /// Time after the start in which failures don't count.
    #[serde(deserialize_with = "null_is_default")]
    pub start_period: i64,
    /// Failures in a row that make the container unhealthy.
    #[serde(deserialize_with = "null_is_default")]
    pub retries: i64,
}

/// Says why bytes are not an image config that mvm can use.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The config is longer than mvm reads.
    #[error("image config has {size} bytes, more than {MAX_CONFIG_SIZE}")]
    TooLarge {
        /// Its length.
        size: u64,
    },
    /// Arrays and objects are in each other too often.
    #[error("image config nests deeper than {MAX_NESTING} levels")]
    Nesting,
    /// The bytes are not the JSON that the specification describes.
    #[error("image config is not valid")]
    Json(#[from] serde_json::Error),
    /// The image is for another operating system.
    #[error("image is for operating system {os:?}; mvm runs linux images")]
    OperatingSystem {
        /// The system that it is for.
        os: String,
    },
    /// The config doesn't say which processor the image is for.
    #[error("image config names no architecture")]
    NoArchitecture,
    /// Architecture or variant are not words.
    #[error("image config has platform {:?}, which is not OS/ARCH or OS/ARCH/VARIANT", .0.to_string())]
    Platform(Platform),
    /// The root file system is described in another way than by layers.
    #[error("image config has rootfs type {0:?}, expected \"layers\"")]
    RootfsType(String),
    /// A diff ID is not a digest that mvm verifies.
    #[error("image config has a bad diff ID for layer {index}")]
    DiffId {
        /// Its place, from 0.
        index: usize,
        /// What is wrong with it.
        source: DigestError,
    },
    /// A text that becomes an argument, a variable or a path holds a NUL byte.
    #[error("image config property {property} holds a NUL byte")]
    Nul {
        /// Its name.
        property: &'static str,
    },
}

#[derive(Deserialize)]
struct RawConfig {
    #[serde(default, deserialize_with = "null_is_default")]
    os: String,
    #[serde(default, deserialize_with = "null_is_default")]
    architecture: String,
    #[serde(default, deserialize_with = "null_is_default")]
    variant: String,
    created: Option<String>,
    rootfs: RawRootfs,
    #[serde(default, deserialize_with = "null_is_default")]
    config: ProcessConfig,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, deserialize_with = "null_is_default")]
    diff_ids: Vec<String>,
}

impl ImageConfig {
    /// Reads an image config.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let size = bytes.len() as u64;
        if size > MAX_CONFIG_SIZE {
            return Err(ConfigError::TooLarge { size });
        }
        if json::nests_too_deep(bytes) {
            return Err(ConfigError::Nesting);
        }
        let raw: RawConfig = json::from_slice(bytes)?;
        if raw.os != "linux" {
            return Err(ConfigError::OperatingSystem { os: raw.os });
        }
        if raw.architecture.is_empty() {
            return Err(ConfigError::NoArchitecture);
        }
        if raw.rootfs.kind != "layers" {
            return Err(ConfigError::RootfsType(raw.rootfs.kind));
        }
        let parse = |(index, text): (usize, &String)| {
            text.parse().map_err(|source| ConfigError::DiffId { index, source })
        };
        let diff_ids = raw.rootfs.diff_ids.iter().enumerate().map(parse).collect::<Result<_, _>>()?;
        raw.config.check_nul()?;
        let platform = checked_platform(Platform::new(&raw.os, &raw.architecture, Some(&raw.variant)))?;
        Ok(Self { platform, diff_ids, created: raw.created, process: raw.config })
    }

    /// Returns what the image runs on.
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// Returns the digests of the uncompressed layers, lowest first.
    pub fn diff_ids(&self) -> &[Digest] {
        &self.diff_ids
    }

    /// Returns the time of the image as its maker wrote it.
    pub fn created(&self) -> Option<&str> {
        self.created.as_deref()
    }

    /// Returns how the image's process is to be run.
    pub fn process(&self) -> &ProcessConfig {
        &self.process
    }
}

/// Returns the platform in a spelling that reads back.
fn checked_platform(platform: Platform) -> Result<Platform, ConfigError> {
    let reads_back = |platform: &Platform| platform.to_string().parse().as_ref() == Ok(platform);
    if reads_back(&platform) {
        return Ok(platform);
    }
    let normalized = platform.normalized();
    if reads_back(&normalized) { Ok(normalized) } else { Err(ConfigError::Platform(platform)) }
}

impl ProcessConfig {
    fn check_nul(&self) -> Result<(), ConfigError> {
        let one = std::slice::from_ref::<String>;
        let lists = [
            ("Entrypoint", self.entrypoint.as_slice()),
            ("Cmd", self.cmd.as_slice()),
            ("Env", self.env.as_slice()),
            ("WorkingDir", one(&self.working_dir)),
            ("User", one(&self.user)),
            ("StopSignal", one(&self.stop_signal)),
            ("Healthcheck", self.healthcheck.as_ref().map_or(&[], |check| check.test.as_slice())),
        ];
        let texts =
            lists.into_iter().flat_map(|(property, texts)| texts.iter().map(move |text| (property, text)));
        let sets = [("ExposedPorts", &self.exposed_ports), ("Volumes", &self.volumes)];
        let keys = sets.into_iter().flat_map(|(property, set)| set.iter().map(move |text| (property, text)));
        match texts.chain(keys).find(|(_, text)| text.contains('\0')) {
            Some((property, _)) => Err(ConfigError::Nul { property }),
            None => Ok(()),
        }
    }
}

/// Reads a list of texts; one text by itself is a list of one, as Docker's `strslice` has it.
fn words<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a list of texts, or one text")]
    enum Words {
        List(Vec<String>),
        One(String),
    }
    Ok(match Option::deserialize(deserializer)? {
        Some(Words::List(list)) => list,
        Some(Words::One(word)) => vec![word],
        None => Vec::new(),
    })
}

/// Reads texts by key, where null is the empty text as it is to Go.
fn labels<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let labels: Option<BTreeMap<String, Option<String>>> = Option::deserialize(deserializer)?;
    Ok(labels.unwrap_or_default().into_iter().map(|(key, text)| (key, text.unwrap_or_default())).collect())
}

/// Reads the keys of a JSON object whose values mean nothing.
fn keys<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<String>, D::Error> {
    let map: Option<BTreeMap<String, serde::de::IgnoredAny>> = Option::deserialize(deserializer)?;
    Ok(map.unwrap_or_default().into_keys().collect())
}

#[cfg(test)]
mod tests;
