use super::*;
use crate::engine::tests::fixture;
use crate::error::ErrorKind;
use mvm_ref::Platform;
use mvm_store::{ManifestRecord, ResolutionRecord};
use serde_json::json;

#[test]
fn each_root_is_verified_once_and_what_was_discarded_not_at_all() {
    let fixture = fixture();
    let config = json!({});
    let [one, other] = ["one", "other"].map(|text| fixture.pull(&fixture.layout(text, text, &config)));
    // Another manifest of the same root, as a mirror that compresses otherwise has.
    let scope = &fixture.engine.scope;
    let record = scope.manifest(&one.manifest).unwrap().unwrap();
    let manifest = scope.put_document(b"another manifest").unwrap();
    scope.record_manifest(&ManifestRecord { manifest, ..record }).unwrap();
    let roots = || -> Vec<Digest> {
        let manifests = fixture.engine.images_to_verify().unwrap();
        let verified = manifests.iter().map(|manifest| {
            fixture.engine.verify_image(&manifest.to_string(), OnDamage::Report).unwrap().root_hash
        });
        let mut roots: Vec<Digest> = verified.collect();
        roots.sort();
        roots
    };
    let mut expected = vec![one.root_hash, other.root_hash];
    expected.sort();
    assert_eq!(roots(), expected);
    scope.discard_image(&one.root_hash).unwrap();
    assert_eq!(roots(), [other.root_hash]);
}

#[test]
fn a_lost_or_cut_file_is_damage() {
    let fixture = fixture();
    let layout = fixture.layout("layout", "hello\n", &json!({}));
    let pulled = fixture.pull(&layout);
    let path = fixture.engine.inspect_image(&layout.to_string()).unwrap().root.path;
    let bytes = std::fs::read(&path).unwrap();
    let longer = [bytes.as_slice(), &[0; 4096]].concat();
    let size = pulled.size;
    let wrong = |got| format!("the image has {got} bytes, expected {size}");
    let cases = [
        (Some(&bytes[..bytes.len() - 4096]), wrong(size - 4096), Some(size - 4096)),
        (Some(&longer), wrong(size + 4096), Some(size)),
        (None, "its file is missing".to_owned(), None),
    ];
    for (content, words, offset) in cases {
        std::fs::remove_file(&path).unwrap();
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        assert_eq!(fixture.engine.images_to_verify().unwrap(), [pulled.manifest]);
        let error = fixture.engine.verify_image(&layout.to_string(), OnDamage::Report).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Verification);
        assert_eq!(crate::chain(&error), format!("image {} is damaged: {words}", pulled.root_hash));
        assert_eq!(error.damaged_at(), offset);
        assert_eq!(error.hint(), Some(format!("mvmctl pull {layout}")));
        fixture.pull(&layout);
        fixture.engine.verify_image(&layout.to_string(), OnDamage::Report).unwrap();
    }
}

#[test]
fn a_verified_image_is_named_so_that_it_can_be_pulled() {
    let fixture = fixture();
    let layout = fixture.layout("layout", "hello\n", &json!({}));
    let pulled = fixture.pull(&layout);
    let resolution =
        fixture.engine.scope.resolution(&layout.to_string(), &Platform::host()).unwrap().unwrap();
    let requested = "docker.io/library/debian:12".to_owned();
    fixture.engine.scope.record_resolution(&ResolutionRecord { requested, ..resolution }).unwrap();
    let manifest = pulled.manifest.to_string();
    let layout = layout.to_string();
    for (asked, name) in [
        (layout.as_str(), layout.as_str()),
        ("debian:12", "docker.io/library/debian:12"),
        (&manifest, "docker.io/library/debian:12"),
    ] {
        let verified = fixture.engine.verify_image(asked, OnDamage::Report).unwrap();
        assert_eq!(
            (verified.name.as_str(), verified.root_hash, verified.blocks, verified.bytes),
            (name, pulled.root_hash, pulled.data_blocks, pulled.size)
        );
    }
}
