//! One image in a registry: its manifests and blobs.

use super::blob::BlobStream;
use super::call::Call;
use super::http::{Answer, chain};
use super::link::{self, Next};
use super::retry::{Attempts, retry_after};
use super::{Registry, RegistryError};
use crate::source::{ByteSource, Content, Root};
use crate::{FetchError, Notice};
use mvm_ref::{Descriptor, Digest, MAX_DOCUMENT_SIZE, Reference};
use reqwest::Url;
use reqwest::header::{CONTENT_RANGE, HeaderValue, IF_RANGE, RANGE};
use serde::Deserialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// All that a manifest may be; schema 1 only so that the registry says that it is that.
const ACCEPT_MANIFEST: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.v1+prettyjws;q=0.1, \
    application/vnd.docker.distribution.manifest.v1+json;q=0.1";
const ACCEPT_BLOB: &str = "*/*";
pub(super) const DIGEST_HEADER: &str = "docker-content-digest";
const MAX_ERROR_BODY: u64 = 16 << 10;
const MAX_MESSAGE: usize = 200;

/// An image in a registry, and the mirrors that may have it too.
#[derive(Clone)]
pub(crate) struct RegistryImage {
    registry: Arc<Registry>,
    reference: Reference,
    places: Arc<[Place]>,
    /// The first place that has it, once that is known.
    first: Arc<AtomicUsize>,
}

impl RegistryImage {
    pub(crate) fn new(registry: Arc<Registry>, reference: Reference) -> Result<Self, RegistryError> {
        let names = registry.places(&reference)?;
        let count = names.len();
        let place = |(at, reference): (usize, Reference)| {
            let url = registry.repository_url(&reference)?;
            Ok(Place { registry: Arc::clone(&registry), reference, url, is_last: at + 1 == count })
        };
        let places = names.into_iter().enumerate().map(place).collect::<Result<_, RegistryError>>()?;
        Ok(Self { registry, reference, places, first: Arc::default() })
    }

    /// Returns the places to ask, in order.
    pub(super) fn places(&self) -> &[Place] {
        &self.places[self.first.load(Ordering::Relaxed).min(self.places.len())..]
    }

    /// Asks one place after the other; returns what the first has that has it, and which that is.
    pub(super) async fn anywhere<T>(
        &self,
        mut ask: impl AsyncFnMut(&Place) -> Result<T, RegistryError>,
    ) -> Result<(usize, T), RegistryError> {
        let mut at = 0;
        loop {
            let Some(place) = self.places().get(at) else {
                return Err(RegistryError::Address { host: self.reference.registry().to_owned() });
            };
            match ask(place).await {
                Ok(value) => return Ok((at, value)),
                Err(error) => place.passed_over(error)?,
            }
            at += 1;
        }
    }

    async fn root(&self) -> Result<Root, RegistryError> {
        let digest = self.reference.digest();
        let name = match (digest, self.reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or_default().to_owned(),
        };
        let (at, root) = self.anywhere(async |place| place.manifest(&name, digest).await).await?;
        if let Some(place) = self.places().get(at).filter(|place| !place.is_last) {
            self.registry.http().notice(Notice::Mirror { name: place.reference.to_string() });
        }
        self.first.store(at, Ordering::Relaxed);
        Ok(root)
    }
}

/// One registry that may have the image.
pub(super) struct Place {
    registry: Arc<Registry>,
    /// What the image is called there.
    reference: Reference,
    url: Url,
    is_last: bool,
}

impl Place {
    /// Returns where an image is written to: never to a mirror.
    pub(super) fn to_write(registry: Arc<Registry>, image: &Reference) -> Result<Self, RegistryError> {
        let reference = registry.places(image)?.pop().unwrap_or_else(|| image.clone());
        let url = registry.repository_url(&reference)?;
        Ok(Self { registry, reference, url, is_last: true })
    }

    /// Returns what the image is called there.
    pub(super) fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Says whether there is no other place to ask after this one.
    pub(super) fn is_last(&self) -> bool {
        self.is_last
    }

    /// Makes the error of something that isn't here.
    pub(super) fn not_found(&self, message: &str) -> RegistryError {
        let host = self.reference.registry().to_owned();
        RegistryError::NotFound { host, image: self.name(), message: message.to_owned() }
    }

    /// Asks for a page of a list, of which no digest is known.
    pub(super) async fn page(
        &self,
        call: &Call,
        what: &'static str,
        limit: u64,
    ) -> Result<Page, RegistryError> {
        let mut attempts = self.attempts();
        loop {
            let page = async {
                let answer = self.registry.send_within(&mut attempts, &self.reference, call).await?;
                let answer = self.check(answer, None, &[200]).await?;
                let next = link::next(answer.response.headers(), &call.url);
                Ok(Page { bytes: self.registry.http().body(answer, what, limit).await?, next })
            };
            match page.await {
                Err(error) => self.registry.http().again(&mut attempts, error).await?,
                page => return page,
            }
        }
    }

    /// Gives an error back if there is no other place to ask, and tells of it otherwise.
    pub(super) fn passed_over(&self, error: RegistryError) -> Result<(), RegistryError> {
        if self.is_last || matches!(error, RegistryError::Cancelled) {
            return Err(error);
        }
        let host = self.reference.registry().to_owned();
        self.registry.http().notice(Notice::MirrorFailed { host, why: chain(&error) });
        Ok(())
    }

    /// Returns the attempts that one thing may take here.
    pub(super) fn attempts(&self) -> Attempts {
        let attempts = self.registry.http().attempts();
        if self.is_last { attempts } else { attempts.impatient() }
    }

