//! The scopes of a store: made at first use, listed, removed.

use crate::dir::Dir;
use crate::error::StoreError;
use crate::lock;
use crate::scope::STAGING;
use crate::{Scope, Store};
use mvm_ref::ScopeName;
use std::sync::Arc;

/// What a scope is called that is being removed; no scope can have such a name.
const REMOVED: &str = ".removed-";

/// Directories below a scope's own: `segments/<diff ID>-g<N>`.
const LEVELS: usize = 3;

impl Store {
    /// Opens a scope, making it if there is none of that name.
    pub fn scope(&self, name: &ScopeName) -> Result<Scope, StoreError> {
        loop {
            let dir = self.scopes.ensure_dir(name.as_str())?;
            if let Some(scope) = self.open_scope(dir, name)? {
                return Ok(scope);
            }
        }
    }

    /// Opens a scope, or returns none if there is none of that name.
    pub fn existing_scope(&self, name: &ScopeName) -> Result<Option<Scope>, StoreError> {
        match self.scopes.open_dir(name.as_str())? {
            Some(dir) => self.open_scope(dir, name),
            None => Ok(None),
        }
    }

    fn open_scope(&self, dir: Dir, name: &ScopeName) -> Result<Option<Scope>, StoreError> {
        Scope::open(&self.scopes, dir, name.clone(), Arc::clone(&self.host), self.access)
    }

    /// Returns the names of all scopes, sorted.
    pub fn scopes(&self) -> Result<Vec<ScopeName>, StoreError> {
        Ok(self.scopes.names()?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Removes a scope with all that is in it, and returns the bytes of disk that became free.
    ///
    /// One that is in use stays, and so does one with pinned images, with volumes or with an index that can't be read, unless
    /// `force` is set. The scope is gone for everyone at once; should this be killed then, the next removal or
    /// [`Store::sweep_scopes`] removes the rest of its files.
    pub fn remove_scope(&self, name: &ScopeName, force: bool) -> Result<u64, StoreError> {
        let absent = || StoreError::NoScope { name: name.clone() };
        let dir = self.scopes.open_dir(name.as_str())?.ok_or_else(absent)?;
        let staging = dir.ensure_dir(STAGING)?;
        // All who have the scope open hold this shared.
        if !lock::try_exclusive(&staging, staging.path())? {
            return Err(StoreError::ScopeInUse { name: name.clone() });
        }
        if !self.scopes.leads_to(name.as_str(), &dir)? {
            return Err(absent());
        }
        if !force {
            let scope = Scope::open_locked(dir.reopen()?, name.clone(), Arc::clone(&self.host))?;
            if !scope.leases()?.is_empty() {
                return Err(StoreError::ScopeInUse { name: name.clone() });
            }
            let count = scope.pins()?.len();
            if count > 0 {
                return Err(StoreError::ScopePinned { name: name.clone(), count });
            }
            let count = scope.volumes()?.len();
            if count > 0 {
                return Err(StoreError::ScopeVolumes { name: name.clone(), count });
            }
        }
        let freed = self.sweep_scopes()?;
        let doomed = format!("{REMOVED}{name}.{}", std::process::id());
        self.scopes.rename(name.as_str(), &self.scopes, &doomed)?;
        self.scopes.sync()?;
        Ok(freed + self.scopes.remove_levels(&doomed, LEVELS)?)
    }

    /// Removes what was left of scopes by those who were killed while they removed them. Returns the bytes that
    /// became free.
    pub fn sweep_scopes(&self) -> Result<u64, StoreError> {
        let mut freed = 0;
        for name in self.scopes.names()?.iter().filter(|name| name.starts_with(REMOVED)) {
            freed += self.scopes.remove_levels(name, LEVELS)?;
        }
        Ok(freed)
    }
}
