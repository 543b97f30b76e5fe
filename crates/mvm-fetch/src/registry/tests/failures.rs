//! Registries that lie, break or are something else.

use super::*;
use crate::RegistryError;
use mvm_ref::verify::VerifyError;

type Fits = fn(&FetchError) -> bool;

/// Never tries again.
fn once() -> FetchConfig {
    FetchConfig { retries: 0, ..quick() }
}

fn json(status: u16, body: &str) -> Reply {
    Reply::new(status, &[("Content-Type", "application/json")], body)
}

/// Pulls `:many` where one path gets a special answer, and checks the error.
fn expect(path: &str, reply: impl Fn() -> Reply + Send + 'static, fits: Fits) -> String {
    let owned = path.to_owned();
    let server = Image::new().serve(move |request| (request.path == owned).then(&reply));
    let error = pull(once(), &server, ":many").expect_err(path);
    assert!(fits(&error), "{path}: {error:?}");
    error.to_string().replace(&server.host(), "HOST")
}

#[test]
fn documents_that_are_not_what_was_named_are_refused() {
    let image = Image::new();
    let manifest = format!("/v2/team/app/manifests/{}", Digest::of(&image.manifest));
    let config = blob_path(&image.config);
    let flip = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes[10] ^= 1;
        bytes
    };
    let (flipped, longer) = (flip(&image.manifest), [&image.manifest[..], b" "].concat());
    let typed = |kind: &'static str, bytes: Vec<u8>| {
        move || Reply::new(200, &[("Content-Type", kind)], bytes.clone())
    };
    expect(&manifest, typed(MANIFEST, flipped), |e| {
        matches!(e, FetchError::Registry(RegistryError::Digest { .. }))
    });
    expect(&manifest, typed(MANIFEST, longer), |e| {
        matches!(e, FetchError::Registry(RegistryError::Digest { .. }))
    });
    expect(&manifest, typed(INDEX, image.manifest.clone()), |e| matches!(e, FetchError::Document { .. }));
    expect(&config, typed("x/y", flip(&image.config)), |e| matches!(e, FetchError::DocumentDigest { .. }));
    expect(&config, typed("x/y", image.config[1..].to_vec()), |e| {
        matches!(e, FetchError::Registry(RegistryError::Length { .. }))
    });
    let lying = format!("sha256:{}", "0".repeat(64));
    let index = image.index.clone();
    let reply =
        move || Reply::new(200, &[("Content-Type", INDEX), ("Docker-Content-Digest", &lying)], index.clone());
    expect("/v2/team/app/manifests/many", reply, |e| {
        matches!(e, FetchError::Registry(RegistryError::DigestHeader { .. }))
    });
}

#[test]
fn layers_that_are_not_what_was_named_are_refused() {
    let image = Image::new();
    let path = image.layer_path();
    let bytes = |bytes: Vec<u8>| move || Reply::new(200, &[], bytes.clone());
    let mut flipped = image.layer.clone();
    *flipped.last_mut().unwrap() ^= 1;
    expect(&path, bytes(flipped), |e| matches!(e, FetchError::Inflate { .. }));
    let mut renamed = image.layer.clone();
    // The operating system in the gzip header changes nothing but the digest.
    renamed[9] ^= 1;
    expect(&path, bytes(renamed), |e| matches!(e, FetchError::Verify(VerifyError::Digest { .. })));
    expect(&path, bytes(image.layer[1..].to_vec()), |e| {
        matches!(e, FetchError::Registry(RegistryError::Length { .. }))
    });
    let (length, half) = (image.layer.len(), image.layer[..image.layer.len() / 2].to_vec());
    let cut = move || Reply { status: 200, headers: vec![], body: Body::Announced(length, half.clone()) };
    expect(&path, cut, |e| matches!(e, FetchError::Registry(RegistryError::Transfer { .. })));
    expect(&path, || json(404, "{}"), |e| matches!(e, FetchError::Registry(RegistryError::NoBlob { .. })));
}

#[test]
fn bodies_without_end_are_not_read_to_the_end() {
    let image = Image::new();
    let endless = || Reply { status: 200, headers: vec![], body: Body::Endless };
    expect("/v2/team/app/manifests/many", endless, |e| {
        matches!(e, FetchError::Registry(RegistryError::TooLarge { what: "manifest", limit: 4_194_304, .. }))
    });
    expect(&blob_path(&image.config), endless, |e| {
        matches!(e, FetchError::Registry(RegistryError::TooLarge { what: "blob", .. }))
    });
    // Spaces are no gzip stream, so that the layer of this case is stored as it is.
    let mut image = image;
    image.layer = image.tar.clone();
    let mut image = image.linked();
    let stored = String::from_utf8(image.manifest).unwrap().replace("tar+gzip", "tar");
    image.manifest = stored.into_bytes();
    let path = image.layer_path();
    let server = image.serve(move |request| (request.path == path).then(endless));
    let error = pull(quick(), &server, ":one").unwrap_err();
    assert!(matches!(error, FetchError::TooLong { .. }), "{error:?}");
}

