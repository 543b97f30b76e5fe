//! DSSE envelopes and signed plans: what is read can be written, and no change of a signed one is one.

use mvm_plan::dsse::{Envelope, MAX_SIGNATURES};
use mvm_plan::{SignedPlan, SigningKey};

/// Reads the input as an envelope and as a signed plan.
pub fn body(data: &[u8]) {
    if let Ok(envelope) = Envelope::parse(data) {
        assert!((1..=MAX_SIGNATURES).contains(&envelope.signatures().len()));
        let message = envelope.signed_bytes();
        assert!(message.ends_with(envelope.payload()) && message.starts_with(b"DSSEv1 "));
        if let Ok(text) = envelope.to_json() {
            let again = Envelope::parse(&text).expect("what was written can be read");
            assert_eq!(again, envelope);
            assert_eq!(again.to_json().ok(), Some(text));
        }
        let key = SigningKey::from_seed(&[7; 32]).public_key();
        let is_signed = envelope.signatures().iter().any(|signature| key.verifies(&message, &signature.sig));
        assert!(!is_signed, "a signature by a key that signs nothing");
    }
    if let Ok(signed) = SignedPlan::parse(data) {
        assert!(signed.unverified_plan().validate().is_ok());
        assert_eq!(signed.as_bytes(), data);
        let again = SignedPlan::parse(signed.as_bytes()).expect("what was read can be read again");
        assert_eq!(again.digest(), signed.digest());
    }
}
