//! Tokens, passwords, and who gets to see them.

use super::*;
use crate::{AuthError, RegistryError};

const TOKEN: &str = "Bearer t0ken";
/// `user:pass` as Docker's file and the header have it.
const USER_PASS: &str = "dXNlcjpwYXNz";
const BASIC: &str = "Basic dXNlcjpwYXNz";

/// A registry that wants a token; its token server gives it to whom `may` says.
fn token_registry(may: impl Fn(&Request) -> bool + Send + 'static) -> Server {
    Image::new().serve(move |request| {
        if request.path.starts_with("/token") {
            let body = r#"{"access_token":"t0ken","expires_in":60}"#;
            return Some(if may(request) { Reply::new(200, &[], body) } else { Reply::new(401, &[], "{}") });
        }
        (request.authorization.as_deref() != Some(TOKEN)).then(|| {
            let realm = format!("Bearer realm=\"http://{}/token\",service=\"the registry\"", request.host);
            Reply::new(401, &[("WWW-Authenticate", &realm)], "{}")
        })
    })
}

fn basic_registry() -> Server {
    Image::new().serve(|request| {
        let wanted = request.authorization.as_deref() != Some(BASIC);
        wanted.then(|| Reply::new(401, &[("WWW-Authenticate", "Basic realm=\"x\"")], "{}"))
    })
}

/// Pulls with an auth file in which `HOST` stands for the registry.
fn pull_with(auths: &str, server: &Server) -> Result<(), FetchError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.json");
    std::fs::write(&path, auths.replace("HOST", &server.host())).unwrap();
    let config = FetchConfig { auth_files: vec![path], ..quick() };
    pull(config, server, ":many").map(|_| ())
}

