use super::store::KeyStore;
use super::*;
use mvm_plan::{TrustEntry, TrustStore, TrustedKey};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

#[derive(Debug)]
struct Keys {
    local: SigningKey,
    trust: TrustStore,
}

fn load(store_root: &Path) -> Result<Keys, KeysError> {
    let store = KeyStore::unaudited(store_root);
    Ok(Keys { local: store.local()?, trust: store.trust()? })
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A store whose key has been used, and the path of that key.
fn used() -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    load(root.path()).unwrap();
    let path = root.path().join("keys/local.pem");
    (root, path)
}

#[test]
fn the_first_use_makes_a_key_that_only_its_user_can_read() {
    let root = tempfile::tempdir().unwrap();
    let keys = load(root.path()).unwrap();
    let local = keys.local.public_key();
    let expected =
        TrustStore::new(vec![TrustedKey { name: "local".to_owned(), key: local, development: true }])
            .unwrap();
    assert_eq!(keys.trust, expected);

    let directory = root.path().join("keys");
    assert_eq!((mode(&directory), mode(&directory.join("local.pem"))), (0o700, 0o600));
    let mut names: Vec<_> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["local.pem", "trust.json"]);

    let again = load(root.path()).unwrap();
    assert_eq!(again.local.public_key(), local);
    assert_eq!(again.trust, expected);
    let other = tempfile::tempdir().unwrap();
    assert_ne!(load(other.path()).unwrap().local.public_key(), local);
}

#[test]
fn of_many_first_uses_one_makes_the_key() {
    for _ in 0..20 {
        let root = tempfile::tempdir().unwrap();
        let start = std::sync::Barrier::new(8);
        let keys: Vec<Keys> = std::thread::scope(|scope| {
            let users: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        load(root.path()).unwrap()
                    })
                })
                .collect();
            users.into_iter().map(|user| user.join().unwrap()).collect()
        });
        for key in &keys {
            assert_eq!(key.local.public_key(), keys[0].local.public_key());
            assert_eq!(key.trust, keys[0].trust);
        }
    }
}

#[test]
fn what_a_killed_first_use_left_is_in_nobodys_way() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("keys");
    fs::create_dir(&directory).unwrap();
    // Where process numbers start anew, as in a container, the next process may have the dead one's.
    fs::write(directory.join(format!("local.{}.new", std::process::id())), b"half a key").unwrap();
    load(root.path()).unwrap();
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let (root, path) = used();
    for (bits, refused) in
        [(0o400, false), (0o600, false), (0o640, true), (0o604, true), (0o602, true), (0o610, true)]
    {
        set_mode(&path, bits);
        match load(root.path()) {
            Ok(_) => assert!(!refused, "{bits:o}"),
            Err(error) => {
                assert!(refused, "{bits:o}");
                let expected = format!(
                    "private key {} has mode {bits:04o}; run chmod 600 on it, or remove it if others may have read it",
                    path.display()
                );
                assert_eq!(error.to_string(), expected);
            }
        }
    }
}

#[test]
fn damaged_files_are_named_and_left_alone() {
    let (root, path) = used();
    let pem = fs::read_to_string(&path).unwrap();
    let table: [(&str, Vec<u8>, String); 4] = [
        ("empty", vec![], format!("{} holds no key", path.display())),
        ("cut", pem.as_bytes()[..pem.len() / 2].to_vec(), format!("{} holds no key", path.display())),
        (
            "another kind",
            pem.replace("PRIVATE", "PUBLIC").into_bytes(),
            format!("{} holds no key", path.display()),
        ),
        ("not text", vec![0xff; 40], format!("read {}", path.display())),
    ];
    for (case, content, message) in table {
        fs::write(&path, &content).unwrap();
        assert_eq!(load(root.path()).unwrap_err().to_string(), message, "{case}");
        assert_eq!(fs::read(&path).unwrap(), content, "{case}");
    }
    fs::write(&path, &pem).unwrap();
    load(root.path()).unwrap();

    let trust = root.path().join("keys/trust.json");
    let listed = fs::read_to_string(&trust).unwrap();
    for content in [
        "",
        "{}",
        "[]x",
        &listed.replace("\"name\"", "\"nom\""),
        &listed.replacen(": ", ": \"x\", \"more\": ", 1),
    ] {
        fs::write(&trust, content).unwrap();
        let message = format!("{} is not a list of trusted keys", trust.display());
        assert_eq!(load(root.path()).unwrap_err().to_string(), message, "{content}");
        assert_eq!(fs::read_to_string(&trust).unwrap(), content);
    }
}

