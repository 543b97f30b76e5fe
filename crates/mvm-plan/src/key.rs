//! Ed25519 keys: the secret half that signs, the public half that checks, and the name of a key.
//!
//! Source: RFC 8032 (Ed25519), RFC 8410 (its keys in PKCS#8 and SubjectPublicKeyInfo), RFC 7468 (PEM).

mod encrypted;

use crate::hex;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::pkcs8::ALGORITHM_ID;
use ed25519_dalek::{Signature, Signer as _, VerifyingKey};
pub use encrypted::EncryptionSeed;
use mvm_ref::Digest;
use pkcs8::der::pem::LineEnding;
use pkcs8::{DecodePublicKey as _, EncodePublicKey as _, PrivateKeyInfo, SecretDocument, spki};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use zeroize::Zeroizing;

const PREFIX: &str = "ed25519:";

/// PEM label of an unencrypted PKCS#8 key (RFC 7468 section 10).
const PRIVATE_LABEL: &str = "PRIVATE KEY";

/// The header of the OCTET STRING of 32 bytes that an Ed25519 key is inside PKCS#8 (RFC 8410 section 7).
const OCTETS: [u8; 2] = [0x04, 0x20];

/// A secret key that signs plans; it is wiped when dropped and shows only its key ID.
pub struct SigningKey(ed25519_dalek::SigningKey);

/// A public key, written `ed25519:` and the base64 of its 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey(VerifyingKey);

/// The name of a key: the SHA-256 of the raw 32 bytes of its public half, as 64 hexadecimal digits.
///
/// DSSE leaves the choice of key IDs to signer and verifier; this is mvm's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId([u8; 32]);

/// Says why a text is not a key or a key ID.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The text is not an Ed25519 secret key in PEM.
    #[error("reading a private key: expected an Ed25519 key as PKCS#8 PEM")]
    ReadPrivate(#[source] pkcs8::Error),
    /// The secret key could not be written as PEM.
    #[error("writing a private key as PKCS#8 PEM")]
    WritePrivate(#[source] pkcs8::Error),
    /// The text is not an Ed25519 public key in PEM.
    #[error("reading a public key: expected an Ed25519 key as PEM")]
    ReadPublic(#[source] spki::Error),
    /// The secret key is under a passphrase, and none was given.
    #[error("the private key is under a passphrase")]
    NeedsPassphrase,
    /// The secret key is under a passphrase in a way that is not supported.
    #[error(
        "the private key is encrypted in a way that is not supported; expected PBES2 with scrypt or PBKDF2-SHA-256 and AES-CBC"
    )]
    Encryption(#[source] pkcs8::Error),
    /// To find the key of the secret key's encryption takes more than is allowed.
    #[error("the private key's encryption asks for {got} {what}; at most {max} are allowed")]
    Cost {
        /// What it asks for.
        what: &'static str,
        /// How much of it.
        got: u64,
        /// The most that is allowed.
        max: u64,
    },
    /// The passphrase is another one, or the encrypted bytes were changed.
    #[error("the passphrase is wrong, or the encrypted private key is damaged")]
    Passphrase,
    /// The public key could not be written as PEM.
    #[error("writing a public key as PEM")]
    WritePublic(#[source] spki::Error),
    /// The text does not have the form of a public key.
    #[error("public key {0:?} is not of the form ed25519:<base64 of 32 bytes>")]
    Form(String),
    /// The 32 bytes are no point of the curve.
    #[error("public key {0} is not a point of the Ed25519 curve")]
    Point(String),
    /// The key is one of the few under which a signature says nothing.
    #[error("public key {0} is of small order, so anybody can sign for it")]
    Weak(String),
    /// The text is not a key ID.
    #[error("key ID {0:?} is not 64 lower-case hex digits")]
    Id(String),
}

impl SigningKey {
    /// Makes the key that 32 random bytes stand for; the caller wipes its own copy of them.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// Reads a key from PKCS#8 PEM text (`-----BEGIN PRIVATE KEY-----`), version 1 or 2.
    ///
    /// One under a passphrase is an error: [`Self::from_encrypted_pem`] reads it.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        if Self::is_encrypted(text) {
            return Err(KeyError::NeedsPassphrase);
        }
        read_private(text).map(Self).map_err(KeyError::ReadPrivate)
    }

    /// Returns the key as PKCS#8 PEM text.
    ///
    /// It is the version 1 form, without the public half, because OpenSSL reads no other.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        let octets = self.octets();
        SecretDocument::try_from(PrivateKeyInfo::new(ALGORITHM_ID, &*octets))
            .and_then(|document| Ok(document.to_pem(PRIVATE_LABEL, LineEnding::LF)?))
            .map_err(KeyError::WritePrivate)
    }

    /// Returns the OCTET STRING that the key is inside PKCS#8.
    fn octets(&self) -> Zeroizing<[u8; 34]> {
        let mut octets = Zeroizing::new([0; 34]);
        octets[..2].copy_from_slice(&OCTETS);
        octets[2..].copy_from_slice(self.0.as_bytes());
        octets
    }

    /// Returns the public half.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs `message`; equal keys and messages give equal signatures.
    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

