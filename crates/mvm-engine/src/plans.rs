//! What a policy says, and what it says of a plan, without anything being launched.

use crate::audit_log::Note;
use crate::clock;
use crate::engine::Engine;
use crate::error::{EngineError, ErrorKind, chain};
use crate::keys::Signers;
use crate::policies::{self, PolicyFileError, PolicySource};
use crate::progress::{Cancel, Progress};
use crate::run::{self, LaunchRequest, Launched, PullPolicy};
use crate::signatures;
use mvm_image::verity;
use mvm_launch::Qemu;
use mvm_launch::confinement::Host;
use mvm_plan::audit::Event;
use mvm_plan::plan::{Plan, Root, Source};
use mvm_plan::policy::{Layer, Policy, Rule};
use mvm_plan::{Isolation, KeyId, LaunchNonce, Refusal, RuleOutcome, SignedPlan, UtcTime};
use mvm_ref::{Digest, ImageSource, VmName};
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

/// What a plan says, which nobody has verified.
#[derive(Clone, Debug, Serialize)]
pub struct PlanView {
    /// Digest of the plan.
    pub digest: Digest,
    /// The plan, as its text has it.
    pub plan: serde_json::Value,
    /// Its signatures.
    pub signatures: Vec<SignatureView>,
}

/// A signature of a plan.
#[derive(Clone, Debug, Serialize)]
pub struct SignatureView {
    /// The key that is said to have made it.
    pub key: String,
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

impl PlanView {
    /// Reads a signed plan's text. Its signatures are not checked.
    pub fn read(plan: &[u8]) -> Result<Self, EngineError> {
        let signed = parse(plan)?;
        let invalid = |source: serde_json::Error| EngineError::Plan { act: "read", source: source.into() };
        let signatures = signed.envelope().signatures().iter();
        Ok(Self {
            digest: signed.digest(),
            plan: serde_json::from_slice(signed.envelope().payload()).map_err(invalid)?,
            signatures: signatures.map(|signature| SignatureView { key: signature.keyid.clone() }).collect(),
        })
    }

