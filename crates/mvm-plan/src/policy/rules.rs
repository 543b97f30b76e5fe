//! The rules in one table, and those among them that hold under every policy.

use super::Policy;
use super::restrictions::{self, Asked};
use crate::admit::{Facts, Isolation};
use crate::plan::{Plan, RequiredIsolation};
use crate::time::UtcTime;
use crate::trust::{TrustEntry, TrustedKey};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What the rules judge.
pub(crate) struct Claim<'a> {
    pub plan: &'a Plan,
    /// The trusted keys whose signatures were found valid.
    pub signers: &'a [&'a TrustedKey],
    /// Keys that are revoked or past their end, and whose signatures were found valid: they count for nothing.
    pub lapsed: &'a [&'a TrustEntry],
    pub facts: &'a Facts<'a>,
}

/// Makes the enum of rules with the text of each.
macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident = $text:literal,)*) => {
        /// The rules of admission, each named for what must hold.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Rule {
            $($(#[$doc])* $rule,)*
        }

        impl fmt::Display for Rule {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self {
                    $(Self::$rule => $text,)*
                })
            }
        }
    };
}

rules! {
    /// A trusted key signed the plan.
    TrustedSigner = "trusted-signer",
    /// A key that is not for development signed the plan, where the policy asks for that.
    ReleaseKey = "release-key",
    /// As many of the keys that the policy names signed the plan as it asks for.
    SignerThreshold = "signer-threshold",
    /// The plan is valid for some time at all.
    ValidityOrder = "validity-order",
    /// The plan is not valid for longer than the policy allows.
    ValidityLength = "validity-length",
    /// The plan's time has come.
    NotBefore = "not-before",
    /// The plan's time has not passed.
    NotAfter = "not-after",
    /// The plan is not older than the policy allows.
    PlanAge = "plan-age",
    /// The plan is for the scope that it is launched in.
    PlanScope = "plan-scope",
    /// The image was asked for by digest, where the policy asks for that.
    PinnedImage = "pinned-image",
    /// The image comes from a registry that the policy allows.
    AllowedRegistry = "allowed-registry",
    /// The image comes from a repository that the policy allows.
    AllowedRepository = "allowed-repository",
    /// The image is signed as the policy asks for.
    ImageSignature = "image-signature",
    /// The store paths of a build are signed as the policy asks for.
    SignedPaths = "signed-paths",
    /// The image was pulled no longer ago than the policy allows.
    PullAge = "pull-age",
    /// The image was made no longer ago than the policy allows.
    ImageAge = "image-age",
    /// The root came to be in a way that the policy allows.
    AllowedPosture = "allowed-posture",
    /// This program reads the image's format.
    KnownGeneration = "known-generation",
    /// The host offers the isolation that the plan requires.
    RequiredIsolation = "required-isolation",
    /// The machine is not emulated, where the policy asks for that.
    HardwareIsolation = "hardware-isolation",
    /// The hypervisor is confined in the ways that the policy asks for.
    RequiredConfinement = "required-confinement",
    /// The plan asks for no more processors than the policy allows.
    MaxCpus = "max-cpus",
    /// The plan asks for no more memory than the policy allows.
    MaxMemory = "max-memory",
    /// The plan asks for no more scratch space than the policy allows.
    MaxScratch = "max-scratch",
    /// The command does not run as root, where the policy asks for that.
    NonRootUser = "non-root-user",
    /// The plan mounts only what the policy allows.
    AllowedMounts = "allowed-mounts",
    /// The guest has a network that the policy allows.
    AllowedNetwork = "allowed-network",
    /// The policies could be read. Not in the table: there is no policy to judge under if they can't.
    ReadablePolicy = "readable-policy",
    /// The plan could be read. Not in the table, like those that follow: the door itself looks at them.
    PlanFormat = "plan-format",
    /// The kernel is the one that the plan names.
    KernelDigest = "kernel-digest",
    /// The initramfs is the one that the plan names.
    InitramfsDigest = "initramfs-digest",
    /// The root image is there and has the shape that the plan names.
    RootImage = "root-image",
    /// A plan for one launch was not launched before.
    SingleUse = "single-use",
}

/// Why a rule failed, and how to satisfy it.
pub(super) struct Failure {
    pub why: String,
    pub remedy: String,
}

