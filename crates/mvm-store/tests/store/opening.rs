use crate::child::Actor;
use crate::fixture::*;
use mvm_ref::{Digest, ScopeName};
use mvm_store::{FileError, Store, StoreError};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn a_store_is_made_for_its_user_alone() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("some/where");
    let store = Store::open(&root).unwrap();
    assert_eq!(names(&root), ["audit", "cache", "kernels", "keys", "scopes", "store.json", "vms"]);
    assert_eq!(std::fs::read_to_string(root.join("store.json")).unwrap(), "{\"schema\":1}\n");
    let scope = store.scope(&"team.a".parse::<ScopeName>().unwrap()).unwrap();
    drop(store.scope(&ScopeName::default()).unwrap());
    assert_eq!(store.scopes().unwrap(), ["default".parse().unwrap(), "team.a".parse().unwrap()]);
    assert_eq!(
        names(scope.path()),
        ["documents", "images", "index.db", "index.db-shm", "index.db-wal", "segments", "staging"]
    );
    for path in
        [root.clone(), store.vms(), store.cache(), store.audit(), store.keys(), scope.path().to_owned()]
    {
        assert_eq!(mode(&path), 0o700, "{path:?}");
    }
    for name in ["index.db", "index.db-shm", "index.db-wal"] {
        assert_eq!(mode(&scope.path().join(name)), 0o600, "{name}");
    }
}

#[test]
fn scopes_know_nothing_of_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let one = store.scope(&"one".parse().unwrap()).unwrap();
    let two = store.scope(&"two".parse().unwrap()).unwrap();
    let pulled = pull(&one, "a", &["1"]);
    assert!(two.segment(&diff_id("1"), GENERATION).unwrap().is_none());
    assert!(two.image_by_root(&pulled.manifest.root_hash).unwrap().is_none());
    assert_eq!(two.document(&pulled.manifest.manifest).unwrap(), None);
    assert_eq!(two.list_images().unwrap(), []);
    assert_eq!(two.resolutions().unwrap(), []);
}

#[test]
fn what_is_no_store_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    std::fs::write(root.join("thesis.tex"), "").unwrap();
    let error = Store::open(&root).unwrap_err();
    let expected = format!("{} is not a store and not empty: it contains \"thesis.tex\"", root.display());
    assert_eq!(error.to_string(), expected);
    assert_eq!(names(&root), ["thesis.tex"]);
    // The beginning of a store is one.
    std::fs::rename(root.join("thesis.tex"), root.join("store.json.new")).unwrap();
    std::fs::create_dir(root.join("kernels")).unwrap();
    std::fs::set_permissions(root.join("kernels"), PermissionsExt::from_mode(0o700)).unwrap();
    drop(Store::open(&root).unwrap());
}

#[test]
fn other_formats_are_refused() {
    for (text, expected) in [
        ("{\"schema\":2,\"more\":true}", "has format 2; this mvmctl knows formats up to 1"),
        ("{\"schema\":1,\"more\":true}", "does not describe a store"),
        ("{}", "does not describe a store"),
        ("[]", "does not describe a store"),
        ("", "does not describe a store"),
        ("{\"schema\":-1}", "does not describe a store"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().canonicalize().unwrap().join("store.json");
        std::fs::write(&file, text).unwrap();
        let error = Store::open(directory.path()).unwrap_err();
        assert_eq!(error.to_string(), format!("{} {expected}", file.display()), "{text}");
        assert_eq!(names(directory.path()), ["store.json"]);
    }
}

#[test]
fn a_root_may_be_reached_through_a_link() {
    let directory = tempfile::tempdir().unwrap();
    let real = directory.path().canonicalize().unwrap().join("real");
    symlink("real", directory.path().join("link")).unwrap();
    std::fs::create_dir(&real).unwrap();
    let store = Store::open(&directory.path().join("link")).unwrap();
    assert_eq!(store.root(), real);
    drop(pull(&store.scope(&ScopeName::default()).unwrap(), "a", &["1"]));
}

#[test]
fn directories_that_others_can_write_or_own_are_refused() {
    for mode in [0o770, 0o707, 0o1777] {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        std::fs::set_permissions(&root, PermissionsExt::from_mode(mode)).unwrap();
        let error = Store::open(&root).unwrap_err();
        let expected =
            format!("{} can be written by other users (mode {mode:04o}); expected 0700", root.display());
        assert_eq!(error.to_string(), expected);
    }
    if !rustix::process::geteuid().is_root() {
        println!("SKIP: only root can give a directory away");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    std::os::unix::fs::chown(&root, Some(12345), None).unwrap();
    let error = Store::open(&root).unwrap_err();
    let expected = format!("{} belongs to user 12345, not to user 0 who runs this", root.display());
    assert_eq!(error.to_string(), expected);
}

/// Gives away everything below a directory, and itself.
fn give_away(path: &Path, user: u32) {
    std::os::unix::fs::lchown(path, Some(user), None).unwrap();
    if path.is_dir() {
        names(path).iter().for_each(|name| give_away(&path.join(name), user));
    }
}

#[test]
fn another_users_store_is_only_looked_at() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIP: only root can give a directory away");
        return;
    }
    let fixture = fixture();
    let manifest = pull(&fixture.scope, "a", &["1"]).manifest;
    let path = fixture.scope.path().to_owned();
    let Fixture { directory, scope } = fixture;
    drop(scope);
    give_away(directory.path(), 12345);
    // With its log, and as another program leaves it that has folded the log.
    for has_log in [true, false] {
        if !has_log {
            std::fs::remove_file(path.join("index.db-shm")).unwrap();
            drop(
                rusqlite::Connection::open(path.join("index.db"))
                    .unwrap()
                    .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)"),
            );
            assert_eq!(names(&path), ["documents", "images", "index.db", "segments", "staging"]);
        }
        let before = names(&path);
        let store = Store::open_to_look(directory.path()).unwrap().unwrap();
        let scope = store.scope(&ScopeName::default()).unwrap();
        assert_eq!(scope.list_images().unwrap()[0].references, ["a"]);
        assert!(scope.image_by_root(&manifest.root_hash).unwrap().is_some());
        assert_eq!(scope.document(&manifest.config).unwrap().unwrap(), b"config of [\"1\"]");
        assert_eq!(scope.usage().unwrap().images.count, 1);
        let error = scope.pin(&manifest.manifest).unwrap_err();
        assert!(error.to_string().ends_with("it is read-only"), "{error}");
        let error = store.scope(&"new".parse().unwrap()).unwrap_err();
        assert!(matches!(&error, StoreError::File(FileError::Denied { act: "create", .. })), "{error:?}");
        drop(scope);
        assert_eq!(names(&path), before);
    }
}

