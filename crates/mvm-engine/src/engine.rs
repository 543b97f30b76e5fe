//! The engine: one store, one scope, and what can be done with them.

use crate::audit_log::AuditLog;
use crate::error::EngineError;
use crate::settings::Settings;
use crate::vm::VmRegistry;
use mvm_ref::ScopeName;
use mvm_store::{Scope, Store, StoreError};

/// Everything that mvmctl, a library user or a shim asks for goes through here.
#[derive(Debug)]
pub struct Engine {
    pub(crate) settings: Settings,
    pub(crate) store: Store,
    pub(crate) scope: Scope,
    pub(crate) vms: VmRegistry,
    pub(crate) audit: AuditLog,
}

impl Engine {
    /// Opens the store, making it at first use.
    pub fn open(settings: Settings) -> Result<Self, EngineError> {
        let store = Store::open(&settings.root)?;
        Self::with(store, settings)
    }

    /// Opens the store to look at it; makes it, if there is none. The scope must be there, unless it is the default one.
    ///
    /// It may lie on a read-only file system, or belong to another user. What would change it fails there.
    pub fn open_to_look(settings: Settings) -> Result<Self, EngineError> {
        match Store::open_to_look(&settings.root)? {
            Some(store) => Self::with_existing(store, settings),
            None if settings.scope == ScopeName::default() => Self::open(settings),
            None => Err(StoreError::NoScope { name: settings.scope }.into()),
        }
    }

    /// Opens the store to change what there is in a scope, which must be there, unless it is the default one.
    pub fn open_existing(settings: Settings) -> Result<Self, EngineError> {
        if Store::open_to_look(&settings.root)?.is_none() && settings.scope != ScopeName::default() {
            return Err(StoreError::NoScope { name: settings.scope }.into());
        }
        let store = Store::open(&settings.root)?;
        Self::with_existing(store, settings)
    }

    fn with_existing(store: Store, settings: Settings) -> Result<Self, EngineError> {
        if settings.scope == ScopeName::default() {
            return Self::with(store, settings);
        }
        let scope = store.existing_scope(&settings.scope)?;
        let scope = scope.ok_or_else(|| StoreError::NoScope { name: settings.scope.clone() })?;
        Ok(Self::of(store, scope, settings))
    }

    fn with(store: Store, settings: Settings) -> Result<Self, EngineError> {
        let scope = store.scope(&settings.scope)?;
        Ok(Self::of(store, scope, settings))
    }

    fn of(store: Store, scope: Scope, settings: Settings) -> Self {
        let vms = VmRegistry::new(&settings.root);
        let audit = AuditLog::new(&settings.root);
        Self { settings, store, scope, vms, audit }
    }
}

#[cfg(test)]
pub(crate) mod tests;