    /// Says whether the command has both a terminal and the caller's stdin.
    pub fn is_interactive(&self) -> bool {
        let process = &self.plan["process"];
        process["tty"] == true && process["stdin"] == true
    }
}

fn parse(plan: &[u8]) -> Result<SignedPlan, EngineError> {
    SignedPlan::parse(plan).map_err(|source| EngineError::Plan { act: "read", source: source.into() })
}

impl Engine {
    /// Launches a signed plan. An image that is not in the store is pulled, by its digest, if `pull` allows it and the plan
    /// would be admitted otherwise.
    ///
    /// Returns when the hypervisor runs; the guest still boots then.
    pub fn launch(
        &self,
        plan: &[u8],
        request: LaunchRequest,
        pull: PullPolicy,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Launched, EngineError> {
        let policy = self.policy_or_refuse(&request.policy)?;
        let signed = match parse(plan) {
            Ok(signed) => signed,
            Err(error) => {
                let (plan, policy) = (Some(Digest::of(plan)), policy.name());
                let refuse = Event::Refuse { plan, policy, rules: vec![Rule::PlanFormat] };
                self.audit.append(&self.settings.scope, vec![refuse])?;
                return Err(error);
            }
        };
        if pull != PullPolicy::Never {
            self.fetch_for(&signed, &request.policy, pull, progress, cancel)?;
        }
        self.launch_signed(&signed, request, progress, cancel)
    }

    /// Pulls a plan's image by digest, if it is not there, comes from a registry, the kernel is here and no rule but those about
    /// the image stands against the plan. What stands against it is for the door to say.
    fn fetch_for(
        &self,
        signed: &SignedPlan,
        asked: &[PolicySource],
        pull: PullPolicy,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        let plan = signed.unverified_plan();
        let (requested, manifest, platform) = match &plan.source {
            Source::Oci { requested, manifest, platform, .. } => (requested, manifest, platform),
            // What was built is built again by who has the flake.
            Source::Flake { .. } => return Ok(()),
        };
        let Ok(image) = requested.as_str().parse::<ImageSource>() else { return Ok(()) };
        let Some(reference) = image.reference() else { return Ok(()) };
        // What is wrong with a policy is for the door to say.
        let Ok(policy) = policies::load(asked) else { return Ok(()) };
        let present =
            pull == PullPolicy::Missing && self.scope.image_by_root(&plan.root.root_hash)?.is_some();
        if present && !signatures::are_asked(&policy, reference) {
            return Ok(());
        }
        if self.store.kernel(&plan.kernel.digest)?.is_none() {
            return Ok(());
        }
        let here = [Rule::PullAge, Rule::ImageAge, Rule::ImageSignature, Rule::RequiredConfinement];
        let report = self.check_plan(signed.as_bytes(), asked)?;
        if report.rules.iter().any(|rule| !rule.passed && !here.contains(&rule.rule)) {
            return Ok(());
        }
        if !present {
            let pinned = ImageSource::Registry(reference.pinned(*manifest));
            let (expected, got) =
                (plan.root.root_hash, self.pull(&pinned, platform, progress, cancel)?.root_hash);
            if expected != got {
                let (policy, rules) = (report.policy, vec![Rule::RootImage]);
                let refuse = Event::Refuse { plan: Some(signed.digest()), policy, rules };
                self.audit.append(&self.settings.scope, vec![refuse])?;
                return Err(EngineError::Changed { what: "the root image", expected, got });
            }
        }
        self.gather_signatures(&image, platform, manifest, &policy, progress, cancel)
    }

    /// Adds signatures to a plan: of the keys that are given, or else of the local one.
    pub fn sign_plan(&self, plan: &[u8], signers: &Signers) -> Result<SignedPlan, EngineError> {
        let mut signed = parse(plan)?;
        let signers = self.signers(signers)?;
        for key in signers.keys() {
            signed = signed
                .signed_by(key)
                .map_err(|source| EngineError::Plan { act: "sign", source: source.into() })?;
        }
        let signers = signers.keys().iter().map(|key| key.public_key().id()).collect();
        self.audit.append(&self.settings.scope, vec![Event::Sign { plan: signed.digest(), signers }])?;
        Ok(signed)
    }

    /// Says what each rule says of a plan, and whether the kernel, initramfs and root image that it names are here, every
    /// byte compared.
    pub fn verify_plan(&self, plan: &[u8], asked: &[PolicySource]) -> Result<PlanReport, EngineError> {
        let signed = parse(plan)?;
        let mut report = self.check_plan(plan, asked)?;
        let plan = signed.unverified_plan();
        report.rules.push(of_piece(Rule::KernelDigest, self.check_kernel(plan))?);
        report.rules.push(of_piece(Rule::InitramfsDigest, self.check_initramfs(plan))?);
        report.rules.push(of_piece(Rule::RootImage, self.check_root(plan))?);
        report.admitted = report.rules.iter().all(|rule| rule.passed);
        Ok(report)
    }

    /// Checks that kernel, initramfs and root image are those that a plan names, every byte.
    pub(crate) fn check_pieces(&self, plan: &Plan) -> Result<(), EngineError> {
        self.check_kernel(plan)?;
        self.check_initramfs(plan)?;
        self.check_root(plan).map(drop)
    }

    fn check_kernel(&self, plan: &Plan) -> Result<String, EngineError> {
        let kernel = self.kernel(&plan.kernel.digest)?;
        kernel.verify()?;
        let got = Digest::of(kernel.info());
        match plan.kernel.record {
            Some(expected) if expected != got => {
                Err(EngineError::Changed { what: "the record of the kernel", expected, got })
            }
            _ => Ok(format!("kernel {} is here, {}", plan.kernel.digest, plan.kernel.version)),
        }
    }

    fn check_initramfs(&self, plan: &Plan) -> Result<String, EngineError> {
        let kernel = self.kernel(&plan.kernel.digest)?;
        let (expected, got) = (plan.initramfs.digest, Digest::of(&self.initramfs_of(plan, &kernel)?));
        if got == expected {
            Ok(format!("initramfs {got} is here"))
        } else {
            Err(EngineError::Changed { what: "the initramfs", expected, got })
        }
    }

    /// Checks the root image, and those that are mounted beside it.
    fn check_root(&self, plan: &Plan) -> Result<String, EngineError> {
        let mut words = self.check_image(&plan.root)?;
        for (_, mounted) in plan.mounted_images() {
            words.push_str("; mounted ");
            words.push_str(&self.check_image(mounted)?);
        }
        Ok(words)
    }

    fn check_image(&self, root: &Root) -> Result<String, EngineError> {
        let image = self.scope.image_by_root(&root.root_hash)?;
        let image = image.ok_or_else(|| EngineError::UnknownImage(root.root_hash.to_string()))?;
        let expected = verity::Expected { root_hash: root.root_hash, data_blocks: root.data_blocks };
        match verity::verify(image.file(), &expected) {
            Ok(_) => Ok(format!("image {} is here, {} blocks compared", root.root_hash, root.data_blocks)),
            Err(source) => Err(EngineError::Damaged {
                root_hash: root.root_hash,
                name: root.root_hash.to_string(),
                discarded: false,
                source: source.into(),
            }),
        }
    }

    /// Says what each rule of the policy that holds here, with all of `asked`, says of a plan.
    ///
    /// Nothing is launched or recorded. Where the plan's kernel is not in the store, the machine counts as emulated.
    pub fn check_plan(&self, plan: &[u8], asked: &[PolicySource]) -> Result<PlanReport, EngineError> {
        let policy = policies::load(asked)?;
        let signed = parse(plan)?;
        let plan = signed.unverified_plan();
        let isolation = match self.store.kernel(&plan.kernel.digest)? {
            Some(kernel) => {
                let (info, base) = (self.kernel_info(&kernel)?, self.base_initramfs(&kernel)?);
                let qemu = Qemu::find(&self.settings.program_path)?;
                self.accelerator(&qemu, &kernel, &info, &base)?.0.isolation()
            }
            None => Isolation::Emulated,
        };
        let mut known = self.known_of_image(plan, &policy)?;
        known.confinement = Host::look(&self.settings.kvm).active();
        let nonce = LaunchNonce::from_bytes([0; 16]);
        let facts = known.facts(&self.settings.scope, isolation, nonce, clock::unix_seconds());
        let trust = self.key_store().trust()?;
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

    /// Refuses an image by its name, if a policy lets nothing come from there, before anything is asked for there.
    ///
    /// What is there already is for the door to judge, with all the rest.
    pub(crate) fn name_or_refuse(
        &self,
        image: &ImageSource,
        asked: &[PolicySource],
    ) -> Result<(), EngineError> {
        let policy = self.policy_or_refuse(asked)?;
        let Err(refusal) = check_name(image, &policy)? else { return Ok(()) };
        let refuse = Event::Refuse { plan: None, policy: policy.name(), rules: refusal.rules() };
        let note = Note::from(refuse).with("image", &image.to_string());
        self.audit.append_notes(&self.settings.scope, vec![note])?;
        Err(EngineError::Refused(Box::new(refusal)))
    }

    /// Reads the policy that holds for a launch, and records that there is none that can be relied on.
    pub(crate) fn policy_or_refuse(&self, asked: &[PolicySource]) -> Result<Policy, EngineError> {
        policies::load(asked).or_else(|error| {
            // A name that is misspelt is nothing that an auditor has to know of.
            if !matches!(error, PolicyFileError::Unknown(_)) {
                let (policy, rules) = (policies::names(asked), vec![Rule::ReadablePolicy]);
                self.audit.append(&self.settings.scope, vec![Event::Refuse { plan: None, policy, rules }])?;
            }
            Err(error.into())
        })
    }
}

/// Says what a policy says of the name of an image.
pub(crate) fn check_name(image: &ImageSource, policy: &Policy) -> Result<Result<(), Refusal>, EngineError> {
    let requested = image.to_string().parse().map_err(run::invalid)?;
    Ok(mvm_plan::check_name(&requested, policy))
}

/// Writes a moment in seconds since 1970 as RFC 3339 does, if it lies in the years to 9999.
pub fn utc_time(seconds: i64) -> Option<String> {
    UtcTime::from_unix_seconds(seconds).ok().map(|time| time.to_string())
}

/// Returns what was found of a piece of a machine. That it is not the one that the plan names is a finding too.
fn of_piece(rule: Rule, found: Result<String, EngineError>) -> Result<RuleReport, EngineError> {
    match found {
        Ok(why) => Ok(RuleReport { rule, passed: true, why, remedy: None }),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Verification) => {
            let remedy = error.hint().unwrap_or_else(|| "bring it here, or make a new plan".to_owned());
            Ok(RuleReport { rule, passed: false, why: chain(&error), remedy: Some(remedy) })
        }
        Err(error) => Err(error),
    }
}

impl From<RuleOutcome> for RuleReport {
    fn from(outcome: RuleOutcome) -> Self {
        let RuleOutcome { rule, passed, why, remedy } = outcome;
        Self { rule, passed, why, remedy: (!passed).then_some(remedy) }
    }
}
