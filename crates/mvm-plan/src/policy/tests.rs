mod limits;

use super::*;
use crate::admit::{Facts, Isolation, LaunchNonce, StorePathFacts};
use crate::key::tests::signing_key;
use crate::plan::tests::sample;
use crate::plan::{Mount, MountSource, Plan, Posture, RequiredIsolation, Source, Validity};
use crate::trust::TrustedKey;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mvm_ref::nix::PathInfo;
use mvm_ref::{Digest, ScopeName};
use std::collections::BTreeSet;

const DAY: i64 = 86_400;
const START: i64 = 1_700_000_000;

/// What a case changes, from a plan and facts that pass every rule of the built-in policies.
struct Case {
    plan: Plan,
    now: i64,
    isolation: Isolation,
    generations: &'static [u32],
    scope: ScopeName,
    confinement: BTreeSet<String>,
    image_signatures: Vec<Digest>,
    store_paths: Option<Vec<StorePathFacts>>,
    pulled_at: Option<i64>,
    created_at: Option<i64>,
    /// Whether each signer is a development key.
    signers: &'static [bool],
}

type Change = fn(&mut Case);

fn case() -> Case {
    Case {
        plan: sample(),
        now: START + 100,
        isolation: Isolation::Kvm,
        generations: &[1],
        scope: ScopeName::default(),
        confinement: BTreeSet::from(["seccomp".to_owned(), "no-new-privs".to_owned()]),
        image_signatures: vec![],
        store_paths: None,
        pulled_at: Some(START),
        created_at: Some(START - DAY),
        signers: &[false],
    }
}

fn outcomes(policy: &Policy, case: &Case) -> Vec<RuleOutcome> {
    let signers: Vec<TrustedKey> = (1u8..)
        .zip(case.signers)
        .map(|(byte, development)| TrustedKey {
            name: format!("key {byte}"),
            key: signing_key(byte).public_key(),
            development: *development,
        })
        .collect();
    let signers: Vec<&TrustedKey> = signers.iter().collect();
    let facts = Facts {
        now: case.now,
        isolation: case.isolation,
        generations: case.generations,
        scope: &case.scope,
        confinement: &case.confinement,
        image_signatures: &case.image_signatures,
        store_paths: case.store_paths.as_deref(),
        pulled_at: case.pulled_at,
        created_at: case.created_at,
        nonce: LaunchNonce::from_bytes([0; 16]),
    };
    let outcomes = policy.check(&Claim { plan: &case.plan, signers: &signers, lapsed: &[], facts: &facts });
    let rules: Vec<Rule> = outcomes.iter().map(|outcome| outcome.rule).collect();
    assert_eq!(rules, rules::TABLE.iter().map(|(rule, _)| *rule).collect::<Vec<_>>());
    for outcome in &outcomes {
        assert_eq!(outcome.remedy.is_empty(), outcome.passed, "{outcome:?}");
        assert!(!outcome.why.is_empty() && !outcome.why.contains('\n'), "{outcome:?}");
    }
    outcomes
}

fn failed(policy: &Policy, case: &Case) -> Vec<Rule> {
    outcomes(policy, case).iter().filter(|outcome| !outcome.passed).map(|outcome| outcome.rule).collect()
}

