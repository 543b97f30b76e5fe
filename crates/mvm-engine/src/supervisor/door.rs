//! The door to a machine: a plan, read as a stranger would, is admitted or refused, and either is on record.

use crate::audit_log::{Fate, Note};
use crate::clock;
use crate::engine::Engine;
use crate::error::{EngineError, chain};
use crate::keys;
use crate::policies;
use crate::used_plans::UsedPlans;
use crate::vm::{Record, VmDirectory};
use mvm_plan::audit::{Event, Outcome};
use mvm_plan::plan::Root;
use mvm_plan::policy::{Policy, Rule};
use mvm_plan::{AdmittedPlan, Isolation, LaunchNonce, SignedPlan};
use mvm_ref::Digest;
use mvm_store::{Image, Kernel};
use std::collections::BTreeSet;

/// A plan that stands before the policy it is judged under.
pub(super) struct Door<'a> {
    engine: &'a Engine,
    record: &'a Record,
    plan: SignedPlan,
    policy: Policy,
}

impl<'a> Door<'a> {
    /// Reads a plan, and the policies that hold for it.
    pub fn open(engine: &'a Engine, record: &'a Record, plan: &[u8]) -> Result<Self, EngineError> {
        let refuse =
            |plan, policy: &str, rule, error| refuse(engine, record, Some(plan), policy, vec![rule], error);
        let policy = match policies::load(&record.policy) {
            Ok(policy) => policy,
            Err(error) => {
                let names = policies::names(&record.policy);
                return refuse(record.plan, &names, Rule::ReadablePolicy, error.into());
            }
        };
        match SignedPlan::parse(plan) {
            Ok(plan) => Ok(Self { engine, record, plan, policy }),
            Err(source) => {
                let error = EngineError::Plan { act: "read", source: source.into() };
                refuse(Digest::of(plan), &policy.name(), Rule::PlanFormat, error)
            }
        }
    }

    /// Returns the engine that the door belongs to.
    pub fn engine(&self) -> &'a Engine {
        self.engine
    }

    /// Returns the plan, which nothing is known of yet.
    pub fn plan(&self) -> &SignedPlan {
        &self.plan
    }

    /// Lets the policy decide, and records what it decided against.
    ///
    /// `confinement` names the measures by which the hypervisor will be confined.
    pub fn admit(
        &self,
        isolation: Isolation,
        confinement: BTreeSet<String>,
    ) -> Result<AdmittedPlan, EngineError> {
        let trust = self.engine.key_store().trust()?;
        let nonce = LaunchNonce::from_bytes(keys::random()?);
        let mut known = self.engine.known_of_image(self.plan.unverified_plan(), &self.policy)?;
        known.confinement = confinement;
        let facts = known.facts(&self.record.scope, isolation, nonce, clock::unix_seconds());
        mvm_plan::admit(&self.plan, &trust, &self.policy, &facts).or_else(|refusal| {
            let (plan, policy, rules) = (refusal.digest(), refusal.policy().to_owned(), refusal.rules());
            let error = EngineError::Refused(Box::new(refusal));
            refuse(self.engine, self.record, plan, &policy, rules, error)
        })
    }

    /// Returns an image that the plan names, if it has the shape that the plan says.
    pub fn image(&self, root: &Root) -> Result<Image, EngineError> {
        let Some(image) = self.engine.scope.image_by_root(&root.root_hash)? else {
            return self.refuse(Rule::RootImage, EngineError::UnknownImage(root.root_hash.to_string()));
        };
        let record = image.record();
        let planned = (root.generation, root.data_blocks, root.hash_start, root.size);
        if planned != (image.generation(), record.data_blocks, record.hash_start, record.size) {
            return self.refuse(Rule::RootImage, EngineError::OtherShape(root.root_hash));
        }
        Ok(image)
    }

    /// Compares what the store knows of how to boot a kernel with what the plan names.
    pub fn check_record(&self, kernel: &Kernel) -> Result<(), EngineError> {
        let got = Digest::of(kernel.info());
        match self.plan.unverified_plan().kernel.record {
            Some(expected) if expected != got => {
                let changed = EngineError::Changed { what: "the record of the kernel", expected, got };
                self.refuse(Rule::KernelDigest, changed)
            }
            _ => Ok(()),
        }
    }

    /// Notes that a plan for one launch is being launched; refused if it was before. On disk when this returns.
    pub fn use_up(&self, admitted: &AdmittedPlan) -> Result<(), EngineError> {
        if !admitted.plan().single_use {
            return Ok(());
        }
        let used = UsedPlans::new(&self.engine.settings.root);
        if used.use_up(&admitted.digest(), admitted.plan().validity.not_after, &admitted.nonce())? {
            return Ok(());
        }
        self.refuse(Rule::SingleUse, EngineError::UsedUp(admitted.digest()))
    }

    /// Says whether an error is a refusal, which is on record already.
    pub fn records(error: &EngineError) -> bool {
        matches!(
            error,
            EngineError::Refused(_)
                | EngineError::UsedUp(_)
                | EngineError::Policy(_)
                | EngineError::Plan { act: "read", .. }
                | EngineError::Kernels(_)
                | EngineError::Changed { .. }
                | EngineError::UnknownImage(_)
                | EngineError::OtherShape(_)
        )
    }

    /// Records that the plan was refused for its kernel, if it is that, and returns why.
    pub fn refuse_kernel<T>(&self, error: EngineError) -> Result<T, EngineError> {
        match error {
            error @ EngineError::Kernels(_) => self.refuse(Rule::KernelDigest, error),
            error => Err(error),
        }
    }

    /// Records that the plan was refused under a rule, and returns why.
    pub fn refuse<T>(&self, rule: Rule, error: EngineError) -> Result<T, EngineError> {
        let digest = Some(self.plan.digest());
        refuse(self.engine, self.record, digest, &self.policy.name(), vec![rule], error)
    }
}

/// Records a refusal. It is returned in any case: where it can't be recorded, that is told instead.
fn refuse<T>(
    engine: &Engine,
    record: &Record,
    plan: Option<Digest>,
    policy: &str,
    rules: Vec<Rule>,
    error: EngineError,
) -> Result<T, EngineError> {
    let refuse = Event::Refuse { plan, policy: policy.to_owned(), rules };
    engine.audit.append(&record.scope, vec![refuse])?;
    Err(error)
}

/// Has the audit log tell of a launch that failed, or was not begun.
pub(super) fn put_failure_on_record(
    engine: &Engine,
    directory: &VmDirectory,
    record: &Record,
    error: &EngineError,
) -> Result<(), EngineError> {
    // What the door refuses is on record with its rules; a log that takes no entries takes none about that.
    if Door::records(error) || matches!(error, EngineError::Audit(_)) {
        return Ok(());
    }
    let (vm, plan) = (record.name.clone(), record.plan);
    let nonce = directory.state()?.nonce;
    let begun = match nonce {
        Some(nonce) => (engine.audit.fate(&nonce)? == Fate::Launched).then_some(nonce),
        None => None,
    };
    let event = match begun {
        Some(nonce) => Event::Stop { vm, plan, nonce, outcome: Outcome::Failed, exit_code: None },
        None => Event::Fail { vm, plan },
    };
    let note = Note::from(event).with("error", &chain(error));
    Ok(engine.audit.append_notes(&record.scope, vec![note])?)
}
