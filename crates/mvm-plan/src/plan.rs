//! The execution plan: everything that a machine is made from, in one document.
//!
//! A plan is data and says nothing about trust: who may sign it and where it may run are the trust store's and the
//! policy's to say. Its canonical text ([`crate::canonical`]) is what gets signed.

mod guest;
mod limits;
mod network;

pub use guest::{
    AccountName, AccountNameError, Group, HealthCheck, Mount, MountKind, MountSource, Restart, Service,
    ServiceLimits, User,
};
pub use limits::PlanError;
pub use network::{EgressRule, Network, NetworkKind, Port, Protocol};

use crate::signal::Signal;
use mvm_ref::nix::StorePath;
use mvm_ref::{Digest, Platform, ScopeName, SecretName, VmName};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// An execution plan, `mvm.plan.v1`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The version of this document's shape.
    pub schema: Schema,
    /// Name of what runs.
    pub workload: VmName,
    /// The partition of the store that the workload's content belongs to.
    pub scope: ScopeName,
    /// How the root came to be.
    pub posture: Posture,
    /// What was asked for, and what that was at the time of planning.
    pub source: Source,
    /// The root file system.
    pub root: Root,
    /// The kernel.
    pub kernel: Kernel,
    /// The base initramfs, before the guest document is appended.
    pub initramfs: Initramfs,
    /// The process that the machine is for, whose end ends it; a plan without one has services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// What is kept running beside the process, or in its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Service>,
    /// How the guest tells whether its work is done well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub health_checks: Vec<HealthCheck>,
    /// Users that the guest has beside those of its root.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<User>,
    /// The group that services run in and that may read secrets; `mvm` with number 900 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_group: Option<Group>,
    /// The package of Nix in the root that makes the paths of the root known to the guest's own store, into which it may build; a
    /// volume on `/nix` then takes what is written over the root's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writable_store: Option<StorePath>,
    /// What is mounted beside the root, in the order in which it is mounted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// The names of the secrets that the guest gets; their values are in no plan.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretName>,
    /// The guest's host name.
    pub hostname: String,
    /// Processors, memory and scratch space.
    pub resources: Resources,
    /// The guest's network.
    pub network: Network,
    /// The guest's ports that the host forwards to, which needs no network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// The isolation that the workload needs.
    pub isolation: RequiredIsolation,
    /// When the plan may be admitted.
    pub validity: Validity,
    /// Whether the plan may be launched once only in a store; absent from the text if not.
    #[serde(default, skip_serializing_if = "is_false")]
    pub single_use: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// The version of the plan's shape; there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Schema {
    /// The first version.
    #[serde(rename = "mvm.plan.v1")]
    V1,
}

/// How a root came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Posture {
    /// An OCI image: its digest is pinned, its manifest and blobs are verified.
    Compatible,
    /// A Nix build: its inputs are locked and its derivation is identified.
    Reproducible,
}

/// What was asked for, and what that was at the time of planning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Source {
    /// An OCI image.
    Oci {
        /// The image as the user named it.
        requested: RequestedImage,
        /// Digest of the manifest that it was resolved to.
        manifest: Digest,
        /// Digest of the image config in that manifest.
        config: Digest,
        /// The platform that was chosen.
        platform: Platform,
        /// Whether it was asked for without a digest, so that the same words may mean another image tomorrow.
        mutable_tag: bool,
    },
    /// A flake that was built.
    Flake {
        /// The flake, or the name that was given to what was built, as the user named it.
        requested: RequestedImage,
        /// Digest of the closure manifest of what was built.
        manifest: Digest,
        /// Digest of the image config that was made for it.
        config: Digest,
        /// The platform that it was built for.
        platform: Platform,
        /// The derivation that made it.
        derivation: StorePath,
        /// Digest of the flake's lock file; absent if it had none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lock: Option<Digest>,
    },
}

impl Source {
    /// Returns what was asked for.
    pub fn requested(&self) -> &RequestedImage {
        match self {
            Self::Oci { requested, .. } | Self::Flake { requested, .. } => requested,
        }
    }

    /// Returns the digest of the manifest, of an OCI image or of a closure.
    pub fn manifest(&self) -> &Digest {
        match self {
            Self::Oci { manifest, .. } | Self::Flake { manifest, .. } => manifest,
        }
    }

    /// Returns the digest of the image config.
    pub fn config(&self) -> &Digest {
        match self {
            Self::Oci { config, .. } | Self::Flake { config, .. } => config,
        }
    }

