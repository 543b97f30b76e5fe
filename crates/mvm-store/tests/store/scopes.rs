use crate::child::Actor;
use crate::fixture::*;
use mvm_ref::ScopeName;
use mvm_store::{LeaseTerm, ProcessId, Store, StoreError};
use std::time::Duration;

/// Removes a scope that nobody has open. A process that another test is just starting may have it for a moment.
fn remove(store: &Store, scope: &str, force: bool) -> Result<u64, StoreError> {
    for _ in 0..500 {
        match store.remove_scope(&name(scope), force) {
            Err(StoreError::ScopeInUse { .. }) => std::thread::sleep(Duration::from_millis(10)),
            other => return other,
        }
    }
    store.remove_scope(&name(scope), force)
}

fn name(text: &str) -> ScopeName {
    text.parse().unwrap()
}

#[test]
fn a_scope_is_removed_with_all_that_is_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let kept = store.scope(&name("kept")).unwrap();
    drop(pull(&kept, "a", &["1"]));
    assert!(matches!(store.remove_scope(&name("none"), true).unwrap_err(), StoreError::NoScope { .. }));
    assert!(store.existing_scope(&name("none")).unwrap().is_none());
    let gone = store.scope(&name("gone")).unwrap();
    drop(pull(&gone, "a", &["1"]));
    let total = gone.usage().unwrap().total;
    assert!(matches!(store.remove_scope(&name("gone"), true).unwrap_err(), StoreError::ScopeInUse { .. }));
    drop(gone);
    assert!(remove(&store, "gone", false).unwrap() >= total);
    assert_eq!(store.scopes().unwrap(), [name("kept")]);
    assert_eq!(names(&directory.path().join("scopes")), ["kept"]);
    // Another one of that name knows nothing of it.
    assert_eq!(store.scope(&name("gone")).unwrap().list_images().unwrap(), []);
    assert_eq!(kept.list_images().unwrap().len(), 1);
}

#[test]
fn leases_and_pins_keep_a_scope() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let scope = store.scope(&name("a")).unwrap();
    let manifest = pull(&scope, "a", &["1"]).manifest;
    scope.lease(&manifest.root_hash, "vm:x", LeaseTerm::Process(ProcessId::current().unwrap())).unwrap();
    drop(scope);
    assert!(matches!(store.remove_scope(&name("a"), false).unwrap_err(), StoreError::ScopeInUse { .. }));
    let scope = store.scope(&name("a")).unwrap();
    assert_eq!(scope.release("vm:x").unwrap(), 1);
    assert!(scope.pin(&manifest.manifest).unwrap());
    drop(scope);
    assert!(matches!(remove(&store, "a", false).unwrap_err(), StoreError::ScopePinned { count: 1, .. }));
    remove(&store, "a", true).unwrap();
    assert_eq!(store.scopes().unwrap(), []);
}

#[test]
fn one_that_is_damaged_is_removed_by_force() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let path = store.scope(&name("a")).unwrap().path().to_owned();
    std::fs::write(path.join("index.db"), [b'x'; 4096]).unwrap();
    for log in ["index.db-wal", "index.db-shm"] {
        std::fs::remove_file(path.join(log)).unwrap();
    }
    assert!(matches!(remove(&store, "a", false).unwrap_err(), StoreError::Index(_)));
    remove(&store, "a", true).unwrap();
    assert_eq!(store.scope(&name("a")).unwrap().list_images().unwrap(), []);
}

#[test]
fn a_removal_that_was_killed_is_finished_later() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let scope = store.scope(&name("a")).unwrap();
    drop(pull(&scope, "a", &["1"]));
    let path = scope.path().to_owned();
    drop(scope);
    let half = path.with_file_name(".removed-a.1");
    std::fs::rename(&path, &half).unwrap();
    assert_eq!(store.scopes().unwrap(), []);
    assert!(store.sweep_scopes().unwrap() > 0);
    assert!(!half.exists());
    assert_eq!(store.sweep_scopes().unwrap(), 0);
}

#[test]
fn scopes_come_and_go_while_others_open_them() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let actors: Vec<_> =
        (0..3).map(|number| Actor::start(&format!("pull {number}"), directory.path())).collect();
    for _ in 0..200 {
        match store.remove_scope(&ScopeName::default(), true) {
            Ok(_) | Err(StoreError::ScopeInUse { .. } | StoreError::NoScope { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
        drop(store.scope(&ScopeName::default()).unwrap());
    }
    for mut actor in actors {
        actor.all_it_says();
        actor.ends_well();
    }
    remove(&store, "default", true).unwrap();
    assert_eq!(names(&directory.path().join("scopes")), [""; 0]);
}

#[test]
fn a_quota_is_a_number_until_it_is_taken_back() {
    let fixture = fixture();
    assert_eq!(fixture.scope.quota().unwrap(), None);
    for (set, expected) in [
        (Some(0), Some(0)),
        (Some(5 << 30), Some(5 << 30)),
        (Some(u64::MAX), Some(i64::MAX as u64)),
        (None, None),
    ] {
        fixture.scope.set_quota(set).unwrap();
        assert_eq!(fixture.again().quota().unwrap(), expected);
    }
}
