use super::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn only_a_file_that_nobody_else_can_change_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    for (name, bits) in [("good", 0o644), ("private", 0o600), ("group", 0o664), ("world", 0o646)] {
        fs::write(path(name), "max-cpus = 1\n").unwrap();
        mode(&path(name), bits);
    }
    fs::write(path("typo"), "max-cpus = 1\nmax-cpu = 1\n").unwrap();
    fs::write(path("long"), vec![b'#'; MAX_POLICY + 1]).unwrap();
    fs::create_dir(path("directory")).unwrap();
    symlink("good", path("link")).unwrap();
    symlink("absent", path("dangling")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, path("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let table = [
        ("good", None),
        ("private", None),
        ("group", Some("policy {} has mode 0664, so that others than its owner can change it")),
        ("world", Some("policy {} has mode 0646, so that others than its owner can change it")),
        ("typo", Some("policy {}: line 2, column 1: unknown field `max-cpu`")),
        ("long", Some("policy {}: the policy has 262145 bytes; at most 262144 are read")),
        ("directory", Some("policy {} is a directory, not a file")),
        ("link", Some("policy {} is a symbolic link, not a file")),
        ("dangling", Some("policy {} is a symbolic link, not a file")),
        ("fifo", Some("policy {} is a special file, not a file")),
        ("absent", Some("read the policy {}: No such file or directory")),
        ("good/below", Some("read the policy {}: Not a directory")),
    ];
    for (name, expected) in table {
        let path = path(name);
        match (load(&[PolicySource::File(path.clone())]), expected) {
            (Ok(policy), None) => assert!(policy.name().contains(&format!("{}@", path.display())), "{name}"),
            (Err(error), Some(expected)) => {
                let (words, expected) =
                    (crate::chain(&error), expected.replace("{}", &path.display().to_string()));
                assert!(words.starts_with(&expected), "{name}: {words}");
            }
            (got, _) => panic!("{name}: {got:?}"),
        }
    }
}

#[test]
fn keys_lie_beside_the_policy_and_are_guarded_like_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("policy"), "image-signature = [{ key = \"key.pub\" }]\n").unwrap();
    let pem = "-----BEGIN PUBLIC KEY-----\nMAA=\n-----END PUBLIC KEY-----\n";
    let asked = [PolicySource::File(path("policy"))];
    let words =
        || load(&asked).map(|policy| policy.image_keys(None).len()).map_err(|error| crate::chain(&error));
    assert!(words().unwrap_err().contains("read the key \"key.pub\" of image-signature: read the policy"));
    fs::write(path("key.pub"), pem).unwrap();
    assert_eq!(words(), Ok(1));
    mode(&path("key.pub"), 0o666);
    assert!(words().unwrap_err().contains("has mode 0666"), "{:?}", words());
}

#[test]
fn sources_read_back() {
    for (text, expected) in [
        ("production", PolicySource::Named("production".to_owned())),
        ("/etc/p.toml", PolicySource::File("/etc/p.toml".into())),
    ] {
        let source: PolicySource = serde_json::from_value(text.into()).unwrap();
        assert_eq!(source, expected);
        assert_eq!(serde_json::to_value(&source).unwrap(), text);
    }
}