#[test]
fn every_rule_passes_and_fails_where_it_should() {
    use Rule::{
        HardwareIsolation, KnownGeneration, NotAfter, NotBefore, PinnedImage, PlanScope, ReleaseKey,
        TrustedSigner, ValidityLength, ValidityOrder,
    };
    let table: &[(&str, Change, &[Rule], &[Rule])] = &[
        ("as it is", |_| (), &[], &[]),
        ("no signer", |c| c.signers = &[], &[TrustedSigner], &[TrustedSigner, ReleaseKey]),
        ("development key", |c| c.signers = &[true], &[], &[ReleaseKey]),
        ("two development keys", |c| c.signers = &[true, true], &[], &[ReleaseKey]),
        ("development and release key", |c| c.signers = &[true, false], &[], &[]),
        ("first second", |c| c.now = START, &[], &[]),
        ("before it", |c| c.now = START - 1, &[NotBefore], &[NotBefore]),
        ("last second", |c| c.now = START + 86_400, &[], &[]),
        ("after it", |c| c.now = START + 86_401, &[NotAfter], &[NotAfter]),
        ("clock before 1970", |c| c.now = i64::MIN, &[NotBefore], &[NotBefore]),
        ("clock at the end of time", |c| c.now = i64::MAX, &[NotAfter], &[NotAfter]),
        ("valid for one second", |c| (c.plan.validity.not_after, c.now) = (START + 1, START + 1), &[], &[]),
        (
            "valid for no time",
            |c| (c.plan.validity.not_after, c.now) = (START, START),
            &[ValidityOrder],
            &[ValidityOrder],
        ),
        (
            "ends before it starts",
            |c| c.plan.validity.not_after = START - 1,
            &[ValidityOrder, NotAfter],
            &[ValidityOrder, NotAfter],
        ),
        ("valid for 30 days", |c| c.plan.validity.not_after = START + 30 * DAY, &[], &[]),
        ("and a second", |c| c.plan.validity.not_after = START + 30 * DAY + 1, &[], &[ValidityLength]),
        ("valid for 90 days", |c| c.plan.validity.not_after = START + 90 * DAY, &[], &[ValidityLength]),
        (
            "and a second",
            |c| c.plan.validity.not_after = START + 90 * DAY + 1,
            &[ValidityLength],
            &[ValidityLength],
        ),
        (
            "valid for ever",
            |c| c.plan.validity = Validity { not_before: 0, not_after: i64::MAX },
            &[ValidityLength],
            &[ValidityLength],
        ),
        (
            "mutable tag",
            |c| {
                let Source::Oci { mutable_tag, .. } = &mut c.plan.source else { panic!("an OCI image") };
                *mutable_tag = true;
            },
            &[],
            &[PinnedImage],
        ),
        ("another scope", |c| c.scope = "other".parse().unwrap(), &[PlanScope], &[PlanScope]),
        ("several generations", |c| c.generations = &[3, 1], &[], &[]),
        ("unknown generation", |c| c.generations = &[2], &[KnownGeneration], &[KnownGeneration]),
        ("no generation", |c| c.generations = &[], &[KnownGeneration], &[KnownGeneration]),
        ("emulated", |c| c.isolation = Isolation::Emulated, &[], &[HardwareIsolation]),
        ("kvm required and there", |c| c.plan.isolation = RequiredIsolation::Kvm, &[], &[]),
        (
            "kvm required, emulated",
            |c| (c.plan.isolation, c.isolation) = (RequiredIsolation::Kvm, Isolation::Emulated),
            &[Rule::RequiredIsolation],
            &[Rule::RequiredIsolation, HardwareIsolation],
        ),
    ];
    for (name, change, development, production) in table {
        let mut case = case();
        change(&mut case);
        assert_eq!(failed(&Policy::development(), &case), *development, "development: {name}");
        assert_eq!(failed(&Policy::production(), &case), *production, "production: {name}");
    }
}

/// A layer of this text, and keys that lie beside it.
fn layer(text: &str) -> Result<Layer, PolicyError> {
    Layer::parse("test", text.as_bytes(), &|path| match path.to_str() {
        Some("cosign.pub") => Ok(PEM.to_owned()),
        Some("text") => Ok("no key".to_owned()),
        _ => Err("not there".into()),
    })
}

/// A policy that asks for the key of [`built`].
const SIGNED_PATHS: &str = "signed-paths = [\"test-1:kw2LRcXyMkYqWcP+Qm0kIakJwPcpVWtl5uRgAssOjxY=\"]";
const PEM: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n";

fn fingerprint() -> Digest {
    Digest::of(&STANDARD.decode("MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=").unwrap())
}

fn requested(case: &mut Case, image: &str) {
    let Source::Oci { requested, mutable_tag, .. } = &mut case.plan.source else { panic!("an OCI image") };
    (*requested, *mutable_tag) = (image.parse().unwrap(), true);
}

/// Makes the case one of a flake that was built, of two store paths: one signed, one whose name follows from its content.
fn built(case: &mut Case) {
    let Source::Oci { manifest, config, platform, .. } = case.plan.source.clone() else {
        panic!("an OCI image")
    };
    let derivation = "/nix/store/qa1w9gdfrba6jl2r57mb3c43863gqywp-web.drv".parse().unwrap();
    let (requested, lock) = ("flake:/src#web".parse().unwrap(), Some(Digest::of(b"lock")));
    case.plan.source = Source::Flake { requested, manifest, config, platform, derivation, lock };
    case.plan.posture = Posture::Reproducible;
    let info = |path: &str, hash: &str, signature: &str| PathInfo {
        path: path.parse().unwrap(),
        nar_hash: hash.parse().unwrap(),
        nar_size: 120,
        references: BTreeSet::new(),
        deriver: None,
        signatures: vec![signature.parse().unwrap()],
        ca: None,
    };
    let hello = info(
        "/nix/store/qa1w9gdfrba6jl2r57mb3c43863gqywp-hello.txt",
        "sha256-HDfQGvQL4ugGkd48w99EN3ppmvuxfGjwgJZLL9Bx/BM=",
        "test-1:onjNyKoEOG1Bw1bdD3ViPgSLnV9CACXZDFYWMmFfk93Iyn+DiEBw9NbjCFRgDlyoJ9MvsFfkolB29faptkn6Dg==",
    );
    let other = PathInfo {
        path: "/nix/store/f8sqnmfz24rajdf76k2q64hfpsaxwsyl-flat".parse().unwrap(),
        ..hello.clone()
    };
    case.store_paths = Some(vec![
        StorePathFacts { info: hello, content_addressed: false },
        StorePathFacts { info: other, content_addressed: true },
    ]);
}

