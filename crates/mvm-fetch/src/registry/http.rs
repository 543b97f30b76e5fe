//! HTTP with the limits that this crate puts on it: where it may lead, who sees a secret, how long a body is.

use super::RegistryError;
use super::call::{Call, Sending};
use super::connect::Clients;
use super::retry::Attempts;
use super::rules::{FirstTry, Rules, Scheme, refuse};
use crate::host::host_of;
use crate::{CancelToken, FetchConfig, Notice};
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{Method, Response, Url};
use std::future::Future;
use std::pin::pin;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

const MAX_REDIRECTS: usize = 10;
/// How often a waiting request looks whether it is still wanted.
const CANCEL_INTERVAL: Duration = Duration::from_millis(100);

/// An HTTP client.
pub(super) struct Http {
    clients: Clients,
    rules: Rules,
    cancel: CancelToken,
    read_timeout: Duration,
    attempts: Attempts,
    notices: Option<Sender<Notice>>,
}

/// An answer, of whatever status but a redirection.
pub(super) struct Answer {
    pub response: Response,
    /// Host and port that gave it.
    pub host: String,
    /// Whether that is another one than was asked.
    pub elsewhere: bool,
}

impl Http {
    pub(super) fn new(config: &FetchConfig) -> Result<Self, RegistryError> {
        Ok(Self {
            clients: Clients::new(config)?,
            rules: Rules::new(config.insecure.clone()),
            cancel: config.cancel.clone(),
            read_timeout: config.read_timeout,
            attempts: Attempts::new(config),
            notices: config.notices.clone(),
        })
    }

    /// Returns the address of a registry, with the scheme that it is asked with first.
    pub(super) fn base(&self, host: &str) -> Result<Url, RegistryError> {
        let bad = || RegistryError::Address { host: host.to_owned() };
        let url = Url::parse(&format!("https://{host}/v2/")).map_err(|_| bad())?;
        let has_certificates = self.clients.has_certificates(&url)?;
        Ok(with_scheme(&url, self.rules.scheme(&url, has_certificates)))
    }

    /// Says whether an answer from `from` may lead to `to`.
    pub(super) fn check_hop(&self, from: &Url, to: &Url) -> Result<(), RegistryError> {
        self.rules.check_hop(from, to)
    }

    /// Returns all attempts that one thing may take.
    pub(super) fn attempts(&self) -> Attempts {
        self.attempts.clone()
    }

    /// Waits until it is time for another attempt; gives the error back if there is none.
    pub(super) async fn again(
        &self,
        attempts: &mut Attempts,
        error: RegistryError,
    ) -> Result<(), RegistryError> {
        let Some(wait) = attempts.take_after(&error) else { return Err(error) };
        self.pause(attempts, chain(&error), wait).await
    }

