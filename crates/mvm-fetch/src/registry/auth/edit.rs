//! One file of credentials, changed: what isn't understood stays as it is, byte for byte.
//!
//! Whoever changes a file holds a lock on `FILE.lock` beside it, so that two logins at a time both stay. The new file
//! is written beside the old one, with mode 0600, and takes its place by a rename. Where the path is a symbolic
//! link, as people have who keep their settings elsewhere, the file that it leads to is replaced and the link stays.

use super::AuthError;
use super::file::{self, AuthFile, plain_name};
use super::{HUB_NAMES, hosts};
use mvm_ref::DEFAULT_REGISTRY;
use rustix::fs::{FlockOperation, Mode, OFlags};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::ffi::OsString;
use std::fmt;
use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const AUTHS: &str = "auths";

/// What is written under the name of a registry.
pub(super) enum Entry {
    /// A name and a password, encoded.
    Auth(Zeroizing<String>),
    /// That a helper has them.
    Elsewhere,
}

/// The text of a file, taken apart as far as it is changed.
pub(super) struct Text<'a> {
    /// All properties but `auths`, in their order.
    others: Vec<(String, &'a str)>,
    auths: Vec<(String, Value<'a>)>,
}

enum Value<'a> {
    Old(&'a str),
    New(Zeroizing<String>),
}

/// The members of a JSON object, in their order, unread.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(Object)
    }
}

impl<'a> Text<'a> {
    pub(super) fn parse(path: &Path, bytes: &'a [u8]) -> Result<Self, AuthError> {
        let mut text = Self { others: Vec::new(), auths: Vec::new() };
        if bytes.trim_ascii().is_empty() {
            return Ok(text);
        }
        let bad = |error: serde_json::Error| AuthError::json(path, &error);
        let Members(members) = serde_json::from_slice(bytes).map_err(bad)?;
        for (name, value) in members {
            if name != AUTHS {
                text.others.push((name, value.get()));
                continue;
            }
            // Of a property that is there twice the last one counts, as for Docker.
            let auths: Option<Members<'a>> = serde_json::from_str(value.get()).map_err(bad)?;
            let auths = auths.map_or(Vec::new(), |Members(members)| members);
            text.auths = auths.into_iter().map(|(key, value)| (key, Value::Old(value.get()))).collect();
        }
        Ok(text)
    }

    /// Puts `entry` under `key`, in place of all that is filed for the registry.
    pub(super) fn set(&mut self, registry: &str, key: &str, entry: &Entry) {
        self.remove(registry);
        let value = Zeroizing::new(match entry {
            // Base64 has no character that JSON escapes.
            Entry::Auth(auth) => format!("{{\n\t\t\t\"auth\": \"{}\"\n\t\t}}", auth.as_str()),
            Entry::Elsewhere => "{}".to_owned(),
        });
        self.auths.push((key.to_owned(), Value::New(value)));
    }

    /// Removes what is filed for the registry as a whole, and says whether there was anything.
    pub(super) fn remove(&mut self, registry: &str) -> bool {
        let before = self.auths.len();
        let names = hosts(&registry);
        self.auths.retain(|(key, _)| !names.contains(&plain_name(key)));
        self.auths.len() < before
    }

    /// Returns the keys, those of registries as plain names.
    pub(super) fn keys(&self) -> Vec<String> {
        let plain = |key: &str| match plain_name(key) {
            name if HUB_NAMES.contains(&name) => DEFAULT_REGISTRY.to_owned(),
            name => name.to_owned(),
        };
        self.auths.iter().map(|(key, _)| plain(key)).collect()
    }

    /// Removes everything that is filed.
    pub(super) fn clear(&mut self) {
        self.auths.clear();
    }

    /// Writes the text, indented as Docker does it.
    pub(super) fn write(&self) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
        let length =
            |members: &[(String, &str)]| members.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>();
        let auths: usize =
            self.auths.iter().map(|(key, value)| 6 * key.len() + value.text().len() + 16).sum();
        // Grown in place it would leave copies behind that nobody wipes.
        let mut out = Zeroizing::new(Vec::with_capacity(6 * length(&self.others) + auths + 256));
        out.extend_from_slice(b"{\n\t\"auths\": {");
        for (number, (key, value)) in self.auths.iter().enumerate() {
            out.extend_from_slice(if number == 0 { b"\n\t\t" } else { b",\n\t\t" });
            serde_json::to_writer(&mut *out, key)?;
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.text().as_bytes());
        }
        out.extend_from_slice(if self.auths.is_empty() { b"}" } else { b"\n\t}" });
        for (name, value) in &self.others {
            out.extend_from_slice(b",\n\t");
            serde_json::to_writer(&mut *out, name)?;
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
        }
        out.extend_from_slice(b"\n}\n");
        Ok(out)
    }
}

