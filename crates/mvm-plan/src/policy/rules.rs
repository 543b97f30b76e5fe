//! The rules, one function each, in one table.

use super::{DAY, Policy};
use crate::admit::{Facts, Isolation};
use crate::plan::{Plan, RequiredIsolation, Source};
use crate::time::UtcTime;
use crate::trust::TrustedKey;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What the rules judge.
pub(crate) struct Claim<'a> {
    pub plan: &'a Plan,
    /// The trusted keys whose signatures were found valid.
    pub signers: &'a [&'a TrustedKey],
    pub facts: &'a Facts<'a>,
}

/// The rules of admission, each named for what must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// A trusted key signed the plan.
    TrustedSigner,
    /// A key that is not for development signed the plan, where the policy asks for that.
    ReleaseKey,
    /// The plan is valid for some time at all.
    ValidityOrder,
    /// The plan is not valid for longer than the policy allows.
    ValidityLength,
    /// The plan's time has come.
    NotBefore,
    /// The plan's time has not passed.
    NotAfter,
    /// The image was asked for by digest, where the policy asks for that.
    PinnedImage,
    /// This program reads the image's format.
    KnownGeneration,
    /// The host offers the isolation that the plan requires.
    RequiredIsolation,
    /// The machine is not emulated, where the policy asks for that.
    HardwareIsolation,
}

/// Why a rule failed, and how to satisfy it.
pub(super) struct Failure {
    pub why: String,
    pub remedy: String,
}

type Judge = fn(&Policy, &Claim<'_>) -> Result<String, Failure>;

/// All rules in the order in which they are told.
pub(super) const TABLE: &[(Rule, Judge)] = &[
    (Rule::TrustedSigner, trusted_signer),
    (Rule::ReleaseKey, release_key),
    (Rule::ValidityOrder, validity_order),
    (Rule::ValidityLength, validity_length),
    (Rule::NotBefore, not_before),
    (Rule::NotAfter, not_after),
    (Rule::PinnedImage, pinned_image),
    (Rule::KnownGeneration, known_generation),
    (Rule::RequiredIsolation, required_isolation),
    (Rule::HardwareIsolation, hardware_isolation),
];

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::TrustedSigner => "trusted-signer",
            Self::ReleaseKey => "release-key",
            Self::ValidityOrder => "validity-order",
            Self::ValidityLength => "validity-length",
            Self::NotBefore => "not-before",
            Self::NotAfter => "not-after",
            Self::PinnedImage => "pinned-image",
            Self::KnownGeneration => "known-generation",
            Self::RequiredIsolation => "required-isolation",
            Self::HardwareIsolation => "hardware-isolation",
        })
    }
}

fn failure(why: impl Into<String>, remedy: impl Into<String>) -> Result<String, Failure> {
    Err(Failure { why: why.into(), remedy: remedy.into() })
}

fn trusted_signer(_: &Policy, claim: &Claim<'_>) -> Result<String, Failure> {
    if claim.signers.is_empty() {
        return failure(
            "no trusted key made a valid signature",
            "sign the plan with a key of the trust store, or add its signer's public key to the trust store",
        );
    }
    Ok(format!("signed by {}", names(claim.signers.iter())))
}

fn release_key(policy: &Policy, claim: &Claim<'_>) -> Result<String, Failure> {
    let mut release = claim.signers.iter().filter(|key| !key.development).peekable();
    if policy.development_keys {
        return Ok("development keys may sign".to_owned());
    }
    if release.peek().is_none() {
        let why = match claim.signers {
            [] => "no key that is not for development made a valid signature".to_owned(),
            signers => format!("signed with development keys only: {}", names(signers.iter())),
        };
        return failure(why, "sign the plan with a trusted key that is not marked as a development key");
    }
    Ok(format!("signed by {}", names(release)))
}

fn names<'a>(keys: impl Iterator<Item = &'a &'a TrustedKey>) -> String {
    keys.map(|key| format!("{:?}", key.name)).collect::<Vec<_>>().join(", ")
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

fn validity_length(policy: &Policy, claim: &Claim<'_>) -> Result<String, Failure> {
    let validity = claim.plan.validity;
    let seconds = validity.not_after.saturating_sub(validity.not_before);
    let most = policy.max_validity_seconds;
    if seconds > most {
        return failure(
            format!("the plan is valid for {seconds} seconds, more than {most}"),
            format!("make a plan that is valid for at most {} days", most / DAY),
        );
    }
    Ok(format!("the plan is valid for {seconds} of at most {most} seconds"))
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

fn pinned_image(policy: &Policy, claim: &Claim<'_>) -> Result<String, Failure> {
    let Source::Oci { requested, manifest, mutable_tag, .. } = &claim.plan.source;
    match (mutable_tag, policy.mutable_tags) {
        (false, _) => Ok(format!("the image was asked for by digest, {manifest}")),
        (true, true) => Ok("mutable tags may be used".to_owned()),
        (true, false) => failure(
            format!("the image was asked for by the mutable tag {:?}", requested.as_str()),
            format!("ask for it by digest: put @{manifest} in place of the tag"),
        ),
    }
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

fn hardware_isolation(policy: &Policy, claim: &Claim<'_>) -> Result<String, Failure> {
    match (claim.facts.isolation, policy.emulation) {
        (Isolation::Kvm, _) => Ok("the machine runs under kvm".to_owned()),
        (Isolation::Emulated, true) => Ok("emulation may be used".to_owned()),
        (Isolation::Emulated, false) => failure(
            "the machine would be emulated, which is not a security boundary",
            "run it on a host where KVM works",
        ),
    }
}

fn time(seconds: i64) -> String {
    UtcTime::from_unix_seconds(seconds).map_or_else(|_| format!("second {seconds}"), |time| time.to_string())
}
