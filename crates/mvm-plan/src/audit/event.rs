//! What the audit log tells of.

use crate::admit::{Isolation, LaunchNonce};
use crate::key::KeyId;
use crate::plan::RequestedImage;
use crate::policy::Rule;
use mvm_ref::{Digest, Platform, ScopeName, VmName, VolumeName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

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
    /// A plan was refused, or the policy that it would have been judged under.
    Refuse {
        /// Digest of the plan; absent if there was none yet.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        plan: Option<Digest>,
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
        /// The measures by which its hypervisor is confined.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        confinement: BTreeSet<String>,
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
    /// Something came into the store from a file.
    Import {
        /// What came.
        subject: Subject,
    },
    /// Something of the store was given out into a file.
    Export {
        /// What was given.
        subject: Subject,
    },
    /// A setting was changed.
    Set {
        /// What the setting is of.
        subject: Subject,
        /// The setting.
        setting: String,
        /// What it is now; empty if it was taken back.
        value: String,
    },
    /// Something was done with a key.
    Key {
        /// What was done.
        act: KeyAct,
        /// The key.
        id: KeyId,
    },
    /// It was checked whether an image is signed by a key.
    VerifySignature {
        /// The image's manifest.
        manifest: Digest,
        /// The SHA-256 of the key as DER.
        key: Digest,
        /// Whether it is.
        passed: bool,
    },
    /// A further command was sent into a machine.
    Exec {
        /// The machine's name.
        vm: VmName,
        /// Digest of the machine's plan.
        plan: Digest,
        /// The program. Its arguments are left out, for they may be secret.
        program: String,
        /// Digest of the canonical text of the list of program and arguments.
        command: Digest,
    },
    /// A machine was wanted and not started, for another reason than a policy.
    Fail {
        /// Its name.
        vm: VmName,
        /// Digest of the plan that it was to have.
        plan: Digest,
    },
    /// A guest tried to reach over its network what it may not.
    Deny {
        /// Its name.
        vm: VmName,
        /// Digest of the plan.
        plan: Digest,
        /// What tells this launch from others.
        nonce: LaunchNonce,
        /// How often since the entry before.
        count: u64,
    },
    /// Something was found to be other than it was written.
    Damage {
        /// What is damaged.
        subject: Subject,
    },
    /// The log did not end as the record of its end says, and goes on from where that record is.
    Gap {
        /// Number of entries that the record says there are.
        expected: u64,
        /// Number of entries that were found.
        found: u64,
    },
    /// The log goes on in a new file.
    Rotate {
        /// Number of the first entry in the file before.
        first: u64,
    },
    /// The log up to here was signed.
    Checkpoint {
        /// Number of entries before this one.
        entries: u64,
        /// Digest of the line before.
        head: Digest,
        /// Digest of the log's first line, which tells it from other logs.
        origin: Digest,
        /// Signatures of [`super::Statement`].
        signatures: Vec<Seal>,
    },
    /// A witness could not be given a checkpoint.
    Unwitnessed,
}

impl Event {
    /// Says whether a machine's life ends with it.
    pub fn is_end(&self) -> bool {
        matches!(self, Self::Stop { .. })
    }
}

/// One signature of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// The key that signed.
    pub keyid: KeyId,
    /// The signature, in base64.
    pub sig: String,
}

/// What is done with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyAct {
    /// It was made here.
    Generate,
    /// Its secret half came from a file.
    Import,
    /// Its secret half was given out.
    Export,
    /// It counts from now on.
    Trust,
    /// It counts no more.
    Revoke,
    /// Another one took its place; it counts until a date.
    Rotate,
    /// It was removed, with what was known of it.
    Remove,
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
    /// The record of where the audit log ends.
    AuditHead,
    /// A plan.
    Plan {
        /// Digest of its canonical text.
        digest: Digest,
    },
    /// A scope.
    Scope {
        /// Its name.
        name: ScopeName,
    },
    /// A volume.
    Volume {
        /// Its name.
        name: VolumeName,
    },
}
