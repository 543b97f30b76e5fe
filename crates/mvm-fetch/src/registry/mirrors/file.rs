//! The files themselves.

use super::MirrorsError;
use crate::{Notice, RegistriesConf};
use serde::Deserialize;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

const MAX_FILE: u64 = 1 << 20;
/// Keys that the format has and that change nothing here: a short name always means Docker Hub, and credential
/// helpers are those of the credential files.
const WITHOUT_EFFECT: [&str; 4] =
    ["unqualified-search-registries", "short-name-mode", "aliases", "credential-helpers"];
const OF_REGISTRY: [&str; 6] =
    ["prefix", "location", "insecure", "blocked", "mirror-by-digest-only", "mirror"];
const OF_MIRROR: [&str; 3] = ["location", "insecure", "pull-from-mirror"];

/// One `[[registry]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub prefix: String,
    pub location: Option<String>,
    pub insecure: bool,
    pub blocked: bool,
    pub digest_only: bool,
    pub mirrors: Vec<Mirror>,
}

/// One `[[registry.mirror]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mirror {
    pub location: String,
    pub insecure: bool,
    pub pull_from: PullFrom,
}

/// For which references a mirror is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum PullFrom {
    #[default]
    All,
    DigestOnly,
    TagOnly,
}

#[derive(Deserialize)]
struct RawFile {
    #[serde(default)]
    registry: Vec<RawRegistry>,
}

#[derive(Deserialize)]
#[serde(default, rename_all = "kebab-case")]
#[derive(Default)]
struct RawRegistry {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    mirror_by_digest_only: bool,
    mirror: Vec<RawMirror>,
}

#[derive(Deserialize)]
#[serde(default, rename_all = "kebab-case")]
#[derive(Default)]
struct RawMirror {
    location: String,
    insecure: bool,
    pull_from_mirror: Option<PullFrom>,
}

/// Returns the files in the order in which they are read, and whether each must exist.
pub(super) fn paths(conf: &RegistriesConf) -> Result<Vec<(PathBuf, bool)>, MirrorsError> {
    let (files, directories) = match conf {
        RegistriesConf::File(path) => return Ok(vec![(path.clone(), true)]),
        RegistriesConf::Search { files, directories } => (files, directories),
    };
    let first = files.iter().find(|path| path.exists()).map(|path| (path.clone(), false));
    let mut paths: Vec<_> = first.into_iter().collect();
    for directory in directories {
        let failed = |source| MirrorsError::Read { path: directory.clone(), source };
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(error)),
        };
        let entries = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>();
        let mut entries = entries.map_err(failed)?;
        entries.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
        entries.sort();
        paths.extend(entries.into_iter().map(|path| (path, false)));
    }
    Ok(paths)
}

/// Reads one file.
pub(super) fn read(
    path: &Path,
    must_exist: bool,
    tell: &impl Fn(Notice),
) -> Result<Vec<Entry>, MirrorsError> {
    let failed = |source| MirrorsError::Read { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut text = String::new();
    file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_FILE {
        return Err(MirrorsError::TooLarge { path: path.to_owned(), limit: MAX_FILE });
    }
    parse(path, &text, tell)
}

pub(super) fn parse(path: &Path, text: &str, tell: &impl Fn(Notice)) -> Result<Vec<Entry>, MirrorsError> {
    let malformed = |error: toml::de::Error| {
        let before = &text[..error.span().map_or(0, |span| span.start.min(text.len()))];
        MirrorsError::Toml {
            path: path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.chars().rev().take_while(|&c| c != '\n').count() + 1,
            message: error.message().lines().next().unwrap_or_default().to_owned(),
        }
    };
    let table: toml::Table = toml::from_str(text).map_err(malformed)?;
    if table.contains_key("registries") {
        return Err(MirrorsError::Version1 { path: path.to_owned() });
    }
    let raw: RawFile = toml::from_str(text).map_err(malformed)?;
    unknown_keys(path, &table, tell);
    raw.registry.into_iter().enumerate().map(|(at, raw)| raw.check(path, at + 1)).collect()
}

/// Tells of keys that the format doesn't have, as podman does: they are most often misspelt.
fn unknown_keys(path: &Path, table: &toml::Table, tell: &impl Fn(Notice)) {
    let look = |table: &toml::Table, known: &[&str], prefix: &str| {
        for key in table.keys().filter(|key| !known.contains(&key.as_str())) {
            let key: String = key.chars().filter(|c| !c.is_control()).take(100).collect();
            tell(Notice::UnknownKey { path: path.to_owned(), key: format!("{prefix}{key}") });
        }
    };
    let tables = |table: &toml::Table, key: &str| -> Vec<toml::Table> {
        let values = table.get(key).and_then(toml::Value::as_array).cloned().unwrap_or_default();
        values.into_iter().filter_map(|value| value.try_into().ok()).collect()
    };
    let mut known = WITHOUT_EFFECT.to_vec();
    known.push("registry");
    look(table, &known, "");
    for registry in tables(table, "registry") {
        look(&registry, &OF_REGISTRY, "registry.");
        tables(&registry, "mirror").iter().for_each(|mirror| look(mirror, &OF_MIRROR, "registry.mirror."));
    }
}

impl RawRegistry {
    fn check(self, path: &Path, number: usize) -> Result<Entry, MirrorsError> {
        let place = |key, value: String| match is_place(&value) {
            true => Ok(value.trim_end_matches('/').to_owned()),
            false => Err(MirrorsError::Place { path: path.to_owned(), key, value }),
        };
        let prefix = if self.prefix.is_empty() { self.location.clone() } else { self.prefix };
        if prefix.is_empty() {
            return Err(MirrorsError::NoPrefix { path: path.to_owned(), number });
        }
        let prefix = match prefix.strip_prefix("*.") {
            Some(domain) if !domain.contains('/') => format!("*.{}", place("prefix", domain.to_owned())?),
            _ => place("prefix", prefix)?,
        };
        let location = Some(self.location).filter(|location| !location.is_empty());
        let location = location.map(|location| place("location", location)).transpose()?;
        if self.mirror_by_digest_only && self.mirror.iter().any(|mirror| mirror.pull_from_mirror.is_some()) {
            return Err(MirrorsError::TwoRestrictions { path: path.to_owned(), prefix });
        }
        let mirrors = self.mirror.into_iter().map(|raw| {
            let (insecure, pull_from) = (raw.insecure, raw.pull_from_mirror.unwrap_or_default());
            Ok(Mirror { location: place("mirror location", raw.location)?, insecure, pull_from })
        });
        Ok(Entry {
            prefix,
            location,
            insecure: self.insecure,
            blocked: self.blocked,
            digest_only: self.mirror_by_digest_only,
            mirrors: mirrors.collect::<Result<_, _>>()?,
        })
    }
}

/// Says whether a text is `HOST[:PORT][/PATH]` that no one takes for a path on Docker Hub.
fn is_place(text: &str) -> bool {
    let (host, path) =
        text.trim_end_matches('/').split_once('/').unwrap_or((text.trim_end_matches('/'), "x"));
    let named = host == "localhost" || host.contains(['.', ':']);
    named
        && format!("{host}/{path}").parse::<mvm_ref::Reference>().is_ok_and(|reference| {
            // Neither a tag nor a digest, and the host is what it looks like.
            reference.tag() == Some("latest")
                && !path.contains([':', '@'])
                && !reference.registry().is_empty()
        })
}