    /// Returns the platform.
    pub fn platform(&self) -> &Platform {
        match self {
            Self::Oci { platform, .. } | Self::Flake { platform, .. } => platform,
        }
    }

    /// Returns the posture that goes with the kind.
    pub fn posture(&self) -> Posture {
        match self {
            Self::Oci { .. } => Posture::Compatible,
            Self::Flake { .. } => Posture::Reproducible,
        }
    }
}

/// An image as the user named it: 1 to 1024 bytes without control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RequestedImage(String);

/// The root file system: one verity-protected image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// The dm-verity root hash.
    pub root_hash: Digest,
    /// Generation of the image format.
    pub generation: u32,
    /// Number of 4096-byte blocks under verity.
    pub data_blocks: u64,
    /// Byte offset of the verity superblock in the file.
    pub hash_start: u64,
    /// Length of the whole file in bytes.
    pub size: u64,
    /// Kind of file system.
    pub fs: FileSystem,
}

/// The kind of a root's file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileSystem {
    /// EROFS.
    Erofs,
}

/// The kernel that a machine boots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// Digest of the kernel file.
    pub digest: Digest,
    /// The version that the kernel states, for people.
    pub version: String,
    /// Digest of what the store knows of how to boot it; absent from plans of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Digest>,
}

/// The initramfs that holds the guest's PID 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Initramfs {
    /// Digest of the base initramfs, before anything of this plan is appended.
    pub digest: Digest,
}

/// The process that a machine is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Environment, each `NAME=VALUE`.
    pub env: Vec<String>,
    /// Absolute path in the guest.
    pub working_dir: String,
    /// User as requested: empty, `user`, `user:group` or numbers; looked up in the image's own files.
    pub user: String,
    /// The signal that asks the process to end.
    pub stop_signal: Signal,
    /// Whether the process gets a terminal.
    pub tty: bool,
    /// Whether the process gets the caller's standard input.
    pub stdin: bool,
}

/// What a machine may use of its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Number of virtual processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Space for what the guest writes over its root, in MiB.
    pub scratch_mib: u64,
    /// Where that space is.
    pub scratch: Scratch,
}

/// Where the writable layer over the root lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scratch {
    /// A sparse disk that ends with the machine.
    Disk,
    /// The guest's memory.
    Tmpfs,
    /// Nowhere: the root is read-only.
    None,
}

/// The isolation that a workload needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequiredIsolation {
    /// Hardware virtualisation by KVM.
    Kvm,
    /// Also emulation, which is not a security boundary.
    Any,
}

/// When a plan may be admitted, in seconds since 1970, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validity {
    /// First second.
    pub not_before: i64,
    /// Last second.
    pub not_after: i64,
}

impl Plan {
    /// Checks sizes, counts and forms of every part; the same check runs when a plan is signed and when one is read.
    pub fn validate(&self) -> Result<(), PlanError> {
        limits::validate(self)
    }

    /// Returns the roots of the images that are mounted beside the plan's own, each with the index of its mount.
    pub fn mounted_images(&self) -> impl Iterator<Item = (usize, &Root)> {
        self.mounts.iter().enumerate().filter_map(|(index, mount)| match &mount.source {
            MountSource::Image { root } => Some((index, root)),
            MountSource::Volume { .. } | MountSource::HostDirectory { .. } | MountSource::Tmpfs { .. } => {
                None
            }
        })
    }

    /// Says whether a mount takes what is written over what the root has at its place, instead of hiding that.
    pub fn is_overlay(&self, mount: &Mount) -> bool {
        let is_volume = matches!(mount.source, MountSource::Volume { .. });
        self.writable_store.is_some() && is_volume && mount.target == "/nix"
    }

    /// Returns the kinds of what is mounted beside the root and its scratch space.
    pub fn mount_kinds(&self) -> Vec<MountKind> {
        self.mounts.iter().map(|mount| mount.source.kind()).collect()
    }
}

impl fmt::Display for Posture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Compatible => "compatible",
            Self::Reproducible => "reproducible",
        })
    }
}

impl RequestedImage {
    /// Returns the text as the user gave it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RequestedImage {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Self, PlanError> {
        limits::text("source.requested", text, 1..=limits::MAX_REQUESTED)?;
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for RequestedImage {
    type Error = PlanError;

    fn try_from(text: String) -> Result<Self, PlanError> {
        text.parse()
    }
}

impl From<RequestedImage> for String {
    fn from(image: RequestedImage) -> String {
        image.0
    }
}

impl fmt::Display for RequestedImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
pub(crate) mod tests;
