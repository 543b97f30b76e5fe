//! The top of a store: its format, its directories and its scopes.

use crate::Scope;
use crate::dir::{Dir, FileError};
use crate::error::StoreError;
use crate::host::Host;
use crate::lock;
use mvm_ref::ScopeName;
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FILE: &str = "store.json";
const FILE_NEW: &str = "store.json.new";
const FORMAT: u32 = 1;

/// Every directory at the top of a store.
const DIRECTORIES: [&str; 6] = ["kernels", "scopes", "vms", "cache", "audit", "keys"];

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreFile {
    schema: u32,
}

/// An open store.
#[derive(Debug)]
pub struct Store {
    root: Dir,
    pub(crate) kernels: Dir,
    scopes: Dir,
    host: Arc<Host>,
}

impl Store {
    /// Opens the store at `root`, making it (mode 0700) if there is nothing yet.
    ///
    /// `root` itself may be reached through symbolic links. It is refused if it belongs to another user, if
    /// others can write to it, or if it holds something other than a store.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let fail = |error| FileError::new("create", root, error);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(fail)?;
        let path = root.canonicalize().map_err(|error| FileError::new("open", root, error))?;
        let root = Dir::open_root(&path)?;
        check_format(&root)?;
        for name in &DIRECTORIES[2..] {
            root.ensure_dir(name)?;
        }
        let kernels = root.ensure_dir("kernels")?;
        let scopes = root.ensure_dir("scopes")?;
        Ok(Self { root, kernels, scopes, host: Arc::new(Host::read()?) })
    }

    /// Opens the store at `root`, or returns none if [`Store::open`] would make one there.
    pub fn open_existing(root: &Path) -> Result<Option<Self>, StoreError> {
        let path = match root.canonicalize() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            path => path.map_err(|error| FileError::new("open", root, error))?,
        };
        let dir = Dir::open_root(&path)?;
        if !has_format(&dir)? {
            refuse_others(&dir)?;
            return Ok(None);
        }
        Self::open(root).map(Some)
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

    /// Returns the directory of the local keys.
    pub fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// Opens a scope, making it if there is none of that name.
    pub fn scope(&self, name: &ScopeName) -> Result<Scope, StoreError> {
        Scope::open(self.scopes.ensure_dir(name.as_str())?, name.clone(), Arc::clone(&self.host))
    }

    /// Returns the names of all scopes, sorted.
    pub fn scopes(&self) -> Result<Vec<ScopeName>, StoreError> {
        Ok(self.scopes.names()?.iter().filter_map(|name| name.parse().ok()).collect())
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
    let known = |name: &String| name == FILE_NEW || DIRECTORIES.contains(&name.as_str());
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