// The decoder that comes with the curve leaves copies of the secret on the stack, unwiped; this one borrows.
fn read_private(text: &str) -> Result<ed25519_dalek::SigningKey, pkcs8::Error> {
    let (label, document) = SecretDocument::from_pem(text)?;
    if label != PRIVATE_LABEL {
        return Err(pkcs8::Error::KeyMalformed);
    }
    seed_of(&document)
}

/// Takes the key out of a PKCS#8 document.
fn seed_of(document: &SecretDocument) -> Result<ed25519_dalek::SigningKey, pkcs8::Error> {
    let info: PrivateKeyInfo<'_> = document.decode_msg()?;
    info.algorithm.assert_algorithm_oid(ALGORITHM_ID.oid)?;
    if info.algorithm.parameters.is_some() {
        return Err(pkcs8::Error::ParametersMalformed);
    }
    let secret = info.private_key.strip_prefix(&OCTETS).ok_or(pkcs8::Error::KeyMalformed)?;
    let key =
        ed25519_dalek::SigningKey::from_bytes(secret.try_into().map_err(|_| pkcs8::Error::KeyMalformed)?);
    if info.public_key.is_some_and(|public| public != key.verifying_key().as_bytes()) {
        return Err(pkcs8::Error::KeyMalformed);
    }
    Ok(key)
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public_key().id())
    }
}

impl PublicKey {
    /// Reads a key from its 32 raw bytes.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::Point(STANDARD.encode(bytes)))?;
        Self::accept(key)
    }

    /// Reads a key from PEM text (`-----BEGIN PUBLIC KEY-----`).
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        Self::accept(VerifyingKey::from_public_key_pem(text).map_err(KeyError::ReadPublic)?)
    }

    /// Returns the key as PEM text.
    pub fn to_pem(&self) -> Result<String, KeyError> {
        self.0.to_public_key_pem(LineEnding::LF).map_err(KeyError::WritePublic)
    }

    /// Returns the key as DER (SubjectPublicKeyInfo).
    pub(crate) fn to_der(self) -> Result<Vec<u8>, KeyError> {
        self.0.to_public_key_der().map(pkcs8::Document::into_vec).map_err(KeyError::WritePublic)
    }

    /// Returns the 32 raw bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Returns the key's ID.
    pub fn id(&self) -> KeyId {
        KeyId(*Digest::of(self.0.as_bytes()).as_bytes())
    }

    /// Tells whether `signature` is this key's signature of `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        // The strict check leaves each message one valid signature for a key: no malleable second one.
        Signature::from_slice(signature)
            .is_ok_and(|signature| self.0.verify_strict(message, &signature).is_ok())
    }

    fn accept(key: VerifyingKey) -> Result<Self, KeyError> {
        if key.is_weak() { Err(KeyError::Weak(STANDARD.encode(key.as_bytes()))) } else { Ok(Self(key)) }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", STANDARD.encode(self.0.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let refuse = || KeyError::Form(text.chars().take(80).collect());
        let encoded = text.strip_prefix(PREFIX).ok_or_else(refuse)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| refuse())?;
        Self::from_bytes(&bytes.try_into().map_err(|_| refuse())?)
    }
}

impl TryFrom<String> for PublicKey {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> String {
        key.to_string()
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::encode(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for KeyId {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        hex::decode(text).map(Self).ok_or_else(|| KeyError::Id(text.chars().take(80).collect()))
    }
}

impl TryFrom<String> for KeyId {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> String {
        id.to_string()
    }
}

#[cfg(test)]
pub(crate) mod tests;
