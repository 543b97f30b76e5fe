//! Policies: whatever a layer says, it only restricts, and neither its place nor being given twice means anything.

use mvm_plan::canonical::from_slice;
use mvm_plan::policy::{Layer, Policy, Rule};
use mvm_plan::{
    Facts, Isolation, LaunchNonce, Plan, SignedPlan, SigningKey, TrustStore, TrustedKey, check_name, judge,
    sign,
};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;

/// The plan that the tests of `mvm-plan` have frozen.
const PLAN: &str = include_str!("../../crates/mvm-plan/src/plan/golden-v1.json");

const PEM: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEMW6FxG+dDdC8zvx55TgVGUAoKZu3\n\
nxqrtthusSH7AIHI5ioMvv3X9YP/dUppSbfieae6susjuCz57ijPZVqgyw==\n\
-----END PUBLIC KEY-----\n\
";

static SIGNED: LazyLock<(SignedPlan, TrustStore)> = LazyLock::new(|| {
    let key = SigningKey::from_seed(&[1; 32]);
    let plan: Plan = from_slice(PLAN.trim_end().as_bytes()).expect("a frozen plan");
    let trusted = TrustedKey { name: "test".to_owned(), key: key.public_key(), development: true };
    (sign(plan, &[&key]).expect("a valid plan"), TrustStore::new(vec![trusted]).expect("one key"))
});

/// Reads the input as a policy's file.
pub fn body(data: &[u8]) {
    let read = |path: &Path| match path.to_str() {
        Some("key.pem") => Ok(PEM.to_owned()),
        _ => Err("there is no such file".into()),
    };
    let Ok(layer) = Layer::parse("input", data, &read) else { return };
    assert!(layer.name().starts_with("input@"), "{}", layer.name());
    let asked: Policy = layer.clone().into();
    let floor: Policy = layer.as_floor().into();
    for base in [Policy::development(), Policy::production()] {
        let both = base.clone().and(asked.clone());
        assert_eq!(both, asked.clone().and(base.clone()), "the order means something");
        assert_eq!(both, both.clone().and(asked.clone()).and(base.clone()), "twice means something");
        let (together, alone) = (failed(&both), failed(&asked));
        let expected: BTreeSet<Rule> = failed(&base).union(&alone).copied().collect();
        assert_eq!(together, expected, "two layers together refuse something else than each of them");
        assert!(failed(&floor).is_superset(&alone), "a floor asks for less");
    }
    // What a name is refused for, its plan is refused for.
    let plan = SIGNED.0.unverified_plan();
    if let Err(refusal) = check_name(plan.source.requested(), &asked) {
        assert!(failed(&asked).is_superset(&refusal.rules().into_iter().collect()), "{refusal}");
    }
    serde_json::to_vec(asked.layers()).expect("a layer can be shown");
}

/// Returns the rules that the plan fails.
fn failed(policy: &Policy) -> BTreeSet<Rule> {
    let (signed, trust) = &*SIGNED;
    let plan = signed.unverified_plan();
    let confinement = BTreeSet::from(["no-new-privs".to_owned()]);
    let facts = Facts {
        now: plan.validity.not_before + 1,
        isolation: Isolation::Emulated,
        generations: &[1],
        scope: &plan.scope,
        confinement: &confinement,
        image_signatures: &[],
        store_paths: None,
        pulled_at: Some(plan.validity.not_before),
        created_at: None,
        nonce: LaunchNonce::from_bytes([0; 16]),
    };
    let (outcomes, _) = judge(signed, trust, policy, &facts);
    outcomes.into_iter().filter(|outcome| !outcome.passed).map(|outcome| outcome.rule).collect()
}

/// Valid inputs to start from.
pub fn seeds() -> Vec<Vec<u8>> {
    let key = SigningKey::from_seed(&[1; 32]).public_key();
    let inline = format!("image-signature = [{{ key = \"\"\"\n{PEM}\"\"\" }}]\n");
    let signers =
        format!("signers = [\"{key}\", \"{}\"]\nthreshold = 2\ndevelopment-keys = true\n", key.id());
    let texts = [
        "",
        "registries = [\"docker.io\", \"*.example.com:5000\"]\nrepositories = [\"docker.io/library/*\"]\npinned-images = true\n",
        "max-pull-age = \"7d\"\nmax-image-age = \"1w\"\nmax-validity = \"1h\"\nmax-plan-age = 90\n",
        "postures = [\"compatible\"]\nisolation = \"kvm\"\nrequired-confinement = [\"landlock\", \"no-new-privs\"]\n",
        "max-cpus = 1\nmax-memory = \"1g\"\nmax-scratch = \"512MiB\"\nroot-user = false\nmounts = []\nnetworks = [\"none\"]\n",
        "image-signature = [{ key = \"key.pem\", repositories = [\"*/team/*\"] }, { key = \"none.pem\" }]\n",
        "[[image-signature]]\nkey = \"key.pem\"\n",
        &inline,
        &signers,
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}
