//! Logging in to registries and out of them.

mod helpers;

use crate::error::EngineError;
use crate::progress::Cancel;
use crate::settings::Settings;
pub(crate) use helpers::Helpers;
use mvm_fetch::{Auths, FetchError, Fetcher, KnownUser, Login, LoginCheck};
use mvm_ref::RegistryName;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where credentials went.
#[derive(Clone, Debug)]
pub struct LoggedIn {
    /// Whether the registry has seen and accepted them; one that asks nobody for credentials doesn't say.
    pub check: LoginCheck,
    /// The file that has them, or that names the helper which has them.
    pub path: PathBuf,
    /// Credentials in another file that is searched before, and so are shown to the registry instead.
    pub hidden_by: Option<KnownUser>,
}

/// Shows credentials to a registry and keeps them if they are right.
pub fn login(
    settings: &Settings,
    registry: &RegistryName,
    login: &Login,
    cancel: &Cancel,
) -> Result<LoggedIn, EngineError> {
    let path = login_file(settings)?.to_owned();
    let fetcher = Fetcher::new(settings.fetch_config(cancel));
    let check = fetcher.check_login(registry, login).map_err(|error| match error {
        FetchError::Cancelled => EngineError::Interrupted,
        error => EngineError::Login { registry: registry.clone(), source: error },
    })?;
    let auths = auths(settings);
    auths.store(&path, registry, login)?;
    let hidden_by = auths.user(registry)?.filter(|known| known.path != path);
    Ok(LoggedIn { check, path, hidden_by })
}

/// Forgets the credentials of a registry that a login has kept.
///
/// Returns as whom the registry is still spoken to, where another file has credentials too.
pub fn logout(settings: &Settings, registry: &RegistryName) -> Result<Option<KnownUser>, EngineError> {
    let auths = auths(settings);
    auths.erase(login_file(settings)?, registry)?;
    Ok(auths.user(registry)?)
}

/// Forgets all credentials that logins have kept, and returns the registries.
pub fn logout_all(settings: &Settings) -> Result<Vec<String>, EngineError> {
    Ok(auths(settings).erase_all(login_file(settings)?)?)
}

/// Returns the user as whom a registry is spoken to.
pub fn logged_in(settings: &Settings, registry: &RegistryName) -> Result<String, EngineError> {
    let known = auths(settings).user(registry)?.ok_or_else(|| EngineError::NotLoggedIn(registry.clone()))?;
    Ok(known.user)
}

fn auths(settings: &Settings) -> Auths {
    Auths::new(settings.auth_files.clone(), Some(Arc::new(Helpers::new(settings))))
}

fn login_file(settings: &Settings) -> Result<&Path, EngineError> {
    settings.login_file.as_deref().ok_or(EngineError::NoLoginFile)
}