    /// Tells a person why there will be another attempt, and waits until then.
    pub(super) async fn pause(
        &self,
        attempts: &Attempts,
        why: String,
        wait: Duration,
    ) -> Result<(), RegistryError> {
        self.notice(Notice::Retry { why, wait, left: attempts.left() + 1 });
        let since = Instant::now();
        while !self.cancel.is_cancelled() {
            let left = wait.saturating_sub(since.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            tokio::time::sleep(left.min(CANCEL_INTERVAL)).await;
        }
        Err(RegistryError::Cancelled)
    }

    /// Tells a person what happens.
    pub(super) fn notice(&self, notice: Notice) {
        if let Some(notices) = &self.notices {
            // Nobody may listen any more.
            notices.send(notice).unwrap_or_default();
        }
    }

    /// Makes a request; one that only reads follows redirections, and shows `authorization` to the first host only.
    ///
    /// Where the host turns out to speak with TLS, or without, and may, the request is made in that way.
    pub(super) async fn send(
        &self,
        call: &Call,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer, RegistryError> {
        let has_certificates = self.clients.has_certificates(&call.url)?;
        let scheme = self.rules.scheme(&call.url, has_certificates);
        let url = with_scheme(&call.url, scheme);
        let first = self.follow(call, url.clone(), authorization).await;
        let outcome = FirstTry::of(first.as_ref().map(Answer::status));
        let Some(other) = self.rules.other(&url, has_certificates, outcome) else {
            if first.is_ok() {
                self.rules.answered(&url);
            }
            return first;
        };
        let other_url = with_scheme(&url, other);
        match self.follow(call, other_url.clone(), authorization).await {
            Ok(answer) => {
                self.rules.answered(&other_url);
                Ok(answer)
            }
            // A server whose certificate is bad does speak TLS.
            Err(error @ (RegistryError::Certificate { .. } | RegistryError::Cancelled)) => Err(error),
            Err(error) if other == Scheme::Http => Err(error),
            Err(_) => first,
        }
    }

    async fn follow(
        &self,
        call: &Call,
        mut url: Url,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer, RegistryError> {
        let origin = url.origin();
        let reads = matches!(call.method, Method::GET | Method::HEAD);
        for _ in 0..=MAX_REDIRECTS {
            let host = host_of(&url);
            let sending = Sending::default();
            let client = self.clients.for_url(&url)?;
            let mut request = client.request(call.method.clone(), url.clone());
            request = request.headers(call.headers.clone());
            if !reads {
                request = request.body(call.body.open(&sending)?);
            }
            if let Some(value) = authorization.filter(|_| url.origin() == origin) {
                request = request.header(AUTHORIZATION, value.clone());
            }
            let response = self.guard(&host, &sending, request.send()).await?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(Answer { response, host, elsewhere: url.origin() != origin });
            }
            // Some servers send UTF-8 where it should be percent-encoded; the address has it encoded.
            let location =
                response.headers().get(LOCATION).and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
            let next = location.and_then(|text| url.join(text).ok());
            let next =
                next.ok_or_else(|| refuse(&url, location.unwrap_or_default(), "it is not an address"))?;
            if !reads {
                return Err(refuse(&url, next.as_str(), "only what is read may be redirected"));
            }
            self.check_hop(&url, &next)?;
            url = next;
        }
        Err(refuse(&url, url.path(), "there were too many redirections before"))
    }

    /// Sends a form to `url`; redirections are not followed.
    pub(super) async fn post_form(&self, url: &Url, form: &[(&str, &str)]) -> Result<Answer, RegistryError> {
        let host = host_of(url);
        let client = self.clients.for_url(url)?;
        let request = client.post(url.clone()).form(form).send();
        let response = self.guard(&host, &Sending::default(), request).await?;
        Ok(Answer { response, host, elsewhere: false })
    }

    /// Reads a body of at most `limit` bytes.
    pub(super) async fn body(
        &self,
        mut answer: Answer,
        what: &'static str,
        limit: u64,
    ) -> Result<Vec<u8>, RegistryError> {
        let too_large = |host: &str| RegistryError::TooLarge { what, host: host.to_owned(), limit };
        if answer.response.content_length().is_some_and(|length| length > limit) {
            return Err(too_large(&answer.host));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk(&mut answer).await? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > limit {
                return Err(too_large(&answer.host));
            }
        }
        Ok(bytes)
    }

    /// Returns the next piece of a body; nothing at its end.
    pub(super) async fn chunk(&self, answer: &mut Answer) -> Result<Option<bytes::Bytes>, RegistryError> {
        let Answer { response, host, .. } = answer;
        self.guard(host, &Sending::default(), response.chunk()).await
    }

    /// Waits for `work` as long as nobody asks to stop and something moves: an upload counts while it is taken.
    async fn guard<T>(
        &self,
        host: &str,
        sending: &Sending,
        work: impl Future<Output = Result<T, reqwest::Error>>,
    ) -> Result<T, RegistryError> {
        let mut work = pin!(work);
        let (mut since, mut sent) = (Instant::now(), 0);
        while !self.cancel.is_cancelled() {
            let left = self.read_timeout.saturating_sub(since.elapsed());
            if let Ok(result) = tokio::time::timeout(CANCEL_INTERVAL.min(left), work.as_mut()).await {
                return result.map_err(|error| {
                    sending.failure().unwrap_or_else(|| RegistryError::from_http(host, error))
                });
            }
            if sending.sent() != sent {
                (since, sent) = (Instant::now(), sending.sent());
            } else if since.elapsed() >= self.read_timeout {
                return Err(RegistryError::Timeout { host: host.to_owned(), waited: self.read_timeout });
            }
        }
        Err(RegistryError::Cancelled)
    }
}

impl Answer {
    pub(super) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    pub(super) fn content_type(&self) -> Option<&str> {
        self.response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok())
    }

    /// Returns what the body is packed in, which nobody asked for.
    pub(super) fn encoding(&self) -> Option<String> {
        let header = self.response.headers().get(CONTENT_ENCODING)?;
        let text = String::from_utf8_lossy(header.as_bytes());
        let text: String = text.trim().chars().filter(|c| !c.is_control()).take(100).collect();
        (!text.is_empty() && !text.eq_ignore_ascii_case("identity")).then_some(text)
    }

    /// Says whether a person's browser was meant.
    pub(super) fn is_web_page(&self) -> bool {
        let essence = self.content_type().and_then(|text| text.split(';').next()).unwrap_or_default().trim();
        essence.eq_ignore_ascii_case("text/html") || essence.eq_ignore_ascii_case("application/xhtml+xml")
    }
}

/// Returns the address with another scheme; a port that goes without saying is then that scheme's.
fn with_scheme(url: &Url, scheme: Scheme) -> Url {
    let mut url = url.clone();
    // Between these two schemes an address can always be changed.
    url.set_scheme(scheme.as_str()).unwrap_or_default();
    url
}

/// Joins an error and what caused it.
pub(super) fn chain(error: &RegistryError) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    format!("{error}{}", cause.unwrap_or_default())
}
