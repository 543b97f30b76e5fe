//! What is tried again, and what goes on where it broke off.

use super::{pull as pull_all, *};
use crate::{Notice, RegistryError};
use std::sync::mpsc::channel;

const ETAG: (&str, &str) = ("ETag", "\"tag\"");

/// Pulls without showing what came.
fn pull(config: FetchConfig, server: &Server, name: &str) -> Result<(), FetchError> {
    pull_all(config, server, name).map(|(tar, _)| assert!(tar == Image::new().tar))
}

/// Answers in `script`'s order to requests for `path`, and properly afterwards.
fn scripted(path: String, script: Vec<Reply>) -> Server {
    let script = std::sync::Mutex::new(script.into_iter());
    Image::new().serve(move |request| (request.path == path).then(|| script.lock().unwrap().next()).flatten())
}

fn head(status: u16, headers: &[(&'static str, &str)], body: Body) -> Reply {
    Reply { body, ..Reply::new(status, headers, "") }
}

fn asked(server: &Server, path: &str) -> Vec<(Option<String>, Option<String>)> {
    server
        .requests()
        .into_iter()
        .filter(|request| request.path == path)
        .map(|request| request.range)
        .collect()
}

fn from(offset: usize, tag: Option<&str>) -> (Option<String>, Option<String>) {
    (Some(format!("bytes={offset}-")), tag.map(str::to_owned))
}

#[test]
fn what_may_pass_is_tried_again() {
    let image = Image::new();
    let paths = [
        "/v2/team/app/manifests/many".to_owned(),
        format!("/v2/team/app/manifests/{}", Digest::of(&image.manifest)),
        blob_path(&image.config),
        image.layer_path(),
    ];
    for path in paths {
        for status in [408, 429, 500, 502, 503, 504] {
            let server = scripted(path.clone(), (0..4).map(|_| Reply::new(status, &[], "")).collect());
            pull(quick(), &server, ":many").unwrap();
            assert_eq!(asked(&server, &path).len(), 5, "{path} {status}");
        }
        let broken = || head(200, &[], Body::Announced(10, vec![b'{']));
        let server = scripted(path.clone(), vec![broken()]);
        let result = pull(quick(), &server, ":many");
        if path == "/v2/team/app/manifests/many" || path.contains("manifests") {
            result.unwrap();
            assert_eq!(asked(&server, &path).len(), 2, "{path}");
        } else {
            // A blob has another length.
            assert!(matches!(result, Err(FetchError::Registry(RegistryError::Length { .. }))), "{result:?}");
        }
    }
}

#[test]
fn what_does_not_pass_is_not() {
    let path = "/v2/team/app/manifests/many";
    for status in [400, 403, 404, 405, 410, 501, 505] {
        let server = scripted(path.to_owned(), vec![Reply::new(status, &[], "")]);
        assert!(pull(quick(), &server, ":many").is_err(), "{status}");
        assert_eq!(asked(&server, path).len(), 1, "{status}");
    }
    // A registry that wants to be left alone for long is.
    let server = scripted(path.to_owned(), vec![Reply::new(429, &[("Retry-After", "121")], "")]);
    let error = pull(quick(), &server, ":many").unwrap_err();
    assert!(error.to_string().contains("try again in 121 s"), "{error}");
    assert_eq!(asked(&server, path).len(), 1);
    // All attempts fail: the last failure is the error.
    let server = scripted(path.to_owned(), (0..9).map(|_| Reply::new(503, &[], "")).collect());
    let error = pull(FetchConfig { retries: 2, ..quick() }, &server, ":many").unwrap_err();
    assert!(matches!(error, FetchError::Registry(RegistryError::Server { status: 503, .. })), "{error:?}");
    assert_eq!(asked(&server, path).len(), 3);
}

#[test]
fn a_person_hears_of_it() {
    let path = "/v2/team/app/manifests/one";
    let (notices, heard) = channel();
    let reply = Reply::new(503, &[("Retry-After", "1")], "");
    let server = scripted(path.to_owned(), vec![reply, Reply::new(500, &[], "")]);
    pull(FetchConfig { notices: Some(notices), ..quick() }, &server, ":one").unwrap();
    let heard: Vec<String> = heard.into_iter().map(|notice| notice.to_string()).collect();
    let host = server.host();
    let expected = [
        format!("{host} answers with status 503; trying again in 1 s, at most 4 times"),
        format!("{host} answers with status 500; trying again in 0.002 s, at most 3 times"),
    ];
    assert_eq!(heard, expected);
}

#[test]
fn a_wait_ends_when_somebody_asks_to_stop() {
    let config = quick();
    let cancel = config.cancel.clone();
    let server = Server::start(move |_| {
        cancel.cancel();
        Reply::new(503, &[("Retry-After", "100")], "")
    });
    let error = pull(config, &server, ":one").unwrap_err();
    assert!(matches!(error, FetchError::Cancelled), "{error:?}");
}

#[test]
fn a_blob_goes_on_where_it_broke_off() {
    let image = Image::new();
    let (path, layer, size) = (image.layer_path(), image.layer.clone(), image.layer.len());
    let cut = |at: usize, to: usize, status, headers: &[(&'static str, &str)]| {
        head(status, headers, Body::Announced(size - at, layer[at..to].to_vec()))
    };
    let range = |at: usize| format!("bytes {at}-{}/{size}", size - 1);
    let (one, two) = (range(1000), range(3000));
    let script = vec![
        cut(0, 1000, 200, &[ETAG]),
        cut(1000, 3000, 206, &[("Content-Range", &one)]),
        // It comes from the start, and again not to the end.
        cut(0, 2000, 200, &[]),
        cut(3000, size, 206, &[("Content-Range", &two)]),
    ];
    let server = scripted(path.clone(), script);
    let (notices, heard) = channel();
    pull(FetchConfig { notices: Some(notices), ..quick() }, &server, ":one").unwrap();
    let tag = Some("\"tag\"");
    let expected = [(None, None), from(1000, tag), from(3000, tag), from(3000, tag)];
    assert_eq!(asked(&server, &path), expected);
    let resumed: Vec<u64> = heard
        .into_iter()
        .filter_map(|notice| match notice {
            Notice::Resume { at, .. } => Some(at),
            _ => None,
        })
        .collect();
    assert_eq!(resumed, [1000, 3000, 3000]);
}

#[test]
fn a_blob_that_comes_whole_again_is_skipped_to_where_it_broke_off() {
    let image = Image::new();
    let size = image.layer.len();
    let first = head(200, &[("ETag", "W/\"weak\"")], Body::Announced(size, image.layer[..5000].to_vec()));
    let server = scripted(image.layer_path(), vec![first]);
    pull(quick(), &server, ":one").unwrap();
    assert_eq!(asked(&server, &image.layer_path()), [(None, None), from(5000, None)]);
}

#[test]
fn a_stall_counts_as_a_break() {
    let image = Image::new();
    let first = head(200, &[], Body::Stalled(image.layer.len(), image.layer[..5000].to_vec()));
    let server = scripted(image.layer_path(), vec![first]);
    let config = FetchConfig { read_timeout: Duration::from_millis(50), ..quick() };
    pull(config, &server, ":one").unwrap();
    assert_eq!(asked(&server, &image.layer_path()), [(None, None), from(5000, None)]);
}

#[test]
fn other_parts_than_the_one_asked_for_are_refused() {
    let image = Image::new();
    let size = image.layer.len();
    let first = || head(200, &[], Body::Announced(size, image.layer[..1000].to_vec()));
    let part = |header: &str| {
        let body = Body::Bytes(image.layer[1000..].to_vec());
        head(206, &[("Content-Range", header)], body)
    };
    for header in [
        format!("bytes 999-{}/{size}", size - 1),
        format!("bytes 1001-{}/{size}", size - 1),
        format!("bytes 1000-{}/{}", size - 1, size + 1),
        format!("bytes 1000-{size}/{size}"),
        format!("bytes 1000-999/{size}"),
        "bytes */9".to_owned(),
        "lines 1000-2000/*".to_owned(),
        String::new(),
    ] {
        let server = scripted(image.layer_path(), vec![first(), part(&header)]);
        let error = pull(quick(), &server, ":one").unwrap_err();
        assert!(matches!(error, FetchError::Registry(RegistryError::Range { .. })), "{header}: {error:?}");
    }
    // What nobody asked for in parts has none.
    let server = scripted(image.layer_path(), vec![part(&format!("bytes 0-{}/{size}", size - 1))]);
    let error = pull(quick(), &server, ":one").unwrap_err();
    assert!(matches!(error, FetchError::Registry(RegistryError::Status { status: 206, .. })), "{error:?}");
    let server = scripted(image.layer_path(), vec![first(), Reply::new(416, &[], "")]);
    let error = pull(quick(), &server, ":one").unwrap_err();
    assert!(matches!(error, FetchError::Registry(RegistryError::Status { status: 416, .. })), "{error:?}");
}

#[test]
fn a_blob_that_never_gets_far_is_given_up() {
    let image = Image::new();
    let (path, layer) = (image.layer_path(), image.layer.clone());
    let server = image.serve(move |request| {
        (request.path == path).then(|| {
            let at: usize =
                request.range.0.as_deref().map_or(0, |range| range[6..range.len() - 1].parse().unwrap());
            let (size, piece) = (layer.len(), layer[at..at + 1].to_vec());
            let header = format!("bytes {at}-{}/{size}", size - 1);
            let status = if at == 0 { 200 } else { 206 };
            head(status, &[("Content-Range", &header)], Body::Announced(size - at, piece))
        })
    });
    let error = pull(quick(), &server, ":one").unwrap_err();
    assert!(matches!(error, FetchError::Registry(RegistryError::Transfer { .. })), "{error:?}");
    assert_eq!(asked(&server, &Image::new().layer_path()).len(), 5);
}

#[test]
fn a_body_in_another_encoding_is_refused() {
    let image = Image::new();
    let body = Body::Bytes(image.layer.clone());
    let server = scripted(image.layer_path(), vec![head(200, &[("Content-Encoding", "gzip")], body)]);
    let error = pull(quick(), &server, ":one").unwrap_err();
    assert!(matches!(error, FetchError::Registry(RegistryError::Encoding { .. })), "{error:?}");
}
