//! One layer of a policy: built in, or read from the TOML text of a file.

use super::directory::HostDirectory;
use super::pattern::{RegistryPattern, RepositoryPattern};
use super::units::{Mebibytes, Seconds};
use crate::key::{KeyError, KeyId, PublicKey};
use crate::plan::{MountKind, NetworkKind, Posture, RequiredIsolation};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mvm_ref::Digest;
use mvm_ref::nix::NixPublicKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::Path;

/// Longest text of a policy, in bytes.
pub const MAX_POLICY: usize = 256 * 1024;

const DAY: i64 = 86_400;
const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";

/// Returns the text of a file that a policy names.
pub type ReadKey<'a> = &'a dyn Fn(&Path) -> Result<String, Box<dyn std::error::Error + Send + Sync>>;

/// A named set of restrictions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Layer {
    // tidy: allow string-field: a label for people and the audit log, which mvm makes
    name: String,
    restrictions: Restrictions,
}

/// What a layer restricts. What is absent is not restricted; an empty list allows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Restrictions {
    /// Registries that images may come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registries: Option<BTreeSet<RegistryPattern>>,
    /// Repositories that images may come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repositories: Option<BTreeSet<RepositoryPattern>>,
    /// Whether images must be asked for by digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinned_images: Option<bool>,
    /// Keys of which one must have signed an image.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_signature: Vec<ImageSignature>,
    /// Keys of Nix of which one must have signed each store path of a build whose name doesn't follow from its content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed_paths: Option<Vec<NixPublicKey>>,
    /// Longest time since the image was pulled here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_pull_age: Option<Seconds>,
    /// Longest time since the image was made, as its config says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_image_age: Option<Seconds>,
    /// How a root may have come to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postures: Option<BTreeSet<Posture>>,
    /// Keys that count as signers of plans.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signers: Option<BTreeSet<Signer>>,
    /// How many of them must have signed; 1 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<NonZeroUsize>,
    /// Whether development keys count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub development_keys: Option<bool>,
    /// Longest time that a plan may be valid for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_validity: Option<Seconds>,
    /// Longest time since a plan's validity began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_plan_age: Option<Seconds>,
    /// The isolation that machines must have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation: Option<RequiredIsolation>,
    /// Ways in which the hypervisor must be confined.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub required_confinement: BTreeSet<String>,
    /// Most virtual processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_cpus: Option<u32>,
    /// Most memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_memory: Option<Mebibytes>,
    /// Most scratch space.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_scratch: Option<Mebibytes>,
    /// Whether the command may run as root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_user: Option<bool>,
    /// Kinds of what may be mounted beside the root and its scratch space.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mounts: Option<BTreeSet<MountKind>>,
    /// Directories of the host that may be mounted, with all below them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_directories: Option<BTreeSet<HostDirectory>>,
    /// Kinds of network that guests may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networks: Option<BTreeSet<NetworkKind>>,
}

/// A key that must have signed images, if no other one did that covers them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageSignature {
    /// The key.
    pub key: ImageKey,
    /// The repositories that it is asked of; all images if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repositories: Option<BTreeSet<RepositoryPattern>>,
}

/// A public key of whoever signs images, in PEM (SubjectPublicKeyInfo, of any algorithm).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct ImageKey {
    /// As the policy has it: the PEM text, or where it is.
    source: String,
    read: Option<(String, Digest)>,
}

/// A key that counts as a signer of plans: its ID, or the key itself (`ed25519:…`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "KeyId")]
pub struct Signer(pub KeyId);

/// Says why a text is not a policy.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The text is too long.
    #[error("the policy has {got} bytes; at most {MAX_POLICY} are read")]
    Size {
        /// Its bytes.
        got: usize,
    },
    /// The bytes are no text.
    #[error("the policy is not UTF-8 from byte {offset} on")]
    Encoding {
        /// The first byte that is not.
        offset: usize,
    },
    /// The text is not TOML, or not of a policy's shape.
    #[error("line {line}, column {column}: {problem}")]
    Text {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong there.
        problem: String,
    },
    /// More signatures are asked for than there are keys to make them.
    #[error("threshold is {threshold}, but signers names {keys} keys")]
    Threshold {
        /// Signatures asked for.
        threshold: usize,
        /// Keys that count.
        keys: usize,
    },
    /// A key that signs images can't be read.
    #[error("read the key {key:?} of image-signature")]
    ReadKey {
        /// Where it is.
        key: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A key that signs images is not one.
    #[error("the key {key:?} of image-signature is not a public key in PEM, from {BEGIN}")]
    Key {
        /// Where it is, or its beginning.
        key: String,
    },
}

