//! What is given to a registry: blobs, and the manifest that names them.
//!
//! Source: OCI distribution-spec 1.1, sections "Pushing Blobs", "Mounting a blob from another repository" and "Pushing
//! Manifests".

use super::call::{Access, Body, Call};
use super::http::Answer;
use super::image::{DIGEST_HEADER, Place};
use super::{Registry, RegistryError};
use crate::FetchError;
use crate::host::host_of;
use mvm_ref::{Digest, MediaType, Reference};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{Method, Url};
use std::io::{self, Read};
use std::sync::Arc;

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
/// Answers of registries that take a blob only in the older way, before its digest is said.
const NOT_AT_ONCE: [u16; 6] = [400, 405, 411, 415, 416, 501];

/// A repository that an image is given to.
///
/// Whatever fails for a passing reason is tried again, an upload from its first byte.
pub struct Destination {
    registry: Arc<Registry>,
    place: Place,
    reference: Reference,
}

/// Opens the bytes of a blob; it is called again when they have to be sent again.
pub type OpenBlob = Arc<dyn Fn() -> io::Result<Box<dyn Read + Send>> + Send + Sync>;

impl Destination {
    pub(crate) fn new(registry: Arc<Registry>, reference: &Reference) -> Result<Self, RegistryError> {
        let place = Place::to_write(Arc::clone(&registry), reference)?;
        let reference = place.reference().clone();
        Ok(Self { registry, place, reference })
    }

    /// Says whether the repository has a blob.
    pub fn has_blob(&self, digest: &Digest, size: u64) -> Result<bool, FetchError> {
        let work = async {
            let url = self.place.join(&format!("blobs/{digest}"))?;
            let call = Call::new(Method::HEAD, url, push());
            let answer = self.registry.send(&self.reference, &call).await?;
            match answer.status() {
                200 => {
                    let length = answer.response.headers().get(CONTENT_LENGTH);
                    let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
                    // Half a blob from a push that broke off is none.
                    Ok(length.is_none_or(|length| length == size))
                }
                404 => Ok(false),
                _ => Err(self.failure(answer).await?),
            }
        };
        Ok(self.registry.wait(work)?)
    }

    /// Takes a blob over from another repository of the same registry; says whether that went well.
    ///
    /// A registry may not know how, or not let us read there. It need not say so: the blob is uploaded then.
    pub fn mount(&self, digest: &Digest, from: &str) -> Result<bool, FetchError> {
        let work = async {
            let mut url = self.place.join("blobs/uploads/")?;
            url.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", from);
            let access = Access::Push { from: Some(from.to_owned()) };
            let call = Call::new(Method::POST, url, access).repeatable();
            match self.registry.send(&self.reference, &call).await {
                Ok(answer) => {
                    if answer.status() == 202
                        && let Ok(session) = session(&answer)
                    {
                        let end = Call::new(Method::DELETE, session, push());
                        // An upload that nobody goes on with ends by itself.
                        drop(self.send_to(&end).await);
                    }
                    // Nothing is taken on trust: the blob is there or will be uploaded.
                    Ok(answer.status() == 201)
                }
                Err(
                    RegistryError::LoginNeeded { .. }
                    | RegistryError::LoginRefused { .. }
                    | RegistryError::Token { .. },
                ) => Ok(false),
                Err(error) => Err(error),
            }
        };
        Ok(self.registry.wait(work)?)
    }

    /// Uploads a blob of `size` bytes.
    pub fn upload(&self, digest: &Digest, size: u64, open: OpenBlob) -> Result<(), FetchError> {
        let work = async {
            let mut attempts = self.registry.http().attempts();
            let mut at_once = true;
            loop {
                let body = Body::Reader { length: Some(size), open: Arc::clone(&open) };
                match self.try_upload(digest, size, body, at_once).await {
                    Ok(()) => return Ok(()),
                    Err(RegistryError::Status { status, .. }) if at_once && NOT_AT_ONCE.contains(&status) => {
                        at_once = false;
                    }
                    Err(error) => self.registry.http().again(&mut attempts, error).await?,
                }
            }
        };
        Ok(self.registry.wait(work)?)
    }

