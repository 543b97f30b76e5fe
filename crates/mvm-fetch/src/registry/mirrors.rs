//! Mirrors and rules of registries: the parts of `registries.conf` that say where an image comes from.
//!
//! Source: containers-registries.conf(5), version 2.

mod file;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;

use crate::{HostPattern, Notice, RegistriesConf};
use file::{Entry, PullFrom};
use mvm_ref::{Reference, ReferenceError};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

/// Says why `registries.conf` can't be used.
#[derive(Debug, thiserror::Error)]
pub enum MirrorsError {
    /// A file or directory can't be read.
    #[error("cannot read {path:?}")]
    Read {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is longer than mvm reads.
    #[error("{path:?} is longer than {limit} bytes")]
    TooLarge {
        /// Its path.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// A file is not TOML, or a key has a value of the wrong type.
    #[error("{path:?} is not valid at line {line}, column {column}: {message}")]
    Toml {
        /// Its path.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong there.
        message: String,
    },
    /// A file has the old format.
    #[error(
        "{path:?} has the format of version 1, which is not supported; write [[registry]] tables instead"
    )]
    Version1 {
        /// Its path.
        path: PathBuf,
    },
    /// A table doesn't say which registry it is about.
    #[error("{path:?}: the {number}. [[registry]] has neither prefix nor location")]
    NoPrefix {
        /// The file.
        path: PathBuf,
        /// The number of the table, from 1.
        number: usize,
    },
    /// A prefix or location is not one.
    #[error("{path:?}: {key} {value:?} is not HOST[:PORT][/PATH], with a dot or a port in the host")]
    Place {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
    },
    /// Mirrors are restricted in two ways at once.
    #[error("{path:?}: {prefix:?} has both mirror-by-digest-only and a mirror with pull-from-mirror")]
    TwoRestrictions {
        /// The file.
        path: PathBuf,
        /// The registry's prefix.
        prefix: String,
    },
    /// A rule makes a name that is none.
    #[error("{place:?} makes a name that is none of {image}")]
    Name {
        /// The location.
        place: String,
        /// The image.
        image: String,
        /// What is wrong with it.
        source: ReferenceError,
    },
    /// The image's registry may not be used.
    #[error("{image} is blocked by the rule for {prefix:?} in registries.conf")]
    Blocked {
        /// The image.
        image: String,
        /// The prefix that matched.
        prefix: String,
    },
}

/// The rules of all files.
#[derive(Debug, Default)]
pub(super) struct Mirrors {
    by_prefix: BTreeMap<String, Entry>,
}

impl Mirrors {
    /// Reads the files; `tell` hears of keys that are passed over.
    pub(super) fn load(conf: &RegistriesConf, tell: impl Fn(Notice)) -> Result<Self, MirrorsError> {
        let mut by_prefix = BTreeMap::new();
        for (path, must_exist) in file::paths(conf)? {
            for entry in file::read(&path, must_exist, &tell)? {
                by_prefix.insert(entry.prefix.clone(), entry);
            }
        }
        Ok(Self { by_prefix })
    }

    /// Returns the hosts that may do without TLS.
    pub(super) fn insecure(&self) -> Vec<HostPattern> {
        let places = self.by_prefix.values().flat_map(|entry| {
            let own = entry.insecure.then_some(entry.location.as_ref().unwrap_or(&entry.prefix));
            own.into_iter().chain(entry.mirrors.iter().filter(|m| m.insecure).map(|mirror| &mirror.location))
        });
        // A prefix with a wildcard is no host, and its images keep theirs.
        places.filter_map(|place| place.split('/').next()?.parse().ok()).collect()
    }

    /// Returns the names under which an image is asked for, mirrors first.
    pub(super) fn places(&self, image: &Reference) -> Result<Vec<Reference>, MirrorsError> {
        let name = format!("{}/{}", image.registry(), image.repository());
        let matching =
            self.by_prefix.values().filter_map(|entry| Some((matched(&entry.prefix, &name)?, entry)));
        // A longer prefix is a more particular one; one without a wildcard goes before all that have it.
        let best = matching.max_by_key(|(_, entry)| (!entry.prefix.starts_with("*."), entry.prefix.len()));
        let Some((matched, entry)) = best else { return Ok(vec![image.clone()]) };
        if entry.blocked {
            return Err(MirrorsError::Blocked { image: image.to_string(), prefix: entry.prefix.clone() });
        }
        let rest = &name[matched..];
        let mirrors = entry.mirrors.iter().filter(|mirror| match mirror.pull_from {
            _ if entry.digest_only => image.digest().is_some(),
            PullFrom::All => true,
            PullFrom::DigestOnly => image.digest().is_some(),
            PullFrom::TagOnly => image.digest().is_none(),
        });
        let mut places = mirrors
            .map(|mirror| renamed(image, &mirror.location, rest))
            .collect::<Result<Vec<Reference>, _>>()?;
        places.push(match &entry.location {
            Some(location) => renamed(image, location, rest)?,
            None => image.clone(),
        });
        Ok(places)
    }
}

/// Returns how much of a name a prefix stands for, if it does.
///
/// A host without a port stands for all of its ports, as podman has it: else `HOST:443` would evade a rule that blocks
/// `HOST`, and so would other letters of the same host.
fn matched(prefix: &str, name: &str) -> Option<usize> {
    let length = match prefix.strip_prefix('*') {
        Some(domain) => {
            let registry = name.split('/').next()?;
            let host = if port(domain).is_some() { registry } else { without_port(registry) };
            (host.len() > domain.len()).then_some(host.len())?
        }
        None => prefix.len(),
    };
    let (head, rest) = name.split_at_checked(length)?;
    let fits = match prefix.strip_prefix('*') {
        Some(domain) => head.get(head.len() - domain.len()..)?.eq_ignore_ascii_case(domain),
        None => head.eq_ignore_ascii_case(prefix),
    };
    (fits && (rest.is_empty() || rest.starts_with(['/', ':']))).then_some(length)
}

/// Returns the port at the end of a host.
fn port(host: &str) -> Option<&str> {
    let (_, port) = host.rsplit_once(':')?;
    port.bytes().all(|byte| byte.is_ascii_digit()).then_some(port)
}

fn without_port(host: &str) -> &str {
    port(host).map_or(host, |port| &host[..host.len() - port.len() - 1])
}

/// Returns an image's name with another beginning.
fn renamed(image: &Reference, place: &str, rest: &str) -> Result<Reference, MirrorsError> {
    let tag = image.tag().map(|tag| format!(":{tag}")).unwrap_or_default();
    let digest = image.digest().map(|digest| format!("@{digest}")).unwrap_or_default();
    format!("{place}{rest}{tag}{digest}").parse().map_err(|source| MirrorsError::Name {
        place: place.to_owned(),
        image: image.to_string(),
        source,
    })
}

#[cfg(test)]
mod tests;
