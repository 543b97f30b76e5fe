//! Mounts, volumes and secrets.

use super::mistakes::Span;
use super::model::VolumeDefinition;
use super::reader::{Reading, Table, Value, suggestion};
use super::services::{name_of, named};
use crate::secrets::{NamedSource, SecretSource};
use mvm_plan::plan::{Mount, MountSource};
use mvm_ref::{SecretName, VmName, VolumeName};
use std::path::{Component, Path, PathBuf};

/// The least that holds a file system with a journal, in MiB.
const LEAST_VOLUME: u32 = 16;

/// Where configuration is by convention, which no guest changes.
const CONFIG: &str = "/mnt/config";

/// Reads the volumes of a project.
pub(super) fn volumes<'a>(
    value: Option<Value<'a>>,
    project: Option<&VmName>,
    reading: &mut Reading<'a>,
) -> Vec<(Span, VolumeDefinition)> {
    let mut volumes: Vec<(Span, VolumeDefinition)> = Vec::new();
    for (span, value) in named(value, "[volumes]", reading) {
        let key = name_of::<VolumeName>(span, value.key, reading);
        let Some(table) = reading.table(value, format!("[volumes.{}]", value.key)) else { continue };
        let mut table = table.at(span);
        let size_mib = table.get("size").and_then(|value| reading.mebibytes(value, LEAST_VOLUME));
        let name = table.get("name").and_then(|value| reading.parsed::<VolumeName>(value));
        let external = table.get("external").and_then(|value| reading.boolean(value)).unwrap_or(false);
        table.finish(reading);
        let Some(key) = key else { continue };
        let name = name.or_else(|| match external {
            true => Some(key.clone()),
            false => joined(span, project?.as_str(), key.as_str(), "volume", reading),
        });
        let Some(name) = name else { continue };
        if volumes.iter().any(|(_, volume)| volume.name == name) {
            reading.mistake(span, format!("two volumes have the name {name}"));
        }
        volumes.push((span, VolumeDefinition { key, name, size_mib, external }));
    }
    volumes
}

/// Joins the project's name and that of something in it.
pub(super) fn joined<T: std::str::FromStr>(
    span: Span,
    project: &str,
    key: &str,
    what: &str,
    reading: &mut Reading<'_>,
) -> Option<T> {
    let name = format!("{project}-{key}");
    let parsed = name.parse().ok();
    if parsed.is_none() {
        reading
            .mistake(span, format!("the {what} would be called {name:?}, which has more than 63 characters"));
    }
    parsed
}

/// Reads the mounts of a VM.
pub(super) fn mounts<'a>(
    value: Option<Value<'a>>,
    volumes: &[(Span, VolumeDefinition)],
    directory: &Path,
    reading: &mut Reading<'a>,
) -> Vec<(Span, Mount)> {
    let mut mounts: Vec<(Span, Mount)> = Vec::new();
    for item in value.map_or_else(Vec::new, |value| reading.list(value)) {
        let mount = match item.is_text() {
            true => short(item, volumes, directory, reading),
            false => long(item, volumes, directory, reading),
        };
        let Some(mut mount) = mount else { continue };
        mount.read_only |= mount.target == CONFIG;
        if mounts.iter().any(|(_, other)| other.target == mount.target) {
            reading.mistake(item.span, format!("{} is mounted twice", mount.target));
        }
        let again = |(_, other): &(_, Mount)| {
            matches!(mount.source, MountSource::Volume { .. }) && other.source == mount.source
        };
        if mounts.iter().any(again) {
            reading.mistake(item.span, "the volume is mounted twice");
        }
        mounts.push((item.span, mount));
    }
    mounts
}

/// Reads `SOURCE:TARGET[:ro]`.
fn short<'a>(
    item: Value<'a>,
    volumes: &[(Span, VolumeDefinition)],
    directory: &Path,
    reading: &mut Reading<'a>,
) -> Option<Mount> {
    let text = reading.word(item)?;
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, read_only) = match parts[..] {
        [source, target] | [source, target, "rw"] => (source, target, false),
        [source, target, "ro"] => (source, target, true),
        _ => {
            let expected = "VOLUME:/path or DIRECTORY:/path, and :ro behind it to only read it";
            reading.mistake(item.span, format!("mount {text:?} is not valid; write {expected}"));
            return None;
        }
    };
    let source = match source.contains('/') || source.starts_with(['.', '~']) {
        true => host_directory(item, source, directory, reading)?,
        false => volume(item, source, volumes, reading)?,
    };
    Some(Mount { target: target_of(item, target, reading)?, source, read_only })
}

