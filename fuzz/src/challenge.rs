//! What a registry asks for: read without losing its way, and never with a control character.

use mvm_fetch::fuzzing::challenge;

/// Reads each line of the input as one header.
pub fn body(data: &[u8]) {
    let values: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    let read = challenge(&values);
    assert_eq!(challenge(&values), read);
    match read {
        Ok(Some((realm, service, scope))) => {
            let parts = [Some(realm), service, scope];
            let bytes: usize = parts.iter().flatten().map(String::len).sum();
            assert!(bytes <= data.len(), "more came out than went in");
        }
        Ok(None) => {}
        Err(words) => assert!(!words.contains(char::is_control) && words.chars().count() <= 200, "{words:?}"),
    }
}
