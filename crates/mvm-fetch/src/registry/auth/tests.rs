use super::*;
use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::sync::Mutex;

/// What is found, in words that a test can write.
fn shown(found: Result<Found, AuthError>) -> String {
    match found {
        Ok(Found::Nothing) => "nothing".to_owned(),
        Ok(Found::Credentials(Credentials::Password { user, password })) => {
            format!("{user}:{}", password.expose())
        }
        Ok(Found::Credentials(Credentials::Identity(token))) => format!("identity {}", token.expose()),
        Ok(Found::Credentials(Credentials::Registry(token))) => format!("registry {}", token.expose()),
        Ok(Found::Unreachable(error)) => format!("unreachable: {error}"),
        Err(error) => format!("error: {error}"),
    }
}

/// Helpers that keep logins in memory: the name of one that is not installed is `absent`, `broken` fails.
#[derive(Debug, Default)]
struct Helpers(Mutex<BTreeMap<(String, String), Login>>);

impl Helpers {
    fn key(helper: &HelperName, server: &str) -> (String, String) {
        (helper.to_string(), server.to_owned())
    }

    fn check(helper: &HelperName, server: &str) -> Result<(), HelperError> {
        let program = helper.program();
        match helper.to_string().as_str() {
            "absent" => Err(HelperError::NotInstalled { program }),
            "broken" => {
                Err(HelperError::Failed { program, server: server.to_owned(), message: "locked".to_owned() })
            }
            _ => Ok(()),
        }
    }

    fn logins(&self) -> Vec<(String, String, String)> {
        let logins = self.0.lock().unwrap();
        logins
            .iter()
            .map(|((helper, server), login)| (helper.clone(), server.clone(), login.user.clone()))
            .collect()
    }
}

impl CredentialHelper for Helpers {
    fn get(&self, helper: &HelperName, server: &str) -> Result<Option<Login>, HelperError> {
        Self::check(helper, server)?;
        Ok(self.0.lock().unwrap().get(&Self::key(helper, server)).cloned())
    }

    fn store(&self, helper: &HelperName, server: &str, login: &Login) -> Result<(), HelperError> {
        Self::check(helper, server)?;
        self.0.lock().unwrap().insert(Self::key(helper, server), login.clone());
        Ok(())
    }

    fn erase(&self, helper: &HelperName, server: &str) -> Result<(), HelperError> {
        Self::check(helper, server)?;
        self.0.lock().unwrap().remove(&Self::key(helper, server));
        Ok(())
    }
}

fn login(user: &str, secret: &str) -> Login {
    Login { user: user.to_owned(), secret: Secret::from(secret.to_owned()) }
}

fn registry(text: &str) -> RegistryName {
    text.parse().unwrap()
}

struct Place {
    directory: tempfile::TempDir,
    helpers: Arc<Helpers>,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), helpers: Arc::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn auths(&self, names: &[&str]) -> Auths {
        let helpers: Arc<dyn CredentialHelper> = self.helpers.clone();
        Auths::new(names.iter().map(|name| self.path(name)).collect(), Some(helpers))
    }

    fn find(&self, names: &[&str], reference: &str) -> String {
        shown(self.auths(names).find(&reference.parse().unwrap()))
    }
}

fn find_in(json: &str, reference: &str) -> Result<Found, AuthError> {
    let place = Place::new();
    place.write("config.json", json);
    place.auths(&["config.json"]).find(&reference.parse().unwrap())
}

