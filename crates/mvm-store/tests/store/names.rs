use crate::fixture::*;
use mvm_ref::{Digest, Platform};
use mvm_store::{Collected, CollectedKind, ImageListing, MAX_DOCUMENT, ResolutionRecord, StoreError};

#[test]
fn documents_are_checked_whenever_they_are_read() {
    let fixture = fixture();
    let digest = fixture.scope.put_document(b"text").unwrap();
    assert_eq!(digest, Digest::of(b"text"));
    assert_eq!(fixture.scope.document(&digest).unwrap().unwrap(), b"text");
    assert_eq!(fixture.scope.document(&Digest::of(b"other")).unwrap(), None);
    let path = fixture.path(&format!("documents/{}", digest.hex()));
    for damaged in [&b"texT"[..], b"", b"text and more"] {
        std::fs::write(&path, damaged).unwrap();
        let error = fixture.scope.document(&digest).unwrap_err();
        let got = Digest::of(damaged);
        let expected = format!("{} should hold {digest}, but its bytes are {got}", path.display());
        assert_eq!(error.to_string(), expected);
        // Storing it again mends it.
        assert_eq!(fixture.scope.put_document(b"text").unwrap(), digest);
        assert_eq!(fixture.scope.document(&digest).unwrap().unwrap(), b"text");
    }
    assert_eq!(fixture.names("staging"), [""; 0]);
}

#[test]
fn a_document_has_a_greatest_size() {
    let fixture = fixture();
    let mut bytes = vec![b'x'; MAX_DOCUMENT as usize];
    let digest = fixture.scope.put_document(&bytes).unwrap();
    assert_eq!(fixture.scope.document(&digest).unwrap().unwrap(), bytes);
    bytes.push(b'x');
    let error = fixture.scope.put_document(&bytes).unwrap_err();
    assert_eq!(error.to_string(), "document of 16777217 bytes is larger than 16777216");
}

#[test]
fn a_resolution_replaces_the_one_before() {
    let fixture = fixture();
    let scope = &fixture.scope;
    let arm = Platform::new("linux", "arm64", Some("v8"));
    let record = |requested: &str, platform: &Platform, manifest: &str, index| ResolutionRecord {
        requested: requested.to_owned(),
        platform: platform.clone(),
        manifest: Digest::of(manifest.as_bytes()),
        index,
        resolved_at: PULLED_AT,
    };
    let first = record("b", &platform(), "1", None);
    let second = record("b", &platform(), "2", Some(Digest::of(b"index")));
    let third = record("b", &arm, "3", None);
    let fourth = record("a", &arm, "3", None);
    for record in [&first, &second, &third, &fourth] {
        scope.record_resolution(record).unwrap();
    }
    assert_eq!(scope.resolution("b", &platform()).unwrap(), Some(second.clone()));
    assert_eq!(scope.resolution("b", &arm).unwrap(), Some(third.clone()));
    assert_eq!(scope.resolution("a", &platform()).unwrap(), None);
    assert_eq!(fixture.again().resolutions().unwrap(), [fourth, second, third]);
}

#[test]
fn a_manifest_needs_its_documents() {
    let fixture = fixture();
    let pulled = pull(&fixture.scope, "a", &["1"]);
    let mut record = pulled.manifest.clone();
    record.config = Digest::of(b"nowhere");
    let error = fixture.scope.record_manifest(&record).unwrap_err();
    let expected = format!("document {} of manifest {} is not in the store", record.config, record.manifest);
    assert_eq!(error.to_string(), expected);
    assert_eq!(fixture.scope.manifest(&pulled.manifest.manifest).unwrap(), Some(pulled.manifest));
    assert_eq!(fixture.scope.manifest(&Digest::of(b"nowhere")).unwrap(), None);
}

#[test]
fn images_are_listed_with_their_names() {
    let fixture = fixture();
    let old = pull(&fixture.scope, "a:1", &["1"]);
    drop(pull(&fixture.scope, "a:latest", &["1"]));
    let new = pull(&fixture.scope, "a:2", &["1", "2"]);
    drop(pull(&fixture.scope, "a:latest", &["1", "2"]));
    let moved = pull(&fixture.scope, "b", &["3"]);
    drop(pull(&fixture.scope, "b", &["1"]));
    let listing = |pulled: &Pulled, references: &[&str], size| ImageListing {
        references: references.iter().map(|name| (*name).to_owned()).collect(),
        manifest: pulled.manifest.manifest,
        config: pulled.manifest.config,
        root_hash: pulled.manifest.root_hash,
        platform: platform(),
        size,
        pinned: false,
        pulled_at: PULLED_AT,
    };
    std::fs::remove_file(moved.image.path()).unwrap();
    let mut expected = vec![
        listing(&old, &["a:1", "b"], Some(1)),
        listing(&new, &["a:2", "a:latest"], Some(2)),
        listing(&moved, &[], None),
    ];
    expected.sort_by_key(|listing| listing.manifest);
    assert_eq!(fixture.scope.list_images().unwrap(), expected);
}

