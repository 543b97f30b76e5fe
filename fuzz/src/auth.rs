//! Files of credentials: what a login writes is found, what it does not know stays, and a logout leaves nothing.

use mvm_fetch::fuzzing::{credentials, log_in, log_out};
use mvm_ref::RegistryName;
use serde_json::Value;

/// Registries that are looked up; the seeds have entries for them.
const REGISTRIES: [&str; 3] = ["docker.io", "port.example:5000", "plain.example"];

/// Reads the input as a file of credentials, logs in and out.
pub fn body(data: &[u8]) {
    for name in REGISTRIES {
        let Ok(registry) = name.parse::<RegistryName>() else { continue };
        assert_eq!(credentials(data, &registry), credentials(data, &registry));
        let Some(with) = log_in(data, &registry, "user", "pass:word") else { continue };
        assert_eq!(credentials(&with, &registry), Some(("user".to_owned(), "pass:word".to_owned())));
        assert_eq!(
            log_in(&with, &registry, "user", "pass:word").as_ref(),
            Some(&with),
            "again, another text"
        );
        assert_same(data, &with);
        let without = log_out(&with, &registry).expect("what was written can be read");
        assert_eq!(credentials(&without, &registry), None);
        assert_same(data, &without);
    }
}

/// Compares all properties but the credentials.
fn assert_same(before: &[u8], after: &[u8]) {
    // A file that is empty, or has numbers that only text can hold, has no value to compare.
    let Ok(mut before) = serde_json::from_slice::<Value>(before) else { return };
    let after: Value = serde_json::from_slice(after).expect("what was written is JSON");
    for (name, value) in before.as_object_mut().into_iter().flatten().filter(|(name, _)| *name != "auths") {
        assert_eq!(after.get(name), Some(&*value), "{name:?}");
    }
}

/// Valid inputs to start from.
pub fn seeds() -> Vec<Vec<u8>> {
    let full = r#"{
	"auths": {
		"https://index.docker.io/v1/": {"auth": "aHViOnNlY3JldA==", "email": "a@b"},
		"plain.example": {"auth": "dXNlcjpwYXNz"},
		"plain.example/team": {"username": "n", "password": "p"},
		"port.example:5000": {"identitytoken": "token"},
		"https://url.example/v2/": {"registrytoken": "token"},
		"empty.example": {}
	},
	"HttpHeaders": {"X": "y"},
	"psFormat": "table"
}"#;
    let helpers =
        r#"{"credHelpers":{"plain.example":"ecr-login"},"credsStore":"desktop","auths":{"docker.io":{}}}"#;
    [full, helpers, "{}", "", r#"{"auths":null,"credsStore":""}"#, r#"{"a":1e400,"auths":{"\u0061":{}}}"#]
        .iter()
        .map(|text| text.as_bytes().to_vec())
        .collect()
}