impl Value<'_> {
    fn text(&self) -> &str {
        match self {
            Self::Old(text) => text,
            Self::New(text) => text,
        }
    }
}

/// Changes the file at `path`, which is made if need be, while nobody else does.
pub(super) fn change(
    path: &Path,
    work: impl FnOnce(AuthFile, &mut Text<'_>) -> Result<(), AuthError>,
) -> Result<(), AuthError> {
    let path = resolve(path)?;
    let _lock = lock(&path)?;
    let bytes = file::read(&path)?;
    let mut text = Text::parse(&path, &bytes)?;
    work(AuthFile::read(&path)?, &mut text)?;
    let new = text.write().map_err(|error| AuthError::json(&path, &error))?;
    if new == bytes { Ok(()) } else { replace(&path, &new) }
}

/// Returns the path of the file itself, where symbolic links lead; its directory exists afterwards.
fn resolve(path: &Path) -> Result<PathBuf, AuthError> {
    match std::fs::canonicalize(path) {
        Ok(path) => return Ok(path),
        // A link to nothing is no place to put credentials.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => {}
        Err(source) => return Err(failed("find", path)(source)),
    }
    if let Some(parent) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .map_err(failed("make the directory of", path))?;
    }
    Ok(path.to_owned())
}

fn lock(path: &Path) -> Result<File, AuthError> {
    let lock = beside(path, "", ".lock");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let opened = rustix::fs::open(&lock, flags, Mode::RUSR | Mode::WUSR);
    let file = File::from(opened.map_err(|error| failed("open", &lock)(error.into()))?);
    rustix::fs::flock(&file, FlockOperation::LockExclusive)
        .map_err(|error| failed("lock", &lock)(error.into()))?;
    Ok(file)
}

fn replace(path: &Path, bytes: &[u8]) -> Result<(), AuthError> {
    let draft = beside(path, ".", ".mvm-new");
    let written = write_draft(path, &draft, bytes)
        .and_then(|()| std::fs::rename(&draft, path).map_err(failed("replace", path)));
    if written.is_err() {
        match std::fs::remove_file(&draft) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return written.and(Err(failed("remove", &draft)(error))),
        }
    }
    written?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|directory| directory.sync_all()).map_err(failed("sync", parent))
}

fn write_draft(path: &Path, draft: &Path, bytes: &[u8]) -> Result<(), AuthError> {
    // Whoever left one had the lock, and is gone.
    match std::fs::remove_file(draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", draft)(error)),
        _ => {}
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let opened = rustix::fs::open(draft, flags, Mode::RUSR | Mode::WUSR);
    let mut file = File::from(opened.map_err(|error| failed("make", draft)(error.into()))?);
    // A file that root changes for somebody stays that person's.
    let owner = match std::fs::metadata(path) {
        Ok(old) => Some((old.uid(), old.gid())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed("inspect", path)(error)),
    };
    let own = file.metadata().map_err(failed("inspect", draft))?;
    if let Some((uid, gid)) = owner.filter(|&owner| owner != (own.uid(), own.gid())) {
        let (uid, gid) = (rustix::process::Uid::from_raw(uid), rustix::process::Gid::from_raw(gid));
        rustix::fs::fchown(&file, Some(uid), Some(gid))
            .map_err(|error| failed("give away", draft)(error.into()))?;
    }
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed("write", draft))
}

fn beside(path: &Path, prefix: &str, suffix: &str) -> PathBuf {
    let mut name = OsString::from(prefix);
    name.push(path.file_name().unwrap_or_default());
    name.push(suffix);
    path.with_file_name(name)
}

fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AuthError + use<> {
    let path = path.to_owned();
    move |source| AuthError::Write { act, path, source }
}
