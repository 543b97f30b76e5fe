//! What a policy says, and what it says of a plan, without anything being launched.

use crate::clock;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::keys;
use crate::policies::{self, PolicyFileError, PolicySource};
use mvm_launch::Qemu;
use mvm_plan::audit::Event;
use mvm_plan::policy::{Layer, Policy, Rule};
use mvm_plan::{Isolation, KeyId, LaunchNonce, RuleOutcome, SignedPlan};
use mvm_ref::{Digest, VmName};
use serde::Serialize;

/// The policy that a launch would be judged under.
#[derive(Clone, Debug, Serialize)]
pub struct PolicyReport {
    /// The names of its layers, joined.
    pub policy: String,
    /// What each layer restricts; a plan has to satisfy all of them.
    pub layers: Vec<Layer>,
}

/// What a policy says of a plan.
#[derive(Clone, Debug, Serialize)]
pub struct PlanReport {
    /// Digest of the plan.
    pub plan: Digest,
    /// Name of what would run.
    pub workload: VmName,
    /// The policy.
    pub policy: String,
    /// The trusted keys that signed.
    pub signers: Vec<KeyId>,
    /// Whether it would be admitted now.
    pub admitted: bool,
    /// What each rule says.
    pub rules: Vec<RuleReport>,
}

/// What a rule says of a plan.
#[derive(Clone, Debug, Serialize)]
pub struct RuleReport {
    /// The rule.
    pub rule: Rule,
    /// Whether the plan satisfies it.
    pub passed: bool,
    /// What was found.
    pub why: String,
    /// How to satisfy it; absent if it passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl PolicyReport {
    /// Reads the policy that holds here with all of `asked`; needs no store.
    pub fn read(asked: &[PolicySource]) -> Result<Self, EngineError> {
        let policy = policies::load(asked)?;
        Ok(Self { policy: policy.name(), layers: policy.layers().to_vec() })
    }
}

impl Engine {
    /// Says what each rule of the policy that holds here, with all of `asked`, says of a plan.
    ///
    /// Nothing is launched or recorded. Where the plan's kernel is not in the store, the machine counts as emulated.
    pub fn check_plan(&self, plan: &[u8], asked: &[PolicySource]) -> Result<PlanReport, EngineError> {
        let policy = policies::load(asked)?;
        let signed = SignedPlan::parse(plan)
            .map_err(|source| EngineError::Plan { act: "read", source: source.into() })?;
        let plan = signed.unverified_plan();
        let isolation = match self.store.kernel(&plan.kernel.digest)? {
            Some(kernel) => {
                let (info, base) = (self.kernel_info(&kernel)?, self.base_initramfs(&kernel)?);
                let qemu = Qemu::find(&self.settings.program_path)?;
                self.accelerator(&qemu, &kernel, &info, &base)?.0.isolation()
            }
            None => Isolation::Emulated,
        };
        let known = self.known_of_image(plan)?;
        let nonce = LaunchNonce::from_bytes([0; 16]);
        let facts = known.facts(&self.settings.scope, isolation, nonce, clock::unix_seconds());
        let trust = keys::load(&self.settings.root)?.trust;
        let (outcomes, signers) = mvm_plan::judge(&signed, &trust, &policy, &facts);
        Ok(PlanReport {
            plan: signed.digest(),
            workload: plan.workload.clone(),
            policy: policy.name(),
            signers: signers.iter().map(|key| key.id()).collect(),
            admitted: outcomes.iter().all(|outcome| outcome.passed),
            rules: outcomes.into_iter().map(RuleReport::from).collect(),
        })
    }

    /// Reads the policy that holds for a launch, and records that there is none that can be relied on.
    pub(crate) fn policy_or_refuse(&self, asked: &[PolicySource]) -> Result<Policy, EngineError> {
        policies::load(asked).or_else(|error| {
            // A name that is misspelt is nothing that an auditor has to know of.
            if !matches!(error, PolicyFileError::Unknown(_)) {
                let names: Vec<String> = asked.iter().map(ToString::to_string).collect();
                let (policy, rules) = (names.join(" + "), vec![Rule::ReadablePolicy]);
                self.audit.append(&self.settings.scope, vec![Event::Refuse { plan: None, policy, rules }])?;
            }
            Err(error.into())
        })
    }
}

impl From<RuleOutcome> for RuleReport {
    fn from(outcome: RuleOutcome) -> Self {
        let RuleOutcome { rule, passed, why, remedy } = outcome;
        Self { rule, passed, why, remedy: (!passed).then_some(remedy) }
    }
}
