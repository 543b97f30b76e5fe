use super::*;
use crate::key::tests::signing_key;

fn trusted(byte: u8, name: &str) -> TrustedKey {
    TrustedKey {
        name: name.to_owned(),
        key: signing_key(byte).public_key(),
        development: byte.is_multiple_of(2),
    }
}

#[test]
fn a_store_reads_back_from_its_text() {
    let store = TrustStore::new(vec![trusted(1, "release"), trusted(2, "local")]).unwrap();
    let text = serde_json::to_string(&store).unwrap();
    let expected = concat!(
        r#"{"keys":[{"name":"release","key":"ed25519:iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w=","development":false},"#,
        r#"{"name":"local","key":"ed25519:gTl3Dqh9F19Wo1Rmw0x+zMuNipG07jeiXfYPW4/Js5Q=","development":true}]}"#,
    );
    assert_eq!(text, expected);
    assert_eq!(serde_json::from_str::<TrustStore>(&text).unwrap(), store);
}

fn at(seconds: i64) -> Option<UtcTime> {
    Some(UtcTime::from_unix_seconds(seconds).unwrap())
}

#[test]
fn what_no_longer_counts_reads_back_too() {
    let entry = |byte, until, revoked| TrustEntry { key: trusted(byte, "k"), until, revoked };
    let store = TrustStore::with_entries(vec![
        entry(1, at(100), None),
        entry(2, None, at(200)),
        entry(3, at(300), at(400)),
    ])
    .unwrap();
    let text = serde_json::to_string(&store).unwrap();
    let [first, second, third] = [1, 2, 3].map(|byte| trusted(byte, "k").key);
    let expected = format!(
        concat!(
            r#"{{"keys":[{{"name":"k","key":"{}","development":false,"until":"1970-01-01T00:01:40.000Z"}},"#,
            r#"{{"name":"k","key":"{}","development":true,"revoked":"1970-01-01T00:03:20.000Z"}},"#,
            r#"{{"name":"k","key":"{}","development":false,"until":"1970-01-01T00:05:00.000Z","#,
            r#""revoked":"1970-01-01T00:06:40.000Z"}}]}}"#,
        ),
        first, second, third
    );
    assert_eq!(text, expected);
    assert_eq!(serde_json::from_str::<TrustStore>(&text).unwrap(), store);
}

#[test]
fn a_key_counts_until_its_end_and_never_once_revoked() {
    let key = signing_key(1);
    let envelope = Envelope::sign("t", b"x".to_vec(), &[&key]).unwrap();
    let (end, before) = (at(100), at(5000));
    let table = [
        (None, None, 0, "trusted", true),
        (end, None, 99, "trusted until 1970-01-01T00:01:40.000Z", true),
        (end, None, 100, "retired at 1970-01-01T00:01:40.000Z", false),
        (None, end, 100, "revoked at 1970-01-01T00:01:40.000Z", false),
        // Also where the clock was set back to before that.
        (None, end, 0, "revoked at 1970-01-01T00:01:40.000Z", false),
        (before, end, 0, "revoked at 1970-01-01T00:01:40.000Z", false),
    ];
    for (until, revoked, now, words, counts) in table {
        let entry = TrustEntry { key: trusted(1, "k"), until, revoked };
        assert_eq!((entry.standing(now).to_string().as_str(), entry.standing(now).counts()), (words, counts));
        let store =
            TrustStore::with_entries(vec![TrustEntry::from(trusted(2, "other")), entry.clone()]).unwrap();
        let expected = match counts {
            true => Signatures { valid: vec![&entry.key], lapsed: vec![] },
            false => Signatures { valid: vec![], lapsed: vec![&entry] },
        };
        assert_eq!(store.signers(&envelope, now), expected, "{words}");
    }
}

#[test]
fn what_is_no_store_is_refused() {
    let id = trusted(1, "a").id();
    let table = [
        (vec![trusted(1, "a"), trusted(1, "b")], TrustError::Twice { id }),
        (vec![trusted(1, "")], TrustError::Name { id, name: String::new() }),
        (vec![trusted(1, "a\nb")], TrustError::Name { id, name: "a\nb".to_owned() }),
        (vec![trusted(1, &"a".repeat(129))], TrustError::Name { id, name: "a".repeat(80) }),
        (vec![trusted(1, "a"); 65], TrustError::Count { got: 65 }),
    ];
    for (keys, expected) in table {
        let lines: Vec<String> = keys
            .iter()
            .map(|TrustedKey { name, key, development }| {
                format!(r#"{{"name":{name:?},"key":"{key}","development":{development}}}"#)
            })
            .collect();
        let text = format!(r#"{{"keys":[{}]}}"#, lines.join(","));
        assert_eq!(serde_json::from_str::<TrustStore>(&text).unwrap_err().to_string(), expected.to_string());
        assert_eq!(TrustStore::new(keys), Err(expected));
    }
    // Whether a key is for development is never left to a default.
    let key = signing_key(1).public_key();
    for text in [
        format!(r#"{{"keys":[{{"name":"a","key":"{key}"}}]}}"#),
        format!(r#"{{"keys":[{{"name":"a","key":"{key}","development":false,"more":1}}]}}"#),
        format!(r#"{{"keys":[{{"name":"a","key":"{key}","development":false,"revoked":true}}]}}"#),
        format!(r#"{{"keys":[],"{key}":1}}"#),
        "{}".to_owned(),
    ] {
        assert!(serde_json::from_str::<TrustStore>(&text).is_err(), "{text}");
    }
}
