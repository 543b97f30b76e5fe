//! What the audit log tells of.

use crate::admit::{Isolation, LaunchNonce};
use crate::key::KeyId;
use crate::plan::RequestedImage;
use crate::policy::Rule;
use mvm_ref::{Digest, Platform, VmName};
use serde::{Deserialize, Serialize};

/// One thing that was done, by its `kind`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// A name was resolved to a manifest.
    Resolve {
        /// The image as the user named it.
        requested: RequestedImage,
        /// The manifest it was resolved to.
        manifest: Digest,
        /// The platform that was chosen.
        platform: Platform,
    },
    /// A name was given to a manifest here, and no origin was asked what it means.
    Tag {
        /// The name.
        requested: RequestedImage,
        /// The manifest that it means now.
        manifest: Digest,
        /// The platform that it means it for.
        platform: Platform,
    },
    /// Content came from outside.
    Fetch {
        /// Its digest as stored there.
        digest: Digest,
        /// Its bytes.
        size: u64,
    },
    /// Content was there already.
    CacheHit {
        /// What was there.
        subject: Subject,
    },
    /// Content was compared with what its manifest and config say.
    Verify {
        /// Its digest as stored outside.
        digest: Digest,
        /// Digest of the uncompressed layer, if it is a layer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        diff_id: Option<Digest>,
        /// Whether all was equal.
        passed: bool,
    },
    /// A root image was assembled.
    Materialize {
        /// The manifest it was assembled from.
        manifest: Digest,
        /// Its dm-verity root hash.
        root_hash: Digest,
        /// Generation of its format.
        generation: u32,
        /// Its bytes.
        size: u64,
    },
    /// An image was given to a registry.
    Push {
        /// The name that it has there.
        requested: RequestedImage,
        /// The manifest that it has there.
        manifest: Digest,
        /// The digest of its config.
        config: Digest,
    },
    /// A plan was signed.
    Sign {
        /// Digest of the plan.
        plan: Digest,
        /// The keys that signed.
        signers: Vec<KeyId>,
    },
    /// A plan was admitted for one launch.
    Admit {
        /// Digest of the plan.
        plan: Digest,
        /// The policy.
        policy: String,
        /// The trusted keys that had signed.
        signers: Vec<KeyId>,
        /// The isolation of the machine.
        isolation: Isolation,
        /// What tells this launch from others.
        nonce: LaunchNonce,
    },
    /// A plan was refused.
    Refuse {
        /// Digest of the plan.
        plan: Digest,
        /// The policy.
        policy: String,
        /// The rules that it failed.
        rules: Vec<Rule>,
    },
    /// A machine was started.
    Launch {
        /// Its name.
        vm: VmName,
        /// Digest of the plan.
        plan: Digest,
        /// What tells this launch from others.
        nonce: LaunchNonce,
        /// Digest of the document that tells the guest what to run.
        guest_document: Digest,
    },
    /// A machine ended.
    Stop {
        /// Its name.
        vm: VmName,
        /// Digest of the plan.
        plan: Digest,
        /// What tells this launch from others.
        nonce: LaunchNonce,
        /// How it ended.
        outcome: Outcome,
        /// Exit code of its process, if that ended and said so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit_code: Option<i32>,
    },
    /// Something was deleted.
    Delete {
        /// What was deleted.
        subject: Subject,
    },
    /// Something that a crash had left was repaired.
    Recover {
        /// What was repaired.
        subject: Subject,
    },
}

/// How a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Its process ended.
    Exited,
    /// It was asked to stop.
    Stopped,
    /// It was killed.
    Killed,
    /// The machine or its guest failed.
    Failed,
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Subject {
    /// A machine.
    Vm {
        /// Its name.
        name: VmName,
    },
    /// A root image.
    Image {
        /// Its dm-verity root hash.
        root_hash: Digest,
    },
    /// A segment.
    Segment {
        /// Digest of the uncompressed layer.
        diff_id: Digest,
    },
    /// A manifest, config or other document, or a downloaded blob.
    Blob {
        /// Its digest.
        digest: Digest,
    },
    /// A kernel.
    Kernel {
        /// Its digest.
        digest: Digest,
    },
    /// An image's name.
    Reference {
        /// The name as the user gave it.
        requested: RequestedImage,
    },
    /// The audit log itself.
    AuditLog,
}
