//! A checkpoint: a signature over where the log ends.
//!
//! What is signed is a DSSE envelope whose payload is the canonical text of a [`Statement`] and whose type is
//! [`PAYLOAD_TYPE`]. In the log an [`Event::Checkpoint`] holds the signatures alone, for the entry itself says the rest;
//! a witness file holds whole envelopes, one a line.

use super::event::Seal;
use super::{Entry, Event};
use crate::canonical::{self, CanonicalError};
use crate::dsse::{self, DsseError, Envelope};
use crate::key::{KeyId, PublicKey, SigningKey};
use crate::time::UtcTime;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mvm_ref::Digest;
use serde::{Deserialize, Serialize};

/// The type of a statement's canonical text.
pub const PAYLOAD_TYPE: &str = "application/vnd.mvm.audit-checkpoint.v1+json";

/// What a checkpoint says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// Number of entries that it covers: all before it.
    pub entries: u64,
    /// Digest of the last of them.
    pub head: Digest,
    /// Digest of the log's first line, which tells it from other logs.
    pub origin: Digest,
    /// When it was signed.
    pub time: UtcTime,
}

/// A statement with its signatures, which nobody has checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    statement: Statement,
    seals: Vec<Seal>,
}

/// What the signatures of a checkpoint are worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seals {
    /// This key signed, and it is known.
    Valid(KeyId),
    /// A known key is named, and the signature is not its own.
    Forged(KeyId),
    /// None of the keys is known; the first of them, if there is one.
    Unknown(Option<KeyId>),
}

/// Says why a text is not a checkpoint, or none can be made.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The statement has no canonical text.
    #[error("writing a checkpoint")]
    Write(#[source] CanonicalError),
    /// The envelope could not be made.
    #[error("signing a checkpoint")]
    Sign(#[source] DsseError),
    /// The text is not an envelope.
    #[error("reading a checkpoint's envelope")]
    Envelope(#[source] DsseError),
    /// The envelope holds something else.
    #[error("the envelope holds {got:?}; expected {PAYLOAD_TYPE:?}")]
    PayloadType {
        /// The payload type it states.
        got: String,
    },
    /// The payload is not a statement.
    #[error("reading a checkpoint")]
    Payload(#[source] CanonicalError),
    /// A signature names no key.
    #[error("a checkpoint's signature names its key {got:?}, which is no key ID")]
    KeyId {
        /// What it names.
        got: String,
    },
}

impl Checkpoint {
    /// Signs a statement. Returns the checkpoint, and the line of a witness file that says it, newline included.
    pub fn sign(statement: Statement, key: &SigningKey) -> Result<(Self, Vec<u8>), CheckpointError> {
        let payload = canonical::to_vec(&statement).map_err(CheckpointError::Write)?;
        let envelope = Envelope::sign(PAYLOAD_TYPE, payload, &[key]).map_err(CheckpointError::Sign)?;
        let mut line = envelope.to_json().map_err(CheckpointError::Sign)?;
        line.push(b'\n');
        Ok((Self { statement, seals: seals(&envelope)? }, line))
    }

    /// Reads a line of a witness file, with or without its newline.
    pub fn parse(line: &[u8]) -> Result<Self, CheckpointError> {
        let envelope = Envelope::parse(line).map_err(CheckpointError::Envelope)?;
        if envelope.payload_type() != PAYLOAD_TYPE {
            return Err(CheckpointError::PayloadType { got: envelope.payload_type().to_owned() });
        }
        let statement = canonical::from_slice(envelope.payload()).map_err(CheckpointError::Payload)?;
        Ok(Self { statement, seals: seals(&envelope)? })
    }

    /// Returns the checkpoint that an entry is, if it is one.
    pub fn of(entry: &Entry) -> Option<Self> {
        let Event::Checkpoint { entries, head, origin, signatures } = &entry.event else { return None };
        let statement = Statement { entries: *entries, head: *head, origin: *origin, time: entry.time };
        Some(Self { statement, seals: signatures.clone() })
    }

    /// Returns what the log says of it, in an entry of the statement's time.
    pub fn event(&self) -> Event {
        let Statement { entries, head, origin, time: _ } = self.statement;
        Event::Checkpoint { entries, head, origin, signatures: self.seals.clone() }
    }

    /// Returns what it says, whoever signed it.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// Says what its signatures are worth to one who knows `keys`: one valid signature is enough.
    pub fn seals(&self, keys: &[PublicKey]) -> Result<Seals, CheckpointError> {
        let payload = canonical::to_vec(&self.statement).map_err(CheckpointError::Write)?;
        let message = dsse::pae(PAYLOAD_TYPE, &payload);
        let mut forged = None;
        for Seal { keyid, sig } in &self.seals {
            let Some(key) = keys.iter().find(|key| key.id() == *keyid) else { continue };
            if STANDARD.decode(sig).is_ok_and(|sig| key.verifies(&message, &sig)) {
                return Ok(Seals::Valid(*keyid));
            }
            forged = forged.or(Some(*keyid));
        }
        let first = self.seals.first().map(|seal| seal.keyid);
        Ok(forged.map_or(Seals::Unknown(first), Seals::Forged))
    }
}

fn seals(envelope: &Envelope) -> Result<Vec<Seal>, CheckpointError> {
    let seal = |signature: &dsse::EnvelopeSignature| {
        let keyid = signature.keyid.parse();
        let keyid = keyid.map_err(|_| CheckpointError::KeyId { got: signature.keyid.clone() })?;
        Ok(Seal { keyid, sig: STANDARD.encode(&signature.sig) })
    };
    envelope.signatures().iter().map(seal).collect()
}

#[cfg(test)]
mod tests;
