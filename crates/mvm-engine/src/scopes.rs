//! The scopes of a store: list, inspect, limit, remove. Apart from the engine, which works in one of them.

use crate::audit_log::AuditLog;
use crate::error::EngineError;
use crate::settings::Settings;
use crate::{provenance, signatures};
use mvm_plan::audit::{Event, Subject};
use mvm_ref::ScopeName;
use mvm_store::{LeaseRecord, Scope, Store, StoreError, Usage};
use serde::Serialize;
use std::path::PathBuf;

/// The scopes of one store.
#[derive(Debug)]
pub struct Scopes {
    settings: Settings,
    audit: AuditLog,
}

/// One line of a list of scopes.
#[derive(Clone, Debug, Serialize)]
pub struct ScopeRow {
    /// Its name.
    pub name: ScopeName,
    /// How many images it has.
    pub images: usize,
    /// Bytes of disk that it holds.
    pub size: u64,
    /// Bytes that it may hold, if there is a limit.
    pub quota: Option<u64>,
    /// Why it can't be opened, if it can't; the numbers are 0 then.
    pub problem: Option<String>,
}

/// All that is known of a scope.
#[derive(Clone, Debug, Serialize)]
pub struct ScopeDetails {
    /// Its name.
    pub name: ScopeName,
    /// Its directory.
    pub path: PathBuf,
    /// How many images it has.
    pub images: usize,
    /// How many of them are pinned.
    pub pinned: usize,
    /// What it holds on the disk.
    pub usage: Usage,
    /// Bytes that it may hold, if there is a limit.
    pub quota: Option<u64>,
    /// Who needs which image now.
    pub leases: Vec<LeaseRecord>,
}

/// A scope that was removed.
#[derive(Clone, Debug, Serialize)]
pub struct RemovedScope {
    /// Its name.
    pub name: ScopeName,
    /// The names of images that went with it, sorted.
    pub untagged: Vec<String>,
    /// Bytes of disk that became free.
    pub freed: u64,
}

impl Scopes {
    /// Names the store; it is opened by what is done.
    pub fn new(settings: Settings) -> Self {
        let audit = AuditLog::new(&settings.root);
        Self { settings, audit }
    }

    /// Lists all scopes, by name. A store that isn't there has none.
    pub fn list(&self) -> Result<Vec<ScopeRow>, EngineError> {
        let Some(store) = Store::open_to_look(&self.settings.root)? else { return Ok(Vec::new()) };
        let mut rows = Vec::new();
        for name in store.scopes()? {
            let row = |scope: &Scope| {
                let (images, size) = (scope.list_images()?.len(), scope.usage()?.total);
                Ok(ScopeRow { name: name.clone(), images, size, quota: scope.quota()?, problem: None })
            };
            match store.existing_scope(&name).and_then(|scope| scope.as_ref().map(row).transpose()) {
                Ok(row) => rows.extend(row),
                Err(error) => {
                    let problem = Some(crate::error::chain(&error));
                    rows.push(ScopeRow { name, images: 0, size: 0, quota: None, problem });
                }
            }
        }
        Ok(rows)
    }

    /// Returns all that is known of a scope.
    pub fn inspect(&self, name: &ScopeName) -> Result<ScopeDetails, EngineError> {
        let store = Store::open_to_look(&self.settings.root)?;
        let scope = store.map_or(Ok(None), |store| store.existing_scope(name))?;
        let scope = scope.ok_or_else(|| StoreError::NoScope { name: name.clone() })?;
        let images = scope.list_images()?;
        Ok(ScopeDetails {
            name: name.clone(),
            path: scope.path().to_owned(),
            images: images.len(),
            pinned: images.iter().filter(|image| image.pinned).count(),
            usage: scope.usage()?,
            quota: scope.quota()?,
            leases: scope.leases()?,
        })
    }

    /// Sets how many bytes of disk a scope may hold, or takes the limit back. The scope is made if there is none.
    pub fn set_quota(&self, name: &ScopeName, quota: Option<u64>) -> Result<(), EngineError> {
        let scope = Store::open(&self.settings.root)?.scope(name)?;
        let subject = Subject::Scope { name: name.clone() };
        let value = quota.map_or_else(|| "none".to_owned(), |bytes| bytes.to_string());
        self.audit.append(name, vec![Event::Set { subject, setting: "quota".to_owned(), value }])?;
        Ok(scope.set_quota(quota)?)
    }

    /// Removes a scope with all its images. One that is in use stays, and so does one with pinned images or an index
    /// that can't be read, unless `force` is set.
    pub fn remove(&self, name: &ScopeName, force: bool) -> Result<RemovedScope, EngineError> {
        let absent = || StoreError::NoScope { name: name.clone() };
        let store = Store::open_to_look(&self.settings.root)?.ok_or_else(absent)?;
        // Closed again before the removal, which has to be the only one that has it open.
        let names = match store.existing_scope(name) {
            Ok(scope) => scope.ok_or_else(absent)?.resolutions(),
            Err(error) => Err(error),
        };
        let mut untagged: Vec<String> = match names {
            Ok(resolutions) => resolutions.into_iter().map(|resolution| resolution.requested).collect(),
            Err(_) if force => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        untagged.dedup();
        drop(store);
        let store = Store::open(&self.settings.root)?;
        let mut freed = store.remove_scope(name, force)?;
        freed += signatures::forget_scope(&store, name)? + provenance::forget_scope(&store, name)?;
        let gone = |name: &String| {
            let requested = name.parse().ok()?;
            Some(Event::Delete { subject: Subject::Reference { requested } })
        };
        let scope = Event::Delete { subject: Subject::Scope { name: name.clone() } };
        self.audit.append(name, untagged.iter().filter_map(gone).chain([scope]).collect())?;
        Ok(RemovedScope { name: name.clone(), untagged, freed })
    }
}
