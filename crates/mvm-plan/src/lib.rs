//! Execution plan, canonical encoding, DSSE, admission policy and the audit chain.
//!
//! A plan says everything that a machine is made from. It goes one way, each step with a type of its own:
//! [`Plan`] → [`SignedPlan`] → [`AdmittedPlan`], and only [`admit()`] makes the last.
//! Pure: time, randomness and bytes are passed in; nothing here opens a file or reads a clock.

pub mod admit;
pub mod audit;
pub mod canonical;
pub mod cosign;
pub mod dsse;
mod hex;
pub mod key;
pub mod plan;
pub mod policy;
pub mod provenance;
pub mod signal;
pub mod signed;
pub mod time;
pub mod trust;

pub use admit::{
    AdmittedPlan, Facts, Isolation, LaunchNonce, Refusal, StorePathFacts, admit, check_name, judge,
};
pub use key::{EncryptionSeed, KeyError, KeyId, PublicKey, SigningKey};
pub use plan::{Plan, PlanError};
pub use policy::{Layer, Policy, PolicyError, Rule, RuleOutcome};
pub use signed::{SignError, SignedPlan, SignedPlanError, sign};
pub use time::UtcTime;
pub use trust::{Signatures, Standing, TrustEntry, TrustError, TrustStore, TrustedKey};
