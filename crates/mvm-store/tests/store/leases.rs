use crate::child::Actor;
use crate::fixture::*;
use mvm_ref::Digest;
use mvm_store::{GcOptions, LeaseTerm, ProcessId, Scope, StoreError};

fn holders(scope: &Scope) -> Vec<String> {
    scope.leases().unwrap().into_iter().map(|lease| lease.holder).collect()
}

#[test]
fn a_lease_keeps_an_image_from_removal_and_collection() {
    let fixture = fixture();
    let scope = &fixture.scope;
    let root = pull(scope, "a", &["1"]).manifest.root_hash;
    scope.lease(&root, "vm:web", LeaseTerm::Durable).unwrap();
    scope.lease(&root, "vm:db", LeaseTerm::Process(ProcessId::current().unwrap())).unwrap();
    let error = scope.remove_reference("a", &nobody).unwrap_err();
    assert_eq!(error.to_string(), "image a is used by vm:db, vm:web");

    // Who is known elsewhere counts like who holds a lease, each once.
    let users = |used: &Digest| {
        ["vm:db", "vm:old"].map(str::to_owned).into_iter().filter(|_| *used == root).collect()
    };
    let error = scope.remove_reference("a", &users).unwrap_err();
    assert_eq!(error.to_string(), "image a is used by vm:db, vm:old, vm:web");

    // With another name, the first can go.
    drop(pull(scope, "b", &["1"]));
    assert_eq!(scope.remove_reference("a", &nobody).unwrap().untagged, ["a"]);
    // And a name that moves on leaves the image and its documents to the lease.
    drop(pull(scope, "b", &["2"]));
    let report = scope.gc(&GcOptions::default(), &|_| false).unwrap();
    assert_eq!(report.removed.len(), 0, "{report:?}");
    assert!(scope.image_by_root(&root).unwrap().is_some());

    assert_eq!(scope.release("vm:web").unwrap(), 1);
    assert_eq!(scope.release("vm:web").unwrap(), 0);
    assert_eq!(holders(scope), ["vm:db"]);
    assert_eq!(scope.gc(&GcOptions::default(), &|_| false).unwrap().removed.len(), 0);
    assert_eq!(scope.release("vm:db").unwrap(), 1);
    let report = scope.gc(&GcOptions::default(), &|_| false).unwrap();
    assert_eq!(report.removed.len(), 4, "{report:?}");
    assert!(scope.image_by_root(&root).unwrap().is_none());
}

#[test]
fn a_lease_ends_with_its_process() {
    let fixture = fixture();
    let root = image_record(&["1"]).0.root_hash;
    let mut actor = Actor::start("lease 1", fixture.directory.path());
    assert_eq!(actor.says().unwrap(), "leased");
    let lease = fixture.scope.leases().unwrap().remove(0);
    assert_eq!((lease.root_hash, lease.holder.as_str(), lease.pid), (root, "child", Some(actor.pid())));
    fixture.scope.gc(&GcOptions::default(), &|_| false).unwrap();
    assert!(fixture.scope.image_by_root(&root).unwrap().is_some());
    actor.kill();
    assert_eq!(fixture.scope.leases().unwrap(), []);
    fixture.scope.gc(&GcOptions::default(), &|_| false).unwrap();
    assert!(fixture.scope.image_by_root(&root).unwrap().is_none());
}

#[test]
fn which_leases_hold() {
    let fixture = fixture();
    let scope = &fixture.scope;
    let root = image(scope, &["1"]).0.record().root_hash;
    let here = ProcessId::current().unwrap();
    let other = ProcessId::from_parts(here.pid(), here.start_time() + 1);
    let database = rusqlite::Connection::open(fixture.path("index.db")).unwrap();
    for (term, change, expected) in [
        (LeaseTerm::Durable, "", true),
        (LeaseTerm::Process(here), "", true),
        (LeaseTerm::Process(other), "", false),
        (LeaseTerm::Process(here), "boot_id = 'another'", false),
        (LeaseTerm::Process(other), "pid_namespace = 'another'", true),
        (LeaseTerm::Process(other), "pid_namespace = 'another', boot_id = 'another'", false),
    ] {
        scope.lease(&root, "x", term).unwrap();
        if !change.is_empty() {
            assert_eq!(database.execute(&format!("UPDATE leases SET {change}"), []).unwrap(), 1);
        }
        assert_eq!(holders(scope), vec!["x"; expected.into()], "{term:?} {change}");
        scope.gc(&GcOptions { dry_run: true, ..GcOptions::default() }, &|_| false).unwrap();
        let rows: u32 = database.query_row("SELECT count(*) FROM leases", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 1);
        scope.gc(&GcOptions::default(), &|_| true).unwrap();
        let rows: u32 = database.query_row("SELECT count(*) FROM leases", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, u32::from(expected), "{term:?} {change}");
    }
}

#[test]
fn what_is_not_there_cannot_be_leased() {
    let fixture = fixture();
    let root = Digest::of(b"nothing");
    let error = fixture.scope.lease(&root, "x", LeaseTerm::Durable).unwrap_err();
    assert!(matches!(error, StoreError::NoImage { root: named } if named == root), "{error}");
    assert_eq!(fixture.scope.leases().unwrap(), []);
}

#[test]
fn a_holder_has_one_lease_on_an_image() {
    let fixture = fixture();
    let root = image(&fixture.scope, &["1"]).0.record().root_hash;
    let process = LeaseTerm::Process(ProcessId::current().unwrap());
    for (term, durable) in [(process, false), (LeaseTerm::Durable, true), (process, false)] {
        fixture.scope.lease(&root, "x", term).unwrap();
        let leases = fixture.scope.leases().unwrap();
        assert_eq!(leases.len(), 1);
        assert_eq!(leases[0].pid.is_none(), durable);
    }
}
