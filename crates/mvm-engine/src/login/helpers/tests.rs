use super::*;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

/// Helpers as small shell scripts in a directory of their own.
struct Place(tempfile::TempDir);

impl Place {
    fn new(helpers: &[(&str, &str)]) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        for (name, script) in helpers {
            let path = place.path(&format!("docker-credential-{name}"));
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn helpers(&self) -> Helpers {
        let environment =
            HelperEnvironment::new([("KEYS".into(), self.path("keys").into_os_string())].to_vec());
        Helpers { path: self.0.path().into(), environment, time: Duration::from_secs(20) }
    }
}

fn name(text: &str) -> HelperName {
    text.parse().unwrap()
}

fn login(user: &str, secret: &str) -> Login {
    Login { user: user.to_owned(), secret: Secret::from(secret.to_owned()) }
}

#[test]
fn a_helper_is_told_on_stdin_and_heard_on_stdout() {
    let place = Place::new(&[
        (
            "file",
            r#"case $1 in store) cat > "$KEYS" ;; get) read -r server; [ -s "$KEYS" ] || { echo "credentials not found in native keychain"; exit 1; }; cat "$KEYS" ;; erase) : > "$KEYS" ;; esac"#,
        ),
        (
            "token",
            r#"read -r server; echo "{\"ServerURL\":\"$server\",\"Username\":\"<token>\",\"Secret\":\"id of $server\"}""#,
        ),
        ("blank", r#"echo '{"ServerURL":"","Username":"","Secret":""}'"#),
    ]);
    let helpers = place.helpers();
    assert_eq!(helpers.get(&name("file"), "a.io").unwrap(), None);
    let kept = login("user", "p\"ä\\ss\n");
    helpers.store(&name("file"), "a.io", &kept).unwrap();
    let text = std::fs::read_to_string(place.path("keys")).unwrap();
    assert_eq!(text, r#"{"ServerURL":"a.io","Username":"user","Secret":"p\"ä\\ss\n"}"#);
    assert_eq!(helpers.get(&name("file"), "a.io").unwrap(), Some(kept));
    helpers.erase(&name("file"), "a.io").unwrap();
    assert_eq!(helpers.get(&name("file"), "a.io").unwrap(), None);
    assert_eq!(helpers.get(&name("token"), "b.io").unwrap(), Some(login("<token>", "id of b.io")));
    assert_eq!(helpers.get(&name("blank"), "b.io").unwrap(), None);
}

#[test]
fn failures_name_the_helper_and_the_host_and_no_secret() {
    let place = Place::new(&[
        ("locked", "echo 'the keys are locked'; exit 1"),
        ("stderr", "echo 'no such file' >&2; exit 2"),
        ("echo", "echo \"bad secret hunter2\"; exit 1"),
        ("leak", r#"echo '{"Secret":"hunter2"}'; exit 1"#),
        ("words", "echo hello"),
        ("flood", "head -c 100000 /dev/zero"),
        ("slow", "exec sleep 100"),
    ]);
    let mut helpers = place.helpers();
    let failed = "credential helper docker-credential-";
    let cases = [
        ("locked", format!("{failed}locked failed for a.io (it says: the keys are locked)")),
        ("stderr", format!("{failed}stderr failed for a.io (it says: no such file)")),
        ("leak", format!("{failed}leak failed for a.io")),
        ("words", format!("{failed}words gives no usable answer for a.io")),
        ("flood", "cannot run credential helper docker-credential-flood".to_owned()),
        ("none", format!("{failed}none is not installed")),
    ];
    for (helper, expected) in cases {
        assert_eq!(helpers.get(&name(helper), "a.io").unwrap_err().to_string(), expected);
    }
    let error = helpers.store(&name("echo"), "a.io", &login("user", "hunter2")).unwrap_err();
    assert_eq!(error.to_string(), format!("{failed}echo failed for a.io (it says: bad secret (secret))"));
    helpers.time = Duration::from_secs(1);
    let error = helpers.get(&name("slow"), "a.io").unwrap_err();
    assert_eq!(error.to_string(), format!("{failed}slow did not answer for a.io within 1 s"));
}