/// The same, but that the second path's name is not known to follow from its content.
fn unsigned(case: &mut Case) {
    built(case);
    case.store_paths.as_mut().unwrap()[1].content_addressed = false;
}

/// The text of a policy that counts two keys.
fn signers(threshold: usize) -> String {
    let id = |byte: u8| signing_key(byte).public_key().id();
    format!("signers = [\"{}\", \"{}\"]\nthreshold = {threshold}", id(1), id(2))
}

fn run_as(case: &mut Case, user: &str) {
    user.clone_into(&mut case.plan.process.as_mut().unwrap().user);
}

fn mount_volume(case: &mut Case) {
    let source = MountSource::Volume { name: "data".parse().unwrap() };
    case.plan.mounts = vec![Mount { target: "/data".to_owned(), source, read_only: false }];
}

fn mount_directory(case: &mut Case) {
    let source = MountSource::HostDirectory { path: "/srv/data/site".to_owned() };
    case.plan.mounts = vec![Mount { target: "/data".to_owned(), source, read_only: true }];
}

#[test]
fn directories_of_the_host_are_those_that_are_named_and_what_is_below_them() {
    for (text, allowed) in [
        ("", true),
        ("mounts = [\"volume\"]", false),
        ("host-directories = []", false),
        ("host-directories = [\"/\"]", true),
        ("host-directories = [\"/srv/data\"]", true),
        ("host-directories = [\"/home\", \"/srv/data/site\"]", true),
        ("host-directories = [\"/srv/data/site/a\", \"/srv/dat\"]", false),
    ] {
        let mut case = case();
        mount_directory(&mut case);
        let expected: &[Rule] = if allowed { &[] } else { &[Rule::AllowedMounts] };
        assert_eq!(failed(&layer(text).unwrap().into(), &case), *expected, "{text}");
    }
}

