use super::*;
use crate::hex;
use crate::key::tests::{has_openssl, openssl, signing_key};
use p256::ecdsa::signature::Verifier as _;

const TYPE: &str = "http://example.com/HelloWorld";

#[test]
fn the_encoding_is_that_of_the_specification() {
    // DSSE protocol.md, "Test Vectors".
    assert_eq!(pae(TYPE, b"hello world"), b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    assert_eq!(pae("", b""), b"DSSEv1 0  0 ");
    // Lengths are of bytes, not of characters.
    assert_eq!(pae("ü", "ß\n".as_bytes()), "DSSEv1 2 ü 3 ß\n".as_bytes());
}

#[test]
fn the_envelope_of_the_specification_is_read() {
    // DSSE protocol.md, "Test Vectors": another algorithm's signature, without a key ID.
    let text = br#"{"payload": "aGVsbG8gd29ybGQ=",
 "payloadType": "http://example.com/HelloWorld",
 "signatures": [{"sig": "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="}]}"#;
    let envelope = Envelope::parse(text).unwrap();
    assert_eq!((envelope.payload_type(), envelope.payload()), (TYPE, &b"hello world"[..]));
    let [signature] = envelope.signatures() else { panic!("{envelope:?}") };
    assert_eq!((signature.keyid.as_str(), signature.sig.len()), ("", 64));
    // Its key, as a point, and its signature, as r and s.
    let point = concat!(
        "0467cd390f77aa359cb08c2235f652270493a9ed832b0abcc01f70954c0390d238",
        "0c782bd54e269125a44f4433aff1432ce94e12bca73aa67ac80cea12608ddf74"
    );
    let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(&hex::decode::<65>(point).unwrap()).unwrap();
    let sig = p256::ecdsa::Signature::from_slice(&signature.sig).unwrap();
    assert!(key.verify(&envelope.signed_bytes(), &sig).is_ok());
    assert!(key.verify(&pae(TYPE, b"hello worle"), &sig).is_err());
}

#[test]
fn an_envelope_has_one_text_and_reads_back() {
    let keys = [signing_key(1), signing_key(2)];
    let envelope = Envelope::sign(TYPE, b"\xfb\xff\xfe".to_vec(), &[&keys[0], &keys[1]]).unwrap();
    let text = envelope.to_json().unwrap();
    assert!(
        text.starts_with(
            br#"{"payload":"+//+","payloadType":"http://example.com/HelloWorld","signatures":[{"#
        )
    );
    assert_eq!(Envelope::parse(&text).unwrap(), envelope);
    for (key, signature) in keys.iter().zip(envelope.signatures()) {
        assert_eq!(signature.keyid, key.public_key().id().to_string());
        assert!(key.public_key().verifies(&envelope.signed_bytes(), &signature.sig));
    }
}

#[test]
fn signatures_are_added_once_for_each_key() {
    let keys = [signing_key(1), signing_key(2)];
    let both = Envelope::sign(TYPE, b"x".to_vec(), &[&keys[0], &keys[1]]).unwrap();
    let mut added = Envelope::sign(TYPE, b"x".to_vec(), &[&keys[0]]).unwrap();
    added.add_signature(&keys[1]).unwrap();
    assert_eq!(added, both);
    for key in &keys {
        let twice = added.add_signature(key);
        assert!(matches!(twice, Err(DsseError::Twice { id }) if id == key.public_key().id()));
    }
    assert_eq!(added, both);
    (3..17).for_each(|byte| added.add_signature(&signing_key(byte)).unwrap());
    assert!(matches!(added.add_signature(&signing_key(17)), Err(DsseError::Signatures { got: 17 })));
}

#[test]
fn both_alphabets_are_read_with_and_without_padding() {
    let envelope = Envelope {
        payload_type: TYPE.to_owned(),
        payload: b"\xfb\xff\xfe\xff".to_vec(),
        signatures: vec![EnvelopeSignature { keyid: String::new(), sig: vec![0xff] }],
    };
    for (payload, sig) in [("+//+/w==", "/w=="), ("-__-_w==", "_w=="), ("+//+/w", "_w"), ("-__-_w", "/w")] {
        let text = format!(
            r#"{{"payload":"{payload}","payloadType":"{TYPE}","signatures":[{{"sig":"{sig}"}}],"more":0}}"#
        );
        assert_eq!(Envelope::parse(text.as_bytes()).unwrap(), envelope, "{text}");
    }
}