/// Reads a table with `target` and one of `volume`, `host` and `tmpfs`.
fn long<'a>(
    item: Value<'a>,
    volumes: &[(Span, VolumeDefinition)],
    directory: &Path,
    reading: &mut Reading<'a>,
) -> Option<Mount> {
    let mut table = reading.table(item, "the mount".to_owned())?;
    let target = table.require("target", reading);
    let target = target.and_then(|value| {
        let text = reading.word(value)?;
        target_of(value, text, reading)
    });
    let of_volume = table.get("volume");
    let of_host = table.get("host");
    let of_memory = table.get("tmpfs");
    let read_only = table.get("read-only").and_then(|value| reading.boolean(value)).unwrap_or(false);
    table.finish(reading);
    let source = match (of_volume, of_host, of_memory) {
        (Some(value), None, None) => {
            let name = reading.word(value)?;
            volume(value, name, volumes, reading)
        }
        (None, Some(value), None) => {
            let path = reading.word(value)?;
            host_directory(value, path, directory, reading)
        }
        (None, None, Some(value)) => {
            reading.mebibytes(value, 1).map(|size_mib| MountSource::Tmpfs { size_mib })
        }
        _ => {
            reading.mistake(item.span, "a mount has one of `volume`, `host` and `tmpfs`");
            None
        }
    };
    Some(Mount { target: target?, source: source?, read_only })
}

fn volume(
    item: Value<'_>,
    key: &str,
    volumes: &[(Span, VolumeDefinition)],
    reading: &mut Reading<'_>,
) -> Option<MountSource> {
    let found = volumes.iter().find(|(_, volume)| volume.key.as_str() == key);
    if found.is_none() {
        let known: Vec<&str> = volumes.iter().map(|(_, volume)| volume.key.as_str()).collect();
        let help = suggestion(key, &known)
            .unwrap_or_else(|| format!("write a table [volumes.{}]", key.escape_debug()));
        let message = format!("there is no volume `{}` in this file", key.escape_debug());
        reading.mistake_with(item.span, message, Some(help));
    }
    found.map(|(_, volume)| MountSource::Volume { name: volume.name.clone() })
}

/// Returns a directory of the host; whether it is there counts when its VM is made.
fn host_directory(
    item: Value<'_>,
    path: &str,
    directory: &Path,
    reading: &mut Reading<'_>,
) -> Option<MountSource> {
    if path.starts_with('~') {
        let help = "write its absolute path, or one from this file's directory".to_owned();
        reading.mistake_with(item.span, format!("{path:?}: only shells know what ~ is"), Some(help));
        return None;
    }
    match absolute(directory, path).into_os_string().into_string() {
        Ok(path) => Some(MountSource::HostDirectory { path }),
        Err(path) => {
            reading.mistake(item.span, format!("the path {} is not UTF-8", path.display()));
            None
        }
    }
}

/// Returns a path as it is meant in a file of `directory`.
pub(super) fn absolute(directory: &Path, path: &str) -> PathBuf {
    let joined = directory.join(path);
    joined.components().filter(|part| *part != Component::CurDir).collect()
}

fn target_of(item: Value<'_>, target: &str, reading: &mut Reading<'_>) -> Option<String> {
    let plain = |rest: &str| rest.split('/').all(|part| !matches!(part, "" | "." | ".."));
    let valid = target.strip_prefix('/').is_some_and(plain) && target.len() <= 4096;
    let taken = ["/proc", "/sys", "/dev"].iter().any(|taken| {
        target == *taken || target.strip_prefix(taken).is_some_and(|rest| rest.starts_with('/'))
    });
    if !valid || taken {
        let expected = "a path of plain names below /, outside /proc, /sys and /dev";
        reading.mistake(item.span, format!("{target:?} is no place for a mount; expected {expected}"));
        return None;
    }
    Some(target.to_owned())
}

/// Reads the secrets of a VM.
pub(super) fn secrets<'a>(
    vm: &mut Table<'a>,
    name: &str,
    directory: &Path,
    reading: &mut Reading<'a>,
) -> Vec<NamedSource> {
    let mut secrets = Vec::new();
    for (span, value) in named(vm.get("secrets"), &format!("[vm.{name}.secrets]"), reading) {
        let key = name_of::<SecretName>(span, value.key, reading);
        let Some(text) = reading.word(value) else { continue };
        let source = match text.split_once(':') {
            Some(("file", path)) if !path.is_empty() => {
                SecretSource::File { path: absolute(directory, path) }
            }
            Some(("env", variable)) if !variable.is_empty() && !variable.contains('=') => {
                SecretSource::Environment { variable: variable.to_owned() }
            }
            _ => {
                // The text may be the secret itself, which has no place in a message either.
                let message = "a secret's value is not written here; write file:PATH or env:VARIABLE";
                reading.mistake_unseen(value.span, message);
                continue;
            }
        };
        secrets.extend(key.map(|name| NamedSource { name, source }));
    }
    secrets
}
