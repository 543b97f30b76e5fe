use super::*;
use crate::key::tests::signing_key;
use crate::plan::tests::sample;

#[test]
fn a_signed_plan_reads_back_from_its_bytes() {
    let keys = [signing_key(1), signing_key(2)];
    let signed = sign(sample(), &[&keys[0], &keys[1]]).unwrap();
    assert_eq!(SignedPlan::parse(signed.as_bytes()).unwrap(), signed);
    assert_eq!(signed.unverified_plan(), &sample());
    assert_eq!(signed.digest(), Digest::of(&canonical::to_vec(&sample()).unwrap()));
    // The plan's digest names the plan, whoever signs it.
    assert_eq!(sign(sample(), &[&keys[1]]).unwrap().digest(), signed.digest());
    assert_eq!(sign(sample(), &[&keys[0], &keys[1]]).unwrap().as_bytes(), signed.as_bytes());
}

#[test]
fn what_is_not_valid_is_not_signed() {
    let key = signing_key(1);
    let mut plan = sample();
    plan.process.as_mut().unwrap().argv.clear();
    assert!(matches!(sign(plan, &[&key]), Err(SignError::Plan(PlanError::Count { .. }))));
    assert!(matches!(sign(sample(), &[]), Err(SignError::Envelope(DsseError::Signatures { got: 0 }))));
    let mut plan = sample();
    plan.root.size = 1 << 53;
    assert!(
        matches!(sign(plan, &[&key]), Err(SignError::Encode(CanonicalError::Number { path, .. })) if path == "/root/size")
    );
    // Within the plan's limits, but each of its bytes takes six in JSON.
    let mut plan = sample();
    plan.process.as_mut().unwrap().argv.push("\u{1}".repeat(130_000));
    plan.process.as_mut().unwrap().env.push(format!("A={}", "\u{1}".repeat(130_000)));
    assert!(matches!(sign(plan, &[&key]), Err(SignError::Envelope(DsseError::Size { .. }))));
}

#[test]
fn what_is_no_signed_plan_is_refused() {
    let key = signing_key(1);
    let text =
        |payload: &[u8]| Envelope::sign(PAYLOAD_TYPE, payload.to_vec(), &[&key]).unwrap().to_json().unwrap();
    let payload = String::from_utf8(canonical::to_vec(&sample()).unwrap()).unwrap();
    let parse = |payload: String| SignedPlan::parse(&text(payload.as_bytes()));
    let refused = SignedPlan::parse(b"{");
    assert!(matches!(refused, Err(SignedPlanError::Envelope(DsseError::Parse(_)))), "{refused:?}");

    let other =
        Envelope::sign("application/json", payload.clone().into_bytes(), &[&key]).unwrap().to_json().unwrap();
    let refused = SignedPlan::parse(&other);
    assert!(
        matches!(&refused, Err(SignedPlanError::PayloadType { got }) if got == "application/json"),
        "{refused:?}"
    );

    for payload in [
        format!("{payload}\n"),
        payload.replace("\"cpus\":2", "\"cpus\": 2"),
        payload.replace("web", "\\u0077eb"),
    ] {
        let refused = parse(payload);
        assert!(
            matches!(refused, Err(SignedPlanError::Payload(CanonicalError::NotCanonical { .. }))),
            "{refused:?}"
        );
    }
    let refused = parse(payload.replace("mvm.plan.v1", "mvm.plan.v9"));
    assert!(matches!(refused, Err(SignedPlanError::Payload(CanonicalError::Parse(_)))), "{refused:?}");
    let refused = parse(payload.replace("\"cpus\":2", "\"cpus\":0"));
    assert!(matches!(refused, Err(SignedPlanError::Plan(PlanError::Number { .. }))), "{refused:?}");
}

#[test]
fn a_further_signature_is_over_the_same_plan() {
    let one = sign(sample(), &[&signing_key(1)]).unwrap();
    let both = one.signed_by(&signing_key(2)).unwrap();
    assert_eq!(both.as_bytes(), sign(sample(), &[&signing_key(1), &signing_key(2)]).unwrap().as_bytes());
    assert_eq!(SignedPlan::parse(both.as_bytes()).unwrap(), both);
    let twice = both.signed_by(&signing_key(2));
    assert!(matches!(twice, Err(SignError::Envelope(DsseError::Twice { .. }))), "{twice:?}");
    let mut many = one;
    for byte in 2..=16 {
        many = many.signed_by(&signing_key(byte)).unwrap();
    }
    assert!(matches!(
        many.signed_by(&signing_key(17)),
        Err(SignError::Envelope(DsseError::Signatures { got: 17 }))
    ));
}
