//! A disk that is full or read-only, in a mount namespace that ends with its process.

use crate::child::Actor;
use crate::fixture::*;
use mvm_store::{FileError, GcOptions, ImageClaim, IndexError, LeaseTerm, Store, StoreError};
use rustix::fs::CWD;
use rustix::mount::{MountFlags, mount, mount_remount};
use std::io::Write;
use std::path::Path;

#[test]
fn a_full_or_read_only_disk_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let mut actor = match Actor::start_in_mount_namespace("disk", directory.path()) {
        Ok(actor) => actor,
        Err(missing) => {
            println!("SKIP: {missing}");
            return;
        }
    };
    assert_eq!(actor.all_it_says(), ["full", "read-only"]);
    actor.ends_well();
}

/// Writes until nothing more fits.
fn fill_up(root: &Path) -> std::fs::File {
    let filler = rustix::fs::openat(
        CWD,
        root.join("vms/filler"),
        rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::APPEND,
        rustix::fs::Mode::RWXU,
    );
    let mut filler = std::fs::File::from(filler.unwrap());
    for size in [1 << 20, 4096, 1] {
        while filler.write(&vec![1; size]).is_ok_and(|written| written > 0) {}
    }
    filler
}

/// The part of the process in the namespace: mounts a small disk at `root` and runs out of it.
pub fn run_out(root: &Path, say: fn(&str)) {
    mount("none", root, "tmpfs", MountFlags::empty(), c"size=2m,mode=0700").unwrap();
    let scope = open(root);
    let root_hash = pull(&scope, "a", &["1"]).manifest.root_hash;
    drop(pull(&scope, "b", &["moved on"]));
    drop(pull(&scope, "b", &["1"]));
    let slot = slot(&scope, "2");
    let ImageClaim::Build(image) = scope.claim_image(&chain(&["2"]), GENERATION, &never).unwrap() else {
        panic!("an image from nowhere")
    };
    let error = image.reserve(1 << 30).unwrap_err();
    assert!(matches!(&error, StoreError::File(FileError::Full { act: "reserve room for", .. })), "{error:?}");
    (&slot.files().data).write_all(&[1; 65536]).unwrap();
    let filler = fill_up(root);
    let error = scope.put_document(&[1; 8192]).unwrap_err();
    assert!(matches!(&error, StoreError::File(FileError::Full { act: "write", .. })), "{error:?}");
    let mut failed = None;
    for number in 0..200 {
        if let Err(error) = scope.lease(&root_hash, &format!("{number:0100}"), LeaseTerm::Durable) {
            failed = Some(error);
            break;
        }
    }
    let error = failed.unwrap();
    assert!(matches!(&error, StoreError::Index(IndexError::Full { act: "record a lease", .. })), "{error:?}");
    // What is there can still be found, and what nobody needs can still be removed.
    assert!(scope.image_by_root(&root_hash).unwrap().is_some());
    drop((slot, image));
    assert_eq!(names(&scope.path().join("staging")), [""; 0]);
    drop(fill_up(root));
    let report = scope.gc(&GcOptions::default(), &|_| false).unwrap();
    assert_eq!(report.removed.len(), 4, "{report:?}");
    drop(filler);
    std::fs::remove_file(root.join("vms/filler")).unwrap();
    drop(pull(&scope, "b", &["2"]));
    say("full");

    drop(scope);
    let database = rusqlite::Connection::open(root.join("scopes/default/index.db")).unwrap();
    // SQLite can read a read-only database only with its log beside it; the store leaves it there.
    database.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    database.execute("UPDATE segments SET last_used = 0", []).unwrap();
    drop(database);
    mount_remount(root, MountFlags::RDONLY, c"").unwrap();
    let scope = open(root);
    assert!(scope.image_by_root(&root_hash).unwrap().is_some());
    assert!(scope.segment(&diff_id("2"), GENERATION).unwrap().is_some());
    let error = scope.lease(&root_hash, "x", LeaseTerm::Durable).unwrap_err();
    assert!(
        matches!(&error, StoreError::Index(IndexError::ReadOnly { act: "record a lease", .. })),
        "{error:?}"
    );
    let error = scope.put_document(b"new").unwrap_err();
    assert!(matches!(&error, StoreError::File(FileError::ReadOnly { act: "create", .. })), "{error:?}");
    let error = Store::open(&root.join("vms/new")).map(|_| ()).unwrap_err();
    assert!(matches!(&error, StoreError::File(FileError::ReadOnly { act: "create", .. })), "{error:?}");
    say("read-only");
}
