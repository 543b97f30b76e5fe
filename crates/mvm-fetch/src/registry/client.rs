//! Requests to registries, with the authentication that they ask for.

use super::RegistryError;
use super::auth::{AuthError, Auths, Credentials, Found};
use super::call::{Access, Call};
use super::challenge::Challenge;
use super::http::{Answer, Http};
use super::mirrors::Mirrors;
use super::retry::{self, Attempts};
use super::token::{self, Authorization, TokenError, TokenRequest};
use crate::FetchConfig;
use crate::host::host_of;
use mvm_ref::{DEFAULT_REGISTRY, Reference};
use reqwest::Url;
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use tokio::runtime::{Builder, Runtime};

/// The host that serves Docker Hub's interface.
const DEFAULT_REGISTRY_HOST: &str = "registry-1.docker.io";

/// The client of all registries.
pub(crate) struct Registry {
    http: Http,
    /// There until the client is dropped.
    runtime: Option<Runtime>,
    auths: Auths,
    mirrors: Mirrors,
    /// What was shown last and accepted.
    accepted: Mutex<HashMap<Key, Authorization>>,
}

/// Registry, repository and access.
type Key = (String, String, Access);

/// As whom a request is made.
enum Identity {
    Nobody,
    /// As nobody, since the program that has the credentials can't be asked.
    NobodyFor(AuthError),
    Known,
}