fn password() -> String {
    format!(r#"{{"auths":{{"HOST":{{"auth":"{USER_PASS}"}}}}}}"#)
}

#[test]
fn a_token_is_fetched_once_and_shown_for_everything() {
    let server = token_registry(|request| request.authorization.is_none());
    pull(quick(), &server, ":many").unwrap();
    let seen: Vec<_> = server.requests().into_iter().map(|r| (r.path, r.authorization)).collect();
    let image = Image::new();
    let manifest = |name: &str| format!("/v2/team/app/manifests/{name}");
    let token = || Some(TOKEN.to_owned());
    let expected = [
        (manifest("many"), None),
        ("/token?service=the+registry&scope=repository%3Ateam%2Fapp%3Apull".to_owned(), None),
        (manifest("many"), token()),
        (manifest(&Digest::of(&image.manifest).to_string()), token()),
        (blob_path(&image.config), token()),
        (image.layer_path(), token()),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn credentials_go_to_whom_they_belong() {
    let server = token_registry(|request| request.authorization.as_deref() == Some(BASIC));
    pull_with(&password(), &server).unwrap();
    pull_with(&password(), &basic_registry()).unwrap();
    let other = r#"{"auths":{"other.example":{"auth":"dXNlcjpwYXNz"}}}"#;
    for server in [token_registry(|request| request.authorization.is_some()), basic_registry()] {
        let error = pull_with(other, &server).unwrap_err();
        assert!(matches!(error, FetchError::Registry(RegistryError::LoginNeeded { .. })), "{error:?}");
        assert!(server.requests().iter().all(|request| request.authorization.is_none()));
    }
}

#[test]
fn an_identity_token_is_exchanged() {
    let form = "grant_type=refresh_token&service=the+registry&scope=repository%3Ateam%2Fapp%3Apull\
        &client_id=mvm&refresh_token=id";
    let server = token_registry(move |request| request.method == "POST" && request.body == form);
    pull_with(r#"{"auths":{"HOST":{"identitytoken":"id"}}}"#, &server).unwrap();
}

#[test]
fn an_identity_token_is_a_password_where_it_cannot_be_exchanged() {
    for status in [404, 405] {
        let server = Image::new().serve(move |request| {
            if request.path.starts_with("/token") {
                // <token>:id
                let known = request.authorization.as_deref() == Some("Basic PHRva2VuPjppZA==");
                let status = if request.method == "POST" {
                    status
                } else if known {
                    200
                } else {
                    401
                };
                return Some(Reply::new(status, &[], r#"{"token":"t0ken"}"#));
            }
            (request.authorization.as_deref() != Some(TOKEN)).then(|| {
                let realm = format!("Bearer realm=\"http://{}/token\"", request.host);
                Reply::new(401, &[("WWW-Authenticate", &realm)], "{}")
            })
        });
        pull_with(r#"{"auths":{"HOST":{"identitytoken":"id"}}}"#, &server).unwrap();
    }
}

#[test]
fn a_token_that_is_no_longer_taken_is_replaced_once() {
    let issued = std::sync::atomic::AtomicUsize::new(0);
    let layer = Image::new().layer_path();
    let server = Image::new().serve(move |request| {
        use std::sync::atomic::Ordering::SeqCst;
        if request.path.starts_with("/token") {
            let token = format!(r#"{{"token":"t{}"}}"#, issued.fetch_add(1, SeqCst));
            return Some(Reply::new(200, &[], token));
        }
        // Layers need the second token.
        let wanted = if request.path == layer { "Bearer t1" } else { "Bearer t0" };
        (request.authorization.as_deref() != Some(wanted)).then(|| {
            let realm = format!("Bearer realm=\"http://{}/token\"", request.host);
            Reply::new(401, &[("WWW-Authenticate", &realm)], "{}")
        })
    });
    pull(quick(), &server, ":one").unwrap();
    let tokens = server.requests().into_iter().filter(|request| request.path.starts_with("/token")).count();
    assert_eq!(tokens, 2);
}

#[test]
fn refusals_say_whether_there_were_credentials() {
    let nobody = || token_registry(|_| false);
    let message = |result: Result<(), FetchError>, server: &Server| {
        result.unwrap_err().to_string().replace(&server.host(), "HOST")
    };
    let server = nobody();
    let anonymous = pull(quick(), &server, ":many").map(|_| ());
    let expected =
        "registry HOST gives no anonymous access to team/app: it doesn't exist or needs `mvmctl login HOST`";
    assert_eq!(message(anonymous, &server), expected);
    for server in [nobody(), basic_registry()] {
        let wrong = r#"{"auths":{"HOST":{"username":"user","password":"wrong"}}}"#;
        let expected =
            "registry HOST refuses the stored credentials for team/app; run `mvmctl login HOST` again";
        assert_eq!(message(pull_with(wrong, &server), &server), expected);
    }
    for file in [r#"{"credHelpers":{"HOST":"desktop"}}"#, r#"{"credsStore":"desktop"}"#] {
        for server in [nobody(), basic_registry()] {
            let error = pull_with(file, &server).unwrap_err();
            let helper = "docker-credential-desktop".to_owned();
            let helper = RegistryError::Auth(AuthError::NoHelpers { registry: server.host(), helper });
            assert_eq!(error.to_string(), helper.to_string());
        }
        // Where nobody needs to log in, no helper is needed.
        pull_with(file, &token_registry(|_| true)).unwrap();
    }
}

#[test]
fn a_redirection_to_another_host_takes_no_credentials_along() {
    let image = Image::new();
    let layer = image.layer.clone();
    let storage = Server::start(move |_| Reply::new(200, &[], layer.clone()));
    // What is percent-encoded stays so, and what should be becomes so.
    let (path, target) = (image.layer_path(), format!("http://{}/ä%2Fb c?signature=x%2B", storage.host()));
    let server = image.serve(move |request| match request.authorization.as_deref() {
        Some(BASIC) if request.path == path => Some(Reply::new(307, &[("Location", &target)], "")),
        Some(BASIC) => None,
        _ => Some(Reply::new(401, &[("WWW-Authenticate", "Basic realm=\"x\"")], "{}")),
    });
    pull_with(&password(), &server).unwrap();
    let seen: Vec<_> = storage.requests().into_iter().map(|r| (r.path, r.authorization)).collect();
    assert_eq!(seen, [("/%C3%A4%2Fb%20c?signature=x%2B".to_owned(), None)]);
}

#[test]
fn a_storage_host_that_refuses_is_not_logged_in_to() {
    let storage = Server::start(|_| Reply::new(401, &[("WWW-Authenticate", "Basic realm=\"x\"")], ""));
    let (path, target) = (Image::new().layer_path(), format!("http://{}/", storage.host()));
    let server = Image::new()
        .serve(move |request| (request.path == path).then(|| Reply::new(302, &[("Location", &target)], "")));
    let error = pull_with(&password(), &server).unwrap_err();
    assert!(matches!(error, FetchError::Registry(RegistryError::Status { status: 401, .. })), "{error:?}");
    assert_eq!(storage.requests().len(), 1);
}

#[test]
fn token_servers_are_held_to_the_same_rules() {
    type Case = (&'static str, fn(&RegistryError) -> bool);
    let cases: [Case; 4] = [
        ("http://169.254.169.254/token", |e| matches!(e, RegistryError::Redirect { .. })),
        ("ftp://127.0.0.1/token", |e| matches!(e, RegistryError::Redirect { .. })),
        ("token", |e| matches!(e, RegistryError::Challenge { .. })),
        ("http://example.com/token", |e| matches!(e, RegistryError::Redirect { .. })),
    ];
    for (realm, fits) in cases {
        let challenge = format!("Bearer realm=\"{realm}\"");
        let server = Server::start(move |_| Reply::new(401, &[("WWW-Authenticate", &challenge)], ""));
        match pull(quick(), &server, ":many") {
            Err(FetchError::Registry(error)) => assert!(fits(&error), "{realm}: {error:?}"),
            other => panic!("{realm}: {other:?}"),
        }
    }
    let long = format!("{{\"token\":\"{}\"}}", "a".repeat(70_000));
    for body in ["{}", "[]", "", r#"{"token":""}"#, r#"{"token":"a\nb"}"#, long.as_str()] {
        let body = body.to_owned();
        let server = Server::start(move |request| match request.path.as_str() {
            "/v2/team/app/manifests/many" => {
                let realm = format!("Bearer realm=\"http://{}/token\"", request.host);
                Reply::new(401, &[("WWW-Authenticate", &realm)], "")
            }
            _ => Reply::new(200, &[], body.clone()),
        });
        let error = pull(quick(), &server, ":many").unwrap_err();
        assert!(matches!(error, FetchError::Registry(RegistryError::Token { .. })), "{error:?}");
    }
}
