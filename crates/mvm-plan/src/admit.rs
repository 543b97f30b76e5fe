//! The door: a signed plan becomes an admitted plan, or is refused with every reason at once.

use crate::hex;
use crate::key::KeyId;
use crate::plan::{Plan, RequestedImage};
use crate::policy::{Claim, Policy, Rule, RuleOutcome};
use crate::signed::SignedPlan;
use crate::trust::{Signatures, TrustStore, TrustedKey};
use mvm_ref::nix::PathInfo;
use mvm_ref::{Digest, ScopeName, VmName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// What the host is and knows at the moment of admission.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Seconds since 1970.
    pub now: i64,
    /// The isolation that the machine will have.
    pub isolation: Isolation,
    /// Generations of the image format that this program reads.
    pub generations: &'a [u32],
    /// The scope that the machine will belong to.
    pub scope: &'a ScopeName,
    /// The ways in which the hypervisor will be confined, by their names.
    pub confinement: &'a BTreeSet<String>,
    /// Keys with which signatures of the image were verified: the SHA-256 of each in DER (SubjectPublicKeyInfo).
    pub image_signatures: &'a [Digest],
    /// The store paths of an image that was built, if they are known.
    pub store_paths: Option<&'a [StorePathFacts]>,
    /// When the image was pulled, in seconds since 1970, if that is known.
    pub pulled_at: Option<i64>,
    /// When the image was made, as its config says, in seconds since 1970.
    pub created_at: Option<i64>,
    /// Random bytes that tell this launch from every other of the same plan.
    pub nonce: LaunchNonce,
}

/// What is known of a store path of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorePathFacts {
    /// What it is, with its signatures.
    pub info: PathInfo,
    /// Whether its name was found to follow from its content.
    pub content_addressed: bool,
}

/// The isolation that a machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// Hardware virtualisation by KVM.
    Kvm,
    /// Emulation, which is not a security boundary.
    Emulated,
}

/// 16 random bytes that tell one launch from every other, written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LaunchNonce([u8; 16]);

/// Says that a text is not a launch nonce.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("launch nonce {0:?} is not 32 lower-case hex digits")]
pub struct NonceError(String);

/// A plan that trusted keys signed and a policy let through, for one launch.
///
/// [`admit()`] alone makes one, and nothing copies one: a second launch is a second admission.
#[derive(Debug, PartialEq, Eq)]
pub struct AdmittedPlan {
    plan: Plan,
    digest: Digest,
    signers: Vec<KeyId>,
    policy: String,
    isolation: Isolation,
    nonce: LaunchNonce,
    admitted_at: i64,
}

/// Every rule that a plan failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    policy: String,
    refused: Refused,
    failed: Vec<RuleOutcome>,
}

/// What a policy stands against.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Refused {
    Plan {
        digest: Digest,
        workload: VmName,
    },
    /// No plan was made for it yet.
    Image(RequestedImage),
}

/// Admits `signed` for one launch if every rule of `policy` passes.
///
/// Signatures are checked here, against the keys of `trust` only; a signature by any other key counts for nothing.
pub fn admit(
    signed: &SignedPlan,
    trust: &TrustStore,
    policy: &Policy,
    facts: &Facts<'_>,
) -> Result<AdmittedPlan, Refusal> {
    let plan = signed.unverified_plan();
    let (outcomes, signers) = judge(signed, trust, policy, facts);
    let failed: Vec<RuleOutcome> = outcomes.into_iter().filter(|outcome| !outcome.passed).collect();
    let policy = policy.name();
    if !failed.is_empty() {
        let refused = Refused::Plan { digest: signed.digest(), workload: plan.workload.clone() };
        return Err(Refusal { policy, refused, failed });
    }
    Ok(AdmittedPlan {
        plan: plan.clone(),
        digest: signed.digest(),
        signers: signers.iter().map(|key| key.id()).collect(),
        policy,
        isolation: facts.isolation,
        nonce: facts.nonce,
        admitted_at: facts.now,
    })
}