#[test]
fn statuses_become_errors_that_say_what_to_do() {
    let path = "/v2/team/app/manifests/many";
    let denied = r#"{"errors":[{"code":"DENIED","message":"no\u001b[31m"}]}"#;
    let registry: Fits = |e| matches!(e, FetchError::Registry(_));
    type Case = (fn() -> Reply, &'static str);
    let cases: Vec<Case> = vec![
        (
            || json(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#),
            "no image team/app:many in registry HOST; check name and tag (it says: MANIFEST_UNKNOWN: manifest unknown)",
        ),
        (|| json(404, "nothing"), "no image team/app:many in registry HOST; check name and tag"),
        (
            || Reply::new(404, &[("Content-Type", "text/html")], "<html>"),
            "HOST answers with text/html and is not a registry; check the name, or log in to the network first",
        ),
        (
            || Reply::new(200, &[("Content-Type", "text/html; charset=utf-8")], "<html>"),
            "HOST answers with text/html; charset=utf-8 and is not a registry; check the name, or log in to the network first",
        ),
        (
            || Reply::new(429, &[("Retry-After", "7")], ""),
            "registry HOST limits the rate of requests; try again in 7 s, or log in",
        ),
        (
            || Reply::new(429, &[("Retry-After", "soon")], ""),
            "registry HOST limits the rate of requests; try again later, or log in",
        ),
        (
            || Reply::new(503, &[("Content-Type", "text/html")], "<html>"),
            "registry HOST failed with status 503 for team/app; try again later",
        ),
        (|| json(418, "{}"), "HOST answers with unexpected status 418 for team/app"),
        (|| json(206, "{}"), "HOST answers with unexpected status 206 for team/app"),
        (
            || Reply::new(401, &[("WWW-Authenticate", "Negotiate")], ""),
            "registry HOST asks for authentication in a way that is not known: \"Negotiate\"",
        ),
    ];
    for (reply, message) in cases {
        assert_eq!(expect(path, reply, registry), message);
    }
    let message = expect(path, move || json(403, denied), registry);
    assert_eq!(message, "registry HOST denies access to team/app (it says: DENIED: no[31m)");
}

#[test]
fn redirections_lead_only_where_they_may() {
    let path = Image::new().layer_path();
    let cases = [
        ("http://example.com/blob?signature=secret", "the host may not be spoken to without encryption"),
        ("http://169.254.169.254/latest", "the host may not be spoken to without encryption"),
        ("https://169.254.169.254/latest", "the address is one of the local link"),
        ("https://[fe80::1]/", "the address is one of the local link"),
        ("https://0.0.0.0/", "the address is one of the local link"),
        ("https://user:secret@example.com/", "it holds credentials"),
        ("file:///etc/passwd", "it is no web address"),
        ("https://", "it is not an address"),
    ];
    for (target, reason) in cases {
        let reply = move || Reply::new(307, &[("Location", target)], "");
        let message =
            expect(&path, reply, |e| matches!(e, FetchError::Registry(RegistryError::Redirect { .. })));
        assert!(message.ends_with(reason), "{target}: {message}");
        assert!(!message.contains("secret"), "{message}");
    }
    let itself = path.clone();
    let message = expect(
        &path,
        move || Reply::new(302, &[("Location", &itself)], ""),
        |e| matches!(e, FetchError::Registry(RegistryError::Redirect { .. })),
    );
    assert!(message.ends_with("which is refused: there were too many redirections before"), "{message}");
    expect(
        &path,
        || Reply::new(302, &[], ""),
        |e| matches!(e, FetchError::Registry(RegistryError::Redirect { .. })),
    );
}

#[test]
fn a_platform_that_is_not_there_is_refused() {
    let server = Image::new().serve(|_| None);
    let arm = Platform::new("linux", "arm64", None);
    for name in [":one", ":many"] {
        let error = open(quick(), &server, name).resolve(&arm).unwrap_err();
        assert_eq!(error.to_string(), "no image for platform linux/arm64; available: linux/amd64");
    }
    let mut image = Image::new();
    image.index = String::from_utf8(image.index)
        .unwrap()
        .replace(r#""architecture":"amd64""#, r#""architecture":"arm64""#)
        .into();
    let server = image.serve(|_| None);
    let error = open(quick(), &server, ":many").resolve(&arm).unwrap_err();
    assert!(matches!(error, FetchError::PlatformMismatch { .. }), "{error:?}");
}

#[test]
fn a_registry_that_is_down_or_silent_is_named() {
    let server = Image::new().serve(|_| None);
    let host = server.host();
    let origin = open(quick(), &server, ":one");
    drop(server);
    let error = origin.resolve(&platform()).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot reach {host}; check its name and the network"));
    let source = std::error::Error::source(&error).unwrap();
    assert_eq!(source.to_string(), "Connection refused (os error 111)");

    let silent = || Reply { status: 200, headers: vec![], body: Body::Silence };
    let server = Server::start(move |_| silent());
    let config = FetchConfig { read_timeout: Duration::from_millis(50), ..quick() };
    let error = open(config, &server, ":one").resolve(&platform()).unwrap_err();
    assert!(matches!(error, FetchError::Registry(RegistryError::Timeout { .. })), "{error:?}");

    let config = quick();
    let cancel = config.cancel.clone();
    let server = Server::start(move |_| {
        cancel.cancel();
        silent()
    });
    let error = open(config, &server, ":one").resolve(&platform()).unwrap_err();
    assert!(matches!(error, FetchError::Cancelled), "{error:?}");
}

#[test]
fn files_of_certificates_must_hold_some() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    let make = || {
        let config = FetchConfig { extra_ca: vec![path.clone()], ..quick() };
        Fetcher::new(config).open(&"localhost/image".parse().unwrap()).map(|_| ()).unwrap_err()
    };
    let error = make();
    assert!(matches!(error, FetchError::Registry(RegistryError::CaFile { .. })), "{error:?}");
    std::fs::write(&path, "no certificate").unwrap();
    let error = make();
    assert!(matches!(error, FetchError::Registry(RegistryError::CaEmpty { .. })), "{error:?}");
}
