//! What is signed: a simple signing payload, or an in-toto statement.

use super::{CosignError, Subject, limit};
use mvm_ref::{Digest, Reference};
use serde::Deserialize;

/// Most bytes of a simple signing payload; cosign's own have some hundred, and annotations may come to it.
pub const MAX_PAYLOAD: usize = 64 << 10;

/// The types that cosign gives its payloads.
const KINDS: [&str; 2] = ["cosign container image signature", "https://sigstore.dev/cosign/sign/v1"];
const STATEMENTS: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];
/// The predicate of a statement that says no more than that an image was signed.
const PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";

/// What a simple signing payload says of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// The repository that it names, and perhaps a tag or digest.
    // tidy: allow string-field: kept as it was signed, to be shown; `check` reads it
    pub identity: String,
    digest: Digest,
}

/// What an in-toto statement says of images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    digests: Vec<String>,
}

#[derive(Deserialize)]
struct PayloadText {
    critical: Critical,
}

// Of the critical part everything must be understood; the rest may say what it likes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    identity: Identity,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    #[serde(rename = "docker-reference")]
    docker_reference: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    #[serde(rename = "docker-manifest-digest", alias = "Docker-manifest-digest")]
    digest: String,
}

#[derive(Deserialize)]
struct StatementText {
    #[serde(rename = "_type")]
    kind: String,
    #[serde(rename = "predicateType")]
    predicate: String,
    subject: Vec<StatementSubject>,
}

#[derive(Deserialize)]
struct StatementSubject {
    digest: Digests,
}

#[derive(Deserialize)]
struct Digests {
    #[serde(default)]
    sha256: Option<String>,
}

impl Payload {
    /// Reads a payload's JSON text.
    pub fn parse(text: &[u8]) -> Result<Self, CosignError> {
        limit("payload", text.len(), MAX_PAYLOAD)?;
        let PayloadText { critical } = serde_json::from_slice(text).map_err(CosignError::Payload)?;
        if !KINDS.contains(&critical.kind.as_str()) {
            return Err(CosignError::PayloadKind { got: shown(&critical.kind) });
        }
        let named = critical.image.digest;
        let digest = named.parse().map_err(|_| CosignError::Digest { got: shown(&named) })?;
        Ok(Self { identity: critical.identity.docker_reference, digest })
    }

    /// Compares the payload with an image, and returns the document that it is of.
    pub fn check(&self, subject: &Subject<'_>) -> Result<Digest, CosignError> {
        if subject.document(&self.digest).is_none() {
            return Err(CosignError::Digest { got: self.digest.to_string() });
        }
        let expected = subject.repository;
        let other = || CosignError::Repository {
            got: shown(&self.identity),
            expected: format!("{}/{}", expected.registry(), expected.repository()),
        };
        let named: Reference = self.identity.parse().map_err(|_| other())?;
        let same = named.registry() == expected.registry() && named.repository() == expected.repository();
        if !same || named.digest().is_some_and(|digest| digest != self.digest) {
            return Err(other());
        }
        Ok(self.digest)
    }
}

impl Statement {
    /// Reads a statement's JSON text; its predicate must say that an image was signed, and no more.
    pub fn parse(text: &[u8]) -> Result<Self, CosignError> {
        let text: StatementText = serde_json::from_slice(text).map_err(CosignError::Payload)?;
        for (got, expected) in [(text.kind, &STATEMENTS[..]), (text.predicate, &[PREDICATE])] {
            if !expected.contains(&got.as_str()) {
                return Err(CosignError::PayloadKind { got: shown(&got) });
            }
        }
        Ok(Self { digests: text.subject.into_iter().filter_map(|subject| subject.digest.sha256).collect() })
    }

    /// Compares the statement with an image, and returns the document that it is of.
    pub fn check(&self, subject: &Subject<'_>) -> Result<Digest, CosignError> {
        let digests = self.digests.iter().filter_map(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
        let mut known = digests.filter(|digest| subject.document(digest).is_some());
        known.next().ok_or_else(|| CosignError::Digest {
            got: self
                .digests
                .first()
                .map_or_else(|| "nothing".to_owned(), |hex| format!("sha256:{}", shown(hex))),
        })
    }
}

/// Returns the beginning of what somebody else wrote.
fn shown(text: &str) -> String {
    text.chars().take(200).collect()
}
