use crate::fixture::*;
use mvm_ref::Digest;
use mvm_store::{GcOptions, GcReport, StoreError};

#[test]
fn a_pinned_image_stays_without_a_name() {
    let fixture = fixture();
    let scope = &fixture.scope;
    let old = pull(scope, "a", &["base", "old"]).manifest;
    assert!(scope.pin(&old.manifest).unwrap());
    assert!(!scope.pin(&old.manifest).unwrap());
    drop(pull(scope, "a", &["base", "new"]));
    // Pulled again, it is pinned still.
    drop(pull(scope, "b", &["base", "old"]));
    let pinned: Vec<_> =
        scope.list_images().unwrap().iter().map(|image| (image.manifest, image.pinned)).collect();
    assert!(
        pinned.contains(&(old.manifest, true)) && pinned.iter().filter(|image| image.1).count() == 1,
        "{pinned:?}"
    );
    assert_eq!(scope.remove_reference("b", &nobody).unwrap_err().to_string(), "image b is pinned");
    drop(pull(scope, "c", &["base", "old"]));
    assert_eq!(scope.remove_reference("b", &nobody).unwrap().untagged, ["b"]);
    drop(pull(scope, "c", &["base", "new"]));
    let error = scope.remove_reference(&old.root_hash.to_string(), &nobody).unwrap_err();
    assert!(matches!(error, StoreError::Pinned { .. }), "{error:?}");
    assert_eq!(scope.gc(&GcOptions::default(), &|_| false).unwrap(), GcReport::default());
    assert!(scope.image_by_root(&old.root_hash).unwrap().is_some());
    assert!(scope.document(&old.config).unwrap().is_some());

    assert!(scope.unpin(&old.manifest).unwrap());
    assert!(!scope.unpin(&old.manifest).unwrap());
    assert_eq!(scope.gc(&GcOptions::default(), &|_| false).unwrap().removed.len(), 4);
}

#[test]
fn what_is_not_there_cannot_be_pinned() {
    let fixture = fixture();
    let error = fixture.scope.pin(&Digest::of(b"nothing")).unwrap_err();
    assert!(matches!(error, StoreError::NoReference { .. }), "{error:?}");
    assert_eq!(fixture.scope.pins().unwrap().len(), 0);
}
