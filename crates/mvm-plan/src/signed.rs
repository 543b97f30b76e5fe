//! A plan in its envelope: signed here, or read from bytes. Nothing is trusted yet.

use crate::canonical::{self, CanonicalError};
use crate::dsse::{DsseError, Envelope};
use crate::key::SigningKey;
use crate::plan::{Plan, PlanError};
use mvm_ref::Digest;

/// The type of a plan's canonical text.
pub const PAYLOAD_TYPE: &str = "application/vnd.mvm.plan.v1+json";

/// A well-formed plan in an envelope, whose signatures nobody has checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedPlan {
    plan: Plan,
    digest: Digest,
    envelope: Envelope,
    bytes: Vec<u8>,
}

/// Says why a plan cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The plan holds what a plan may not.
    #[error("the plan is not valid")]
    Plan(#[source] PlanError),
    /// The plan has no canonical text.
    #[error("encoding the plan")]
    Encode(#[source] CanonicalError),
    /// The envelope cannot be made.
    #[error("signing the plan")]
    Envelope(#[source] DsseError),
}

/// Says why bytes are not a signed plan.
#[derive(Debug, thiserror::Error)]
pub enum SignedPlanError {
    /// The bytes are not an envelope.
    #[error("reading the plan's envelope")]
    Envelope(#[source] DsseError),
    /// The envelope holds something else.
    #[error("the envelope holds {got:?}; expected {PAYLOAD_TYPE:?}")]
    PayloadType {
        /// The payload type it states.
        got: String,
    },
    /// The payload is not the canonical text of a plan.
    #[error("reading the plan in the envelope")]
    Payload(#[source] CanonicalError),
    /// The plan holds what a plan may not.
    #[error("the plan in the envelope is not valid")]
    Plan(#[source] PlanError),
}

/// Signs `plan` with each of `keys`.
///
/// Fails if the plan is not valid, there is no key, or the envelope would be longer than one may be.
pub fn sign(plan: Plan, keys: &[&SigningKey]) -> Result<SignedPlan, SignError> {
    plan.validate().map_err(SignError::Plan)?;
    let payload = canonical::to_vec(&plan).map_err(SignError::Encode)?;
    let digest = Digest::of(&payload);
    let envelope = Envelope::sign(PAYLOAD_TYPE, payload, keys).map_err(SignError::Envelope)?;
    let bytes = envelope.to_json().map_err(SignError::Envelope)?;
    Ok(SignedPlan { plan, digest, envelope, bytes })
}

impl SignedPlan {
    /// Reads a signed plan from an envelope's bytes; its payload must be the canonical text of a valid plan.
    pub fn parse(bytes: &[u8]) -> Result<Self, SignedPlanError> {
        let envelope = Envelope::parse(bytes).map_err(SignedPlanError::Envelope)?;
        if envelope.payload_type() != PAYLOAD_TYPE {
            return Err(SignedPlanError::PayloadType { got: envelope.payload_type().to_owned() });
        }
        let plan: Plan = canonical::from_slice(envelope.payload()).map_err(SignedPlanError::Payload)?;
        plan.validate().map_err(SignedPlanError::Plan)?;
        let digest = Digest::of(envelope.payload());
        Ok(Self { plan, digest, envelope, bytes: bytes.to_vec() })
    }

    /// Returns the same plan with the signature of a further key.
    pub fn signed_by(&self, key: &SigningKey) -> Result<Self, SignError> {
        let mut envelope = self.envelope.clone();
        envelope.add_signature(key).map_err(SignError::Envelope)?;
        let bytes = envelope.to_json().map_err(SignError::Envelope)?;
        Ok(Self { envelope, bytes, ..self.clone() })
    }

    /// Returns what the envelope says, which nobody has verified: to show, never to act on.
    pub fn unverified_plan(&self) -> &Plan {
        &self.plan
    }

    /// Returns the SHA-256 of the plan's canonical text; signatures have no part in it.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns the envelope's bytes, as signed or as read.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the envelope.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }
}

#[cfg(test)]
mod tests;
