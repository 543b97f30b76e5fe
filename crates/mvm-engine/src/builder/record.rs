//! What is known of a scope's builder.

use super::debian::{DebianPackage, DebianRelease};
use super::error::BuilderError;
use crate::engine::Engine;
use crate::error::EngineError;
use mvm_ref::Digest;
use serde::{Deserialize, Serialize};

/// The version of the record's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Schema {
    #[serde(rename = "mvm.builder.v1")]
    V1,
}

/// What a scope's builder is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuilderRecord {
    schema: Schema,
    /// Its image, as plans name it.
    // tidy: allow string-field: an image's name as it goes into a plan, which checks it
    pub image: String,
    /// Digest of the image's manifest.
    pub manifest: Digest,
    /// Root hash of the image.
    pub root_hash: Digest,
    /// What the image was made of.
    pub origin: BuilderOrigin,
    /// The version that its Nix states.
    // tidy: allow string-field: what a program in the guest said of itself, for people and provenance
    pub nix_version: String,
    /// Virtual processors; without a number, one where the guest is emulated, else up to four.
    pub cpus: Option<u32>,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// When it was made, in seconds since 1970.
    pub made_at: i64,
}

/// What a builder's image was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum BuilderOrigin {
    /// Packages of Debian, verified by apt.
    Debian {
        /// The release.
        release: DebianRelease,
        /// The packages, by name.
        packages: Vec<DebianPackage>,
    },
    /// An image that somebody else made.
    Image {
        /// Its name as it was given.
        // tidy: allow string-field: the image as its user named it, for people
        requested: String,
    },
}

impl BuilderRecord {
    /// Makes a record of the present shape.
    pub(super) fn new(
        (image, manifest, root_hash): (String, Digest, Digest),
        origin: BuilderOrigin,
        (cpus, memory_mib): (Option<u32>, u32),
        made_at: i64,
    ) -> Self {
        let nix_version = String::new();
        Self {
            schema: Schema::V1,
            image,
            manifest,
            root_hash,
            origin,
            nix_version,
            cpus,
            memory_mib,
            made_at,
        }
    }

    /// Returns the record's bytes.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

impl Engine {
    /// Returns what is known of the scope's builder, if it has one.
    pub fn builder(&self) -> Result<Option<BuilderRecord>, EngineError> {
        let Some(bytes) = self.scope.builder_record()? else { return Ok(None) };
        let scope = self.settings.scope.clone();
        let record =
            serde_json::from_slice(&bytes).map_err(|source| BuilderError::Record { scope, source })?;
        Ok(Some(record))
    }

    /// Returns the same; that there is none is an error.
    pub(crate) fn builder_or_error(&self) -> Result<BuilderRecord, EngineError> {
        Ok(self.builder()?.ok_or_else(|| BuilderError::None(self.settings.scope.clone()))?)
    }
}
