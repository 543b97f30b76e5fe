//! Signatures of images as cosign makes them, checked with a public key that is given.
//!
//! The key is all that counts: certificates, transparency logs and timestamps beside a signature are not looked at, so
//! a signature says who, and nothing about when. What is read: simple signing payloads, and sigstore bundles with a DSSE
//! envelope or a message signature.
//!
//! Source: sigstore/cosign, `specs/SIGNATURE_SPEC.md` and `specs/BUNDLE_SPEC.md`; sigstore/protobuf-specs,
//! `sigstore_bundle.proto`; containers/image, `containers-signature.5.md`; in-toto attestation, `spec/v1/statement.md`.

mod bundle;
mod key;
mod payload;

pub use bundle::MAX_BUNDLE;
pub use key::{ImageKey, ImageKeyError};
pub use payload::{MAX_PAYLOAD, Payload, Statement};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mvm_ref::{Digest, Reference};
use serde::Serialize;
use std::fmt;

/// Most bytes of a signature in base64; an ECDSA one has under 100.
const MAX_SIGNATURE_TEXT: usize = 1024;

/// The image that a signature is to be of.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The name it was asked for by; a payload that names a repository must name this one.
    pub repository: &'a Reference,
    /// Its manifest, and the index that led there: a signature of either will do.
    pub documents: &'a [SubjectDocument<'a>],
}

/// A manifest or index.
#[derive(Clone, Copy, Debug)]
pub struct SubjectDocument<'a> {
    /// Its digest.
    pub digest: Digest,
    /// Its bytes, where they are at hand: an Ed25519 signature of the document itself can't be checked without.
    pub bytes: Option<&'a [u8]>,
}

/// What may be a signature, as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// A payload that was signed, and the base64 of its signature.
    SimpleSigning {
        /// What was signed.
        payload: Vec<u8>,
        /// The signature.
        signature: String,
    },
    /// A sigstore bundle, or what cosign wrote before there were any.
    Bundle(Vec<u8>),
}

/// What a signature turned out to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImageSignature {
    /// The fingerprint of the key that made it.
    pub key: Digest,
    /// The manifest or index that it is of.
    pub digest: Digest,
    /// What was signed.
    pub form: SignatureForm,
    /// The repository that it names; only a simple signing payload does.
    pub identity: Option<String>,
}

/// What was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignatureForm {
    /// A simple signing payload.
    SimpleSigning,
    /// An in-toto statement in a DSSE envelope.
    Statement,
    /// The manifest or index itself.
    Message,
}

/// Says why something is not a signature of an image by a key.
#[derive(Debug, thiserror::Error)]
pub enum CosignError {
    /// Something is longer than it can be.
    #[error("the {what} has {got} bytes; at most {max} are read")]
    Size {
        /// What it is.
        what: &'static str,
        /// Its bytes.
        got: usize,
        /// How many are read.
        max: usize,
    },
    /// A signature is not base64.
    #[error("the signature is not base64")]
    Base64(#[source] base64::DecodeError),
    /// The signature is by another key, or what was signed has been changed.
    #[error("the signature was not made by this key, or not of this content")]
    Signature,
    /// The payload is not what simple signing has.
    #[error("reading the signed payload")]
    Payload(#[source] serde_json::Error),
    /// The payload is of another type.
    #[error("the signed payload is {got:?}; expected a signature of an image")]
    PayloadKind {
        /// The type that it states.
        got: String,
    },
    /// The payload is about another image.
    #[error("the signature is of {got}, not of this image")]
    Digest {
        /// What it names.
        got: String,
    },
    /// The payload is about another repository.
    #[error("the signature is for {got:?}, not for {expected}")]
    Repository {
        /// What it names.
        got: String,
        /// The repository that was asked for.
        expected: String,
    },
    /// The text is no bundle.
    #[error("reading the bundle")]
    Bundle(#[source] serde_json::Error),
    /// The bundle is of another version or kind.
    #[error("the bundle has media type {got:?}; versions 0.1 to 0.3 are read")]
    BundleType {
        /// The media type that it states.
        got: String,
    },
    /// The bundle has no signature, or several kinds of it.
    #[error("the bundle has {got}; expected either a DSSE envelope or a message signature")]
    BundleContent {
        /// What it has.
        got: &'static str,
    },
    /// The envelope in the bundle is damaged.
    #[error("reading the bundle's envelope")]
    Envelope(#[source] crate::dsse::DsseError),
    /// The bundle has another digest algorithm.
    #[error("the bundle's message digest is {got:?}; only SHA2_256 is supported")]
    DigestAlgorithm {
        /// The algorithm that it states.
        got: String,
    },
    /// The bytes that were signed are not at hand.
    #[error("an Ed25519 signature of an index itself is not supported")]
    NoBytes,
}

/// Checks whether `evidence` is a signature of `subject` by `key`.
pub fn verify(
    evidence: &Evidence,
    key: &ImageKey,
    subject: &Subject<'_>,
) -> Result<ImageSignature, CosignError> {
    match evidence {
        Evidence::SimpleSigning { payload, signature } => {
            limit("payload", payload.len(), MAX_PAYLOAD)?;
            if !key.verifies(payload, &decode(signature)?) {
                return Err(CosignError::Signature);
            }
            let payload = Payload::parse(payload)?;
            let digest = payload.check(subject)?;
            let form = SignatureForm::SimpleSigning;
            Ok(ImageSignature { key: key.fingerprint(), digest, form, identity: Some(payload.identity) })
        }
        Evidence::Bundle(text) => bundle::verify(text, key, subject),
    }
}

impl Subject<'_> {
    /// Finds the document of a digest.
    fn document(&self, digest: &Digest) -> Option<&SubjectDocument<'_>> {
        self.documents.iter().find(|document| document.digest == *digest)
    }
}

impl fmt::Display for SignatureForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::SimpleSigning => "simple signing",
            Self::Statement => "in-toto statement",
            Self::Message => "manifest",
        })
    }
}

fn limit(what: &'static str, got: usize, max: usize) -> Result<(), CosignError> {
    if got <= max { Ok(()) } else { Err(CosignError::Size { what, got, max }) }
}

/// Reads a signature; cosign's files end with a line break.
fn decode(text: &str) -> Result<Vec<u8>, CosignError> {
    limit("signature", text.len(), MAX_SIGNATURE_TEXT)?;
    STANDARD.decode(text.trim_ascii()).map_err(CosignError::Base64)
}

#[cfg(test)]
mod tests;
