//! The engine: one store, one scope, and what can be done with them.

use crate::audit_log::AuditLog;
use crate::error::EngineError;
use crate::settings::Settings;
use crate::vm::VmRegistry;
use mvm_store::{Scope, Store};

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

    /// Opens the store to look at it; makes it, if there is none.
    ///
    /// It may lie on a read-only file system, or belong to another user. What would change it fails there.
    pub fn open_to_look(settings: Settings) -> Result<Self, EngineError> {
        match Store::open_to_look(&settings.root)? {
            Some(store) => Self::with(store, settings),
            None => Self::open(settings),
        }
    }

    fn with(store: Store, settings: Settings) -> Result<Self, EngineError> {
        let scope = store.scope(&settings.scope)?;
        let vms = VmRegistry::new(&settings.root);
        let audit = AuditLog::new(&settings.root);
        Ok(Self { settings, store, scope, vms, audit })
    }
}

#[cfg(test)]
pub(crate) mod tests;