/// Applies the rules of `policy` that the name of an image alone decides, so that nothing need be fetched from where
/// images may not come from. A plan for what passes is judged by them again.
pub fn check_name(requested: &RequestedImage, policy: &Policy) -> Result<(), Refusal> {
    let outcomes = policy.check_name(requested).into_iter();
    let failed: Vec<RuleOutcome> = outcomes.filter(|outcome| !outcome.passed).collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(Refusal { policy: policy.name(), refused: Refused::Image(requested.clone()), failed })
}

/// Applies every rule of `policy`, and tells what each said and which trusted keys signed. Nothing is admitted by it.
pub fn judge<'a>(
    signed: &SignedPlan,
    trust: &'a TrustStore,
    policy: &Policy,
    facts: &Facts<'_>,
) -> (Vec<RuleOutcome>, Vec<&'a TrustedKey>) {
    let Signatures { valid: signers, lapsed } = trust.signers(signed.envelope(), facts.now);
    let plan = signed.unverified_plan();
    let outcomes = policy.check(&Claim { plan, signers: &signers, lapsed: &lapsed, facts });
    (outcomes, signers)
}

impl AdmittedPlan {
    /// Returns the plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Returns the SHA-256 of the plan's canonical text.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns the trusted keys whose signatures were valid, in the trust store's order.
    pub fn signers(&self) -> &[KeyId] {
        &self.signers
    }

    /// Returns the name of the policy that let the plan through.
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// Returns the isolation that the plan was admitted for.
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// Returns what tells this launch from others of the plan.
    pub fn nonce(&self) -> LaunchNonce {
        self.nonce
    }

    /// Returns when it was admitted, in seconds since 1970.
    pub fn admitted_at(&self) -> i64 {
        self.admitted_at
    }
}

impl Refusal {
    /// Returns every rule that failed, in the policy's order; there is at least one.
    pub fn failed(&self) -> &[RuleOutcome] {
        &self.failed
    }

    /// Returns the name of the policy that refused.
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// Returns the SHA-256 of the plan's canonical text; none if an image was refused before there was a plan for it.
    pub fn digest(&self) -> Option<Digest> {
        match self.refused {
            Refused::Plan { digest, .. } => Some(digest),
            Refused::Image(_) => None,
        }
    }

    /// Returns the rules that failed, as the audit log has them.
    pub fn rules(&self) -> Vec<Rule> {
        self.failed.iter().map(|outcome| outcome.rule).collect()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.refused {
            Refused::Plan { workload, .. } => {
                write!(f, "policy {} refuses the plan for {workload}", self.policy)?;
            }
            Refused::Image(requested) => {
                write!(f, "policy {} refuses the image {}", self.policy, requested.as_str())?;
            }
        }
        if let Some(first) = self.failed.first() {
            write!(f, ": {}: {}", first.rule, first.why)?;
        }
        match self.failed.len() {
            0 | 1 => Ok(()),
            2 => f.write_str(" (and 1 more rule)"),
            count => write!(f, " (and {} more rules)", count - 1),
        }
    }
}

impl std::error::Error for Refusal {}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kvm => "kvm",
            Self::Emulated => "emulated",
        })
    }
}

impl LaunchNonce {
    /// Wraps 16 random bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for LaunchNonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::encode(&self.0))
    }
}

impl fmt::Debug for LaunchNonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for LaunchNonce {
    type Err = NonceError;

    fn from_str(text: &str) -> Result<Self, NonceError> {
        hex::decode(text).map(Self).ok_or_else(|| NonceError(text.chars().take(80).collect()))
    }
}

impl TryFrom<String> for LaunchNonce {
    type Error = NonceError;

    fn try_from(text: String) -> Result<Self, NonceError> {
        text.parse()
    }
}

impl From<LaunchNonce> for String {
    fn from(nonce: LaunchNonce) -> String {
        nonce.to_string()
    }
}

#[cfg(test)]
mod tests;
