//! Where an image came from: an in-toto statement with SLSA provenance, in a DSSE envelope.
//!
//! Source: in-toto Attestation Framework, "Statement v1"; SLSA v1.0, "Provenance" (`https://slsa.dev/provenance/v1`).
//!
//! The same build makes the same statement: what says when is left out, though SLSA has a place for it (`runDetails.metadata`).
//! When it was made is in the audit log.

use crate::canonical::{self, CanonicalError};
use crate::dsse::{DsseError, Envelope};
use crate::key::SigningKey;
use mvm_ref::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The type of a statement in an envelope.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// The type of what the statement says.
pub const PREDICATE_TYPE: &str = "https://slsa.dev/provenance/v1";
/// What the parameters of a build mean; `docs/provenance.md` describes them.
pub const BUILD_TYPE: &str = "https://github.com/mvm-sh/mvm/blob/main/docs/provenance.md#flake-v1";
/// Who builds: a VM of the machine that signs.
pub const BUILDER: &str = "https://github.com/mvm-sh/mvm/blob/main/docs/provenance.md#local-builder";

/// An in-toto statement v1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Statement {
    /// The kind of document.
    #[serde(rename = "_type")]
    kind: StatementType,
    /// What it is about.
    pub subject: Vec<Resource>,
    predicate_type: PredicateType,
    /// What it says.
    pub predicate: Predicate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum StatementType {
    #[serde(rename = "https://in-toto.io/Statement/v1")]
    V1,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum PredicateType {
    #[serde(rename = "https://slsa.dev/provenance/v1")]
    SlsaV1,
}

/// How something was built: SLSA provenance v1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Predicate {
    /// What was to be built, and of what.
    pub build_definition: BuildDefinition,
    /// Who built it, and what came of it beside the subject.
    pub run_details: RunDetails,
}

/// What was to be built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BuildDefinition {
    /// What the parameters mean: [`BUILD_TYPE`].
    pub build_type: String,
    /// What whoever asked for the build chose.
    pub external_parameters: serde_json::Value,
    /// What the builder chose.
    pub internal_parameters: serde_json::Value,
    /// What went into it.
    pub resolved_dependencies: Vec<Resource>,
}

/// Who built it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunDetails {
    /// The builder.
    pub builder: Builder,
    /// What came of it beside the subject.
    pub byproducts: Vec<Resource>,
}

/// The builder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Builder {
    /// Who is trusted to have built as is said: [`BUILDER`].
    pub id: String,
    /// Versions of what it is made of.
    pub version: BTreeMap<String, String>,
    /// What it is made of.
    pub builder_dependencies: Vec<Resource>,
}

/// Something that a statement speaks of: an in-toto resource descriptor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resource {
    /// Its name.
    #[serde(rename = "name", default, skip_serializing_if = "String::is_empty")]
    pub label: String,
    /// Where it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uri: String,
    /// Its digests by algorithm, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub digest: BTreeMap<String, String>,
    /// What else is said of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Says why a text is no signed statement, or why one can't be made.
