//! Public keys of images' signers.

use crate::key::{KeyError, PublicKey};
use mvm_ref::Digest;
use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
use p256::ecdsa::{DerSignature, VerifyingKey};
use pkcs8::der::Decode as _;
use pkcs8::der::pem::LineEnding;
use pkcs8::spki::{self, EncodePublicKey as _, SubjectPublicKeyInfoRef};
use pkcs8::{Document, ObjectIdentifier};
use std::fmt;

/// `id-ecPublicKey` (RFC 5480).
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// `secp256r1` (RFC 5480).
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
/// `id-Ed25519` (RFC 8410).
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const LABEL: &str = "PUBLIC KEY";
/// Most bytes of a key's text; an RSA key, which is told apart, has under 1,000.
const MAX_TEXT: usize = 16 << 10;

/// A public key that images are signed for: ECDSA on P-256, as cosign makes them, or Ed25519.
#[derive(Clone, PartialEq, Eq)]
pub struct ImageKey {
    kind: Kind,
    fingerprint: Digest,
}

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    P256(VerifyingKey),
    Ed25519(PublicKey),
}

/// Says why a text is not a key of images.
#[derive(Debug, thiserror::Error)]
pub enum ImageKeyError {
    /// The text is too long.
    #[error("the public key has {got} bytes; at most {MAX_TEXT} are read")]
    Size {
        /// Its bytes.
        got: usize,
    },
    /// The text is not PEM of a public key.
    #[error("reading a public key: expected PEM with the label {LABEL:?}")]
    Pem(#[source] spki::Error),
    /// The key is of another kind.
    #[error("keys of algorithm {got} are not supported; expected ECDSA on P-256 or Ed25519")]
    Algorithm {
        /// The object identifier of the algorithm or its curve.
        got: String,
    },
    /// The key is damaged.
    #[error("the ECDSA key is not a point of P-256")]
    Point(#[source] spki::Error),
    /// The key is damaged or worth nothing.
    #[error(transparent)]
    Ed25519(KeyError),
}

impl ImageKey {
    /// Reads a key from PEM text (`-----BEGIN PUBLIC KEY-----`).
    pub fn from_pem(text: &str) -> Result<Self, ImageKeyError> {
        if text.len() > MAX_TEXT {
            return Err(ImageKeyError::Size { got: text.len() });
        }
        let malformed = |error: pkcs8::der::Error| ImageKeyError::Pem(error.into());
        let (label, document) = Document::from_pem(text).map_err(malformed)?;
        if label != LABEL {
            return Err(ImageKeyError::Pem(spki::Error::KeyMalformed));
        }
        let info = SubjectPublicKeyInfoRef::from_der(document.as_bytes()).map_err(malformed)?;
        let algorithm = info.algorithm;
        let kind = match algorithm.oid {
            EC => match algorithm.parameters_oid() {
                Ok(P256) => VerifyingKey::try_from(info).map(Kind::P256).map_err(ImageKeyError::Point),
                Ok(curve) => Err(ImageKeyError::Algorithm { got: curve.to_string() }),
                Err(error) => Err(ImageKeyError::Point(error)),
            },
            ED25519 => PublicKey::from_pem(text).map(Kind::Ed25519).map_err(ImageKeyError::Ed25519),
            other => Err(ImageKeyError::Algorithm { got: other.to_string() }),
        }?;
        // Of the key as it is always written, however this text has it.
        let der = match &kind {
            Kind::P256(key) => key.to_public_key_der().map(Document::into_vec).map_err(ImageKeyError::Pem),
            Kind::Ed25519(key) => key.to_der().map_err(ImageKeyError::Ed25519),
        }?;
        Ok(Self { kind, fingerprint: Digest::of(&der) })
    }

    /// Returns the SHA-256 of the key as DER (SubjectPublicKeyInfo), which `openssl pkey -pubin -outform DER` gives too.
    pub fn fingerprint(&self) -> Digest {
        self.fingerprint
    }

    /// Returns the key as PEM text.
    pub fn to_pem(&self) -> Result<String, ImageKeyError> {
        match &self.kind {
            Kind::P256(key) => key.to_public_key_pem(LineEnding::LF).map_err(ImageKeyError::Pem),
            Kind::Ed25519(key) => key.to_pem().map_err(ImageKeyError::Ed25519),
        }
    }

    /// Tells whether `signature` is this key's signature of `message`: for ECDSA as DER, over its SHA-256.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.kind {
            Kind::P256(_) => self.verifies_digest(&Digest::of(message), signature) == Some(true),
            Kind::Ed25519(key) => key.verifies(message, signature),
        }
    }

    /// Tells the same of a message that only the digest is known of; nothing if that is not enough for this key.
    pub(super) fn verifies_digest(&self, digest: &Digest, signature: &[u8]) -> Option<bool> {
        match &self.kind {
            Kind::P256(key) => Some(
                DerSignature::from_bytes(signature)
                    .is_ok_and(|signature| key.verify_prehash(digest.as_bytes(), &signature).is_ok()),
            ),
            Kind::Ed25519(_) => None,
        }
    }
}

impl fmt::Debug for ImageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::P256(_) => "ECDSA P-256",
            Kind::Ed25519(_) => "Ed25519",
        };
        write!(f, "ImageKey({kind}, {})", self.fingerprint)
    }
}
