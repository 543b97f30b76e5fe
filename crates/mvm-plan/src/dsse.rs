//! DSSE envelopes: a payload, its type, and signatures over both.
//!
//! Source: DSSE v1.0.0, `protocol.md` and `envelope.md` (secure-systems-lab).

use crate::canonical::{self, CanonicalError};
use crate::key::{KeyId, SigningKey};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Most bytes of an envelope's text.
pub const MAX_ENVELOPE: usize = 1024 * 1024;
/// Most signatures in an envelope.
pub const MAX_SIGNATURES: usize = 16;
/// Most bytes of one signature; Ed25519 has 64, others may stand beside it.
const MAX_SIGNATURE: usize = 1024;
const MAX_PAYLOAD_TYPE: usize = 256;
const MAX_KEYID: usize = 256;

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const READ_STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const READ_URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// An envelope, taken apart. That it parsed says nothing about its signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    payload_type: String,
    payload: Vec<u8>,
    signatures: Vec<EnvelopeSignature>,
}

/// One signature of an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvelopeSignature {
    /// Which key is said to have signed: a hint that nothing protects, empty if there is none.
    pub keyid: String,
    /// The signature's bytes.
    pub sig: Vec<u8>,
}

/// Says why a text is not an envelope, or why one cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum DsseError {
    /// The text is too long.
    #[error("envelope has {got} bytes; at most {MAX_ENVELOPE} are allowed")]
    Size {
        /// Its bytes.
        got: usize,
    },
    /// The text is not JSON of an envelope's shape.
    #[error("reading the envelope as JSON")]
    Parse(#[source] serde_json::Error),
    /// The envelope could not be written.
    #[error("writing the envelope")]
    Write(#[source] CanonicalError),
    /// A part is not base64.
    #[error("envelope: {field} is not base64")]
    Base64 {
        /// The part.
        field: &'static str,
        /// What is wrong with it.
        #[source]
        source: base64::DecodeError,
    },
    /// A part is too long.
    #[error("envelope: {field} has {got} bytes; at most {max} are allowed")]
    Length {
        /// The part.
        field: &'static str,
        /// Its bytes.
        got: usize,
        /// Most bytes.
        max: usize,
    },
    /// There are no signatures, or too many.
    #[error("envelope has {got} signatures; expected 1 to {MAX_SIGNATURES}")]
    Signatures {
        /// How many there are.
        got: usize,
    },
    /// One key was asked to sign twice.
    #[error("key {id} signs the same envelope twice")]
    Twice {
        /// The key.
        id: KeyId,
    },
}

// Other implementations may add members, so unknown ones are ignored; the specification lets empty ones be absent.
#[derive(Serialize, Deserialize)]
struct Text<'a> {
    #[serde(borrow, default)]
    payload: Cow<'a, str>,
    #[serde(borrow, default, rename = "payloadType")]
    payload_type: Cow<'a, str>,
    #[serde(borrow, default)]
    signatures: Vec<SignatureText<'a>>,
}

#[derive(Serialize, Deserialize)]
struct SignatureText<'a> {
    #[serde(borrow, default)]
    keyid: Cow<'a, str>,
    #[serde(borrow, default)]
    sig: Cow<'a, str>,
}

/// Returns the bytes that are signed: the pre-authentication encoding of a payload type and a payload.
///
/// Source: DSSE `protocol.md`, "Signature Definition".
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

impl Envelope {
    /// Signs `payload` with each of `keys`.
    pub fn sign(payload_type: &str, payload: Vec<u8>, keys: &[&SigningKey]) -> Result<Self, DsseError> {
        length("payloadType", payload_type.len(), MAX_PAYLOAD_TYPE)?;
        count(keys.len())?;
        let message = pae(payload_type, &payload);
        let mut ids = BTreeSet::new();
        let mut signatures = Vec::with_capacity(keys.len());
        for key in keys {
            let id = key.public_key().id();
            if !ids.insert(id) {
                return Err(DsseError::Twice { id });
            }
            signatures.push(EnvelopeSignature { keyid: id.to_string(), sig: key.sign(&message).to_vec() });
        }
        Ok(Self { payload_type: payload_type.to_owned(), payload, signatures })
    }

