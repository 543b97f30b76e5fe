use super::*;
use crate::canonical;
use crate::dsse::Envelope;
use crate::key::SigningKey;
use crate::key::tests::{has_openssl, openssl, signing_key};
use crate::plan::tests::sample;
use crate::policy::Rule;
use crate::signed::{PAYLOAD_TYPE, sign};
use crate::time::UtcTime;
use crate::trust::{TrustEntry, TrustedKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use std::sync::LazyLock;

const NONCE: LaunchNonce = LaunchNonce::from_bytes([0xab; 16]);

fn facts() -> Facts<'static> {
    static UNCONFINED: BTreeSet<String> = BTreeSet::new();
    static SCOPE: LazyLock<ScopeName> = LazyLock::new(ScopeName::default);
    Facts {
        now: 1_700_000_100,
        isolation: Isolation::Kvm,
        generations: &[1],
        scope: &SCOPE,
        confinement: &UNCONFINED,
        image_signatures: &[],
        store_paths: None,
        pulled_at: None,
        created_at: None,
        nonce: NONCE,
    }
}

fn trusted(key: &SigningKey, name: &str, development: bool) -> TrustedKey {
    TrustedKey { name: name.to_owned(), key: key.public_key(), development }
}

fn trust() -> TrustStore {
    TrustStore::new(vec![
        trusted(&signing_key(1), "local", true),
        trusted(&signing_key(2), "release", false),
        trusted(&signing_key(3), "second", false),
    ])
    .unwrap()
}

fn id(byte: u8) -> KeyId {
    signing_key(byte).public_key().id()
}

#[test]
fn an_admitted_plan_carries_what_admitted_it() {
    let keys = [signing_key(3), signing_key(9), signing_key(1)];
    let signed = sign(sample(), &keys.each_ref()).unwrap();
    let admitted = admit(&signed, &trust(), &Policy::production(), &facts()).unwrap();
    assert_eq!(
        admitted,
        AdmittedPlan {
            plan: sample(),
            digest: signed.digest(),
            signers: vec![id(1), id(3)],
            policy: "production".to_owned(),
            isolation: Isolation::Kvm,
            nonce: NONCE,
            admitted_at: 1_700_000_100,
        }
    );
    // A plan that came as bytes is admitted like one that was signed here.
    let read = SignedPlan::parse(signed.as_bytes()).unwrap();
    assert_eq!(admit(&read, &trust(), &Policy::production(), &facts()).unwrap(), admitted);
}

#[test]
fn a_refusal_tells_every_rule_and_prints_one_line() {
    let mut plan = sample();
    let crate::plan::Source::Oci { requested, mutable_tag, .. } = &mut plan.source else {
        panic!("an OCI image")
    };
    (*requested, *mutable_tag) = ("debian:12".parse().unwrap(), true);
    let signed = sign(plan, &[&signing_key(1)]).unwrap();
    let facts = Facts { isolation: Isolation::Emulated, ..facts() };
    let refusal = admit(&signed, &trust(), &Policy::production(), &facts).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "policy production refuses the plan for web: release-key: signed with development keys only: \"local\" \
         (and 2 more rules)"
    );
    let told: Vec<_> = refusal
        .failed()
        .iter()
        .map(|failed| (failed.rule, failed.why.as_str(), failed.remedy.as_str()))
        .collect();
    let expected = [
        (
            Rule::ReleaseKey,
            "signed with development keys only: \"local\"",
            "sign the plan with a trusted key that is not marked as a development key",
        ),
        (
            Rule::PinnedImage,
            "the image was asked for by the mutable tag \"debian:12\"",
            "ask for it by digest: put @sha256:1111111111111111111111111111111111111111111111111111111111111111 in \
             place of the tag",
        ),
        (
            Rule::HardwareIsolation,
            "the machine would be emulated, which is not a security boundary",
            "run it on a host where KVM works",
        ),
    ];
    assert_eq!(told, expected);
    assert_eq!((refusal.policy(), refusal.digest()), ("production", Some(signed.digest())));
    assert!(admit(&signed, &trust(), &Policy::development(), &facts).is_ok());
}