#[test]
fn what_is_no_envelope_is_refused() {
    let sig = |count: usize| vec![r#"{"sig":"AA=="}"#; count].join(",");
    let envelope = |payload: &str, kind: &str, signatures: &str| {
        format!(r#"{{"payload":"{payload}","payloadType":"{kind}","signatures":[{signatures}]}}"#)
    };
    let table = [
        (String::new(), "reading the envelope as JSON"),
        ("[]".to_owned(), "envelope has 0 signatures; expected 1 to 16"),
        ("{}".to_owned(), "envelope has 0 signatures; expected 1 to 16"),
        (envelope("AA==", "t", ""), "envelope has 0 signatures; expected 1 to 16"),
        (envelope("AA==", "t", &sig(17)), "envelope has 17 signatures; expected 1 to 16"),
        (
            envelope("AA==", &"t".repeat(257), &sig(1)),
            "envelope: payloadType has 257 bytes; at most 256 are allowed",
        ),
        (envelope("AA=A", "t", &sig(1)), "envelope: payload is not base64"),
        (envelope("AB==", "t", &sig(1)), "envelope: payload is not base64"),
        (envelope("+-==", "t", &sig(1)), "envelope: payload is not base64"),
        (envelope("AA==", "t", r#"{"sig":"A"}"#), "envelope: sig is not base64"),
        (
            envelope("AA==", "t", &format!(r#"{{"sig":"{}"}}"#, "AAAA".repeat(342))),
            "envelope: sig has 1026 bytes; at most 1024 are allowed",
        ),
        (
            envelope("AA==", "t", &format!(r#"{{"sig":"","keyid":"{}"}}"#, "a".repeat(257))),
            "envelope: keyid has 257 bytes; at most 256 are allowed",
        ),
        (
            format!(r#"{{"payload":"","payload":"","signatures":[{}]}}"#, sig(1)),
            "reading the envelope as JSON",
        ),
        (format!("{} x", envelope("AA==", "t", &sig(1))), "reading the envelope as JSON"),
        (" ".repeat(MAX_ENVELOPE + 1), "envelope has 1048577 bytes; at most 1048576 are allowed"),
        (format!(r#"{{"x":{}"#, "[".repeat(100_000)), "reading the envelope as JSON"),
    ];
    for (text, expected) in table {
        let got = Envelope::parse(text.as_bytes()).map_err(|error| error.to_string());
        assert_eq!(got, Err(expected.to_owned()), "{}", &text[..text.len().min(120)]);
    }
}

#[test]
fn what_cannot_be_signed_is_refused() {
    let key = signing_key(1);
    let keys: Vec<SigningKey> = (0..17).map(signing_key).collect();
    let all: Vec<&SigningKey> = keys.iter().collect();
    assert!(matches!(Envelope::sign(TYPE, vec![], &[]), Err(DsseError::Signatures { got: 0 })));
    assert!(matches!(Envelope::sign(TYPE, vec![], &all), Err(DsseError::Signatures { got: 17 })));
    let twice = Envelope::sign(TYPE, vec![], &[&key, &key]);
    assert!(matches!(twice, Err(DsseError::Twice { id }) if id == key.public_key().id()));
    let long = Envelope::sign(TYPE, vec![0; MAX_ENVELOPE], &[&key]).unwrap();
    assert!(matches!(long.to_json(), Err(DsseError::Size { .. })));
}

#[test]
fn openssl_verifies_our_signature_and_we_verify_its() {
    if !has_openssl() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let write = |name: &str, bytes: &[u8]| std::fs::write(path.join(name), bytes).unwrap();
    let key = signing_key(9);
    let envelope = Envelope::sign(TYPE, b"hello world".to_vec(), &[&key]).unwrap();
    write("public.pem", key.public_key().to_pem().unwrap().as_bytes());
    write("private.pem", key.to_pem().unwrap().as_bytes());
    write("message", b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    write("signature", &envelope.signatures()[0].sig);
    let verify = [
        "pkeyutl",
        "-verify",
        "-pubin",
        "-inkey",
        "public.pem",
        "-rawin",
        "-in",
        "message",
        "-sigfile",
        "signature",
    ];
    assert_eq!(openssl(path, &verify), b"Signature Verified Successfully\n");
    let theirs = openssl(path, &["pkeyutl", "-sign", "-inkey", "private.pem", "-rawin", "-in", "message"]);
    assert_eq!(theirs, envelope.signatures()[0].sig);
}