    async fn try_upload(
        &self,
        digest: &Digest,
        size: u64,
        body: Body,
        at_once: bool,
    ) -> Result<(), RegistryError> {
        let start = Call::new(Method::POST, self.place.join("blobs/uploads/")?, push()).repeatable();
        let answer = self.registry.send(&self.reference, &start).await?;
        let answer = self.accept(answer, &[202]).await?;
        let mut session = session(&answer)?;
        if at_once {
            session.query_pairs_mut().append_pair("digest", &digest.to_string());
            return self.send_blob(Method::PUT, session, size, body, &[201, 204]).await.map(drop);
        }
        let answer = self.send_blob(Method::PATCH, session, size, body, &[202, 201, 204]).await?;
        let mut session = self::session(&answer)?;
        session.query_pairs_mut().append_pair("digest", &digest.to_string());
        self.send_blob(Method::PUT, session, 0, Body::Empty, &[201, 204]).await.map(drop)
    }

    async fn send_blob(
        &self,
        method: Method,
        url: Url,
        size: u64,
        body: Body,
        fine: &[u16],
    ) -> Result<Answer, RegistryError> {
        let call = Call::new(method, url, push())
            .header(CONTENT_TYPE, OCTETS)
            .header(CONTENT_LENGTH, HeaderValue::from(size))
            .body(body);
        let answer = self.send_to(&call).await?;
        self.accept(answer, fine).await
    }

    /// Makes a request to where the registry said: only the registry itself is shown who asks.
    async fn send_to(&self, call: &Call) -> Result<Answer, RegistryError> {
        let own = self.place.join("blobs/uploads/")?;
        if host_of(&call.url) == host_of(&own) {
            return self.registry.send(&self.reference, call).await;
        }
        self.registry.http().check_hop(&own, &call.url)?;
        self.registry.http().send(call, None).await
    }

    /// Puts a manifest under a tag or its digest.
    pub fn put_manifest(&self, name: &str, media_type: &MediaType, bytes: &[u8]) -> Result<(), FetchError> {
        let digest = Digest::of(bytes);
        let work = async {
            let url = self.place.join(&format!("manifests/{name}"))?;
            let of_type = HeaderValue::from_str(media_type.as_str()).unwrap_or(OCTETS);
            let body = Body::Bytes(bytes.to_vec().into());
            let call = Call::new(Method::PUT, url, push()).header(CONTENT_TYPE, of_type).body(body);
            // The same manifest under the same name is the same, however often.
            let answer = self.registry.send(&self.reference, &call.repeatable()).await?;
            let answer = self.accept(answer, &[201]).await?;
            let header = answer.response.headers().get(DIGEST_HEADER).and_then(|value| value.to_str().ok());
            match header.and_then(|text| text.parse::<Digest>().ok()).filter(|&header| header != digest) {
                Some(header) => Err(RegistryError::DigestHeader { host: answer.host, header, got: digest }),
                None => Ok(()),
            }
        };
        Ok(self.registry.wait(work)?)
    }

    async fn accept(&self, answer: Answer, fine: &[u16]) -> Result<Answer, RegistryError> {
        if fine.contains(&answer.status()) {
            return Ok(answer);
        }
        Err(self.failure(answer).await?)
    }

    /// Returns what an answer of a bad status means.
    async fn failure(&self, answer: Answer) -> Result<RegistryError, RegistryError> {
        if answer.is_web_page() && matches!(answer.status(), 200..=299 | 404) {
            let content_type = answer.content_type().unwrap_or_default().to_owned();
            return Ok(RegistryError::NotARegistry { host: answer.host, content_type });
        }
        let status = answer.status();
        let (host, repository) =
            (self.reference.registry().to_owned(), self.reference.repository().to_owned());
        let retry_after = super::retry::retry_after(answer.response.headers()).map(|wait| wait.as_secs());
        let message = self.place.message(answer).await?;
        Ok(match status {
            401 => RegistryError::LoginRefused { host, repository, message },
            403 => RegistryError::Forbidden { host, repository, message },
            404 => RegistryError::NoRepository { host, repository, message },
            413 => RegistryError::UploadTooLarge { host, repository, message },
            429 => RegistryError::RateLimited { host, retry_after },
            500..=599 if status != 501 => RegistryError::Server { host, repository, status, message },
            _ => RegistryError::Status { host, repository, status, message },
        })
    }
}

fn push() -> Access {
    Access::Push { from: None }
}

/// Returns where an upload goes on; the header may be relative.
fn session(answer: &Answer) -> Result<Url, RegistryError> {
    let location = answer.response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let url = location.and_then(|text| answer.response.url().join(text).ok());
    url.ok_or_else(|| RegistryError::NoLocation { host: answer.host.clone() })
}
