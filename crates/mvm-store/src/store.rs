//! The top of a store: its format and its directories.

use crate::dir::{Dir, FileError};
use crate::error::StoreError;
use crate::host::Host;
use crate::lock;
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FILE: &str = "store.json";
const FILE_NEW: &str = "store.json.new";
const FORMAT: u32 = 1;

/// The file with what the user set for the whole store, which the engine understands.
pub const SETTINGS: &str = "settings.toml";

/// Every directory at the top of a store.
const DIRECTORIES: [&str; 6] = ["kernels", "scopes", "vms", "cache", "audit", "keys"];

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreFile {
    schema: u32,
}

/// What a store is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To look: nothing is made, swept or repaired that is not needed for that.
    Look,
    /// To change something; what a crash left behind is cleared away first.
    Change,
}

/// An open store.
#[derive(Debug)]
pub struct Store {
    root: Dir,
    pub(crate) kernels: Dir,
    pub(crate) scopes: Dir,
    pub(crate) host: Arc<Host>,
    pub(crate) access: Access,
}

impl Store {
    /// Opens the store at `root`, making it (mode 0700) if there is nothing yet.
    ///
    /// `root` itself may be reached through symbolic links. It is refused if it belongs to another user, if
    /// others can write to it, or if it holds something other than a store.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let created = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(root);
        created.map_err(|error| no_directory("create", root, error))?;
        let path = root.canonicalize().map_err(|error| no_directory("open", root, error))?;
        let root = Dir::open_root(&path)?;
        check_format(&root)?;
        Self::open_in(root, Access::Change)
    }

    /// Opens the store at `root` to look at it, or returns none if [`Store::open`] would make one there.
    ///
    /// It may lie on a read-only file system. It may belong to another user too: then nothing is written to it.
    pub fn open_to_look(root: &Path) -> Result<Option<Self>, StoreError> {
        let path = match root.canonicalize() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            path => path.map_err(|error| no_directory("open", root, error))?,
        };
        let dir = Dir::open_root_of_anyone(&path)?;
        if !has_format(&dir)? {
            refuse_others(&dir)?;
            return Ok(None);
        }
        Self::open_in(dir, Access::Look).map(Some)
    }

    fn open_in(root: Dir, access: Access) -> Result<Self, StoreError> {
        for name in &DIRECTORIES[2..] {
            root.ensure_dir(name)?;
        }
        let kernels = root.ensure_dir("kernels")?;
        let scopes = root.ensure_dir("scopes")?;
        Ok(Self { root, kernels, scopes, host: Arc::new(Host::read()?), access })
    }

    /// Returns the absolute path of the store, without links.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Returns the directory where the engine keeps one directory for each VM.
    pub fn vms(&self) -> PathBuf {
        self.root.join("vms")
    }

    /// Returns the directory for what the engine can find out again.
    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// Returns the directory of the audit log.
    pub fn audit(&self) -> PathBuf {
        self.root.join("audit")
    }

    /// Returns the bytes of [`SETTINGS`], at most 64 KiB of them, or none if there is no such file.
    pub fn settings(&self) -> Result<Option<Vec<u8>>, StoreError> {
        const LIMIT: u64 = 64 << 10;
        let Some(file) = self.root.open_file(SETTINGS)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(LIMIT)
            .read_to_end(&mut bytes)
            .map_err(|error| FileError::new("read", self.root.join(SETTINGS), error))?;
        Ok(Some(bytes))
    }

    /// Returns the directory of the local keys.
    pub fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }
}

/// Says why there is no directory: if something else is in its place or on the way to it, that.
fn no_directory(act: &'static str, root: &Path, error: std::io::Error) -> FileError {
    let in_the_way = root.ancestors().find(|path| path.exists()).filter(|path| !path.is_dir());
    match in_the_way {
        Some(path) => FileError::Kind { path: path.to_owned(), expected: "directory" },
        None => FileError::new(act, root, error),
    }
}

/// Reads the store's format, or writes it into an empty directory.
fn check_format(root: &Dir) -> Result<(), StoreError> {
    if has_format(root)? {
        return Ok(());
    }
    let turn = root.reopen()?;
    lock::exclusive(&turn, turn.path())?;
    if has_format(root)? {
        return Ok(());
    }
    refuse_others(root)?;
    root.remove_file(FILE_NEW)?;
    let path = root.join(FILE_NEW);
    let fail = |error| FileError::new("write", &path, error);
    let mut file = root.create_file(FILE_NEW)?;
    let text = serde_json::to_string(&StoreFile { schema: FORMAT })
        .map_err(|source| StoreError::StoreFile { path: path.clone(), source })?;
    writeln!(file, "{text}").map_err(fail)?;
    file.sync_all().map_err(fail)?;
    root.rename(FILE_NEW, root, FILE)?;
    root.sync()?;
    Ok(())
}

/// Refuses a directory that holds something that no store has.
fn refuse_others(root: &Dir) -> Result<(), StoreError> {
    let known =
        |name: &String| [FILE_NEW, SETTINGS].contains(&name.as_str()) || DIRECTORIES.contains(&name.as_str());
    match root.names()?.into_iter().find(|name| !known(name)) {
        Some(found) => Err(StoreError::NotAStore { path: root.path().to_owned(), found }),
        None => Ok(()),
    }
}

/// Says whether there is a format file; one of an unknown format is an error.
fn has_format(root: &Dir) -> Result<bool, StoreError> {
    /// Far more than the file ever has; what is longer is something else.
    const LIMIT: u64 = 4096;
    let Some(file) = root.open_file(FILE)? else { return Ok(false) };
    let path = root.join(FILE);
    let mut text = Vec::new();
    file.take(LIMIT).read_to_end(&mut text).map_err(|error| FileError::new("read", &path, error))?;
    let fail = |source| StoreError::StoreFile { path: path.clone(), source };
    // First without `StoreFile`: a newer format may have more fields, and its number is what decides.
    let value: serde_json::Value = serde_json::from_slice(&text).map_err(fail)?;
    match value.get("schema").and_then(serde_json::Value::as_u64) {
        Some(found) if found > FORMAT.into() => {
            Err(StoreError::Newer { path, found, supported: FORMAT.into() })
        }
        _ => serde_json::from_value::<StoreFile>(value).map(|_| true).map_err(fail),
    }
}