#[test]
fn a_name_is_judged_before_there_is_a_plan_and_by_the_same_words() {
    let policy = |text: &str| {
        let unread = |_: &std::path::Path| Err("no file".into());
        Policy::from(crate::policy::Layer::parse("p", text.as_bytes(), &unread).unwrap())
    };
    let table = [
        ("", "127.0.0.1:5000/web:1", vec![]),
        ("registries = [\"a.example\"]", "a.example/web:1", vec![]),
        ("registries = [\"a.example\"]", "b.example/web:1", vec![Rule::AllowedRegistry]),
        ("registries = [\"a.example\"]", "oci:/srv/web:1", vec![Rule::AllowedRegistry]),
        ("repositories = [\"a.example/web\"]", "a.example/db:1", vec![Rule::AllowedRepository]),
        ("pinned-images = true", "a.example/web:1", vec![Rule::PinnedImage]),
        ("pinned-images = true\nregistries = []", "web", vec![Rule::PinnedImage, Rule::AllowedRegistry]),
        // What can't be known from the name is not judged by it.
        ("networks = []\nmax-cpus = 0\nmax-pull-age = \"1s\"", "web", vec![]),
    ];
    for (text, name, expected) in table {
        let policy = policy(text);
        let requested: RequestedImage = name.parse().unwrap();
        let by_name = check_name(&requested, &policy);
        assert_eq!(by_name.as_ref().map_or_else(Refusal::rules, |()| vec![]), expected, "{text} {name}");

        let mut plan = sample();
        let crate::plan::Source::Oci { requested, mutable_tag, .. } = &mut plan.source else {
            panic!("an OCI image")
        };
        (*requested, *mutable_tag) = (name.parse().unwrap(), true);
        let signed = sign(plan, &[&signing_key(2)]).unwrap();
        let Err(refusal) = by_name else { continue };
        let at_door = admit(&signed, &trust(), &policy, &facts()).unwrap_err();
        let whys = |refusal: &Refusal| refusal.failed().iter().map(|one| one.why.clone()).collect::<Vec<_>>();
        assert_eq!(whys(&refusal), whys(&at_door), "{text} {name}");
        assert_eq!(refusal.digest(), None);
        assert!(refusal.to_string().starts_with("policy p@"), "{refusal}");
    }
    let pinned = format!("a.example/web@{}", Digest::of(b"web"));
    assert_eq!(check_name(&pinned.parse().unwrap(), &policy("pinned-images = true")), Ok(()));
}

