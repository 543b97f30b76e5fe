//! HTTP with the limits that this crate puts on it: where it may lead, who sees a secret, how long a body is.

use super::RegistryError;
use super::call::{Call, Sending};
use crate::{CancelToken, FetchConfig};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{Client, Method, NoProxy, Proxy, Response, Url, redirect, tls};
use std::future::Future;
use std::net::IpAddr;
use std::pin::pin;
use std::time::{Duration, Instant};

const MAX_REDIRECTS: usize = 10;
/// How often a waiting request looks whether it is still wanted.
const CANCEL_INTERVAL: Duration = Duration::from_millis(100);
const LOOPBACK: &str = "localhost,127.0.0.0/8,::1";

/// An HTTP client.
pub(super) struct Http {
    client: Client,
    plain: Vec<String>,
    cancel: CancelToken,
    read_timeout: Duration,
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
        let mut builder = Client::builder()
            .use_rustls_tls()
            .min_tls_version(tls::Version::TLS_1_2)
            .http1_only()
            .redirect(redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .user_agent(&config.user_agent)
            .connect_timeout(config.connect_timeout);
        for path in &config.extra_ca {
            let pem =
                std::fs::read(path).map_err(|source| RegistryError::CaFile { path: path.clone(), source })?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|source| RegistryError::CaFormat { path: path.clone(), source })?;
            if certificates.is_empty() {
                return Err(RegistryError::CaEmpty { path: path.clone() });
            }
            builder = certificates.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
        }
        if let Some(proxy) = &config.proxy {
            let direct = [LOOPBACK.to_owned()].into_iter().chain(config.no_proxy.iter().cloned());
            let direct = NoProxy::from_string(&direct.collect::<Vec<_>>().join(","));
            // The address may hold a password, and is left out of the error.
            let proxy = Proxy::all(proxy).map_err(|error| RegistryError::Proxy(error.without_url()))?;
            builder = builder.proxy(proxy.no_proxy(direct));
        }
        Ok(Self {
            client: builder.build().map_err(RegistryError::Client)?,
            plain: config.plain_http.clone(),
            cancel: config.cancel.clone(),
            read_timeout: config.read_timeout,
        })
    }

    /// Returns the address of a registry: with TLS, but for loopback hosts and those of the configuration.
    pub(super) fn base(&self, host: &str) -> Result<Url, RegistryError> {
        let bad = || RegistryError::Address { host: host.to_owned() };
        let url = Url::parse(&format!("http://{host}/v2/")).map_err(|_| bad())?;
        if self.may_be_plain(&url) {
            return Ok(url);
        }
        Url::parse(&format!("https://{host}/v2/")).map_err(|_| bad())
    }

    /// Makes a request; one that only reads follows redirections, and shows `authorization` to the first host only.
    pub(super) async fn send(
        &self,
        call: &Call,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer, RegistryError> {
        let origin = call.url.origin();
        let mut url = call.url.clone();
        let reads = matches!(call.method, Method::GET | Method::HEAD);
        for _ in 0..=MAX_REDIRECTS {
            let host = host_of(&url);
            let sending = Sending::default();
            let mut request = self.client.request(call.method.clone(), url.clone());
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
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
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
        let request = self.client.post(url.clone()).form(form).send();
        let response = self.guard(&host, &Sending::default(), request).await?;
        Ok(Answer { response, host, elsewhere: false })
    }

    /// Says whether an answer from `from` may lead to `to`.
    pub(super) fn check_hop(&self, from: &Url, to: &Url) -> Result<(), RegistryError> {
        let reason = match to.scheme() {
            "https" => None,
            "http" if from.scheme() == "https" => Some("it would go on without encryption"),
            "http" if !self.may_be_plain(to) => Some("the host may not be spoken to without encryption"),
            "http" => None,
            _ => Some("it is no web address"),
        };
        let reason = reason
            .or((to.host_str().is_none()).then_some("it names no host"))
            .or((!to.username().is_empty() || to.password().is_some()).then_some("it holds credentials"))
            .or(is_link_local(to).then_some("the address is one of the local link"))
            .or((is_loopback(to) && !is_loopback(from)).then_some("the address is this machine's own"));
        reason.map_or(Ok(()), |reason| Err(refuse(from, to.as_str(), reason)))
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

    fn may_be_plain(&self, url: &Url) -> bool {
        let with_port = host_of(url);
        let host = url.host_str().unwrap_or_default();
        is_loopback(url) || self.plain.iter().any(|plain| *plain == with_port || plain == host)
    }
}

impl Answer {
    pub(super) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    pub(super) fn content_type(&self) -> Option<&str> {
        self.response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok())
    }

    /// Says whether a person's browser was meant.
    pub(super) fn is_web_page(&self) -> bool {
        let essence = self.content_type().and_then(|text| text.split(';').next()).unwrap_or_default().trim();
        essence.eq_ignore_ascii_case("text/html") || essence.eq_ignore_ascii_case("application/xhtml+xml")
    }
}

/// Returns host and port, without a port that goes without saying.
pub(super) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or(host.to_owned(), |port| format!("{host}:{port}"))
}

fn refuse(from: &Url, to: &str, reason: &'static str) -> RegistryError {
    // What follows the path is often a signature that opens the storage behind the registry.
    let shown = to.split(['?', '#']).next().unwrap_or_default();
    let shown = Url::parse(shown)
        .map_or(shown.to_owned(), |url| format!("{}://{}{}", url.scheme(), host_of(&url), url.path()));
    let to = shown.chars().filter(|c| !c.is_control()).take(200).collect();
    RegistryError::Redirect { from: host_of(from), to, reason }
}

fn address(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

fn is_loopback(url: &Url) -> bool {
    url.host_str() == Some("localhost") || address(url).is_some_and(|address| address.is_loopback())
}

fn is_link_local(url: &Url) -> bool {
    address(url).is_some_and(|address| match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_unspecified(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_unspecified(),
    })
}