#[test]
fn credentials_are_found_by_registry_and_path() {
    // "user:pass", "user:pa:ss", "u:p" without padding, "hub:secret".
    let json = r#"{
        "auths": {
            "https://index.docker.io/v1/": {"auth": "aHViOnNlY3JldA=="},
            "https://index.docker.io/v1/access-token": {"auth": "dTpw"},
            "plain.io": {"auth": "dXNlcjpwYXNz"},
            "https://url.io/v2/": {"auth": "dXNlcjpwYTpzcw=="},
            "port.io:5000": {"auth": "dTpw"},
            "space.io": {"auth": "dTpw"},
            "space.io/team": {"auth": "dXNlcjpwYXNz"},
            "fields.io": {"username": "n", "password": "p"},
            "identity.io": {"auth": "dTpw", "identitytoken": "token"},
            "registry.io": {"registrytoken": "token"},
            "empty.io": {},
            "null.io": {"auth": null},
            "bad.io": {"auth": "%%%"},
            "nocolon.io": {"auth": "dXNlcg=="}
        },
        "credHelpers": null,
        "HttpHeaders": {"X": "y"}
    }"#;
    let cases = [
        ("debian", "hub:secret"),
        ("docker.io/user/app", "hub:secret"),
        ("plain.io/app", "user:pass"),
        ("plain.io:5000/app", "nothing"),
        ("url.io/app", "user:pa:ss"),
        ("port.io:5000/app", "u:p"),
        ("port.io/app", "nothing"),
        ("space.io/app", "u:p"),
        ("space.io/team/app", "user:pass"),
        ("space.io/team/deep/app", "user:pass"),
        ("space.io/team2/app", "u:p"),
        ("fields.io/app", "n:p"),
        ("identity.io/app", "identity token"),
        ("registry.io/app", "registry token"),
        ("empty.io/app", "nothing"),
        ("null.io/app", "nothing"),
        ("other.io/app", "nothing"),
    ];
    for (reference, expected) in cases {
        assert_eq!(shown(find_in(json, reference)), expected, "{reference}");
    }
    for reference in ["bad.io/app", "nocolon.io/app"] {
        assert!(matches!(find_in(json, reference), Err(AuthError::Entry { .. })), "{reference}");
    }
}

