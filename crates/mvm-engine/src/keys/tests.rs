use super::*;
use std::os::unix::fs::PermissionsExt as _;

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
