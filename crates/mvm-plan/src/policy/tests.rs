use super::*;
use crate::admit::{Facts, Isolation, LaunchNonce};
use crate::key::tests::signing_key;
use crate::plan::tests::sample;
use crate::plan::{Plan, RequiredIsolation, Source, Validity};
use crate::trust::TrustedKey;

const START: i64 = 1_700_000_000;

/// What a case changes, from a plan and facts that pass every rule.
struct Case {
    plan: Plan,
    now: i64,
    isolation: Isolation,
    generations: &'static [u32],
    /// Whether each signer is a development key.
    signers: &'static [bool],
}

type Change = fn(&mut Case);

fn failed(policy: &Policy, case: &Case) -> Vec<Rule> {
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
        nonce: LaunchNonce::from_bytes([0; 16]),
    };
    let outcomes = policy.check(&Claim { plan: &case.plan, signers: &signers, facts: &facts });
    let rules: Vec<Rule> = outcomes.iter().map(|outcome| outcome.rule).collect();
    assert_eq!(rules, rules::TABLE.iter().map(|(rule, _)| *rule).collect::<Vec<_>>());
    for outcome in &outcomes {
        assert_eq!(outcome.remedy.is_empty(), outcome.passed, "{outcome:?}");
        assert!(!outcome.why.is_empty() && !outcome.why.contains('\n'), "{outcome:?}");
    }
    outcomes.iter().filter(|outcome| !outcome.passed).map(|outcome| outcome.rule).collect()
}

#[test]
fn every_rule_passes_and_fails_where_it_should() {
    use Rule::{
        HardwareIsolation, KnownGeneration, NotAfter, NotBefore, PinnedImage, ReleaseKey, TrustedSigner,
        ValidityLength, ValidityOrder,
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
                let Source::Oci { mutable_tag, .. } = &mut c.plan.source;
                *mutable_tag = true;
            },
            &[],
            &[PinnedImage],
        ),
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
        let mut case = Case {
            plan: sample(),
            now: START + 100,
            isolation: Isolation::Kvm,
            generations: &[1],
            signers: &[false],
        };
        change(&mut case);
        assert_eq!(failed(&Policy::development(), &case), *development, "development: {name}");
        assert_eq!(failed(&Policy::production(), &case), *production, "production: {name}");
    }
    let reached: std::collections::BTreeSet<Rule> = table
        .iter()
        .flat_map(|(_, _, development, production)| development.iter().chain(*production))
        .copied()
        .collect();
    assert_eq!(reached, rules::TABLE.iter().map(|(rule, _)| *rule).collect());
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
        assert_eq!(Policy::builtin(name).map(|policy| policy.name().to_owned()), Ok(name.to_owned()));
    }
    let error = Policy::builtin("Production").unwrap_err();
    assert_eq!(error.to_string(), "there is no policy \"Production\"; expected development or production");
}
