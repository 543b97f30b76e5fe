//! A scope: one partition of the store, with a directory and an index of its own.

pub(crate) mod collect;
mod discard;
pub(crate) mod documents;
pub(crate) mod images;
pub(crate) mod leases;
pub(crate) mod names;
pub(crate) mod remove;
pub(crate) mod segments;
mod staging;
mod sums;

use crate::dir::Dir;
use crate::error::StoreError;
use crate::host::Host;
use crate::index::Index;
use collect::Collected;
use documents::Pending;
use mvm_ref::ScopeName;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

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
    staging: Arc<Dir>,
    index: Index,
    host: Arc<Host>,
    pending: Mutex<Pending>,
    /// What opening removed from `staging/`, until a collection reports it.
    swept: Mutex<Vec<Collected>>,
}

impl Scope {
    pub(crate) fn open(dir: Dir, name: ScopeName, host: Arc<Host>) -> Result<Self, StoreError> {
        let inner = Inner {
            name,
            documents: dir.ensure_dir("documents")?,
            segments: dir.ensure_dir("segments")?,
            images: dir.ensure_dir("images")?,
            staging: Arc::new(dir.ensure_dir("staging")?),
            index: Index::open(&dir)?,
            dir,
            host,
            pending: Mutex::default(),
            swept: Mutex::default(),
        };
        let swept = inner.sweep_staging(false)?;
        inner.swept.lock().unwrap_or_else(PoisonError::into_inner).extend(swept);
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Returns the name of the scope.
    pub fn name(&self) -> &ScopeName {
        &self.inner.name
    }

    /// Returns the directory of the scope.
    pub fn path(&self) -> &Path {
        self.inner.dir.path()
    }
}

/// Returns the time in seconds since 1970; used only to say when, and what was used longest ago.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