#[derive(Debug, thiserror::Error)]
pub enum ProvenanceError {
    /// The envelope is none.
    #[error("the envelope of the provenance")]
    Envelope(#[from] DsseError),
    /// The envelope holds something else.
    #[error("the envelope holds {got:?}; expected {PAYLOAD_TYPE:?}")]
    PayloadType {
        /// The payload type that it states.
        got: String,
    },
    /// The statement is not canonical, or none.
    #[error("the provenance's statement")]
    Statement(#[from] CanonicalError),
}

impl Statement {
    /// Makes a statement about `subject`.
    pub fn new(subject: Vec<Resource>, predicate: Predicate) -> Self {
        Self { kind: StatementType::V1, subject, predicate_type: PredicateType::SlsaV1, predicate }
    }

    /// Returns the canonical text.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ProvenanceError> {
        Ok(canonical::to_vec(self)?)
    }

    /// Signs the statement with each of `keys`.
    pub fn sign(&self, keys: &[&SigningKey]) -> Result<Envelope, ProvenanceError> {
        Ok(Envelope::sign(PAYLOAD_TYPE, self.to_bytes()?, keys)?)
    }

    /// Returns the statement in an envelope, whoever signed it.
    pub fn unverified(envelope: &Envelope) -> Result<Self, ProvenanceError> {
        if envelope.payload_type() != PAYLOAD_TYPE {
            return Err(ProvenanceError::PayloadType { got: envelope.payload_type().to_owned() });
        }
        Ok(canonical::from_slice(envelope.payload())?)
    }

    /// Returns the digest that the statement gives a subject of that name, by that algorithm.
    pub fn subject_digest(&self, name: &str, algorithm: &str) -> Option<&str> {
        let subject = self.subject.iter().find(|subject| subject.label == name)?;
        subject.digest.get(algorithm).map(String::as_str)
    }
}

impl Resource {
    /// Returns something that is known by its SHA-256.
    pub fn sha256(name: impl Into<String>, digest: &Digest) -> Self {
        let digest = BTreeMap::from([("sha256".to_owned(), digest.hex())]);
        Self { label: name.into(), digest, ..Self::default() }
    }

    /// Adds where it is.
    pub fn at(self, uri: impl Into<String>) -> Self {
        Self { uri: uri.into(), ..self }
    }

    /// Adds something that is said of it.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.annotations.insert(name.to_owned(), value.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::tests::signing_key;
    use serde_json::json;

    fn statement() -> Statement {
        let digest = Digest::of(b"image");
        let builder = Builder {
            id: BUILDER.to_owned(),
            version: BTreeMap::from([("nix".to_owned(), "2.26.3".to_owned())]),
            builder_dependencies: vec![Resource::sha256("builder", &digest)],
        };
        let build_definition = BuildDefinition {
            build_type: BUILD_TYPE.to_owned(),
            external_parameters: json!({"flake": "flake:/src#web"}),
            internal_parameters: json!({"online": false}),
            resolved_dependencies: vec![Resource::sha256("source", &digest).at("flake:/src").with("a", "b")],
        };
        let run_details = RunDetails { builder, byproducts: Vec::new() };
        Statement::new(vec![Resource::sha256("image", &digest)], Predicate { build_definition, run_details })
    }

    #[test]
    fn a_statement_is_signed_and_read_back() {
        let key = signing_key(1);
        let envelope = statement().sign(&[&key]).unwrap();
        assert_eq!(envelope, statement().sign(&[&key]).unwrap(), "the same build, the same envelope");
        assert_eq!(Statement::unverified(&envelope).unwrap(), statement());
        let hex = Digest::of(b"image").hex();
        assert_eq!(statement().subject_digest("image", "sha256"), Some(hex.as_str()));
        assert_eq!(statement().subject_digest("image", "sha512"), None);
        let text: serde_json::Value = serde_json::from_slice(envelope.payload()).unwrap();
        assert_eq!(text["_type"], "https://in-toto.io/Statement/v1");
        assert_eq!(text["predicateType"], PREDICATE_TYPE);
        assert_eq!(text["predicate"]["runDetails"]["builder"]["id"], BUILDER);
    }

    #[test]
    fn other_envelopes_hold_no_provenance() {
        let key = signing_key(1);
        let plan = Envelope::sign("application/vnd.mvm.plan.v1+json", b"{}".to_vec(), &[&key]).unwrap();
        assert!(matches!(Statement::unverified(&plan), Err(ProvenanceError::PayloadType { .. })));
        for text in ["", "{}", "{\"_type\":\"https://in-toto.io/Statement/v0.1\"}"] {
            let envelope = Envelope::sign(PAYLOAD_TYPE, text.into(), &[&key]).unwrap();
            assert!(matches!(Statement::unverified(&envelope), Err(ProvenanceError::Statement(_))), "{text}");
        }
    }
}
