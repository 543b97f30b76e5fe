//! A scope: one partition of the store, with a directory and an index of its own.

pub(crate) mod builder;
mod collect;
mod discard;
pub(crate) mod documents;
pub(crate) mod images;
pub(crate) mod leases;
pub(crate) mod names;
mod pins;
pub(crate) mod remove;
pub(crate) mod report;
pub(crate) mod segments;
mod settings;
mod staging;
mod sums;
pub(crate) mod usage;
pub(crate) mod volumes;

use crate::dir::Dir;
use crate::error::StoreError;
use crate::host::Host;
use crate::index::Index;
use crate::lock;
use crate::store::Access;
use documents::Pending;
use mvm_ref::ScopeName;
use report::Collected;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// The directory of what is being made. Whoever has the scope open holds it locked shared.
pub(crate) const STAGING: &str = "staging";

/// An open scope. Clones and threads share one connection to the index and take turns on it.
#[derive(Clone, Debug)]
pub struct Scope {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: ScopeName,
    dir: Dir,
    documents: Dir,
    segments: Dir,
    images: Dir,
    /// Held for its lock too.
    staging: Arc<Dir>,
    index: Index,
    host: Arc<Host>,
    pending: Mutex<Pending>,
    /// What opening removed from `staging/`, until a collection reports it.
    swept: Mutex<Vec<Collected>>,
}

impl Scope {
    /// Opens the scope in `dir`, which is the entry `name` of `scopes`; none if it was removed meanwhile.
    ///
    /// While it is open, it can't be removed.
    pub(crate) fn open(
        scopes: &Dir,
        dir: Dir,
        name: ScopeName,
        host: Arc<Host>,
        access: Access,
    ) -> Result<Option<Self>, StoreError> {
        let locked = dir.ensure_dir(STAGING).and_then(|staging| {
            lock::shared(&staging, staging.path())?;
            Ok(staging)
        });
        // Looked at under the lock, which whoever removes the scope takes before renaming it.
        if !scopes.leads_to(name.as_str(), &dir)? {
            return Ok(None);
        }
        let inner = Inner::open(dir, locked?, name, host)?;
        // What can't be written can't be swept either.
        if access == Access::Change && inner.dir.is_writable() {
            let swept = inner.sweep_staging(false)?;
            inner.swept.lock().unwrap_or_else(PoisonError::into_inner).extend(swept);
        }
        Ok(Some(Self { inner: Arc::new(inner) }))
    }

    /// Opens a scope of which the caller holds the lock.
    pub(crate) fn open_locked(dir: Dir, name: ScopeName, host: Arc<Host>) -> Result<Self, StoreError> {
        let staging = dir.ensure_dir(STAGING)?;
        Ok(Self { inner: Arc::new(Inner::open(dir, staging, name, host)?) })
    }

    /// Returns the name of the scope.
    pub fn name(&self) -> &ScopeName {
        &self.inner.name
    }

    /// Says whether this user can and may change the scope.
    pub fn is_writable(&self) -> bool {
        self.inner.dir.is_writable()
    }

    /// Returns the directory of the scope.
    pub fn path(&self) -> &Path {
        self.inner.dir.path()
    }
}

impl Inner {
    fn open(dir: Dir, staging: Dir, name: ScopeName, host: Arc<Host>) -> Result<Self, StoreError> {
        Ok(Self {
            name,
            documents: dir.ensure_dir("documents")?,
            segments: dir.ensure_dir("segments")?,
            images: dir.ensure_dir("images")?,
            staging: Arc::new(staging),
            index: if dir.is_writable() { Index::open(&dir)? } else { Index::open_frozen(&dir)? },
            dir,
            host,
            pending: Mutex::default(),
            swept: Mutex::default(),
        })
    }
}

/// Returns the time in seconds since 1970; used only to say when, and what was used longest ago.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
