//! Uploads, mounts and manifests, and registries that have their own ideas of them.

use super::*;
use crate::RegistryError;
use crate::registry::Registry;
use crate::registry::push::{Destination, OpenBlob};
use mvm_ref::MediaType;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const BLOB: &[u8] = b"the bytes of a layer";

fn destination(server: &Server) -> Destination {
    let config = FetchConfig { backoff: Duration::from_millis(1), ..FetchConfig::default() };
    let registry = Arc::new(Registry::new(config).unwrap());
    Destination::new(registry, &format!("{}/team/app:one", server.host()).parse().unwrap()).unwrap()
}

fn upload(server: &Server) -> Result<(), FetchError> {
    let open: OpenBlob = Arc::new(|| Ok(Box::new(BLOB) as Box<dyn Read + Send>));
    destination(server).upload(&Digest::of(BLOB), BLOB.len() as u64, open)
}

/// What was asked, each as method, path and length of the body.
fn asked(server: &Server) -> Vec<String> {
    let digest = Digest::of(BLOB).to_string();
    let line = |request: Request| {
        let path = request.path.replace("%3A", ":").replace(&digest, "DIGEST");
        format!("{} {} {}", request.method, path.replace("/v2/team/app/", ""), request.body.len())
    };
    server.requests().into_iter().map(line).collect()
}

fn status(error: FetchError) -> RegistryError {
    match error {
        FetchError::Registry(error) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_blob_goes_where_the_registry_says() {
    let table = [
        "/v2/team/app/blobs/uploads/7?state=x",
        "http://HOST/v2/team/app/blobs/uploads/7?state=x",
        "7?state=x",
    ];
    for location in table {
        let server = Server::start(move |request| match request.method.as_str() {
            "POST" => Reply::new(202, &[("Location", &location.replace("HOST", &request.host))], ""),
            _ => Reply::new(201, &[], ""),
        });
        upload(&server).unwrap();
        let expected = ["POST blobs/uploads/ 0", "PUT blobs/uploads/7?state=x&digest=DIGEST 20"];
        assert_eq!(asked(&server), expected, "{location}");
    }
}

#[test]
fn a_registry_that_wants_the_digest_last_gets_it_last() {
    let server = Server::start(|request| match (request.method.as_str(), request.body.len()) {
        ("POST", _) => Reply::new(202, &[("Location", "/v2/team/app/blobs/uploads/7")], ""),
        ("PATCH", _) => Reply::new(202, &[("Location", "/v2/team/app/blobs/uploads/7?at=20")], ""),
        ("PUT", 0) => Reply::new(201, &[], ""),
        _ => Reply::new(405, &[], ""),
    });
    upload(&server).unwrap();
    let expected = [
        "POST blobs/uploads/ 0",
        "PUT blobs/uploads/7?digest=DIGEST 20",
        "POST blobs/uploads/ 0",
        "PATCH blobs/uploads/7 20",
        "PUT blobs/uploads/7?at=20&digest=DIGEST 0",
    ];
    assert_eq!(asked(&server), expected);
}

#[test]
fn an_upload_that_fails_is_begun_again() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |request| match request.method.as_str() {
        "POST" => Reply::new(202, &[("Location", "7")], ""),
        _ if count.fetch_add(1, Ordering::SeqCst) == 0 => Reply::new(503, &[], ""),
        _ => Reply::new(201, &[], ""),
    });
    upload(&server).unwrap();
    let once = ["POST blobs/uploads/ 0", "PUT blobs/uploads/7?digest=DIGEST 20"];
    assert_eq!(asked(&server), [once, once].concat());
}

#[test]
fn refusals_are_told_apart() {
    type Is = fn(&RegistryError) -> bool;
    let table: [(u16, Is); 5] = [
        (403, |error| matches!(error, RegistryError::Forbidden { message, .. } if message == "DENIED: no")),
        (404, |error| matches!(error, RegistryError::NoRepository { .. })),
        (405, |error| matches!(error, RegistryError::Status { status: 405, .. })),
        (413, |error| matches!(error, RegistryError::UploadTooLarge { .. })),
        (507, |error| matches!(error, RegistryError::Server { status: 507, .. })),
    ];
    for (code, is) in table {
        let body = r#"{"errors":[{"code":"DENIED","message":"no"}]}"#;
        let server = Server::start(move |_| Reply::new(code, &[], body));
        let error = status(upload(&server).unwrap_err());
        assert!(is(&error), "{code}: {error:?}");
    }
    let server = Server::start(|_| Reply::new(202, &[], ""));
    let error = status(upload(&server).unwrap_err());
    assert!(matches!(error, RegistryError::NoLocation { .. }), "{error:?}");
}

#[test]
fn only_the_registry_is_shown_who_asks() {
    let storage = Server::start(|_| Reply::new(201, &[], ""));
    let host = storage.host();
    let server = Server::start(move |request| {
        let realm = format!("Bearer realm=\"http://{}/token\"", request.host);
        match (request.path.starts_with("/token"), &request.authorization) {
            (true, _) => Reply::new(200, &[], r#"{"token":"t"}"#),
            (false, None) => Reply::new(401, &[("WWW-Authenticate", &realm)], ""),
            (false, Some(_)) => Reply::new(202, &[("Location", &format!("http://{host}/put?key=k"))], ""),
        }
    });
    upload(&server).unwrap();
    let seen: Vec<_> = storage.requests().into_iter().map(|r| (r.method, r.authorization, r.body)).collect();
    assert_eq!(seen, [("PUT".to_owned(), None, String::from_utf8(BLOB.to_vec()).unwrap())]);
}

#[test]
fn blobs_that_are_there_are_seen() {
    let size = BLOB.len();
    for (code, length, expected) in [(200, size, true), (200, size - 1, false), (404, 0, false)] {
        let server = Server::start(move |_| Reply::new(code, &[], "x".repeat(length)));
        let has = destination(&server).has_blob(&Digest::of(BLOB), size as u64).unwrap();
        assert_eq!(has, expected, "{code} with {length} bytes");
    }
}

#[test]
fn a_mount_that_is_not_made_is_no_error() {
    for (code, expected) in
        [(201, true), (202, false), (401, false), (403, false), (404, false), (405, false)]
    {
        let server = Server::start(move |request| match request.method.as_str() {
            "POST" => Reply::new(code, &[("Location", "7"), ("WWW-Authenticate", "Basic realm=\"x\"")], ""),
            _ => Reply::new(204, &[], ""),
        });
        let mounted = destination(&server).mount(&Digest::of(BLOB), "base/image").unwrap();
        assert_eq!(mounted, expected, "{code}");
        let requests = asked(&server);
        assert_eq!(requests[0], "POST blobs/uploads/?mount=DIGEST&from=base%2Fimage 0");
        // What was begun instead is ended.
        assert_eq!(requests.get(1).is_some_and(|second| second == "DELETE blobs/uploads/7 0"), code == 202);
    }
}

#[test]
fn a_manifest_must_arrive_as_it_is() {
    let manifest = br#"{"schemaVersion":2}"#;
    let put = |header: Digest| {
        let server =
            Server::start(move |_| Reply::new(201, &[("Docker-Content-Digest", &header.to_string())], ""));
        destination(&server).put_manifest("one", &MediaType::OciManifest, manifest)
    };
    put(Digest::of(manifest)).unwrap();
    let error = status(put(Digest::of(b"another")).unwrap_err());
    assert!(matches!(error, RegistryError::DigestHeader { .. }), "{error:?}");
}