#[test]
fn a_list_of_trusted_keys_is_taken_as_it_is() {
    let (root, _) = used();
    let release = SigningKey::from_seed(&[3; 32]).public_key();
    let list =
        TrustStore::new(vec![TrustedKey { name: "release".to_owned(), key: release, development: false }])
            .unwrap();
    fs::write(root.path().join("keys/trust.json"), serde_json::to_vec(&list).unwrap()).unwrap();
    assert_eq!(load(root.path()).unwrap().trust, list);
}

#[test]
fn random_bytes_differ() {
    assert_ne!(random::<16>().unwrap(), random::<16>().unwrap());
}

fn names(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root.join("keys")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn entry(name: &str, key: &SigningKey) -> TrustEntry {
    TrustedKey { name: name.to_owned(), key: key.public_key(), development: true }.into()
}

#[test]
fn a_lost_list_is_made_anew_and_a_lost_key_is_revoked() {
    let (root, path) = used();
    let first = load(root.path()).unwrap();
    let trust = root.path().join("keys/trust.json");
    fs::remove_file(&trust).unwrap();
    let again = load(root.path()).unwrap();
    assert_eq!((again.local.public_key(), &again.trust), (first.local.public_key(), &first.trust));

    // Whoever was told that others had seen the key removes it.
    fs::remove_file(&path).unwrap();
    let second = load(root.path()).unwrap();
    assert_ne!(second.local.public_key(), first.local.public_key());
    let [old, new] = second.trust.entries() else { panic!("{:?}", second.trust) };
    assert!(old.revoked.is_some());
    assert_eq!(old.key.name, format!("local~{:.8}", first.local.public_key().id()));
    assert_eq!((&old.key.key, new.clone()), (&first.local.public_key(), entry("local", &second.local)));

    fs::remove_file(&path).unwrap();
    fs::remove_file(&trust).unwrap();
    let third = load(root.path()).unwrap();
    assert_eq!(third.trust.entries(), [entry("local", &third.local)]);
    // A list that its owner made without a local key stays without one.
    let release = SigningKey::from_seed(&[3; 32]);
    let list = TrustStore::with_entries(vec![entry("release", &release)]).unwrap();
    fs::write(&trust, serde_json::to_vec(&list).unwrap()).unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(load(root.path()).unwrap().trust, list);
}

#[test]
fn what_a_killed_writer_left_is_finished_if_the_list_knows_it() {
    let (root, path) = used();
    let local = load(root.path()).unwrap().local;
    let (known, unknown, renamed) =
        (SigningKey::from_seed(&[4; 32]), SigningKey::from_seed(&[5; 32]), SigningKey::from_seed(&[6; 32]));
    let list = vec![entry("local~old", &local), entry("local", &known), entry("other", &renamed)];
    let list = TrustStore::with_entries(list).unwrap();
    let directory = root.path().join("keys");
    fs::write(directory.join("trust.json"), serde_json::to_vec(&list).unwrap()).unwrap();
    for (name, key) in [("local", &known), ("a.b", &unknown), ("mine", &renamed)] {
        let staged = directory.join(format!("{name}.{}.next", key.public_key().id()));
        fs::write(&staged, key.to_pem().unwrap().as_bytes()).unwrap();
        set_mode(&staged, 0o600);
    }
    for name in ["trust.json.new", "no-key.next"] {
        fs::write(directory.join(name), "half").unwrap();
    }
    let loaded = load(root.path()).unwrap();
    assert_eq!((loaded.local.public_key(), &loaded.trust), (known.public_key(), &list));
    assert_eq!(fs::read_to_string(&path).unwrap(), *known.to_pem().unwrap());
    assert_eq!(names(root.path()), ["local.pem", "no-key.next", "trust.json"]);
}

#[test]
fn files_that_others_could_have_made_are_refused() {
    let (root, path) = used();
    let directory = root.path().join("keys");
    let trust = directory.join("trust.json");
    let (pem, list) = (fs::read(&path).unwrap(), fs::read(&trust).unwrap());
    let refused = || load(root.path()).err().map(|error| error.to_string());
    let restore = || {
        for (path, bytes) in [(&path, &pem), (&trust, &list)] {
            if path.is_dir() {
                fs::remove_dir(path).unwrap();
            } else if path.symlink_metadata().is_ok() {
                fs::remove_file(path).unwrap();
            }
            fs::write(path, bytes).unwrap();
            set_mode(path, 0o600);
        }
        assert_eq!(refused(), None);
    };
    for file in [&path, &trust] {
        let elsewhere = root.path().join("elsewhere");
        fs::rename(file, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, file).unwrap();
        assert_eq!(refused(), Some(format!("{} is a symbolic link; expected a file", file.display())));
        restore();
        fs::remove_file(file).unwrap();
        fs::create_dir(file).unwrap();
        assert_eq!(refused(), Some(format!("{} is not a regular file", file.display())));
        restore();
        fs::remove_file(file).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, file, rustix::fs::Mode::RUSR).unwrap();
        assert_eq!(refused(), Some(format!("{} is not a regular file", file.display())));
        restore();
        fs::write(file, vec![b' '; 70_000]).unwrap();
        assert_eq!(refused(), Some(format!("{} has 65537 bytes; at most 65536 are read", file.display())));
        restore();
    }
    set_mode(&trust, 0o622);
    let expected = "has mode 0622, so others can change it; run chmod go-w on it and look at what it holds";
    assert_eq!(refused(), Some(format!("{} {expected}", trust.display())));
    set_mode(&trust, 0o644);
    assert_eq!(refused(), None);

    // A directory that others can write to is noticed by whoever writes.
    set_mode(&directory, 0o777);
    let error = KeyStore::unaudited(root.path()).lock().err().map(|error| error.to_string());
    assert!(error.is_some_and(|error| error.contains("has mode 0777")));
    set_mode(&directory, 0o700);
    let moved = root.path().join("moved");
    fs::rename(&directory, &moved).unwrap();
    std::os::unix::fs::symlink(&moved, &directory).unwrap();
    let error = KeyStore::unaudited(root.path()).lock().err().map(|error| error.to_string());
    assert_eq!(error, Some(format!("{} is a symbolic link; expected a file", directory.display())));
}

