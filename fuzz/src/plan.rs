//! Plans: only the canonical text of a valid one is read, and canonical text is its own canonical text.

use mvm_plan::canonical::{from_slice, to_vec};
use mvm_plan::{Plan, SigningKey, sign};
use serde_json::Value;

/// Reads the input as a plan, and as any JSON.
pub fn body(data: &[u8]) {
    if let Ok(plan) = from_slice::<Plan>(data) {
        assert_eq!(to_vec(&plan).ok().as_deref(), Some(data), "another text of the same plan");
        let signed = sign(plan.clone(), &[&SigningKey::from_seed(&[1; 32])]);
        assert!(signed.is_err() || plan.validate().is_ok(), "a plan that is not valid was signed");
    }
    if let Ok(plan) = serde_json::from_slice::<Plan>(data) {
        let text = to_vec(&plan).expect("a plan has a canonical text");
        assert_eq!(from_slice::<Plan>(&text).expect("what was written can be read"), plan);
    }
    let Ok(value) = serde_json::from_slice::<Value>(data) else { return };
    let Ok(text) = to_vec(&value) else { return };
    let again: Value = from_slice(&text).expect("canonical text is canonical");
    assert_eq!(to_vec(&again).ok(), Some(text));
    assert_eq!(again, value, "another value");
}
