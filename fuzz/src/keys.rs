//! Keys and trust stores: what is read can be written and read again.

use mvm_plan::{KeyId, PublicKey, SigningKey, TrustStore};

/// Reads the input as each kind of key.
pub fn body(data: &[u8]) {
    if let Ok(store) = serde_json::from_slice::<TrustStore>(data) {
        let text = serde_json::to_vec(&store).expect("a store is plain data");
        let again: TrustStore = serde_json::from_slice(&text).expect("what was written can be read");
        assert_eq!(serde_json::to_vec(&again).ok(), Some(text));
        assert_eq!(again.entries().len(), store.entries().len());
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(key) = SigningKey::from_pem(text) {
        let pem = key.to_pem().expect("a key has a text");
        let again = SigningKey::from_pem(&pem).expect("what was written can be read");
        assert_eq!(again.public_key().as_bytes(), key.public_key().as_bytes());
    }
    if let Ok(key) = PublicKey::from_pem(text) {
        check(&key);
        let pem = key.to_pem().expect("a key has a text");
        assert_eq!(
            PublicKey::from_pem(&pem).expect("what was written can be read").as_bytes(),
            key.as_bytes()
        );
    }
    if let Ok(key) = text.parse::<PublicKey>() {
        check(&key);
        assert_eq!(key.to_string(), text);
    }
    if let Ok(id) = text.parse::<KeyId>() {
        assert_eq!(id.to_string(), text);
    }
}

fn check(key: &PublicKey) {
    assert_eq!(PublicKey::from_bytes(key.as_bytes()).expect("a sound key").as_bytes(), key.as_bytes());
    assert!(!key.verifies(b"message", &[0; 64]), "a key that takes any signature");
}