fn kinds(deleted: &[Collected]) -> Vec<(CollectedKind, String)> {
    let mut kinds: Vec<_> = deleted.iter().map(|item| (item.kind, entry(item))).collect();
    kinds.sort();
    kinds
}

#[test]
fn the_last_reference_takes_all_that_nothing_else_needs() {
    let fixture = fixture();
    let scope = &fixture.scope;
    let first = pull(scope, "a:1", &["base", "one"]);
    drop(pull(scope, "a:latest", &["base", "one"]));
    let second = pull(scope, "b", &["base", "two"]);
    let (first_root, gone) = (first.manifest.root_hash, first.manifest.clone());
    let index = first.resolution.index.unwrap();
    drop(first);
    drop(second);

    let removed = scope.remove_reference("a:1", &nobody).unwrap();
    assert_eq!(removed.untagged, ["a:1"]);
    assert_eq!(kinds(&removed.deleted), [(CollectedKind::Document, index.hex())]);
    assert!(scope.image_by_root(&first_root).unwrap().is_some());

    let removed = scope.remove_reference("a:latest", &nobody).unwrap();
    assert_eq!(removed.untagged, ["a:latest"]);
    let mut expected = vec![
        (CollectedKind::Image, format!("{}.img", first_root.hex())),
        (CollectedKind::Segment, format!("{}-g1", diff_id("one").hex())),
        (CollectedKind::Document, gone.manifest.hex()),
        (CollectedKind::Document, gone.config.hex()),
        (CollectedKind::Document, Digest::of(b"index of a:latest").hex()),
    ];
    expected.sort();
    assert_eq!(kinds(&removed.deleted), expected);
    assert!(scope.image_by_root(&first_root).unwrap().is_none());
    assert_eq!(scope.manifest(&gone.manifest).unwrap(), None);
    assert!(scope.segment(&diff_id("base"), GENERATION).unwrap().is_some());
    let left: Vec<_> = scope.list_images().unwrap().into_iter().flat_map(|image| image.references).collect();
    assert_eq!(left, ["b"]);
}

#[test]
fn an_image_is_removed_by_digest_if_one_name_leads_to_it() {
    for pick in
        [|p: &Pulled| p.manifest.manifest, |p: &Pulled| p.manifest.config, |p: &Pulled| p.manifest.root_hash]
    {
        let fixture = fixture();
        let pulled = pull(&fixture.scope, "a:1", &["1"]);
        drop(pull(&fixture.scope, "a:2", &["1"]));
        let asked = pick(&pulled).to_string();
        drop(pulled);
        let error = fixture.scope.remove_reference(&asked, &nobody).unwrap_err();
        let expected = format!("image {asked} has 2 references: a:1, a:2; remove them by name");
        assert_eq!(error.to_string(), expected);
        fixture.scope.remove_reference("a:2", &nobody).unwrap();
        assert_eq!(fixture.scope.remove_reference(&asked, &nobody).unwrap().untagged, ["a:1"]);
        for below in ["images", "segments", "documents", "staging"] {
            assert_eq!(fixture.names(below), [""; 0], "{below}");
        }
        let error = fixture.scope.remove_reference(&asked, &nobody).unwrap_err();
        assert_eq!(error.to_string(), format!("no image {asked:?} in scope default"));
    }
}

#[test]
fn an_image_without_a_name_is_removed_by_digest() {
    let fixture = fixture();
    let moved = pull(&fixture.scope, "a", &["1"]).manifest;
    drop(pull(&fixture.scope, "a", &["2"]));
    let removed = fixture.scope.remove_reference(&moved.manifest.to_string(), &nobody).unwrap();
    assert_eq!(removed.untagged, [""; 0]);
    assert_eq!(fixture.scope.manifest(&moved.manifest).unwrap(), None);
    assert!(fixture.scope.image_by_root(&moved.root_hash).unwrap().is_none());
}

#[test]
fn a_name_removed_for_one_digest_keeps_its_other_platforms() {
    let fixture = fixture();
    let pulled = pull(&fixture.scope, "a", &["1"]);
    let arm = Platform::new("linux", "arm64", None);
    let other = ResolutionRecord {
        platform: arm.clone(),
        manifest: Digest::of(b"other"),
        index: None,
        ..pulled.resolution.clone()
    };
    fixture.scope.record_resolution(&other).unwrap();
    fixture.scope.remove_reference(&pulled.manifest.manifest.to_string(), &nobody).unwrap();
    assert_eq!(fixture.scope.resolutions().unwrap(), [other]);
    fixture.scope.remove_reference("a", &nobody).unwrap();
    assert_eq!(fixture.scope.resolutions().unwrap(), []);
    let error = fixture.scope.remove_reference("a", &nobody).unwrap_err();
    assert!(matches!(error, StoreError::NoReference { .. }), "{error}");
}