#[test]
fn every_restriction_of_a_file_passes_and_fails_where_it_should() {
    use Rule::*;
    let key = format!("signers = [\"{}\"]", signing_key(1).public_key());
    let signed = "image-signature = [{ key = \"cosign.pub\", repositories = [\"docker.io/library/*\"] }]";
    let inline = format!("image-signature = [{{ key = \"\"\"{PEM}\"\"\" }}]");
    let not_release = format!("development-keys = false\n{}", signers(1));
    let table: &[(&str, Change, &[Rule])] = &[
        ("", |_| (), &[]),
        ("", |c| c.signers = &[], &[TrustedSigner]),
        ("registries = [\"docker.io\"]", |_| (), &[]),
        ("registries = [\"ghcr.io\", \"*.example.com\"]", |_| (), &[AllowedRegistry]),
        ("registries = []", |_| (), &[AllowedRegistry]),
        ("registries = [\"*\"]", |c| requested(c, "oci:/dir:tag"), &[AllowedRegistry]),
        ("registries = [\"*\"]", |c| requested(c, "docker-archive:/x"), &[AllowedRegistry]),
        ("repositories = [\"docker.io/library/*\"]", |_| (), &[]),
        ("repositories = [\"docker.io/library/alpine\"]", |_| (), &[AllowedRepository]),
        (
            "repositories = [\"*/**\"]",
            |c| requested(c, "oci:/docker.io/library/debian"),
            &[AllowedRepository],
        ),
        ("pinned-images = true", |_| (), &[]),
        ("pinned-images = false", |c| requested(c, "debian:12"), &[]),
        ("pinned-images = true", |c| requested(c, "debian:12"), &[PinnedImage]),
        (
            "pinned-images = true",
            |c| {
                requested(c, "oci:/dir@sha256:00");
                let Source::Oci { mutable_tag, .. } = &mut c.plan.source else { panic!("an OCI image") };
                *mutable_tag = false;
            },
            &[PinnedImage],
        ),
        (signed, |_| (), &[ImageSignature]),
        (signed, |c| c.image_signatures = vec![Digest::of(b"another")], &[ImageSignature]),
        (signed, |c| c.image_signatures = vec![Digest::of(b"another"), fingerprint()], &[]),
        (signed, |c| requested(c, "ghcr.io/a/b"), &[]),
        (signed, |c| requested(c, "oci:/dir"), &[]),
        (&inline, |c| requested(c, "oci:/dir"), &[ImageSignature]),
        (&inline, |c| c.image_signatures = vec![fingerprint()], &[]),
        (signed, built, &[]),
        (&inline, built, &[ImageSignature]),
        ("postures = [\"reproducible\"]", built, &[]),
        ("postures = [\"compatible\"]", built, &[AllowedPosture]),
        ("registries = [\"*\"]", built, &[AllowedRegistry]),
        ("repositories = [\"*/**\"]", built, &[AllowedRepository]),
        ("pinned-images = true", built, &[]),
        (
            "pinned-images = true",
            |c| {
                built(c);
                let Source::Flake { lock, .. } = &mut c.plan.source else { panic!("a flake") };
                *lock = None;
            },
            &[PinnedImage],
        ),
        (SIGNED_PATHS, |_| (), &[]),
        (SIGNED_PATHS, built, &[]),
        (SIGNED_PATHS, unsigned, &[SignedPaths]),
        ("signed-paths = []", built, &[SignedPaths]),
        (
            SIGNED_PATHS,
            |c| {
                built(c);
                c.store_paths = None;
            },
            &[SignedPaths],
        ),
        ("max-pull-age = \"100s\"", |_| (), &[]),
        ("max-pull-age = \"99s\"", |_| (), &[PullAge]),
        ("max-pull-age = \"99s\"", |c| c.pulled_at = None, &[PullAge]),
        ("max-image-age = \"2d\"", |_| (), &[]),
        ("max-image-age = \"1d\"", |_| (), &[ImageAge]),
        ("max-image-age = \"2d\"", |c| c.created_at = None, &[ImageAge]),
        ("postures = [\"compatible\"]", |_| (), &[]),
        ("postures = [\"reproducible\"]", |_| (), &[AllowedPosture]),
        (&key, |_| (), &[]),
        (&signers(1), |c| c.signers = &[true], &[]),
        (&signers(2), |_| (), &[SignerThreshold]),
        (&signers(2), |c| c.signers = &[false, false], &[]),
        (&signers(2), |c| c.signers = &[false, true], &[]),
        (&not_release, |c| c.signers = &[true, true, false], &[SignerThreshold]),
        ("threshold = 2", |_| (), &[SignerThreshold]),
        ("threshold = 2", |c| c.signers = &[false, true], &[]),
        ("threshold = 2\ndevelopment-keys = false", |c| c.signers = &[false, true], &[SignerThreshold]),
        ("development-keys = false", |c| c.signers = &[true], &[ReleaseKey]),
        ("development-keys = true", |c| c.signers = &[true], &[]),
    ];
    let mut reached =
        BTreeSet::from([ValidityOrder, NotBefore, NotAfter, PlanScope, KnownGeneration, RequiredIsolation]);
    for (text, change, expected) in table.iter().chain(limits::LIMITS) {
        let mut case = case();
        change(&mut case);
        let policy = layer(text).unwrap().into();
        assert_eq!(failed(&policy, &case), *expected, "{text}");
        reached.extend(*expected);
    }
    assert_eq!(reached, rules::TABLE.iter().map(|(rule, _)| *rule).collect(), "each rule has failed once");
}