/// Puts a link to the thing itself, moved elsewhere, in the place of an entry.
fn replace_with_link(path: &Path, elsewhere: &Path) {
    std::fs::rename(path, elsewhere).unwrap();
    symlink(elsewhere, path).unwrap();
}

#[test]
fn links_in_place_of_directories_are_refused() {
    for below in
        ["kernels", "vms", "scopes", "scopes/default", "scopes/default/images", "scopes/default/staging"]
    {
        let fixture = fixture();
        let path = fixture.directory.path().canonicalize().unwrap().join(below);
        let elsewhere = tempfile::tempdir().unwrap();
        replace_with_link(&path, &elsewhere.path().join("x"));
        let error = Store::open(fixture.directory.path())
            .and_then(|store| store.scope(&ScopeName::default()))
            .map(|_| ())
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{} is a symbolic link, which a store never contains", path.display())
        );
    }
}

#[test]
fn links_in_place_of_entries_are_refused() {
    let fixture = fixture();
    let scope = &fixture.scope;
    let pulled = pull(scope, "a", &["1"]);
    let (root, manifest) = (pulled.manifest.root_hash, pulled.manifest.manifest);
    let paths = [
        pulled.image.path().to_owned(),
        pulled.segments[0].path().to_owned(),
        fixture.path(&format!("documents/{}", manifest.hex())),
    ];
    drop(pulled);
    let elsewhere = tempfile::tempdir().unwrap();
    for (number, path) in paths.iter().enumerate() {
        replace_with_link(path, &elsewhere.path().join(number.to_string()));
    }
    let errors = [
        scope.image_by_root(&root).map(|_| ()).unwrap_err(),
        scope.segment(&diff_id("1"), GENERATION).map(|_| ()).unwrap_err(),
        scope.document(&manifest).map(|_| ()).unwrap_err(),
    ];
    for (error, path) in errors.iter().zip(&paths) {
        assert_eq!(
            error.to_string(),
            format!("{} is a symbolic link, which a store never contains", path.display())
        );
    }
    let error = scope.put_document(b"manifest of [\"1\"]").unwrap_err();
    assert!(matches!(&error, StoreError::File(FileError::Symlink { path }) if *path == paths[2]), "{error}");
}

#[test]
fn other_things_in_place_of_entries_are_refused() {
    let fixture = fixture();
    let digest = Digest::of(b"text");
    let path = fixture.path(&format!("documents/{}", digest.hex()));
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    let error = fixture.scope.document(&digest).unwrap_err();
    assert_eq!(error.to_string(), format!("{} is not a regular file", path.display()));
    let path = fixture.path(&format!("segments/{}-g1", digest.hex()));
    std::fs::write(&path, "").unwrap();
    let error = fixture.scope.segment(&digest, 1).unwrap_err();
    assert_eq!(error.to_string(), format!("{} is not a directory", path.display()));
}

#[test]
fn many_processes_may_make_one_store() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..5 {
        let root = directory.path().join(round.to_string());
        let actors: Vec<_> = (0..6).map(|_| Actor::start("open", &root)).collect();
        for mut actor in actors {
            assert_eq!(actor.all_it_says(), ["opened"]);
            actor.ends_well();
        }
    }
}

#[test]
fn the_log_of_the_index_does_not_grow_with_use() {
    let fixture = fixture();
    let root = pull(&fixture.scope, "a", &["1"]).manifest.root_hash;
    for number in 0..400 {
        let scope = fixture.again();
        scope.lease(&root, &format!("vm:{number}"), mvm_store::LeaseTerm::Durable).unwrap();
        assert_eq!(scope.release(&format!("vm:{number}")).unwrap(), 1);
    }
    let log = fixture.path("index.db-wal").metadata().unwrap().len();
    assert!(log < 2 << 20, "{log}");
}

#[test]
fn a_store_that_is_looked_for_is_not_made() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("store");
    assert!(Store::open_to_look(&root).unwrap().is_none());
    assert!(!root.exists());
    std::fs::create_dir(&root).unwrap();
    assert!(Store::open_to_look(&root).unwrap().is_none());
    assert_eq!(names(&root), [""; 0]);
    drop(Store::open(&root).unwrap());
    assert_eq!(Store::open_to_look(&root).unwrap().unwrap().root(), root.canonicalize().unwrap());
    std::fs::write(directory.path().join("thesis.txt"), "a year's work").unwrap();
    let error = Store::open_to_look(directory.path()).unwrap_err();
    assert!(matches!(error, StoreError::NotAStore { .. }), "{error:?}");
}
