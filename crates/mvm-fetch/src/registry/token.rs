//! Tokens from a registry's token server.
//!
//! Source: distribution, "Token Authentication Specification" and "OAuth2 Token Authentication".

use super::RegistryError;
use super::auth::{Credentials, Secret};
use super::call::Call;
use super::http::{Answer, Http};
use super::retry::{passes, retry_after};
use base64::Engine as _;
use reqwest::Url;
use reqwest::header::HeaderValue;
use serde::Deserialize;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

const MAX_ANSWER: u64 = 256 << 10;
const MAX_TOKEN: usize = 64 << 10;
const CLIENT_ID: &str = "mvm";
/// The user that stands for an identity token where a password is expected.
const TOKEN_USER: &str = "<token>";
/// Bounds of a token's life in seconds; the lower one is the specification's.
const MIN_LIFETIME: u64 = 60;
const MAX_LIFETIME: u64 = 24 * 60 * 60;

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: Option<Secret>,
    #[serde(default)]
    access_token: Option<Secret>,
    /// Seconds for which the token is good.
    #[serde(default)]
    expires_in: Option<u64>,
}

/// What shows who asks, and until when that is worth showing.
#[derive(Clone)]
pub(super) struct Authorization {
    pub header: HeaderValue,
    pub until: Option<Instant>,
}

impl Authorization {
    /// Makes one that is good as long as the process runs.
    pub(super) fn lasting(header: HeaderValue) -> Self {
        Self { header, until: None }
    }

    pub(super) fn is_good(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() < until)
    }
}

/// What a token is asked for.
pub(super) struct TokenRequest<'a> {
    pub realm: Url,
    pub service: Option<&'a str>,
    pub scopes: &'a [String],
}

/// Why there is no token.
pub(super) enum TokenError {
    /// The server says that these credentials, or none, are not enough.
    Refused,
    Other(RegistryError),
}

impl From<RegistryError> for TokenError {
    fn from(error: RegistryError) -> Self {
        Self::Other(error)
    }
}

/// Asks for a token, as nobody or with credentials.
pub(super) async fn fetch(
    http: &Http,
    request: &TokenRequest<'_>,
    credentials: Option<&Credentials>,
) -> Result<Authorization, TokenError> {
    let asked = Instant::now();
    let answer = match credentials {
        Some(Credentials::Identity(token)) => match by_refresh(http, request, token).await? {
            // A server that knows only the older way.
            answer if matches!(answer.status(), 404 | 405) => {
                by_get(http, request, Some(&basic(TOKEN_USER, token))).await?
            }
            answer => answer,
        },
        Some(Credentials::Password { user, password }) => {
            by_get(http, request, Some(&basic(user, password))).await?
        }
        Some(Credentials::Registry(_)) | None => by_get(http, request, None).await?,
    };
    let host = answer.host.clone();
    match answer.status() {
        200 => {}
        400 | 401 | 403 => return Err(TokenError::Refused),
        429 => {
            let retry_after = retry_after(answer.response.headers()).map(|wait| wait.as_secs());
            return Err(RegistryError::RateLimited { host, retry_after }.into());
        }
        status if passes(status) => {
            let (repository, message) = (request.scopes.join(" "), String::new());
            return Err(RegistryError::Server { host, repository, status, message }.into());
        }
        status => {
            let (repository, message) = (request.scopes.join(" "), String::new());
            return Err(RegistryError::Status { host, repository, status, message }.into());
        }
    }
    if answer.is_web_page() {
        let content_type = answer.content_type().unwrap_or_default().to_owned();
        return Err(RegistryError::NotARegistry { host, content_type }.into());
    }
    let bytes = Zeroizing::new(http.body(answer, "token", MAX_ANSWER).await?);
    let unusable = || TokenError::Other(RegistryError::Token { host: host.clone() });
    let answer: TokenAnswer = serde_json::from_slice(&bytes).map_err(|_| unusable())?;
    let token = answer.token.filter(|token| !token.expose().is_empty()).or(answer.access_token);
    let token = token.filter(|token| (1..=MAX_TOKEN).contains(&token.expose().len())).ok_or_else(unusable)?;
    let header = bearer(&token).ok_or_else(unusable)?;
    // The specification has 60 seconds where nothing is said; what is said may be any number.
    let lasts =
        Duration::from_secs(answer.expires_in.unwrap_or(MIN_LIFETIME).clamp(MIN_LIFETIME, MAX_LIFETIME));
    Ok(Authorization { header, until: Some(asked + lasts) })
}

/// Returns the header that shows a token; nothing if it can't be one.
pub(super) fn bearer(token: &Secret) -> Option<HeaderValue> {
    sensitive(&Zeroizing::new(format!("Bearer {}", token.expose())))
}

/// Returns the header that shows a name and a password.
pub(super) fn basic(user: &str, password: &Secret) -> HeaderValue {
    let pair = Zeroizing::new(format!("{user}:{}", password.expose()));
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair.as_bytes());
    // Base64 has only characters that a header may have.
    sensitive(&Zeroizing::new(format!("Basic {encoded}"))).unwrap_or_else(|| HeaderValue::from_static(""))
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

async fn by_get(
    http: &Http,
    request: &TokenRequest<'_>,
    authorization: Option<&HeaderValue>,
) -> Result<Answer, RegistryError> {
    let mut url = request.realm.clone();
    {
        let mut query = url.query_pairs_mut();
        if let Some(service) = request.service {
            query.append_pair("service", service);
        }
        for scope in request.scopes {
            query.append_pair("scope", scope);
        }
    }
    http.send(&Call::get(url, "application/json"), authorization).await
}

async fn by_refresh(
    http: &Http,
    request: &TokenRequest<'_>,
    token: &Secret,
) -> Result<Answer, RegistryError> {
    let scope = request.scopes.join(" ");
    let form = [
        ("grant_type", "refresh_token"),
        ("service", request.service.unwrap_or_default()),
        ("scope", scope.as_str()),
        ("client_id", CLIENT_ID),
        ("refresh_token", token.expose()),
    ];
    http.post_form(&request.realm, &form).await
}
