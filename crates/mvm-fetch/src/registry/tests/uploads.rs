//! Requests that carry something.

use super::*;
use crate::RegistryError;
use crate::registry::Registry;
use crate::registry::call::{Access, Body, Call};
use reqwest::Method;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn put(server: &Server, body: Body) -> Result<u16, RegistryError> {
    let registry = Registry::new(quick())?;
    let reference = format!("{}/team/app:one", server.host()).parse().unwrap();
    let url = registry.repository_url(&reference)?.join("blobs/uploads/1?digest=x").unwrap();
    let access = Access::Push { from: Some("base/image".to_owned()) };
    let call = Call::new(Method::PUT, url, access).body(body);
    registry.wait(async { registry.send(&reference, &call).await.map(|answer| answer.status()) })
}

fn reader(bytes: &'static [u8], opened: Arc<AtomicUsize>) -> Body {
    let open = move || {
        opened.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(bytes) as Box<dyn Read + Send>)
    };
    Body::Reader { length: Some(bytes.len() as u64), open: Arc::new(open) }
}

#[test]
fn a_body_is_sent_again_with_a_token_for_all_that_is_touched() {
    let server = Server::start(|request| {
        if request.path.starts_with("/token") {
            return Reply::new(200, &[], r#"{"token":"t"}"#);
        }
        if request.authorization.is_some() {
            return Reply::new(201, &[], "");
        }
        let realm = format!("Bearer realm=\"http://{}/token\",scope=\"repository:x:pull\"", request.host);
        Reply::new(401, &[("WWW-Authenticate", &realm)], "")
    });
    const LONG: &[u8] = &[b'x'; 300_000];
    let opened = Arc::new(AtomicUsize::new(0));
    assert_eq!(put(&server, reader(LONG, Arc::clone(&opened))).unwrap(), 201);
    assert_eq!(opened.load(Ordering::SeqCst), 2);
    assert_eq!(put(&server, Body::Bytes("short".into())).unwrap(), 201);
    let seen: Vec<_> = server.requests().into_iter().map(|r| (r.method, r.path, r.body.len())).collect();
    let scopes = "repository%3Ateam%2Fapp%3Apull%2Cpush&scope=repository%3Abase%2Fimage%3Apull";
    let call = |length| ("PUT".to_owned(), "/v2/team/app/blobs/uploads/1?digest=x".to_owned(), length);
    let token = || ("GET".to_owned(), format!("/token?scope={scopes}"), 0);
    assert_eq!(seen, [call(LONG.len()), token(), call(LONG.len()), call(5), token(), call(5)]);
}

#[test]
fn a_body_that_cannot_be_read_is_the_error() {
    let server = Server::start(|_| Reply::new(201, &[], ""));
    let gone = || Err(io::Error::from(io::ErrorKind::NotFound));
    let error = put(&server, Body::Reader { length: Some(9), open: Arc::new(gone) }).unwrap_err();
    assert!(matches!(error, RegistryError::Upload(_)), "{error:?}");
}

#[test]
fn what_is_written_is_not_redirected() {
    let server = Server::start(|_| Reply::new(307, &[("Location", "/elsewhere")], ""));
    let error = put(&server, Body::Bytes("x".into())).unwrap_err();
    assert!(error.to_string().ends_with("only what is read may be redirected"), "{error}");
}