/// The envelope of the sample, with these signatures put as they are.
fn envelope(kind: &str, signatures: &[(String, Vec<u8>)]) -> Vec<u8> {
    let payload = URL_SAFE_NO_PAD.encode(canonical::to_vec(&sample()).unwrap());
    let signatures: Vec<String> = signatures
        .iter()
        .map(|(keyid, sig)| format!(r#"{{"keyid":"{keyid}","sig":"{}"}}"#, STANDARD.encode(sig)))
        .collect();
    format!(r#"{{"payloadType":"{kind}","payload":"{payload}","signatures":[{}]}}"#, signatures.join(","))
        .into_bytes()
}

#[test]
fn signatures_count_only_for_trusted_keys_over_this_payload() {
    let message = crate::dsse::pae(PAYLOAD_TYPE, &canonical::to_vec(&sample()).unwrap());
    let by = |byte: u8| signing_key(byte).sign(&message).to_vec();
    let named = |byte: u8| id(byte).to_string();
    let none = String::new;
    let table = [
        ("one key", vec![(named(2), by(2))], vec![id(2)]),
        ("no key ID", vec![(none(), by(2))], vec![id(2)]),
        ("a key ID of another scheme", vec![("SHA256:abc".to_owned(), by(2))], vec![id(2)]),
        ("a key ID of an unknown key", vec![(named(9), by(2))], vec![id(2)]),
        ("the key ID of another trusted key", vec![(named(3), by(2))], vec![]),
        ("an unknown key", vec![(named(9), by(9))], vec![]),
        ("an unknown key under a trusted key's ID", vec![(named(2), by(9))], vec![]),
        ("a signature of nothing", vec![(named(2), vec![])], vec![]),
        ("a signature of another length", vec![(named(2), [by(2), vec![0]].concat())], vec![]),
        (
            "a signature of the payload alone",
            vec![(named(2), signing_key(2).sign(b"payload").to_vec())],
            vec![],
        ),
        (
            "one good among bad",
            vec![(named(2), by(9)), (named(3), by(3)), (none(), vec![0; 64])],
            vec![id(3)],
        ),
        ("one key twice", vec![(named(2), by(2)), (none(), by(2))], vec![id(2)]),
        ("two keys", vec![(named(3), by(3)), (named(2), by(2))], vec![id(2), id(3)]),
    ];
    for (name, signatures, expected) in table {
        let signed = SignedPlan::parse(&envelope(PAYLOAD_TYPE, &signatures)).unwrap();
        match admit(&signed, &trust(), &Policy::production(), &facts()) {
            Ok(admitted) => assert_eq!(admitted.signers(), expected, "{name}"),
            Err(refusal) => {
                let rules: Vec<Rule> = refusal.failed().iter().map(|failed| failed.rule).collect();
                assert_eq!(
                    (rules, expected),
                    (vec![Rule::TrustedSigner, Rule::ReleaseKey], vec![]),
                    "{name}"
                );
            }
        }
    }
    let signed = sign(sample(), &[&signing_key(2)]).unwrap();
    let refusal = admit(&signed, &TrustStore::default(), &Policy::development(), &facts()).unwrap_err();
    assert_eq!(refusal.failed().iter().map(|failed| failed.rule).collect::<Vec<_>>(), [Rule::TrustedSigner]);
}

#[test]
fn a_revoked_or_ended_key_counts_for_nothing_and_is_named() {
    let time = |seconds| Some(UtcTime::from_unix_seconds(seconds).unwrap());
    let entry = |byte, name: &str, until, revoked| TrustEntry {
        key: trusted(&signing_key(byte), name, false),
        until,
        revoked,
    };
    let now = facts().now;
    let store = TrustStore::with_entries(vec![
        entry(2, "old", None, time(1_600_000_000)),
        entry(3, "last year's", time(now), None),
        entry(4, "this year's", time(now + 1), None),
    ])
    .unwrap();
    let old = "\"old\", which was revoked at 2020-09-13T12:26:40.000Z";
    let last = format!("\"last year's\", which was retired at {}", time(now).unwrap());
    type Expected = Result<&'static [u8], String>;
    let table: [(&[u8], Expected); 4] = [
        (&[2], Err(format!("signed only by {old}"))),
        (&[3, 2], Err(format!("signed only by {old}, {last}"))),
        (&[4], Ok(&[4])),
        (&[2, 4], Ok(&[4])),
    ];
    for (signers, expected) in table {
        let keys: Vec<SigningKey> = signers.iter().map(|byte| signing_key(*byte)).collect();
        let signed = sign(sample(), &keys.iter().collect::<Vec<_>>()).unwrap();
        let got = admit(&signed, &store, &Policy::development(), &facts());
        match (got, expected) {
            (Ok(admitted), Ok(bytes)) => {
                let ids: Vec<KeyId> = bytes.iter().map(|byte| signing_key(*byte).public_key().id()).collect();
                assert_eq!(admitted.signers(), ids);
            }
            (Err(refusal), Err(why)) => {
                assert_eq!((refusal.failed()[0].rule, &refusal.failed()[0].why), (Rule::TrustedSigner, &why));
            }
            (got, expected) => panic!("{signers:?}: {got:?}, expected {expected:?}"),
        }
    }
}

#[test]
fn a_changed_byte_is_refused_or_changes_nothing() {
    let keys = [signing_key(2), signing_key(1)];
    let signed = sign(sample(), &keys.each_ref()).unwrap();
    let (trust, policy) = (trust(), Policy::production());
    let text = signed.as_bytes();
    let mut admitted_anyway = 0;
    let mut judge = |changed: &[u8], what: &str, position: usize| {
        let Ok(read) = SignedPlan::parse(changed) else { return };
        if let Ok(admitted) = admit(&read, &trust, &policy, &facts()) {
            assert_eq!(
                (admitted.plan(), admitted.digest()),
                (&sample(), signed.digest()),
                "{what} at {position}"
            );
            admitted_anyway += 1;
        }
    };
    for position in 0..text.len() {
        let mut changed = text.to_vec();
        for bit in 0..8 {
            changed[position] = text[position] ^ (1 << bit);
            judge(&changed, "bit", position);
        }
        for byte in *b"A\"{},:0 \\_-/+\0\xff" {
            changed[position] = byte;
            judge(&changed, "byte", position);
        }
        judge(&text[..position], "end", position);
        changed = text.to_vec();
        changed.remove(position);
        judge(&changed, "removal", position);
        changed = text.to_vec();
        changed.insert(position, b' ');
        judge(&changed, "space", position);
    }
    // Key IDs, space between members and signatures beside the one that counts are not the plan.
    assert!(admitted_anyway > 0);
}

#[test]
fn a_changed_payload_under_the_same_signature_is_refused() {
    let signed = sign(sample(), &[&signing_key(2)]).unwrap();
    let text = String::from_utf8(signed.as_bytes().to_vec()).unwrap();
    let (from, to) = (canonical::to_vec(&sample()).unwrap(), {
        let mut plan = sample();
        plan.process.as_mut().unwrap().argv[2] = "echo other\n".to_owned();
        canonical::to_vec(&plan).unwrap()
    });
    let changed = text.replace(&STANDARD.encode(from), &STANDARD.encode(to));
    assert_ne!(changed, text);
    let read = SignedPlan::parse(changed.as_bytes()).unwrap();
    let refusal = admit(&read, &trust(), &Policy::development(), &facts()).unwrap_err();
    assert_eq!(refusal.failed()[0].rule, Rule::TrustedSigner);
}

#[test]
fn a_signature_over_another_payload_type_is_no_signature_of_a_plan() {
    let payload = canonical::to_vec(&sample()).unwrap();
    let other = Envelope::sign("application/vnd.other+json", payload, &[&signing_key(2)]).unwrap();
    let sig = other.signatures()[0].sig.clone();
    let read = SignedPlan::parse(&envelope(PAYLOAD_TYPE, &[(String::new(), sig)])).unwrap();
    assert!(admit(&read, &trust(), &Policy::development(), &facts()).is_err());
}

#[test]
fn a_plan_that_openssl_signed_is_admitted() {
    if !has_openssl() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    openssl(path, &["genpkey", "-algorithm", "ed25519", "-out", "key.pem"]);
    let public = String::from_utf8(openssl(path, &["pkey", "-in", "key.pem", "-pubout"])).unwrap();
    let key = crate::key::PublicKey::from_pem(&public).unwrap();
    let payload = canonical::to_vec(&sample()).unwrap();
    std::fs::write(path.join("message"), crate::dsse::pae(PAYLOAD_TYPE, &payload)).unwrap();
    let sig = openssl(path, &["pkeyutl", "-sign", "-inkey", "key.pem", "-rawin", "-in", "message"]);
    let read = SignedPlan::parse(&envelope(PAYLOAD_TYPE, &[(String::new(), sig)])).unwrap();
    let trust =
        TrustStore::new(vec![TrustedKey { name: "openssl".to_owned(), key, development: false }]).unwrap();
    let admitted = admit(&read, &trust, &Policy::production(), &facts()).unwrap();
    assert_eq!(admitted.signers(), [key.id()]);
}

#[test]
fn nonces_read_back() {
    let text = "abababababababababababababababab";
    assert_eq!(NONCE.to_string(), text);
    assert_eq!(text.parse(), Ok(NONCE));
    for text in ["", "ab", &text.to_uppercase(), &"a".repeat(33)] {
        assert_eq!(text.parse::<LaunchNonce>(), Err(NonceError(text.to_owned())));
    }
}
