//! The answers of a registry that holds one image, and the rules that spoil them.

use std::sync::{Arc, Mutex, PoisonError};

use super::fault::{Rule, Target};
use super::http::{Reply, Request};
use super::image::Image;
use super::login::Login;
use crate::corpus::image::{INDEX, MANIFEST, digest};

/// The repository that the image is in. Its tag `one` is the manifest, `many` the index.
pub const REPOSITORY: &str = "team/app";

/// A registry; several servers may answer for it.
///
/// Beside the interface of registries, `/storage/DIGEST` gives blobs to everyone and `/token` gives tokens.
pub struct Registry {
    image: Image,
    login: Mutex<Option<Arc<Login>>>,
    rules: Mutex<Vec<Arc<Rule>>>,
}

impl Registry {
    /// Makes an honest and open registry.
    pub fn new(image: Image) -> Self {
        Self { image, login: Mutex::default(), rules: Mutex::default() }
    }

    /// Returns the image that it holds.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Adds a rule; it spoils what the rules before it made.
    pub fn rule(&self, rule: Rule) {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::new(rule));
    }

    /// Lets in only those who log in.
    pub fn login(&self, login: Login) {
        *self.login.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(login));
    }

    /// Answers a request.
    pub fn answer(&self, request: &Request) -> Reply {
        let (target, reply) = self.honest(request);
        let login = self.login.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let reply = match login {
            Some(login) if target == Target::Token => login.issue(request),
            Some(login) if request.path().starts_with("/v2/") => login.check(request).unwrap_or(reply),
            _ => reply,
        };
        let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner).clone();
        rules.iter().fold(reply, |reply, rule| rule.apply(target, request, reply))
    }

    fn honest(&self, request: &Request) -> (Target, Reply) {
        let path = request.path();
        if path == "/v2/" {
            return (Target::Base, Reply::new(200, "application/json", "{}"));
        }
        if path == "/token" {
            return (Target::Token, error(404, "UNSUPPORTED"));
        }
        if let Some(wanted) = path.strip_prefix("/storage/") {
            return (Target::Storage, self.blob(wanted, request));
        }
        let inside =
            path.strip_prefix("/v2/").and_then(|rest| rest.strip_prefix(REPOSITORY)).unwrap_or_default();
        if let Some(wanted) = inside.strip_prefix("/manifests/") {
            let target = if wanted.contains(':') { Target::Manifest } else { Target::Tag };
            return (target, self.manifest(wanted));
        }
        if let Some(wanted) = inside.strip_prefix("/blobs/") {
            let layer = self.image.layers.iter().position(|layer| digest(layer) == wanted);
            return (layer.map_or(Target::Config, Target::Layer), self.blob(wanted, request));
        }
        (Target::Any, error(404, "NAME_UNKNOWN"))
    }

    fn manifest(&self, wanted: &str) -> Reply {
        let documents = [("one", MANIFEST, &self.image.manifest), ("many", INDEX, &self.image.index)];
        let found = documents.into_iter().find(|(tag, _, bytes)| *tag == wanted || digest(bytes) == wanted);
        let Some((_, media_type, bytes)) = found else { return error(404, "MANIFEST_UNKNOWN") };
        Reply::new(200, media_type, bytes.as_slice()).with("Docker-Content-Digest", digest(bytes))
    }

    fn blob(&self, wanted: &str, request: &Request) -> Reply {
        let Some(bytes) = self.image.blob(wanted) else { return error(404, "BLOB_UNKNOWN") };
        let whole = Reply::new(200, "application/octet-stream", bytes)
            .with("Docker-Content-Digest", wanted)
            .with("Accept-Ranges", "bytes")
            .with("ETag", format!("\"{wanted}\""));
        let Some(first) = request.first_byte() else { return whole };
        let total = bytes.len();
        if first >= total {
            return Reply { status: 416, body: Vec::new(), ..whole }
                .with("Content-Range", format!("bytes */{total}"));
        }
        let range = format!("bytes {first}-{}/{total}", total - 1);
        Reply { status: 206, body: bytes[first..].to_vec(), ..whole }.with("Content-Range", range)
    }
}

/// Makes an answer that says an error as registries do.
pub(super) fn error(status: u16, code: &str) -> Reply {
    let body = format!(r#"{{"errors":[{{"code":"{code}","message":"as ordered"}}]}}"#);
    Reply::new(status, "application/json", body)
}
