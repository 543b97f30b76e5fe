//! One image in a registry: its manifests and blobs.

use super::call::Call;
use super::http::Answer;
use super::{Registry, RegistryError};
use crate::FetchError;
use crate::source::{ByteSource, Content, Root};
use mvm_ref::{Descriptor, Digest, MAX_DOCUMENT_SIZE, Reference};
use reqwest::Url;
use reqwest::header::RETRY_AFTER;
use serde::Deserialize;
use std::sync::Arc;

/// All that a manifest may be; schema 1 only so that the registry says that it is that.
const ACCEPT_MANIFEST: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.v1+prettyjws;q=0.1, \
    application/vnd.docker.distribution.manifest.v1+json;q=0.1";
const ACCEPT_BLOB: &str = "*/*";
const DIGEST_HEADER: &str = "docker-content-digest";
const MAX_ERROR_BODY: u64 = 16 << 10;
const MAX_MESSAGE: usize = 200;

/// An image in a registry.
pub(crate) struct RegistryImage {
    registry: Arc<Registry>,
    reference: Reference,
    url: Url,
}

impl RegistryImage {
    pub(crate) fn new(registry: Arc<Registry>, reference: Reference) -> Result<Self, RegistryError> {
        let url = registry.repository_url(&reference)?;
        Ok(Self { registry, reference, url })
    }

    async fn manifest(&self, name: &str, expected: Option<Digest>) -> Result<Root, RegistryError> {
        let url = self.join(&format!("manifests/{name}"))?;
        let answer = self.registry.send(&self.reference, &Call::get(url, ACCEPT_MANIFEST)).await?;
        let answer = self.check(answer, None).await?;
        let media_type = answer.content_type().map(str::to_owned);
        let header = answer.response.headers().get(DIGEST_HEADER).and_then(|value| value.to_str().ok());
        // Another algorithm than the one that is compared says nothing.
        let header = header.and_then(|text| text.parse::<Digest>().ok());
        let bytes = self.registry.http().body(answer, "manifest", MAX_DOCUMENT_SIZE).await?;
        let got = Digest::of(&bytes);
        let host = || self.reference.registry().to_owned();
        if let Some(expected) = expected.filter(|&expected| expected != got) {
            return Err(RegistryError::Digest { host: host(), expected, got });
        }
        if let Some(header) = header.filter(|&header| header != got) {
            return Err(RegistryError::DigestHeader { host: host(), header, got });
        }
        Ok(Root { bytes, media_type })
    }

    async fn blob(&self, descriptor: &Descriptor) -> Result<Answer, RegistryError> {
        let Descriptor { digest, size, .. } = *descriptor;
        let url = self.join(&format!("blobs/{digest}"))?;
        let answer = self.registry.send(&self.reference, &Call::get(url, ACCEPT_BLOB)).await?;
        let answer = self.check(answer, Some(digest)).await?;
        match answer.response.content_length() {
            Some(got) if got != size => {
                Err(RegistryError::Length { host: answer.host, digest, expected: size, got })
            }
            _ => Ok(answer),
        }
    }

    fn join(&self, path: &str) -> Result<Url, RegistryError> {
        self.url.join(path).map_err(|_| RegistryError::Address { host: self.reference.registry().to_owned() })
    }

    /// Lets an answer of status 200 through; `blob` is what was asked for, else it was the manifest.
    async fn check(&self, answer: Answer, blob: Option<Digest>) -> Result<Answer, RegistryError> {
        let status = answer.status();
        if answer.is_web_page() && matches!(status, 200..=299 | 404) {
            let content_type = answer.content_type().unwrap_or_default().to_owned();
            return Err(RegistryError::NotARegistry { host: answer.host, content_type });
        }
        if status == 200 {
            return Ok(answer);
        }
        let (host, repository) =
            (self.reference.registry().to_owned(), self.reference.repository().to_owned());
        let retry_after =
            answer.response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
        let (answered_by, elsewhere) = (answer.host.clone(), answer.elsewhere);
        let message = self.message(answer).await?;
        Err(match (status, blob) {
            (429, _) => RegistryError::RateLimited { host, retry_after },
            _ if elsewhere => RegistryError::Status { host: answered_by, repository, status, message },
            (404, Some(digest)) => RegistryError::NoBlob { host, repository, digest },
            (404, None) => RegistryError::NotFound { host, image: self.name(), message },
            (401, _) => RegistryError::LoginRefused { host, repository, message },
            (403, _) => RegistryError::Forbidden { host, repository, message },
            (500..=599, _) => RegistryError::Server { host, repository, status, message },
            _ => RegistryError::Status { host, repository, status, message },
        })
    }

    /// Returns repository and tag or digest.
    fn name(&self) -> String {
        let repository = self.reference.repository();
        match (self.reference.digest(), self.reference.tag()) {
            (Some(digest), _) => format!("{repository}@{digest}"),
            (None, tag) => format!("{repository}:{}", tag.unwrap_or_default()),
        }
    }

    /// Reads what the registry says about an error; nothing if it says it in another way than registries do.
    async fn message(&self, answer: Answer) -> Result<String, RegistryError> {
        match self.registry.http().body(answer, "error", MAX_ERROR_BODY).await {
            Ok(bytes) => Ok(parse_message(&bytes)),
            Err(RegistryError::Cancelled) => Err(RegistryError::Cancelled),
            // The status is the error to report, also where its explanation can't be read.
            Err(_) => Ok(String::new()),
        }
    }
}

impl Content for RegistryImage {
    fn root(&self) -> Result<Root, FetchError> {
        let digest = self.reference.digest();
        let name = match (digest, self.reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or_default().to_owned(),
        };
        Ok(self.registry.wait(self.manifest(&name, digest))?)
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Root, FetchError> {
        let digest = descriptor.digest;
        Ok(self.registry.wait(self.manifest(&digest.to_string(), Some(digest)))?)
    }

    fn small_blob(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, FetchError> {
        let work = async {
            let answer = self.blob(descriptor).await?;
            self.registry.http().body(answer, "blob", limit.min(descriptor.size)).await
        };
        Ok(self.registry.wait(work)?)
    }

    fn open_blob(&self, descriptor: &Descriptor) -> Result<Box<dyn ByteSource>, FetchError> {
        let answer = self.registry.wait(self.blob(descriptor))?;
        Ok(Box::new(BlobStream { registry: Arc::clone(&self.registry), answer, piece: bytes::Bytes::new() }))
    }
}

/// The body of a blob's answer.
struct BlobStream {
    registry: Arc<Registry>,
    answer: Answer,
    piece: bytes::Bytes,
}

impl ByteSource for BlobStream {
    fn next(&mut self) -> Result<&[u8], FetchError> {
        let (registry, answer) = (&self.registry, &mut self.answer);
        let next = registry.wait(async {
            loop {
                match registry.http().chunk(answer).await? {
                    Some(piece) if piece.is_empty() => {}
                    end_or_piece => return Ok(end_or_piece.unwrap_or_default()),
                }
            }
        });
        self.piece = next?;
        Ok(&self.piece)
    }
}

/// Reads `{"errors":[{"code":…,"message":…}]}`.
pub(super) fn parse_message(bytes: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Body {
        errors: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        code: String,
        #[serde(default)]
        message: String,
    }
    let Ok(Body { errors }) = serde_json::from_slice(bytes) else { return String::new() };
    let Some(Entry { code, message }) = errors.into_iter().next() else { return String::new() };
    let text = if message.is_empty() { code } else { format!("{code}: {message}") };
    text.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE).collect()
}