#[test]
fn what_is_no_policy_is_told_by_line_and_column() {
    let mut wrong = Vec::new();
    let table = [
        ("max-cpus = 2\nmax-gpus = 1", "line 2, column 1: unknown field `max-gpus`"),
        ("max-cpus = \"2\"", "line 1, column 12: invalid type: string \"2\", expected u32"),
        ("max-cpus = -1", "line 1, column 12: invalid value: integer `-1`, expected u32"),
        ("max-cpus = 1\nmax-cpus = 2", "line 2, column 1: duplicate key"),
        ("\n  max-cpus 1", "line 2, column 12: "),
        ("threshold = 0", "line 1, column 13: invalid value"),
        ("threshold = 3\nsigners = []", "threshold is 3, but signers names 0 keys"),
        ("max-validity = \"1y\"", "line 1, column 16: \"1y\" is not a length of time"),
        ("registries = [\"docker.io\", \"a b\"]", "line 1, column 14: \"a b\" is not a registry's"),
        ("repositories = [\"debian\"]", "line 1, column 16: \"debian\" names no registry"),
        ("postures = [\"free\"]", "line 1, column 13: unknown variant `free`"),
        ("networks = [\"host\"]", "line 1, column 13: unknown variant `host`"),
        ("mounts = [\"host\"]", "line 1, column 11: unknown variant `host`"),
        ("host-directories = [\"srv\"]", "line 1, column 20: \"srv\" is not a directory's absolute path"),
        ("host-directories = [\"/a/../b\"]", "line 1, column 20: \"/a/../b\" is not a directory's"),
        ("signers = [\"local\"]", "line 1, column 11: key ID \"local\" is not 64"),
        ("image-signature = [{ key = \"text\" }]", "the key \"text\" of image-signature is not a public key"),
        ("image-signature = [{ key = \"x\" }]", "read the key \"x\" of image-signature"),
        ("image-signature = [{ keys = [] }]", "line 1, column 22: unknown field `keys`"),
        ("[image]\nregistries = []", "line 1, column 2: unknown field `image`"),
    ];
    for (text, expected) in table {
        let error = layer(text).unwrap_err().to_string();
        if !error.starts_with(expected) || error.contains('\n') {
            wrong.push(format!("{text}: {error}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    let error = Layer::parse("l", b"# \xff", &|_| Err("none".into())).unwrap_err();
    assert!(matches!(error, PolicyError::Encoding { offset: 2 }), "{error}");
    let error = Layer::parse("l", &vec![b'#'; MAX_POLICY + 1], &|_| Err("none".into())).unwrap_err();
    assert!(matches!(error, PolicyError::Size { .. }), "{error}");
}

#[test]
fn the_order_of_policies_does_not_matter_and_the_strictest_wins() {
    let texts = [
        "max-cpus = 2",
        "max-cpus = 1",
        "registries = [\"ghcr.io\"]",
        "root-user = false",
        "threshold = 2",
        "",
    ];
    let layers: Vec<Policy> = texts.iter().map(|text| layer(text).unwrap().into()).collect();
    let builtin = Policy::NAMES.map(|name| Policy::builtin(name).unwrap());
    let all: Vec<&Policy> = layers.iter().chain(&builtin).collect();
    let join = |policies: &[&Policy]| {
        policies.iter().skip(1).fold(policies[0].clone(), |joined, policy| joined.and((*policy).clone()))
    };
    let mut case = case();
    (case.signers, case.isolation) = (&[true], Isolation::Emulated);
    run_as(&mut case, "");
    for a in &all {
        for b in &all {
            let both = join(&[a, b]);
            assert_eq!(both, join(&[b, a]));
            assert_eq!(both, join(&[a, b, a, b]));
            let expected: BTreeSet<Rule> = failed(a, &case).into_iter().chain(failed(b, &case)).collect();
            assert_eq!(
                failed(&both, &case).into_iter().collect::<BTreeSet<_>>(),
                expected,
                "{}",
                both.name()
            );
            for c in &all {
                assert_eq!(join(&[a, b, c]), join(&[c, &join(&[b, a])]));
            }
        }
    }
    let mut reversed = all.clone();
    reversed.reverse();
    assert_eq!(join(&all), join(&reversed));
    let named = join(&[&layers[1], &layers[0]]);
    let why =
        |policy: &Policy| outcomes(policy, &case).into_iter().find(|outcome| outcome.rule == Rule::MaxCpus);
    let why = why(&named).unwrap().why;
    assert_eq!(why, format!("the plan asks for 2 processors, more than 1 (policy {})", layers[1].name()));
}

#[test]
fn a_floor_bounds_validity_where_its_text_does_not() {
    for (text, seconds) in
        [("", 90 * DAY), ("max-validity = \"365d\"", 365 * DAY), ("max-validity = \"1h\"", 3600)]
    {
        let floor = layer(text).unwrap().as_floor();
        assert_eq!(floor.restrictions().max_validity, Some(Seconds(seconds)), "{text}");
    }
}

#[test]
fn rules_are_written_as_they_are_stored() {
    for (rule, _) in rules::TABLE {
        assert_eq!(serde_json::to_value(rule).unwrap(), serde_json::Value::String(rule.to_string()));
    }
}

#[test]
fn policies_are_found_by_name() {
    for name in Policy::NAMES {
        assert_eq!(Policy::builtin(name).map(|policy| policy.name()), Ok(name.to_owned()));
    }
    let error = Policy::builtin("Production").unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no policy \"Production\"; expected development, production or a file"
    );
}
