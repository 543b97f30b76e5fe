use crate::child::Actor;
use crate::fixture::*;
use mvm_store::{DATA_START, GcOptions, GcReport, Scope};
use std::collections::BTreeSet;
use std::path::Path;

/// Checks all that must hold of a store at any moment.
fn check(root: &Path) -> Scope {
    let scope = open(root);
    let left = names(&scope.path().join("staging"));
    assert_eq!(left, [""; 0]);
    for listing in scope.list_images().unwrap() {
        for digest in [listing.manifest, listing.config] {
            assert!(scope.document(&digest).unwrap().is_some(), "{listing:?}");
        }
        if let Some(image) = scope.image_by_root(&listing.root_hash).unwrap() {
            let bytes = std::fs::read(image.path()).unwrap();
            assert_eq!(mvm_ref::Digest::of(&bytes), image.record().root_hash);
        } else {
            assert_eq!(listing.size, None, "{listing:?}");
        }
        for diff_id in scope.manifest(&listing.manifest).unwrap().unwrap().chain {
            if let Some(segment) = scope.segment(&diff_id, GENERATION).unwrap() {
                assert_eq!(segment.open().unwrap().data.metadata().unwrap().len(), DATA_START + 8192);
            }
        }
    }
    scope
}

#[test]
fn a_kill_at_any_point_leaves_a_store_that_opens() {
    let fixture = fixture();
    let root = fixture.directory.path();
    for lines in 1..30 {
        let mut actor = Actor::start("churn", root);
        let said: BTreeSet<_> = (0..lines).map(|_| actor.says().unwrap()).collect();
        actor.kill();
        assert!(said.contains("segments"));
        let scope = check(root);
        if lines % 4 == 0 {
            scope.gc(&GcOptions::default(), &|_| false).unwrap();
            let images: BTreeSet<_> = scope
                .list_images()
                .unwrap()
                .iter()
                .filter(|listing| listing.size.is_some())
                .map(|listing| format!("{}.img", listing.root_hash.hex()))
                .collect();
            assert_eq!(names(&scope.path().join("images")), images.into_iter().collect::<Vec<_>>());
            check(root);
        }
    }
}

#[test]
fn what_a_killed_maker_left_is_removed_by_the_next_open() {
    let fixture = fixture();
    let mut actor = Actor::start("build a", fixture.directory.path());
    assert_eq!(actor.says().unwrap(), "building");
    let stem = format!("segment-{}-g1", diff_id("a").hex());
    // Not while it is at work.
    drop(fixture.again());
    assert_eq!(fixture.names("staging"), [stem.clone(), format!("{stem}.lock")]);
    actor.kill();
    std::fs::write(fixture.path(&format!("staging/document-{}.1.0", diff_id("a").hex())), "ha").unwrap();
    std::fs::write(fixture.path(&format!("staging/image-{}-g1.img", diff_id("a").hex())), "half").unwrap();
    let scope = fixture.again();
    assert_eq!(fixture.names("staging"), [""; 0]);
    // Collection opens the scope too, and tells what that removed; once.
    let mut removed: Vec<_> =
        scope.gc(&GcOptions::default(), &|_| false).unwrap().removed.iter().map(entry).collect();
    removed.sort();
    let hex = diff_id("a").hex();
    assert_eq!(removed, [format!("document-{hex}.1.0"), format!("image-{hex}-g1.img"), stem]);
    assert_eq!(scope.gc(&GcOptions::default(), &|_| false).unwrap(), GcReport::default());
}

#[test]
fn a_torn_log_loses_at_most_what_was_last() {
    let fixture = fixture();
    drop(pull(&fixture.scope, "a", &["1"]));
    // As if killed: the log is not folded into the database.
    let copy = tempfile::tempdir().unwrap();
    let scope = copy.path().join("scopes/default");
    drop(open(copy.path()));
    for name in ["documents", "images"] {
        for entry in fixture.names(name) {
            std::fs::copy(fixture.path(&format!("{name}/{entry}")), scope.join(name).join(entry)).unwrap();
        }
    }
    let log = std::fs::read(fixture.path("index.db-wal")).unwrap();
    let database = std::fs::read(fixture.path("index.db")).unwrap();
    assert!(log.len() > 4096, "{}", log.len());
    let mut seen = BTreeSet::new();
    for length in (0..=log.len()).step_by(997).chain([log.len()]) {
        std::fs::write(scope.join("index.db"), &database).unwrap();
        std::fs::write(scope.join("index.db-wal"), &log[..length]).unwrap();
        if scope.join("index.db-shm").exists() {
            std::fs::remove_file(scope.join("index.db-shm")).unwrap();
        }
        let scope = check(copy.path());
        seen.insert(scope.list_images().unwrap().len());
    }
    assert_eq!(seen, BTreeSet::from([0, 1]));
}