    /// Adds the signature of `key`, which must not be there yet.
    pub fn add_signature(&mut self, key: &SigningKey) -> Result<(), DsseError> {
        count(self.signatures.len() + 1)?;
        let (public, message) = (key.public_key(), self.signed_bytes());
        let id = public.id();
        if self.signatures.iter().any(|signature| public.verifies(&message, &signature.sig)) {
            return Err(DsseError::Twice { id });
        }
        let sig = key.sign(&message).to_vec();
        self.signatures.push(EnvelopeSignature { keyid: id.to_string(), sig });
        Ok(())
    }

    /// Reads an envelope's JSON text, base64 in the standard or the URL-safe alphabet.
    pub fn parse(text: &[u8]) -> Result<Self, DsseError> {
        if text.len() > MAX_ENVELOPE {
            return Err(DsseError::Size { got: text.len() });
        }
        let text: Text = serde_json::from_slice(text).map_err(DsseError::Parse)?;
        length("payloadType", text.payload_type.len(), MAX_PAYLOAD_TYPE)?;
        count(text.signatures.len())?;
        let payload = decode("payload", &text.payload)?;
        let mut signatures = Vec::with_capacity(text.signatures.len());
        for signature in text.signatures {
            length("keyid", signature.keyid.len(), MAX_KEYID)?;
            let sig = decode("sig", &signature.sig)?;
            length("sig", sig.len(), MAX_SIGNATURE)?;
            signatures.push(EnvelopeSignature { keyid: signature.keyid.into_owned(), sig });
        }
        Ok(Self { payload_type: text.payload_type.into_owned(), payload, signatures })
    }

    /// Returns the envelope as JSON text, the same for the same envelope: canonical JSON and standard base64.
    pub fn to_json(&self) -> Result<Vec<u8>, DsseError> {
        let signature = |signature: &EnvelopeSignature| SignatureText {
            keyid: signature.keyid.clone().into(),
            sig: STANDARD.encode(&signature.sig).into(),
        };
        let text = canonical::to_vec(&Text {
            payload: STANDARD.encode(&self.payload).into(),
            payload_type: self.payload_type.as_str().into(),
            signatures: self.signatures.iter().map(signature).collect(),
        })
        .map_err(DsseError::Write)?;
        if text.len() > MAX_ENVELOPE {
            return Err(DsseError::Size { got: text.len() });
        }
        Ok(text)
    }

    /// Returns the payload's type.
    pub fn payload_type(&self) -> &str {
        &self.payload_type
    }

    /// Returns the payload, whoever signed it.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Returns the signatures, whether or not they are valid.
    pub fn signatures(&self) -> &[EnvelopeSignature] {
        &self.signatures
    }

    /// Returns the bytes that the signatures are over.
    pub fn signed_bytes(&self) -> Vec<u8> {
        pae(&self.payload_type, &self.payload)
    }
}

fn decode(field: &'static str, text: &str) -> Result<Vec<u8>, DsseError> {
    let engine = if text.contains(['-', '_']) { &READ_URL_SAFE } else { &READ_STANDARD };
    engine.decode(text).map_err(|source| DsseError::Base64 { field, source })
}

fn length(field: &'static str, got: usize, max: usize) -> Result<(), DsseError> {
    if got <= max { Ok(()) } else { Err(DsseError::Length { field, got, max }) }
}

fn count(got: usize) -> Result<(), DsseError> {
    if (1..=MAX_SIGNATURES).contains(&got) { Ok(()) } else { Err(DsseError::Signatures { got }) }
}

#[cfg(test)]
mod tests;