pub(super) type Judge = fn(&Policy, &Claim<'_>) -> Result<String, Failure>;

/// Judges an image by what it was asked for by.
pub(super) type JudgeName = fn(&Policy, &Asked<'_>) -> Result<String, Failure>;

/// The rules that the name of an image decides, in the order in which they are told.
pub(super) const OF_NAMES: &[(Rule, JudgeName)] = &[
    (Rule::PinnedImage, restrictions::pinned_image),
    (Rule::AllowedRegistry, restrictions::allowed_registry),
    (Rule::AllowedRepository, restrictions::allowed_repository),
];

/// All rules that judge a plan, in the order in which they are told.
pub(super) const TABLE: &[(Rule, Judge)] = &[
    (Rule::TrustedSigner, trusted_signer),
    (Rule::ReleaseKey, restrictions::release_key),
    (Rule::SignerThreshold, restrictions::signer_threshold),
    (Rule::ValidityOrder, validity_order),
    (Rule::ValidityLength, restrictions::validity_length),
    (Rule::NotBefore, not_before),
    (Rule::NotAfter, not_after),
    (Rule::PlanAge, restrictions::plan_age),
    (Rule::PlanScope, plan_scope),
    (Rule::PinnedImage, |policy, claim| restrictions::pinned_image(policy, &asked(claim))),
    (Rule::AllowedRegistry, |policy, claim| restrictions::allowed_registry(policy, &asked(claim))),
    (Rule::AllowedRepository, |policy, claim| restrictions::allowed_repository(policy, &asked(claim))),
    (Rule::ImageSignature, restrictions::image_signature),
    (Rule::SignedPaths, restrictions::signed_paths),
    (Rule::PullAge, restrictions::pull_age),
    (Rule::ImageAge, restrictions::image_age),
    (Rule::AllowedPosture, restrictions::allowed_posture),
    (Rule::KnownGeneration, known_generation),
    (Rule::RequiredIsolation, required_isolation),
    (Rule::HardwareIsolation, restrictions::hardware_isolation),
    (Rule::RequiredConfinement, restrictions::required_confinement),
    (Rule::MaxCpus, restrictions::max_cpus),
    (Rule::MaxMemory, restrictions::max_memory),
    (Rule::MaxScratch, restrictions::max_scratch),
    (Rule::NonRootUser, restrictions::non_root_user),
    (Rule::AllowedMounts, restrictions::allowed_mounts),
    (Rule::AllowedNetwork, restrictions::allowed_network),
];

fn asked<'a>(claim: &Claim<'a>) -> Asked<'a> {
    Asked::in_plan(&claim.plan.source)
}

pub(super) fn failure<T>(why: impl Into<String>, remedy: impl Into<String>) -> Result<T, Failure> {
    Err(Failure { why: why.into(), remedy: remedy.into() })
}

pub(super) fn names<'a>(keys: impl Iterator<Item = &'a &'a TrustedKey>) -> String {
    keys.map(|key| format!("{:?}", key.name)).collect::<Vec<_>>().join(", ")
}

pub(super) fn time(seconds: i64) -> String {
    UtcTime::from_unix_seconds(seconds).map_or_else(|_| format!("second {seconds}"), |time| time.to_string())
}

fn trusted_signer(_: &Policy, claim: &Claim<'_>) -> Result<String, Failure> {
    if claim.signers.is_empty() && !claim.lapsed.is_empty() {
        let lapsed = |entry: &&TrustEntry| {
            format!("{:?}, which was {}", entry.key.name, entry.standing(claim.facts.now))
        };
        return failure(
            format!("signed only by {}", claim.lapsed.iter().map(lapsed).collect::<Vec<_>>().join(", ")),
            "sign the plan with a key that still counts; mvmctl key ls shows which do",
        );
    }
    if claim.signers.is_empty() {
        return failure(
            "no trusted key made a valid signature",
            "sign the plan with a key of the trust store, or add its signer's public key to the trust store",
        );
    }
    Ok(format!("signed by {}", names(claim.signers.iter())))
}

fn validity_order(_: &Policy, claim: &Claim<'_>) -> Result<String, Failure> {
    let validity = claim.plan.validity;
    if validity.not_after <= validity.not_before {
        return failure(
            format!(
                "the plan ends at {} and starts at {}",
                time(validity.not_after),
                time(validity.not_before)
            ),
            "make a plan that ends after it starts",
        );
    }
    Ok("the plan ends after it starts".to_owned())
}

fn not_before(_: &Policy, claim: &Claim<'_>) -> Result<String, Failure> {
    let (now, start) = (claim.facts.now, claim.plan.validity.not_before);
    if now < start {
        return failure(
            format!("the plan is valid from {}, now it is {}", time(start), time(now)),
            "wait until then, or set this host's clock right",
        );
    }
    Ok(format!("valid since {}", time(start)))
}

fn not_after(_: &Policy, claim: &Claim<'_>) -> Result<String, Failure> {
    let (now, end) = (claim.facts.now, claim.plan.validity.not_after);
    if now > end {
        return failure(
            format!("the plan was valid until {}, now it is {}", time(end), time(now)),
            "make and sign a new plan, or set this host's clock right",
        );
    }
    Ok(format!("valid until {}", time(end)))
}

fn plan_scope(_: &Policy, claim: &Claim<'_>) -> Result<String, Failure> {
    let (planned, here) = (&claim.plan.scope, claim.facts.scope);
    if planned != here {
        return failure(
            format!("the plan is for scope {planned}, not for scope {here}"),
            format!("launch it with --scope {planned}, or make a plan for this scope"),
        );
    }
    Ok(format!("the plan is for scope {here}"))
}

fn known_generation(_: &Policy, claim: &Claim<'_>) -> Result<String, Failure> {
    let (generation, known) = (claim.plan.root.generation, claim.facts.generations);
    if !known.contains(&generation) {
        let known: Vec<String> = known.iter().map(u32::to_string).collect();
        return failure(
            format!("the image has format generation {generation}; this program reads {}", known.join(", ")),
            "use a version of mvm that reads it, or make the image and the plan again",
        );
    }
    Ok(format!("format generation {generation}"))
}

fn required_isolation(_: &Policy, claim: &Claim<'_>) -> Result<String, Failure> {
    match (claim.plan.isolation, claim.facts.isolation) {
        (RequiredIsolation::Kvm, Isolation::Emulated) => failure(
            "the plan requires kvm, this host offers emulation only",
            "run it where KVM works, or make a plan that accepts any isolation",
        ),
        (_, offered) => Ok(format!("the host offers {offered}")),
    }
}
