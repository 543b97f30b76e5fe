use super::*;
use crate::dsse;
use crate::key::tests::{has_openssl, openssl};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

const MANIFEST: &[u8] = br#"{"schemaVersion":2}"#;

fn index() -> Digest {
    Digest::of(b"index")
}

/// Keys that openssl made, and signatures by them.
struct Signer {
    directory: tempfile::TempDir,
}

impl Signer {
    fn new() -> Self {
        let signer = Self { directory: tempfile::tempdir().unwrap() };
        for (name, options) in [
            ("p256", &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"][..]),
            ("other", &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
            ("p384", &["EC", "-pkeyopt", "ec_paramgen_curve:P-384"]),
            ("ed25519", &["ed25519"]),
            ("rsa", &["RSA"]),
        ] {
            signer.openssl(&[&["genpkey", "-out", name, "-algorithm"], options].concat());
        }
        signer
    }

    fn openssl(&self, arguments: &[&str]) -> Vec<u8> {
        openssl(self.path(), arguments)
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn public(&self, name: &str) -> String {
        String::from_utf8(self.openssl(&["pkey", "-in", name, "-pubout"])).unwrap()
    }

    fn key(&self, name: &str) -> ImageKey {
        ImageKey::from_pem(&self.public(name)).unwrap()
    }

    /// The base64 of a signature, over SHA-256 for ECDSA.
    fn sign(&self, name: &str, message: &[u8]) -> String {
        fs::write(self.path().join("message"), message).unwrap();
        let bytes = match name {
            "ed25519" => self.openssl(&["pkeyutl", "-sign", "-inkey", name, "-rawin", "-in", "message"]),
            _ => self.openssl(&["dgst", "-sha256", "-sign", name, "message"]),
        };
        STANDARD.encode(bytes)
    }

    fn simple(&self, name: &str, payload: &Value) -> Evidence {
        let payload = payload.to_string().into_bytes();
        let signature = self.sign(name, &payload);
        Evidence::SimpleSigning { payload, signature }
    }

    fn enveloped(&self, name: &str, kind: &str, statement: &Value) -> Evidence {
        let payload = statement.to_string().into_bytes();
        let sig = self.sign(name, &dsse::pae(kind, &payload));
        let envelope = json!({"payload": STANDARD.encode(payload), "payloadType": kind, "signatures": [{"sig": sig, "keyid": ""}]});
        bundle(&json!({"dsseEnvelope": envelope}))
    }
}

fn bundle(content: &Value) -> Evidence {
    let mut bundle = json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": "x"}, "tlogEntries": []},
    });
    bundle.as_object_mut().unwrap().extend(content.as_object().unwrap().clone());
    Evidence::Bundle(bundle.to_string().into_bytes())
}

fn payload(repository: &str, digest: &Digest) -> Value {
    json!({
        "critical": {
            "identity": {"docker-reference": repository},
            "image": {"docker-manifest-digest": digest},
            "type": "cosign container image signature",
        },
        "optional": {"creator": "a test", "critical": 1},
    })
}

fn statement(predicate: &str, digests: &[&str]) -> Value {
    let subjects: Vec<Value> =
        digests.iter().map(|hex| json!({"name": "", "digest": {"sha256": hex}})).collect();
    json!({"_type": "https://in-toto.io/Statement/v1", "predicateType": predicate, "subject": subjects, "predicate": {}})
}

/// Checks evidence as of the image `registry.test/app` that an index led to.
fn check(evidence: &Evidence, key: &ImageKey) -> Result<(Digest, SignatureForm, Option<String>), String> {
    let documents = [
        SubjectDocument { digest: Digest::of(MANIFEST), bytes: Some(MANIFEST) },
        SubjectDocument { digest: index(), bytes: None },
    ];
    let repository = "registry.test/app:1".parse().unwrap();
    let subject = Subject { repository: &repository, documents: &documents };
    match verify(evidence, key, &subject) {
        Ok(found) => {
            assert_eq!(found.key, key.fingerprint());
            Ok((found.digest, found.form, found.identity))
        }
        Err(error) => Err(error.to_string()),
    }
}

const OTHER_KEY: &str = "the signature was not made by this key, or not of this content";

#[test]
fn keys_are_told_apart_and_named_as_openssl_names_them() {
    if !has_openssl() {
        return;
    }
    let signer = Signer::new();
    for name in ["p256", "ed25519"] {
        let key = signer.key(name);
        assert_eq!(key.to_pem().unwrap(), signer.public(name));
        let der = signer.openssl(&["pkey", "-in", name, "-pubout", "-outform", "DER"]);
        assert_eq!(key.fingerprint(), Digest::of(&der));
    }
    let unsupported =
        |oid| format!("keys of algorithm {oid} are not supported; expected ECDSA on P-256 or Ed25519");
    let table = [
        (signer.public("p384"), unsupported("1.3.132.0.34")),
        (signer.public("rsa"), unsupported("1.2.840.113549.1.1.1")),
        (
            fs::read_to_string(signer.path().join("p256")).unwrap(),
            "reading a public key: expected PEM with the label \"PUBLIC KEY\"".to_owned(),
        ),
        (String::new(), "reading a public key: expected PEM with the label \"PUBLIC KEY\"".to_owned()),
        ("x".repeat(20_000), "the public key has 20000 bytes; at most 16384 are read".to_owned()),
    ];
    for (text, expected) in table {
        assert_eq!(ImageKey::from_pem(&text).unwrap_err().to_string(), expected);
    }
}

#[test]
fn simple_signing_payloads_hold_for_their_key_digest_and_repository() {
    if !has_openssl() {
        return;
    }
    let signer = Signer::new();
    let manifest = Digest::of(MANIFEST);
    let other = Digest::of(b"other");
    let good = |name: &str| Ok((manifest, SignatureForm::SimpleSigning, Some(name.to_owned())));
    let repository = |got: &str| Err(format!("the signature is for {got:?}, not for registry.test/app"));
    let table = [
        (payload("registry.test/app", &manifest), good("registry.test/app")),
        (payload("registry.test/app:2", &manifest), good("registry.test/app:2")),
        (
            payload(&format!("registry.test/app@{manifest}"), &manifest),
            good(&format!("registry.test/app@{manifest}")),
        ),
        (
            payload("registry.test/app", &index()),
            Ok((index(), SignatureForm::SimpleSigning, Some("registry.test/app".to_owned()))),
        ),
        (
            payload("registry.test/app", &other),
            Err(format!("the signature is of {other}, not of this image")),
        ),
        (
            payload(&format!("registry.test/app@{other}"), &manifest),
            repository(&format!("registry.test/app@{other}")),
        ),
        (payload("registry.test/other", &manifest), repository("registry.test/other")),
        (payload("app", &manifest), repository("app")),
        (payload("", &manifest), repository("")),
    ];
    for (payload, expected) in table {
        for name in ["p256", "ed25519"] {
            let evidence = signer.simple(name, &payload);
            assert_eq!(check(&evidence, &signer.key(name)), expected, "{name}: {payload}");
            assert_eq!(
                check(&evidence, &signer.key("other")),
                Err(OTHER_KEY.to_owned()),
                "{name}: {payload}"
            );
        }
    }
    // The key of the first letter's case is the one of older payloads.
    let mut old = payload("registry.test/app", &manifest);
    let image = json!({"Docker-manifest-digest": manifest});
    old["critical"]["image"] = image;
    assert_eq!(check(&signer.simple("p256", &old), &signer.key("p256")), good("registry.test/app"));
}

#[test]
fn payloads_with_something_else_in_them_are_refused() {
    if !has_openssl() {
        return;
    }
    let signer = Signer::new();
    let key = signer.key("p256");
    let good = payload("registry.test/app", &Digest::of(MANIFEST));
    let mut unknown = good.clone();
    unknown["critical"]["more"] = json!(1);
    let mut kind = good.clone();
    kind["critical"]["type"] = json!("atomic container signature");
    let mut digest = good.clone();
    digest["critical"]["image"] = json!({"docker-manifest-digest": "md5:0"});
    let table = [
        (unknown, "reading the signed payload"),
        (json!([]), "reading the signed payload"),
        (json!({"critical": {}}), "reading the signed payload"),
        (kind, "the signed payload is \"atomic container signature\"; expected a signature of an image"),
        (digest, "the signature is of md5:0, not of this image"),
    ];
    for (payload, expected) in table {
        assert_eq!(check(&signer.simple("p256", &payload), &key), Err(expected.to_owned()), "{payload}");
    }
    let Evidence::SimpleSigning { payload, signature } = signer.simple("p256", &good) else { panic!() };
    let with = |payload: &[u8], signature: &str| Evidence::SimpleSigning {
        payload: payload.to_vec(),
        signature: signature.to_owned(),
    };
    assert!(check(&with(&payload, &format!("{signature}\n")), &key).is_ok());
    for at in 0..payload.len() {
        let mut changed = payload.clone();
        changed[at] ^= 1;
        assert_eq!(check(&with(&changed, &signature), &key), Err(OTHER_KEY.to_owned()), "byte {at}");
    }
    let table = [
        (with(&payload, ""), OTHER_KEY),
        (with(&payload, "AAAA"), OTHER_KEY),
        (with(&payload, "?"), "the signature is not base64"),
        (with(&payload, &"A".repeat(2000)), "the signature has 2000 bytes; at most 1024 are read"),
        (with(&[b' '; 70_000], &signature), "the payload has 70000 bytes; at most 65536 are read"),
    ];
    for (evidence, expected) in table {
        assert_eq!(check(&evidence, &key), Err(expected.to_owned()));
    }
}

#[test]
fn bundles_hold_statements_and_messages() {
    if !has_openssl() {
        return;
    }
    let signer = Signer::new();
    let manifest = Digest::of(MANIFEST);
    let (sign, toto) = ("https://sigstore.dev/cosign/sign/v1", "application/vnd.in-toto+json");
    let other = "9".repeat(64);
    let message = |name: &str, digest: &Digest, algorithm: &str| {
        let digest = json!({"algorithm": algorithm, "digest": STANDARD.encode(digest.as_bytes())});
        bundle(
            &json!({"messageSignature": {"messageDigest": digest, "signature": signer.sign(name, MANIFEST)}}),
        )
    };
    let is = |form| Ok((manifest, form, None));
    let no = |words: &str| Err(words.to_owned());
    for name in ["p256", "ed25519"] {
        let key = signer.key(name);
        let by = |kind: &str, statement: &Value| signer.enveloped(name, kind, statement);
        let old = json!({"base64Signature": signer.sign(name, MANIFEST), "cert": "", "rekorBundle": null});
        let table = [
            (by(toto, &statement(sign, &[&manifest.hex()])), is(SignatureForm::Statement)),
            (
                by(toto, &statement(sign, &[&other, &index().hex()])),
                Ok((index(), SignatureForm::Statement, None)),
            ),
            (
                by(toto, &statement(sign, &[&other])),
                no(&format!("the signature is of sha256:{other}, not of this image")),
            ),
            (by(toto, &statement(sign, &[])), no("the signature is of nothing, not of this image")),
            (
                by(toto, &statement("https://slsa.dev/provenance/v1", &[&manifest.hex()])),
                no(
                    "the signed payload is \"https://slsa.dev/provenance/v1\"; expected a signature of an image",
                ),
            ),
            (
                by("application/json", &statement(sign, &[&manifest.hex()])),
                no("the signed payload is \"application/json\"; expected a signature of an image"),
            ),
            (message(name, &manifest, "SHA2_256"), is(SignatureForm::Message)),
            (
                message(name, &manifest, "SHA2_512"),
                no("the bundle's message digest is \"SHA2_512\"; only SHA2_256 is supported"),
            ),
            (Evidence::Bundle(old.to_string().into_bytes()), is(SignatureForm::Message)),
        ];
        for (evidence, expected) in table {
            assert_eq!(check(&evidence, &key), expected, "{name}: {evidence:?}");
            assert!(check(&evidence, &signer.key("other")).is_err(), "{name}: {evidence:?}");
        }
    }
    let key = signer.key("p256");
    let text = |text: &str| Evidence::Bundle(text.as_bytes().to_vec());
    let table = [
        (text(""), "reading the bundle"),
        (text("{}"), "the bundle has media type \"\"; versions 0.1 to 0.3 are read"),
        (
            text(r#"{"mediaType":"application/vnd.dev.sigstore.bundle.v0.4+json"}"#),
            "the bundle has media type \"application/vnd.dev.sigstore.bundle.v0.4+json\"; versions 0.1 to 0.3 are read",
        ),
        (
            bundle(&json!({})),
            "the bundle has neither; expected either a DSSE envelope or a message signature",
        ),
        (
            bundle(&json!({"dsseEnvelope": {}, "messageSignature": {"signature": ""}})),
            "the bundle has both; expected either a DSSE envelope or a message signature",
        ),
        (bundle(&json!({"dsseEnvelope": {}})), "reading the bundle's envelope"),
        (bundle(&json!({"messageSignature": {"signature": "AAAA"}})), OTHER_KEY),
        (text(&" ".repeat(MAX_BUNDLE + 1)), "the bundle has 1048577 bytes; at most 1048576 are read"),
        (text(&format!(r#"{{"x":{}"#, "[".repeat(100_000))), "reading the bundle"),
    ];
    for (evidence, expected) in table {
        assert_eq!(check(&evidence, &key), Err(expected.to_owned()));
    }
}
