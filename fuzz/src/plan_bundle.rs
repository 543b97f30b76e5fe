//! Manifests of bundles: what is taken for one names each part once.

use mvm_engine::fuzzing::bundle_parts;
use mvm_ref::Digest;
use std::collections::BTreeSet;

/// How many parts a bundle has, the empty config among them.
const PARTS: usize = 8;

/// Reads the input as a manifest.
pub fn body(data: &[u8]) {
    let Some(parts) = bundle_parts(data) else { return };
    assert_eq!(parts.len(), PARTS, "{parts:?}");
    let text = String::from_utf8_lossy(data);
    let kinds: BTreeSet<&str> = parts.iter().map(|part| part.media_type.as_str()).collect();
    assert!(kinds.len() >= PARTS - 1, "a part twice: {kinds:?}");
    // Digests have one form, so that each of them stands there as it was read.
    assert!(parts.iter().all(|part| text.contains(&part.digest.hex())), "a digest from nowhere");
}

/// Valid inputs to start from.
pub fn seeds() -> Vec<Vec<u8>> {
    let item = |kind: &str, number: u8| {
        let digest = Digest::of(&[number]);
        format!(r#"{{"mediaType":"application/vnd.{kind}","digest":"{digest}","size":{number}}}"#)
    };
    let kinds = [
        "dsse.envelope.v1+json",
        "mvm.root.v1.erofs",
        "mvm.kernel.v1",
        "mvm.kernel-record.v1+json",
        "mvm.initramfs.v1.cpio",
        "mvm.image-manifest.v1+json",
        "mvm.image-config.v1+json",
    ];
    let layers: Vec<String> = (1..).zip(kinds).map(|(number, kind)| item(kind, number)).collect();
    let manifest = |layers: &[String]| {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/vnd.mvm.plan-bundle.v1+json","config":{},"layers":[{}],"annotations":{{}}}}"#,
            item("oci.empty.v1+json", 0),
            layers.join(",")
        )
        .into_bytes()
    };
    let twice = [layers.as_slice(), &layers[..1]].concat();
    vec![manifest(&layers), manifest(&layers[1..]), manifest(&twice), manifest(&[item("else", 9)])]
}
