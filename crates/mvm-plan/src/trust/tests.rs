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
        let text = format!(r#"{{"keys":{}}}"#, serde_json::to_string(&keys).unwrap());
        assert_eq!(serde_json::from_str::<TrustStore>(&text).unwrap_err().to_string(), expected.to_string());
        assert_eq!(TrustStore::new(keys), Err(expected));
    }
    // Whether a key is for development is never left to a default.
    let key = signing_key(1).public_key();
    for text in [
        format!(r#"{{"keys":[{{"name":"a","key":"{key}"}}]}}"#),
        format!(r#"{{"keys":[{{"name":"a","key":"{key}","development":false,"more":1}}]}}"#),
        format!(r#"{{"keys":[],"{key}":1}}"#),
        "{}".to_owned(),
    ] {
        assert!(serde_json::from_str::<TrustStore>(&text).is_err(), "{text}");
    }
}