#[test]
fn files_are_searched_in_order_and_helpers_in_their_places() {
    let place = Place::new();
    place.write("first", r#"{"auths": {"a.io": {"auth": "dTpw"}, "b.io": {}}}"#);
    place.write(
        "second",
        r#"{"auths": {"a.io": {"auth": "dXNlcjpwYXNz"}, "b.io": {"auth": "dXNlcjpwYXNz"}, "c.io": {"auth": "dTpw"}},
            "credHelpers": {"c.io": "keeper", "x.io": "absent", "y.io": "broken", "z.io": "../../bin/sh"},
            "credsStore": "keeper"}"#,
    );
    let put = |server: &str, user: &str, secret: &str| {
        place.helpers.store(&"keeper".parse().unwrap(), server, &login(user, secret)).unwrap();
    };
    put("c.io", "helped", "c");
    put("d.io", "<token>", "id");
    put("b.io", "never", "asked");
    put("https://index.docker.io/v1/", "hub", "h");
    let cases = [
        ("a.io/x", "u:p"),
        ("b.io/x", "user:pass"),
        ("c.io/x", "helped:c"),
        ("d.io/x", "identity id"),
        ("e.io/x", "nothing"),
        ("debian", "hub:h"),
        ("x.io/x", "unreachable: credential helper docker-credential-absent is not installed"),
        ("y.io/x", "error: credential helper docker-credential-broken failed for y.io (it says: locked)"),
    ];
    for (reference, expected) in cases {
        assert_eq!(place.find(&["missing", "first", "second"], reference), expected, "{reference}");
    }
    assert!(place.find(&["second"], "z.io/x").ends_with("names a bad credential helper"));
    // What another file has is taken before giving up on a helper that isn't there.
    place.write("third", r#"{"auths": {"x.io": {"auth": "dTpw"}}}"#);
    assert_eq!(place.find(&["second", "third"], "x.io/x"), "u:p");
    let auths = place.auths(&["first", "second"]);
    let users = [("a.io", Some("u")), ("d.io", Some("<token>")), ("e.io", None), ("docker.io", Some("hub"))];
    for (name, user) in users {
        let known = auths.user(&registry(name)).unwrap();
        assert_eq!(known.as_ref().map(|known| known.user.as_str()), user, "{name}");
    }
}

#[test]
fn errors_and_debug_output_hold_no_secret() {
    let error = find_in("{\"auths\": {\"a.io\": \"hunter2\"}}", "a.io/x").unwrap_err();
    assert!(matches!(error, AuthError::Json { line: 1, .. }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    assert_eq!(format!("{:?}", login("u", "hunter2")), "Login { user: \"u\", secret: (secret) }");
}

#[test]
fn a_missing_file_has_no_credentials_and_a_long_one_is_refused() {
    let place = Place::new();
    assert_eq!(place.find(&["none"], "a.io/x"), "nothing");
    place.write("empty", "\n");
    assert_eq!(place.find(&["empty"], "a.io/x"), "nothing");
    let error = place.auths(&["."]).find(&"a.io/x".parse().unwrap()).unwrap_err();
    assert!(matches!(error, AuthError::Read { .. }), "{error:?}");
    let long = format!("{{\"x\": \"{}\"}}", "a".repeat(1 << 20));
    assert!(matches!(find_in(&long, "a.io/x"), Err(AuthError::TooLarge { .. })));
}

#[test]
fn helpers_have_names_that_can_only_be_names() {
    for name in ["desktop", "ecr-login", "gcr_1.2", "desktop.exe"] {
        assert_eq!(name.parse::<HelperName>().unwrap().program(), format!("docker-credential-{name}"));
    }
    let long = "a".repeat(65);
    for name in ["", "a/b", "../x", "a b", "a\0", "ä", long.as_str()] {
        assert!(name.parse::<HelperName>().is_err(), "{name:?}");
    }
}

#[test]
fn a_login_is_kept_and_everything_else_stays_as_it_is() {
    let place = Place::new();
    let auths = place.auths(&["deep/er/config.json"]);
    let path = place.path("deep/er/config.json");
    auths.store(&path, &registry("b.io"), &login("user", "pass")).unwrap();
    assert_eq!(
        place.read("deep/er/config.json"),
        "{\n\t\"auths\": {\n\t\t\"b.io\": {\n\t\t\t\"auth\": \"dXNlcjpwYXNz\"\n\t\t}\n\t}\n}\n"
    );
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));

    let before = r#"{"z": {"n": 1e400, "s": "\u00e4"},
  "auths": {"https://b.io/v2/": {"auth": "b2xk"}, "b.io/team": {"auth": "a"}, "index.docker.io": {}, "a.io": {"x":  1}},
  "credHelpers": {"c.io": "keeper"}, "HttpHeaders": [ 1,2 ]}"#;
    let path = place.write("config.json", before);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    auths.store(&path, &registry("b.io"), &login("u", "p")).unwrap();
    auths.store(&path, &registry("docker.io"), &login("hub", "secret")).unwrap();
    auths.store(&path, &registry("c.io"), &login("helped", "secret")).unwrap();
    let after = "{\n\t\"auths\": {\n\t\t\"b.io/team\": {\"auth\": \"a\"},\n\t\t\"a.io\": {\"x\":  1},\
        \n\t\t\"b.io\": {\n\t\t\t\"auth\": \"dTpw\"\n\t\t},\
        \n\t\t\"https://index.docker.io/v1/\": {\n\t\t\t\"auth\": \"aHViOnNlY3JldA==\"\n\t\t},\
        \n\t\t\"c.io\": {}\n\t},\n\t\"z\": {\"n\": 1e400, \"s\": \"\\u00e4\"},\
        \n\t\"credHelpers\": {\"c.io\": \"keeper\"},\n\t\"HttpHeaders\": [ 1,2 ]\n}\n";
    assert_eq!(place.read("config.json"), after);
    assert_eq!(mode(&path), 0o600);
    let kept = ("keeper".to_owned(), "c.io".to_owned(), "helped".to_owned());
    assert_eq!(place.helpers.logins(), [kept]);
    for user in ["", "a:b"] {
        let error = auths.store(&path, &registry("b.io"), &login(user, "p")).unwrap_err();
        assert!(matches!(error, AuthError::User), "{error:?}");
    }
    let left: Vec<_> =
        std::fs::read_dir(place.directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("mvm-new")), "{left:?}");
}