    pub(super) async fn manifest(&self, name: &str, expected: Option<Digest>) -> Result<Root, RegistryError> {
        let call = Call::get(self.join(&format!("manifests/{name}"))?, ACCEPT_MANIFEST);
        // The first thing that is asked for: whoever mistyped a port wants to know at once, as from docker.
        let mut attempts = self.attempts().impatient();
        loop {
            match self.try_manifest(&mut attempts, &call, expected).await {
                Err(error) => self.registry.http().again(&mut attempts, error).await?,
                root => return root,
            }
        }
    }

    async fn try_manifest(
        &self,
        attempts: &mut Attempts,
        call: &Call,
        expected: Option<Digest>,
    ) -> Result<Root, RegistryError> {
        let answer = self.registry.send_within(attempts, &self.reference, call).await?;
        let answer = self.check(answer, None, &[200]).await?;
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

    pub(super) async fn small_blob(
        &self,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Vec<u8>, RegistryError> {
        let mut attempts = self.attempts();
        let limit = limit.min(descriptor.size);
        loop {
            let blob = async {
                let part = self.open_part(&mut attempts, descriptor, 0, None).await?;
                self.registry.http().body(part.answer, "blob", limit).await
            };
            match blob.await {
                Err(error) => self.registry.http().again(&mut attempts, error).await?,
                bytes => return bytes,
            }
        }
    }

    /// Asks for a blob from `offset`; `tag` is what an earlier answer called these bytes.
    pub(super) async fn open_part(
        &self,
        attempts: &mut Attempts,
        descriptor: &Descriptor,
        offset: u64,
        tag: Option<&HeaderValue>,
    ) -> Result<Part, RegistryError> {
        let Descriptor { digest, size, .. } = *descriptor;
        let mut call = Call::get(self.join(&format!("blobs/{digest}"))?, ACCEPT_BLOB);
        if offset > 0 {
            // Digits and a dash are what a header may have.
            let range = HeaderValue::try_from(format!("bytes={offset}-"));
            call = call.header(RANGE, range.unwrap_or_else(|_| HeaderValue::from_static("bytes=0-")));
            call = tag.into_iter().fold(call, |call, tag| call.header(IF_RANGE, tag.clone()));
        }
        let answer = self.registry.send_within(attempts, &self.reference, &call).await?;
        let fine: &[u16] = if offset > 0 { &[200, 206] } else { &[200] };
        let answer = self.check(answer, Some(digest), fine).await?;
        let start = if answer.status() == 206 { offset } else { 0 };
        if start > 0 {
            let header = answer.response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
            let header = header.unwrap_or_default();
            if !is_range(header, offset, size) {
                let got = header.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE).collect();
                return Err(RegistryError::Range { host: answer.host, digest, offset, got });
            }
        }
        match answer.response.content_length() {
            Some(got) if got > size - start || (start == 0 && got != size) => {
                Err(RegistryError::Length { host: answer.host, digest, expected: size - start, got })
            }
            _ => Ok(Part { answer, skip: offset - start }),
        }
    }

    pub(super) fn join(&self, path: &str) -> Result<Url, RegistryError> {
        self.url.join(path).map_err(|_| RegistryError::Address { host: self.reference.registry().to_owned() })
    }

    /// Lets an answer of a `fine` status through; `blob` is what was asked for, else it was the manifest.
    async fn check(
        &self,
        answer: Answer,
        blob: Option<Digest>,
        fine: &[u16],
    ) -> Result<Answer, RegistryError> {
        let status = answer.status();
        if answer.is_web_page() && matches!(status, 200..=299 | 404) {
            let content_type = answer.content_type().unwrap_or_default().to_owned();
            return Err(RegistryError::NotARegistry { host: answer.host, content_type });
        }
        if fine.contains(&status) {
            return match answer.encoding() {
                None => Ok(answer),
                Some(encoding) => Err(RegistryError::Encoding { host: answer.host, encoding }),
            };
        }
        let (host, repository) =
            (self.reference.registry().to_owned(), self.reference.repository().to_owned());
        let retry_after = retry_after(answer.response.headers()).map(|wait| wait.as_secs());
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
    pub(super) async fn message(&self, answer: Answer) -> Result<String, RegistryError> {
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
        Ok(self.registry.wait(Self::root(self))?)
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Root, FetchError> {
        let (digest, name) = (Some(descriptor.digest), descriptor.digest.to_string());
        let ask = self.anywhere(async |place| place.manifest(&name, digest).await);
        Ok(self.registry.wait(ask)?.1)
    }

    fn small_blob(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, FetchError> {
        let ask = self.anywhere(async |place| place.small_blob(descriptor, limit).await);
        Ok(self.registry.wait(ask)?.1)
    }

    fn open_blob(&self, descriptor: &Descriptor) -> Result<Box<dyn ByteSource>, FetchError> {
        Ok(Box::new(BlobStream::open(Arc::clone(&self.registry), self.clone(), descriptor.clone())?))
    }
}

/// A page of a list.
pub(super) struct Page {
    pub bytes: Vec<u8>,
    /// Where the list goes on, if it does.
    pub next: Option<Next>,
}

/// The answer to a request for a part of a blob.
pub(super) struct Part {
    pub answer: Answer,
    /// Bytes before the part that come as well, because the server doesn't know parts.
    pub skip: u64,
}

/// Says whether a header `Content-Range` is about the bytes of a blob of `size` from `offset`.
fn is_range(header: &str, offset: u64, size: u64) -> bool {
    let parse = || {
        let (range, total) = header.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (start, end) = range.split_once('-')?;
        let (start, end): (u64, u64) = (start.parse().ok()?, end.parse().ok()?);
        Some((start, end, total == "*" || total.parse() == Ok(size)))
    };
    parse().is_some_and(|(start, end, same)| same && start == offset && (start..size).contains(&end))
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