impl Layer {
    /// Returns the layer of the policy for a developer's own machine.
    pub(super) fn development() -> Self {
        let restrictions = Restrictions { max_validity: Some(Seconds(90 * DAY)), ..Restrictions::default() };
        Self { name: "development".to_owned(), restrictions }
    }

    /// Returns the layer of the policy for production.
    pub(super) fn production() -> Self {
        let restrictions = Restrictions {
            pinned_images: Some(true),
            development_keys: Some(false),
            isolation: Some(RequiredIsolation::Kvm),
            max_validity: Some(Seconds(30 * DAY)),
            host_directories: Some(BTreeSet::new()),
            ..Restrictions::default()
        };
        Self { name: "production".to_owned(), restrictions }
    }

    /// Reads a layer from TOML text; `read` returns the text of a key that it names by path.
    ///
    /// The layer is called `label` and the beginning of the text's digest, so that one name means one text.
    pub fn parse(label: &str, text: &[u8], read: ReadKey<'_>) -> Result<Self, PolicyError> {
        if text.len() > MAX_POLICY {
            return Err(PolicyError::Size { got: text.len() });
        }
        let name = format!("{label}@{}", Digest::of(text).short());
        let text = std::str::from_utf8(text)
            .map_err(|error| PolicyError::Encoding { offset: error.valid_up_to() })?;
        let mut restrictions: Restrictions = toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let before = text.get(..start).unwrap_or_default();
            let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
            PolicyError::Text {
                line: before.matches('\n').count() + 1,
                column: before[line_start..].chars().count() + 1,
                problem: error.message().lines().collect::<Vec<_>>().join(", "),
            }
        })?;
        if let (Some(keys), Some(threshold)) = (&restrictions.signers, restrictions.threshold)
            && threshold.get() > keys.len()
        {
            return Err(PolicyError::Threshold { threshold: threshold.get(), keys: keys.len() });
        }
        for signature in &mut restrictions.image_signature {
            signature.key.resolve(read)?;
        }
        Ok(Self { name, restrictions })
    }

    /// Returns the layer as the one that stands in for the built-in policy: where it says nothing of how long plans may
    /// be valid, it is as long as there.
    pub fn as_floor(mut self) -> Self {
        self.restrictions.max_validity.get_or_insert(Seconds(90 * DAY));
        self
    }

    /// Returns the layer's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns what the layer restricts.
    pub fn restrictions(&self) -> &Restrictions {
        &self.restrictions
    }
}

impl ImageSignature {
    /// Says whether a signature is asked of images in `repository` (`registry/path`); none for an image of a directory
    /// or an archive.
    pub fn covers(&self, repository: Option<&str>) -> bool {
        match (&self.repositories, repository) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(patterns), Some(name)) => patterns.iter().any(|pattern| pattern.fits(name)),
        }
    }
}

impl ImageKey {
    /// Returns the PEM text.
    pub fn pem(&self) -> &str {
        self.read.as_ref().map_or("", |(pem, _)| pem)
    }

    /// Returns the SHA-256 of the key's DER form (SubjectPublicKeyInfo).
    pub fn fingerprint(&self) -> Option<Digest> {
        self.read.as_ref().map(|(_, fingerprint)| *fingerprint)
    }

    fn resolve(&mut self, read: ReadKey<'_>) -> Result<(), PolicyError> {
        let named = || self.source.lines().next().unwrap_or_default().chars().take(80).collect::<String>();
        let pem = match self.source.trim_start().starts_with("-----BEGIN") {
            true => self.source.clone(),
            false => read(Path::new(&self.source))
                .map_err(|source| PolicyError::ReadKey { key: named(), source })?,
        };
        let der = public_der(&pem).ok_or_else(|| PolicyError::Key { key: named() })?;
        self.read = Some((pem, Digest::of(&der)));
        Ok(())
    }
}

/// Returns the DER bytes in the PEM text of one public key.
fn public_der(pem: &str) -> Option<Vec<u8>> {
    let body = pem.trim().strip_prefix(BEGIN)?.strip_suffix(END)?;
    let text: String = body.split_ascii_whitespace().collect();
    let der = STANDARD.decode(text).ok()?;
    // A SEQUENCE, whatever the algorithm in it.
    (der.first() == Some(&0x30)).then_some(der)
}

impl From<String> for ImageKey {
    fn from(source: String) -> Self {
        Self { source, read: None }
    }
}

impl From<ImageKey> for String {
    fn from(key: ImageKey) -> String {
        key.fingerprint().map_or(key.source, |fingerprint| fingerprint.to_string())
    }
}

impl TryFrom<String> for Signer {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        let key = |text: &str| text.parse::<PublicKey>().map(|key| key.id());
        if text.starts_with("ed25519:") { key(&text).map(Self) } else { text.parse().map(Self) }
    }
}

impl From<Signer> for KeyId {
    fn from(signer: Signer) -> KeyId {
        signer.0
    }
}
