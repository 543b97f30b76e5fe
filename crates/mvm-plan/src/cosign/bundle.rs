//! Sigstore bundles, and the file that cosign wrote before there were any.

use super::payload::Statement;
use super::{CosignError, ImageKey, ImageSignature, SignatureForm, Subject, decode, limit};
use crate::dsse::Envelope;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mvm_ref::Digest;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Most bytes of a bundle; it may carry certificates and proofs of a log, which are not looked at.
pub const MAX_BUNDLE: usize = 1 << 20;

/// Media types of the versions that are read.
const MEDIA_TYPES: [&str; 4] = [
    "application/vnd.dev.sigstore.bundle.v0.3+json",
    "application/vnd.dev.sigstore.bundle+json;version=0.3",
    "application/vnd.dev.sigstore.bundle+json;version=0.2",
    "application/vnd.dev.sigstore.bundle+json;version=0.1",
];
const IN_TOTO: &str = "application/vnd.in-toto+json";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Text<'a> {
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default, borrow)]
    dsse_envelope: Option<&'a RawValue>,
    #[serde(default)]
    message_signature: Option<MessageSignature>,
    /// What cosign wrote before there were bundles.
    #[serde(default)]
    base64_signature: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageSignature {
    #[serde(default)]
    message_digest: Option<MessageDigest>,
    signature: String,
}

#[derive(Deserialize)]
struct MessageDigest {
    algorithm: String,
    digest: String,
}

/// Checks whether a bundle is a signature of `subject` by `key`.
pub(super) fn verify(
    text: &[u8],
    key: &ImageKey,
    subject: &Subject<'_>,
) -> Result<ImageSignature, CosignError> {
    limit("bundle", text.len(), MAX_BUNDLE)?;
    let text: Text<'_> = serde_json::from_slice(text).map_err(CosignError::Bundle)?;
    let content = |got| Err(CosignError::BundleContent { got });
    if let (Some(signature), None, None) =
        (&text.base64_signature, text.dsse_envelope, &text.message_signature)
    {
        return message(&decode(signature)?, None, key, subject);
    }
    if !text.media_type.as_deref().is_some_and(|got| MEDIA_TYPES.contains(&got)) {
        let got = text.media_type.unwrap_or_default();
        return Err(CosignError::BundleType { got: got.chars().take(200).collect() });
    }
    match (text.dsse_envelope, text.message_signature) {
        (Some(envelope), None) => statement(envelope, key, subject),
        (None, Some(signed)) => {
            message(&decode(&signed.signature)?, signed.message_digest.as_ref(), key, subject)
        }
        (Some(_), Some(_)) => content("both"),
        (None, None) => content("neither"),
    }
}

fn statement(
    envelope: &RawValue,
    key: &ImageKey,
    subject: &Subject<'_>,
) -> Result<ImageSignature, CosignError> {
    let envelope = Envelope::parse(envelope.get().as_bytes()).map_err(CosignError::Envelope)?;
    let signed = envelope.signed_bytes();
    if !envelope.signatures().iter().any(|signature| key.verifies(&signed, &signature.sig)) {
        return Err(CosignError::Signature);
    }
    if envelope.payload_type() != IN_TOTO {
        return Err(CosignError::PayloadKind { got: envelope.payload_type().to_owned() });
    }
    let digest = Statement::parse(envelope.payload())?.check(subject)?;
    Ok(ImageSignature { key: key.fingerprint(), digest, form: SignatureForm::Statement, identity: None })
}

/// Checks a signature of a manifest or index itself.
fn message(
    signature: &[u8],
    stated: Option<&MessageDigest>,
    key: &ImageKey,
    subject: &Subject<'_>,
) -> Result<ImageSignature, CosignError> {
    if let Some(stated) = stated {
        if stated.algorithm != "SHA2_256" {
            return Err(CosignError::DigestAlgorithm { got: stated.algorithm.chars().take(200).collect() });
        }
        let digest = STANDARD.decode(&stated.digest).map_err(CosignError::Base64)?;
        if !subject.documents.iter().any(|document| document.digest.as_bytes()[..] == digest[..]) {
            return Err(CosignError::Digest { got: format!("sha256 in base64 {:.64}", stated.digest) });
        }
    }
    let mut unknown = false;
    for document in subject.documents {
        let verified = match (key.verifies_digest(&document.digest, signature), document.bytes) {
            (Some(verified), _) => verified,
            (None, Some(bytes)) => key.verifies(bytes, signature),
            (None, None) => {
                unknown = true;
                false
            }
        };
        if verified {
            let (key, digest): (Digest, Digest) = (key.fingerprint(), document.digest);
            return Ok(ImageSignature { key, digest, form: SignatureForm::Message, identity: None });
        }
    }
    Err(if unknown { CosignError::NoBytes } else { CosignError::Signature })
}