impl Registry {
    pub(crate) fn new(config: FetchConfig) -> Result<Self, RegistryError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(4)
            .thread_name("http")
            .enable_all()
            .build()
            .map_err(RegistryError::Runtime)?;
        let mut config = config;
        let tell = |notice| {
            if let Some(notices) = &config.notices {
                // Nobody may listen any more.
                notices.send(notice).unwrap_or_default();
            }
        };
        let mirrors = Mirrors::load(&config.registries_conf, tell)?;
        config.insecure.extend(mirrors.insecure());
        let http = Http::new(&config)?;
        let auths = Auths::new(config.auth_files, config.helper);
        Ok(Self { http, runtime: Some(runtime), auths, mirrors, accepted: Mutex::default() })
    }

    pub(super) fn http(&self) -> &Http {
        &self.http
    }

    /// Waits for `work` on the caller's thread.
    pub(super) fn wait<T>(
        &self,
        work: impl Future<Output = Result<T, RegistryError>>,
    ) -> Result<T, RegistryError> {
        match &self.runtime {
            Some(runtime) => runtime.block_on(work),
            // Only `drop` takes the runtime away.
            None => Err(RegistryError::Cancelled),
        }
    }

    /// Returns the names under which an image is asked for, mirrors first.
    pub(super) fn places(&self, image: &Reference) -> Result<Vec<Reference>, RegistryError> {
        Ok(self.mirrors.places(image)?)
    }

    /// Returns the address of a registry's interface, with a `/` at the end.
    pub(super) fn base_url(&self, registry: &str) -> Result<Url, RegistryError> {
        self.http.base(if registry == DEFAULT_REGISTRY { DEFAULT_REGISTRY_HOST } else { registry })
    }

    /// Returns the address of the interface of a reference's repository, with a `/` at the end.
    pub(super) fn repository_url(&self, reference: &Reference) -> Result<Url, RegistryError> {
        let registry = reference.registry();
        let base = self.base_url(registry)?;
        base.join(&format!("{}/", reference.repository()))
            .map_err(|_| RegistryError::Address { host: registry.to_owned() })
    }

    /// Makes a request to the repository of `reference`, and authenticates if the registry wants it.
    ///
    /// What may pass is tried again: then the answer may still be one of [`retry::passes`], when that was all.
    pub(super) async fn send(&self, reference: &Reference, call: &Call) -> Result<Answer, RegistryError> {
        self.send_within(&mut self.http.attempts(), reference, call).await
    }

    /// As [`Self::send`], with the attempts that are left.
    pub(super) async fn send_within(
        &self,
        attempts: &mut Attempts,
        reference: &Reference,
        call: &Call,
    ) -> Result<Answer, RegistryError> {
        loop {
            match self.send_once(reference, call).await {
                Ok(answer) if call.repeatable && retry::passes(answer.status()) => {
                    let asked = retry::retry_after(answer.response.headers());
                    let Some(wait) = attempts.take(asked) else { return Ok(answer) };
                    let why = format!("{} answers with status {}", answer.host, answer.status());
                    drop(answer);
                    self.http.pause(attempts, why, wait).await?;
                }
                Err(error) if call.repeatable => self.http.again(attempts, error).await?,
                result => return result,
            }
        }
    }

    async fn send_once(&self, reference: &Reference, call: &Call) -> Result<Answer, RegistryError> {
        let key = (reference.registry().to_owned(), reference.repository().to_owned(), call.access.clone());
        let accepted =
            self.lock().get(&key).filter(|shown| shown.is_good()).map(|shown| shown.header.clone());
        let answer = self.http.send(call, accepted.as_ref()).await?;
        if answer.status() != 401 || answer.elsewhere {
            return Ok(answer);
        }
        let host = reference.registry();
        let challenge = Challenge::from_headers(answer.response.headers())
            .map_err(|challenge| RegistryError::Challenge { host: host.to_owned(), challenge })?;
        let (authorization, identity) = self.authorize(reference, call, &challenge).await?;
        let answer = self.http.send(call, Some(&authorization.header)).await?;
        match (answer.status(), identity) {
            (401, identity) => Err(refused(reference, identity)),
            (403, Identity::NobodyFor(error)) => Err(error.into()),
            _ => {
                self.lock().insert(key, authorization);
                Ok(answer)
            }
        }
    }

    async fn authorize(
        &self,
        reference: &Reference,
        call: &Call,
        challenge: &Challenge,
    ) -> Result<(Authorization, Identity), RegistryError> {
        let url = &call.url;
        let (credentials, identity) = match self.auths.find(reference)? {
            Found::Nothing => (None, Identity::Nobody),
            Found::Unreachable(error) => (None, Identity::NobodyFor(error)),
            Found::Credentials(credentials) => (Some(credentials), Identity::Known),
        };
        let unusable = || RegistryError::Token { host: host_of(url) };
        let authorization = match (challenge, &credentials) {
            (_, Some(Credentials::Registry(token))) => {
                Authorization::lasting(token::bearer(token).ok_or_else(unusable)?)
            }
            (Challenge::Basic, Some(Credentials::Password { user, password })) => {
                Authorization::lasting(token::basic(user, password))
            }
            (Challenge::Basic, _) => return Err(refused(reference, identity)),
            (Challenge::Bearer { realm, service, scope }, credentials) => {
                let bad = || RegistryError::Challenge { host: host_of(url), challenge: realm.clone() };
                let realm = Url::parse(realm).map_err(|_| bad())?;
                self.http.check_hop(url, &realm)?;
                let scopes = match (&call.access, scope) {
                    (Access::Pull, Some(scope)) => vec![scope.clone()],
                    (access, _) => access.scopes(reference.repository()),
                };
                let request = TokenRequest { realm, service: service.as_deref(), scopes: &scopes };
                match token::fetch(&self.http, &request, credentials.as_ref()).await {
                    Ok(authorization) => authorization,
                    Err(TokenError::Refused) => return Err(refused(reference, identity)),
                    Err(TokenError::Other(error)) => return Err(error),
                }
            }
        };
        Ok((authorization, identity))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Authorization>> {
        // A map is whole after every call, so that a panic elsewhere leaves it usable.
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Otherwise the end would wait for name look-ups that nobody needs any more.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn refused(reference: &Reference, identity: Identity) -> RegistryError {
    let (host, repository) = (reference.registry().to_owned(), reference.repository().to_owned());
    match identity {
        Identity::Nobody => RegistryError::LoginNeeded { host, repository },
        Identity::NobodyFor(error) => error.into(),
        Identity::Known => RegistryError::LoginRefused { host, repository, message: String::new() },
    }
}