#[test]
fn a_logout_forgets_one_registry_or_all() {
    let place = Place::new();
    let path = place.write(
        "config.json",
        r#"{"auths": {"a.io": {"auth": "dTpw"}, "a.io/team": {"auth": "dTpw"}, "index.docker.io": {"auth": "dTpw"}},
            "credHelpers": {"c.io": "keeper", "y.io": "broken"}}"#,
    );
    let auths = place.auths(&["config.json"]);
    auths.store(&path, &registry("c.io"), &login("u", "p")).unwrap();
    auths.erase(&path, &registry("a.io")).unwrap();
    auths.erase(&path, &registry("c.io")).unwrap();
    assert_eq!(place.helpers.logins(), []);
    assert_eq!(place.find(&["config.json"], "a.io/x"), "nothing");
    assert_eq!(place.find(&["config.json"], "a.io/team/x"), "u:p");
    for name in ["a.io", "c.io", "unknown.io"] {
        let error = auths.erase(&path, &registry(name)).unwrap_err();
        assert!(matches!(error, AuthError::NotLoggedIn { .. }), "{error:?}");
    }
    let before = place.read("config.json");
    assert!(matches!(auths.erase(&path, &registry("y.io")), Err(AuthError::Helper(_))));
    assert_eq!(place.read("config.json"), before);
    auths.store(&path, &registry("c.io"), &login("u", "p")).unwrap();
    assert_eq!(auths.erase_all(&path).unwrap(), ["a.io/team", "docker.io", "c.io"]);
    assert_eq!(place.helpers.logins(), []);
    assert_eq!(auths.erase_all(&path).unwrap(), Vec::<String>::new());
    assert!(matches!(
        auths.erase(&place.path("none/config.json"), &registry("a.io")),
        Err(AuthError::NotLoggedIn { .. })
    ));
    assert!(!place.path("none").exists());
}

#[test]
fn a_link_stays_and_leads_to_the_new_file() {
    let place = Place::new();
    std::fs::create_dir(place.path("dotfiles")).unwrap();
    place.write("dotfiles/docker.json", "{}");
    symlink("dotfiles/docker.json", place.path("config.json")).unwrap();
    symlink("nowhere", place.path("dangling.json")).unwrap();
    let auths = place.auths(&[]);
    auths.store(&place.path("config.json"), &registry("b.io"), &login("u", "p")).unwrap();
    assert!(place.path("config.json").is_symlink());
    assert!(place.read("dotfiles/docker.json").contains("dTpw"));
    let error = auths.store(&place.path("dangling.json"), &registry("b.io"), &login("u", "p")).unwrap_err();
    assert!(matches!(error, AuthError::Write { act: "find", .. }), "{error:?}");
}

#[test]
fn what_is_no_file_of_credentials_is_not_changed() {
    let place = Place::new();
    for text in ["[]", "{\"auths\": 1}", "{", "\"x\"", "{} {}"] {
        let path = place.write("config.json", text);
        let error = place.auths(&[]).store(&path, &registry("b.io"), &login("u", "p")).unwrap_err();
        assert!(matches!(error, AuthError::Json { .. }), "{text}: {error:?}");
        assert_eq!(place.read("config.json"), text);
    }
}

#[test]
fn logins_at_the_same_time_all_stay() {
    let place = Place::new();
    let path = place.path("config.json");
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (auths, path) = (place.auths(&[]), &path);
            scope.spawn(move || {
                let name = registry(&format!("r{number}.io"));
                auths.store(path, &name, &login("u", "p")).unwrap();
            });
        }
    });
    for number in 0..8 {
        assert_eq!(place.find(&["config.json"], &format!("r{number}.io/x")), "u:p");
    }
}
