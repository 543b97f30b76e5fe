//! Whether a registry takes a name and a password, before they are kept.
//!
//! Source: OCI distribution-spec 1.1, section "Determining Support"; distribution, "Token Authentication
//! Specification".

use super::auth::Credentials;
use super::call::Call;
use super::challenge::Challenge;
use super::http::Answer;
use super::image::parse_message;
use super::token::{self, TokenError, TokenRequest};
use super::{Login, Registry, RegistryError};
use crate::host::host_of;
use mvm_ref::RegistryName;
use reqwest::Url;
use reqwest::header::HeaderValue;

const MAX_ERROR_BODY: u64 = 16 << 10;

/// What a registry says to credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginCheck {
    /// They are right.
    Accepted,
    /// It asks nobody for credentials, and so can't say.
    NotAsked,
}

impl Registry {
    /// Shows credentials to a registry's interface and says what it thinks of them.
    pub(crate) fn check_login(
        &self,
        registry: &RegistryName,
        login: &Login,
    ) -> Result<LoginCheck, RegistryError> {
        let url = self.base_url(registry.as_str())?;
        self.wait(self.try_login(registry, &url, login))
    }

    async fn try_login(
        &self,
        registry: &RegistryName,
        url: &Url,
        login: &Login,
    ) -> Result<LoginCheck, RegistryError> {
        let call = Call::get(url.clone(), "application/json");
        let answer = self.http().send(&call, None).await?;
        match answer.status() {
            200 if !answer.is_web_page() => return Ok(LoginCheck::NotAsked),
            401 if !answer.elsewhere => {}
            _ => return Err(self.unexpected(registry, answer).await?),
        }
        let host = registry.to_string();
        let challenge = Challenge::from_headers(answer.response.headers())
            .map_err(|challenge| RegistryError::Challenge { host, challenge })?;
        let authorization = self.authorize_login(registry, url, &challenge, login).await?;
        let answer = self.http().send(&call, Some(&authorization)).await?;
        match answer.status() {
            200 if !answer.is_web_page() => Ok(LoginCheck::Accepted),
            401 | 403 if !answer.elsewhere => {
                let (host, message) = (registry.to_string(), self.said(answer).await?);
                Err(RegistryError::WrongLogin { host, message })
            }
            _ => Err(self.unexpected(registry, answer).await?),
        }
    }

    async fn authorize_login(
        &self,
        registry: &RegistryName,
        url: &Url,
        challenge: &Challenge,
        login: &Login,
    ) -> Result<HeaderValue, RegistryError> {
        let (realm, service) = match challenge {
            Challenge::Basic => return Ok(token::basic(&login.user, &login.secret)),
            Challenge::Bearer { realm, service, .. } => (realm, service),
        };
        let bad = || RegistryError::Challenge { host: host_of(url), challenge: realm.clone() };
        let realm = Url::parse(realm).map_err(|_| bad())?;
        self.http().check_hop(url, &realm)?;
        let credentials = Credentials::Password { user: login.user.clone(), password: login.secret.clone() };
        // A token for nothing in particular: what is asked is only who this is.
        let request = TokenRequest { realm, service: service.as_deref(), scopes: &[] };
        let token = token::fetch(self.http(), &request, Some(&credentials)).await;
        token.map(|token| token.header).map_err(|error| match error {
            TokenError::Refused => {
                RegistryError::WrongLogin { host: registry.to_string(), message: String::new() }
            }
            TokenError::Other(error) => error,
        })
    }

    /// Returns the error that an answer is which no registry gives to a login.
    async fn unexpected(
        &self,
        registry: &RegistryName,
        answer: Answer,
    ) -> Result<RegistryError, RegistryError> {
        let (status, host) = (answer.status(), registry.to_string());
        if answer.is_web_page() {
            let content_type = answer.content_type().unwrap_or_default().to_owned();
            return Ok(RegistryError::NotARegistry { host: answer.host, content_type });
        }
        let (answered_by, message) = (answer.host.clone(), self.said(answer).await?);
        let repository = "its interface".to_owned();
        Ok(match status {
            500..=599 => RegistryError::Server { host, repository, status, message },
            _ => RegistryError::Status { host: answered_by, repository, status, message },
        })
    }

    /// Reads what an answer says; nothing if it says it in another way than registries do.
    async fn said(&self, answer: Answer) -> Result<String, RegistryError> {
        match self.http().body(answer, "error", MAX_ERROR_BODY).await {
            Ok(bytes) => Ok(parse_message(&bytes)),
            Err(RegistryError::Cancelled) => Err(RegistryError::Cancelled),
            // The status is the error to report, also where its explanation can't be read.
            Err(_) => Ok(String::new()),
        }
    }
}
