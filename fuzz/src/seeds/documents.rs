//! OCI documents, plans, envelopes, keys and audit logs.

use mvm_plan::canonical::from_slice;
use mvm_plan::{Plan, SigningKey, TrustStore, TrustedKey, sign};
use mvm_ref::Digest;

/// The plan and the log that the tests of `mvm-plan` have frozen.
const PLAN: &str = include_str!("../../../crates/mvm-plan/src/plan/golden-v1.json");
const AUDIT: &str = include_str!("../../../crates/mvm-plan/src/audit/golden-v1.jsonl");

/// Manifests, indexes and configs.
pub fn oci() -> Vec<Vec<u8>> {
    let digest = Digest::of(b"blob");
    let descriptor = |kind: &str, more: &str| {
        format!(r#"{{"mediaType":"application/vnd.{kind}","digest":"{digest}","size":4{more}}}"#)
    };
    let config = descriptor("oci.image.config.v1+json", "");
    let layer =
        descriptor("oci.image.layer.v1.tar+gzip", r#","annotations":{"a":"b"},"urls":["https://x/"]"#);
    let platform = r#","platform":{"architecture":"amd64","os":"linux","variant":"v2"}"#;
    let entry = descriptor("oci.image.manifest.v1+json", platform);
    let arm = descriptor(
        "oci.image.manifest.v1+json",
        r#","platform":{"architecture":"arm","os":"linux","variant":"v6"}"#,
    );
    let docker = descriptor("docker.container.image.v1+json", "");
    vec![
        format!(r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{config},"layers":[{layer},{layer}],"subject":null,"annotations":{{}}}}"#),
        format!(r#"{{"schemaVersion":2,"config":{docker},"layers":[]}}"#),
        format!(r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{arm},{entry}]}}"#),
        format!(r#"{{"manifests":[{entry}],"layers":[],"config":{config}}}"#),
        format!(
            r#"{{"architecture":"amd64","os":"linux","created":"2024-01-01T00:00:00Z","config":{{"User":"1:2","Env":["A=b"],"Entrypoint":["/e"],"Cmd":null,"Volumes":{{"/v":{{}}}},"Healthcheck":{{"Test":["NONE"],"Interval":1}},"WorkingDir":"/w","StopSignal":"SIGINT","Labels":{{"a":"b"}}}},"rootfs":{{"type":"layers","diff_ids":["{digest}"]}},"history":[{{"empty_layer":true}}]}}"#
        ),
        r#"{"schemaVersion":1,"fsLayers":[],"history":[]}"#.to_owned(),
    ]
    .into_iter()
    .map(String::into_bytes)
    .collect()
}

/// Plans and other canonical JSON.
pub fn plan() -> Vec<Vec<u8>> {
    vec![
        PLAN.trim_end().into(),
        br#"{"a":[1,-2,true,null,"\u0001\"\\/"],"b":{}}"#.to_vec(),
        b"9007199254740991".to_vec(),
    ]
}

/// Envelopes of a plan, signed by one key and by two.
pub fn dsse() -> Vec<Vec<u8>> {
    let keys = [SigningKey::from_seed(&[1; 32]), SigningKey::from_seed(&[2; 32])];
    let signed = |keys: &[&SigningKey]| {
        let plan: Plan = from_slice(PLAN.trim_end().as_bytes()).expect("a frozen plan");
        sign(plan, keys).expect("a valid plan").as_bytes().to_vec()
    };
    vec![
        signed(&[&keys[0]]),
        signed(&[&keys[0], &keys[1]]),
        br#"{"payload":"AA-_","payloadType":"t","signatures":[{"keyid":"k","sig":"AA"},{}]}"#.to_vec(),
    ]
}

/// Audit logs: whole, one line, and torn.
pub fn audit() -> Vec<Vec<u8>> {
    let first = AUDIT.lines().next().unwrap_or_default();
    vec![AUDIT.into(), format!("{first}\n").into_bytes(), AUDIT.as_bytes()[..AUDIT.len() / 2].to_vec()]
}

/// Keys in each form, and a trust store. The private key is of a seed that everybody knows.
pub fn keys() -> Vec<Vec<u8>> {
    let key = SigningKey::from_seed(&[1; 32]);
    let public = key.public_key();
    let trusted = TrustedKey { name: "test".to_owned(), key: public, development: true };
    let store = TrustStore::new(vec![trusted]).expect("one key");
    let private = key.to_pem().expect("a key has a text").as_bytes().to_vec();
    vec![
        private,
        public.to_pem().expect("a key has a text").into_bytes(),
        public.to_string().into_bytes(),
        public.id().to_string().into_bytes(),
        serde_json::to_vec(&store).expect("a store is plain data"),
    ]
}
