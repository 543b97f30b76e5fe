//! Where the answers of registries may lead, and how their hosts may be spoken to.

use super::RegistryError;
use crate::HostPattern;
use crate::host::{address, host_of, is_link_local, is_loopback};
use reqwest::Url;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is allowed, and what hosts turned out to speak.
pub(super) struct Rules {
    insecure: Vec<HostPattern>,
    spoken: Mutex<HashMap<String, Scheme>>,
}

/// How a host is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl Rules {
    pub(super) fn new(insecure: Vec<HostPattern>) -> Self {
        Self { insecure, spoken: Mutex::default() }
    }

    /// Returns what a host is spoken to with first.
    ///
    /// A loopback host that hasn't certificates of its own here is most often without TLS, and asking it in the
    /// clear betrays nothing; any other host is asked with TLS, also where it may do without.
    pub(super) fn scheme(&self, url: &Url, has_certificates: bool) -> Scheme {
        let known = self.spoken().get(&host_of(url)).copied();
        let guess = if is_loopback(url) && !has_certificates { Scheme::Http } else { Scheme::Https };
        known.unwrap_or(guess)
    }

    /// Returns what else the host of `url` may be spoken to with, if the first try showed that it must.
    pub(super) fn other(&self, url: &Url, has_certificates: bool, first: FirstTry) -> Option<Scheme> {
        if self.spoken().contains_key(&host_of(url)) {
            return None;
        }
        match (url.scheme(), first) {
            ("http", FirstTry::NotHttp) if is_loopback(url) => Some(Scheme::Https),
            ("https", FirstTry::NotTls | FirstTry::NoConnection)
                if self.is_insecure(url) || (is_loopback(url) && !has_certificates) =>
            {
                Some(Scheme::Http)
            }
            _ => None,
        }
    }

    /// Remembers that a host answers to a scheme.
    pub(super) fn answered(&self, url: &Url) {
        let scheme = if url.scheme() == "https" { Scheme::Https } else { Scheme::Http };
        self.spoken().insert(host_of(url), scheme);
    }

    /// Says whether an answer from `from` may lead to `to`.
    pub(super) fn check_hop(&self, from: &Url, to: &Url) -> Result<(), RegistryError> {
        let reason = match to.scheme() {
            "https" => None,
            "http" if from.scheme() == "https" && !(is_loopback(from) && is_loopback(to)) => {
                Some("it would go on without encryption")
            }
            "http" if !self.may_be_plain(to) => Some("the host may not be spoken to without encryption"),
            "http" => None,
            _ => Some("it is no web address"),
        };
        let reason = reason
            .or((to.host_str().is_none()).then_some("it names no host"))
            .or((!to.username().is_empty() || to.password().is_some()).then_some("it holds credentials"))
            .or(address(to).is_some_and(is_link_local).then_some("the address is one of the local link"))
            .or((is_loopback(to) && !is_loopback(from)).then_some("the address is this machine's own"));
        reason.map_or(Ok(()), |reason| Err(refuse(from, to.as_str(), reason)))
    }

    fn may_be_plain(&self, url: &Url) -> bool {
        is_loopback(url) || self.is_insecure(url)
    }

    fn is_insecure(&self, url: &Url) -> bool {
        self.insecure.iter().any(|pattern| pattern.matches(url))
    }

    fn spoken(&self) -> MutexGuard<'_, HashMap<String, Scheme>> {
        // A map is whole after every call, so that a panic elsewhere leaves it usable.
        self.spoken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of the first attempt to speak to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FirstTry {
    /// An answer, or an error that another scheme would not change.
    Settled,
    /// Something that servers with TLS say to those who speak without.
    NotHttp,
    /// Something that is not TLS.
    NotTls,
    /// Nobody took the connection, or it was closed.
    NoConnection,
}

impl FirstTry {
    pub(super) fn of(status: Result<u16, &RegistryError>) -> Self {
        match status {
            Ok(400) | Err(RegistryError::NotHttp { .. }) => Self::NotHttp,
            Err(RegistryError::NotTls { .. }) => Self::NotTls,
            Err(RegistryError::Connect { .. }) => Self::NoConnection,
            Ok(_) | Err(_) => Self::Settled,
        }
    }
}

/// Makes the error of a redirection that is not followed.
pub(super) fn refuse(from: &Url, to: &str, reason: &'static str) -> RegistryError {
    // What follows the path is often a signature that opens the storage behind the registry.
    let shown = to.split(['?', '#']).next().unwrap_or_default();
    let shown = Url::parse(shown)
        .map_or(shown.to_owned(), |url| format!("{}://{}{}", url.scheme(), host_of(&url), url.path()));
    let to = shown.chars().filter(|c| !c.is_control()).take(200).collect();
    RegistryError::Redirect { from: host_of(from), to, reason }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