#[test]
fn what_is_done_with_keys_is_in_the_audit_log_before_it_is_done() {
    use mvm_plan::audit::{Event, KeyAct};
    let fixture = crate::engine::tests::fixture();
    let engine = &fixture.engine;
    let name = |text: &str| text.parse::<mvm_ref::KeyName>().unwrap();
    let made = engine.generate_key(&name("release"), None, false).unwrap().id.unwrap();
    let rotated = engine.rotate_key(&name("release"), None, Some(7)).unwrap();
    let (new, old) = (rotated.new.id.unwrap(), rotated.old.id.unwrap());
    assert_eq!(old, made);
    engine.export_private_key("release").unwrap();
    engine.revoke_key("release").unwrap();
    engine.remove_key("release").unwrap();
    let local = engine.key_store().local().unwrap().public_key().id();
    let expected = [
        (KeyAct::Generate, local),
        (KeyAct::Trust, local),
        (KeyAct::Generate, made),
        (KeyAct::Trust, made),
        (KeyAct::Generate, new),
        (KeyAct::Trust, new),
        (KeyAct::Rotate, old),
        (KeyAct::Export, new),
        (KeyAct::Revoke, new),
        (KeyAct::Remove, new),
    ];
    assert_eq!(fixture.events(), expected.map(|(act, id)| Event::Key { act, id }));
}
