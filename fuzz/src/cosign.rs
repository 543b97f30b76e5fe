//! Signatures of images: whatever is read, nothing is signed by a key that signed nothing.

use mvm_plan::cosign::{Evidence, ImageKey, Payload, Statement, Subject, SubjectDocument, verify};
use mvm_ref::Digest;

/// A key whose private half nobody has.
const KEY: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEMW6FxG+dDdC8zvx55TgVGUAoKZu3\n\
nxqrtthusSH7AIHI5ioMvv3X9YP/dUppSbfieae6susjuCz57ijPZVqgyw==\n\
-----END PUBLIC KEY-----\n\
";

const MANIFEST: &[u8] = b"{}";

/// Reads the input as a key, a payload, a statement and a bundle.
pub fn body(data: &[u8]) {
    let key = ImageKey::from_pem(KEY).expect("a sound key");
    let repository = "registry.test/app:1".parse().expect("a name");
    let documents = [
        SubjectDocument { digest: Digest::of(MANIFEST), bytes: Some(MANIFEST) },
        SubjectDocument { digest: Digest::of(b"index"), bytes: None },
    ];
    let subject = Subject { repository: &repository, documents: &documents };
    if let Ok(payload) = Payload::parse(data)
        && let Ok(digest) = payload.check(&subject)
    {
        assert!(documents.iter().any(|document| document.digest == digest));
        assert!(payload.identity.contains("registry.test/app"), "{:?}", payload.identity);
    }
    if let Ok(statement) = Statement::parse(data)
        && let Ok(digest) = statement.check(&subject)
    {
        assert!(documents.iter().any(|document| document.digest == digest));
    }
    let signature =
        "MEUCIQDXmXWj59naoPFlLnCADIPLKgLG3LyFtKrbjpnkYiGNGgIhAJ/eNx5zr/l1MJKSFpFMjPKKr4fjh5RHEtT2DhMamZuT";
    for evidence in [
        Evidence::Bundle(data.to_vec()),
        Evidence::SimpleSigning { payload: data.to_vec(), signature: signature.to_owned() },
        Evidence::SimpleSigning {
            payload: b"{}".to_vec(),
            signature: String::from_utf8_lossy(data).into_owned(),
        },
    ] {
        assert!(verify(&evidence, &key, &subject).is_err(), "a signature by a key that signed nothing");
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(key) = ImageKey::from_pem(text) {
        let again = ImageKey::from_pem(&key.to_pem().expect("a key has a text")).expect("its text is one");
        assert_eq!(again.fingerprint(), key.fingerprint());
    }
}

/// Valid inputs to start from.
pub fn seeds() -> Vec<Vec<u8>> {
    let digest = Digest::of(MANIFEST);
    let payload = format!(
        r#"{{"critical":{{"identity":{{"docker-reference":"registry.test/app"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"cosign container image signature"}},"optional":null}}"#
    );
    let statement = format!(
        r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"digest":{{"sha256":"{}"}}}}],"predicateType":"https://sigstore.dev/cosign/sign/v1"}}"#,
        digest.hex()
    );
    let bundle = |content: &str| {
        format!(
            r#"{{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{{}},{content}}}"#
        )
    };
    let envelope = bundle(
        r#""dsseEnvelope":{"payload":"e30=","payloadType":"application/vnd.in-toto+json","signatures":[{"sig":"AAAA","keyid":""}]}"#,
    );
    let message = bundle(
        r#""messageSignature":{"messageDigest":{"algorithm":"SHA2_256","digest":"RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o="},"signature":"AAAA"}"#,
    );
    let old = r#"{"base64Signature":"AAAA","cert":"","rekorBundle":null}"#.to_owned();
    [payload, statement, envelope, message, old, KEY.to_owned()].map(String::into_bytes).to_vec()
}
