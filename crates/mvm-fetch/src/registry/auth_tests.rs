use super::*;

fn password(user: &str, password: &str) -> Found {
    let password = Secret::from(password.to_owned());
    Found::Credentials(Credentials::Password { user: user.to_owned(), password })
}

fn find_in(json: &str, reference: &str) -> Result<Found, AuthError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.json");
    std::fs::write(&path, json).unwrap();
    find(&path, &reference.parse().unwrap())
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
            "bad.io": {"auth": "%%%"},
            "nocolon.io": {"auth": "dXNlcg=="}
        },
        "credHelpers": {"helped.io": "ecr-login"},
        "HttpHeaders": {"X": "y"}
    }"#;
    let token = || Secret::from("token".to_owned());
    let cases = [
        ("debian", password("hub", "secret")),
        ("docker.io/user/app", password("hub", "secret")),
        ("plain.io/app", password("user", "pass")),
        ("plain.io:5000/app", Found::Nothing),
        ("url.io/app", password("user", "pa:ss")),
        ("port.io:5000/app", password("u", "p")),
        ("port.io/app", Found::Nothing),
        ("space.io/app", password("u", "p")),
        ("space.io/team/app", password("user", "pass")),
        ("space.io/team2/app", password("u", "p")),
        ("fields.io/app", password("n", "p")),
        ("identity.io/app", Found::Credentials(Credentials::Identity(token()))),
        ("registry.io/app", Found::Credentials(Credentials::Registry(token()))),
        ("empty.io/app", Found::Nothing),
        ("other.io/app", Found::Nothing),
        ("helped.io/app", Found::Helper("ecr-login".to_owned())),
    ];
    for (reference, expected) in cases {
        assert_eq!(find_in(json, reference).unwrap(), expected, "{reference}");
    }
    for reference in ["bad.io/app", "nocolon.io/app"] {
        assert!(matches!(find_in(json, reference), Err(AuthError::Entry { .. })), "{reference}");
    }
}

#[test]
fn a_store_is_asked_for_what_the_file_has_not() {
    let json = r#"{"auths": {"a.io": {}, "b.io": {"auth": "dTpw"}}, "credsStore": "desktop"}"#;
    assert_eq!(find_in(json, "a.io/x").unwrap(), Found::Helper("desktop".to_owned()));
    assert_eq!(find_in(json, "b.io/x").unwrap(), password("u", "p"));
    assert_eq!(find_in("{}", "b.io/x").unwrap(), Found::Nothing);
}

#[test]
fn errors_and_debug_output_hold_no_secret() {
    let error = find_in("{\"auths\": {\"a.io\": \"hunter2\"}}", "a.io/x").unwrap_err();
    assert!(matches!(error, AuthError::Json { line: 1, .. }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    let secret = Secret::from("hunter2".to_owned());
    assert_eq!(format!("{secret:?}"), "(secret)");
}

#[test]
fn a_missing_file_has_no_credentials_and_a_long_one_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("none");
    assert_eq!(find(&missing, &"a.io/x".parse().unwrap()).unwrap(), Found::Nothing);
    let error = find(directory.path(), &"a.io/x".parse().unwrap()).unwrap_err();
    assert!(matches!(error, AuthError::Read { .. }), "{error:?}");
    let long = format!("{{\"x\": \"{}\"}}", "a".repeat(1 << 20));
    assert!(matches!(find_in(&long, "a.io/x"), Err(AuthError::TooLarge { .. })));
}
