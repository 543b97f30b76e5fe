//! Credentials: in Docker's and containers' files, and with the helpers that these name.
//!
//! The files are searched in the order of the configuration, and in each file a helper that is assigned to the
//! registry, then its entries from the longest key to the shortest, then the helper for everything. The first that
//! has credentials wins.
//!
//! Source: docker-login(1) and containers-auth.json(5).

mod edit;
mod file;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod helper;
mod secret;

use file::AuthFile;
pub use helper::{CredentialHelper, HelperError, HelperName, HelperNameError};
use mvm_ref::{DEFAULT_REGISTRY, Reference, RegistryName};
pub use secret::{Login, Secret};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Names under which the credentials of Docker Hub are filed.
const HUB_NAMES: [&str; 3] = ["index.docker.io", "docker.io", "registry-1.docker.io"];
/// The key under which Docker itself files them.
const HUB_KEY: &str = "https://index.docker.io/v1/";
/// The user that marks a helper's secret as an identity token.
const TOKEN_USER: &str = "<token>";

/// Says why credentials can't be read or kept. No variant carries a part of them.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The file can't be read.
    #[error("cannot read credentials from {path:?}")]
    Read {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not JSON of the expected shape.
    #[error("credentials in {path:?} are not valid at line {line}, column {column}")]
    Json {
        /// Its path.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// The file is longer than mvm reads.
    #[error("credentials in {path:?} are longer than {limit} bytes")]
    TooLarge {
        /// Its path.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// The entry of a registry doesn't decode to a name and a password.
    #[error(
        "credentials of {registry} in {path:?} don't decode to USER:PASSWORD; run `mvmctl login {registry}` again"
    )]
    Entry {
        /// Its path.
        path: PathBuf,
        /// The registry.
        registry: String,
    },
    /// The file names a helper that no program can have.
    #[error("{path:?} names a bad credential helper")]
    HelperName {
        /// The file.
        path: PathBuf,
        /// What is wrong with the name.
        source: HelperNameError,
    },
    /// A helper has the credentials and doesn't give or take them.
    #[error(transparent)]
    Helper(#[from] HelperError),
    /// Helpers can't be run here.
    #[error("credentials of {registry} are kept by the helper {helper}, which can't be run here")]
    NoHelpers {
        /// The registry.
        registry: String,
        /// The helper's program.
        helper: String,
    },
    /// A step of writing the file failed.
    #[error("cannot {act} {path:?}")]
    Write {
        /// What was tried.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A user's name would be read as another one.
    #[error("a user name can't contain ':' or be empty")]
    User,
    /// There is nothing to be forgotten.
    #[error("there are no credentials of {registry} in {path:?}")]
    NotLoggedIn {
        /// The registry.
        registry: String,
        /// The file.
        path: PathBuf,
    },
}

impl AuthError {
    fn json(path: &Path, error: &serde_json::Error) -> Self {
        Self::Json { path: path.to_owned(), line: error.line(), column: error.column() }
    }
}

/// What a registry is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Credentials {
    /// A name and a password.
    Password { user: String, password: Secret },
    /// A token that is exchanged for others.
    Identity(Secret),
    /// A token that the registry takes as it is.
    Registry(Secret),
}

/// What is known about a registry.
#[derive(Debug)]
pub(super) enum Found {
    Nothing,
    Credentials(Credentials),
    /// A program that isn't there has them, if anyone has.
    Unreachable(AuthError),
}

/// As whom a registry is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownUser {
    /// The user's name; `<token>` with a token, of which nobody knows whose it is.
    pub user: String,
    /// The file that has the credentials, or that names the helper which has them.
    pub path: PathBuf,
}

/// The files of credentials and whoever runs the helpers that they name.
#[derive(Clone, Debug, Default)]
pub struct Auths {
    files: Vec<PathBuf>,
    helper: Option<Arc<dyn CredentialHelper>>,
}

impl Auths {
    /// Takes files in the order in which they are searched; one that doesn't exist has no credentials.
    pub fn new(files: Vec<PathBuf>, helper: Option<Arc<dyn CredentialHelper>>) -> Self {
        Self { files, helper }
    }

    /// Looks for the credentials of a reference.
    pub(super) fn find(&self, reference: &Reference) -> Result<Found, AuthError> {
        let keys = names(reference.registry(), Some(reference.repository()));
        Ok(match self.search(reference.registry(), keys)? {
            Ok((_, credentials)) => Found::Credentials(credentials),
            Err(Some(error)) => Found::Unreachable(error),
            Err(None) => Found::Nothing,
        })
    }

    /// Returns as whom a registry is spoken to; none where there are no credentials.
    pub fn user(&self, registry: &RegistryName) -> Result<Option<KnownUser>, AuthError> {
        let (path, user) = match self.search(registry.as_str(), names(registry.as_str(), None))? {
            Ok((path, Credentials::Password { user, .. })) => (path, user),
            Ok((path, _)) => (path, TOKEN_USER.to_owned()),
            Err(Some(error)) => return Err(error),
            Err(None) => return Ok(None),
        };
        Ok(Some(KnownUser { user, path: path.to_owned() }))
    }

    /// Returns the first credentials and their file, else the first error of a helper that isn't there.
    fn search(
        &self,
        registry: &str,
        keys: Vec<String>,
    ) -> Result<Result<(&Path, Credentials), Option<AuthError>>, AuthError> {
        let mut unreachable = None;
        for path in &self.files {
            match self.search_file(path, registry, &keys)? {
                Found::Nothing => {}
                Found::Unreachable(error) => unreachable = unreachable.or(Some(error)),
                Found::Credentials(found) => return Ok(Ok((path, found))),
            }
        }
        Ok(Err(unreachable))
    }

    fn search_file(&self, path: &Path, registry: &str, keys: &[String]) -> Result<Found, AuthError> {
        let file = AuthFile::read(path)?;
        if let Some(helper) = file.assigned_helper(hosts(&registry))? {
            return self.ask(&helper, registry);
        }
        for key in keys {
            if let Some(found) = file.credentials(key)? {
                return Ok(Found::Credentials(found));
            }
        }
        match file.common_helper()? {
            Some(helper) => self.ask(&helper, registry),
            None => Ok(Found::Nothing),
        }
    }

    /// Asks a helper under each name that Docker and containers file the registry under.
    fn ask(&self, name: &HelperName, registry: &str) -> Result<Found, AuthError> {
        let Some(helper) = &self.helper else {
            return Ok(Found::Unreachable(no_helpers(registry, name)));
        };
        for server in servers(&registry) {
            match helper.get(name, server) {
                Ok(None) => {}
                Ok(Some(Login { user, secret })) if user == TOKEN_USER => {
                    return Ok(Found::Credentials(Credentials::Identity(secret)));
                }
                Ok(Some(Login { user, secret: password })) => {
                    return Ok(Found::Credentials(Credentials::Password { user, password }));
                }
                // Files that came from another machine name its helpers; most images need none.
                Err(error @ HelperError::NotInstalled { .. }) => {
                    return Ok(Found::Unreachable(error.into()));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Found::Nothing)
    }

    /// Keeps credentials: with the helper that the file at `path` names for the registry, else in the file itself.
    pub fn store(&self, path: &Path, registry: &RegistryName, login: &Login) -> Result<(), AuthError> {
        if login.user.is_empty() || login.user.contains(':') {
            return Err(AuthError::User);
        }
        edit::change(path, |file, text| {
            let entry = match self.helper_for(&file, registry)? {
                Some((name, helper)) => {
                    helper.store(&name, server(registry), login)?;
                    edit::Entry::Elsewhere
                }
                None => edit::Entry::Auth(file::encode(&login.user, &login.secret)),
            };
            text.set(registry.as_str(), server(registry), &entry);
            Ok(())
        })
    }

    /// Forgets the credentials of a registry that the file at `path` has or says to be with a helper.
    pub fn erase(&self, path: &Path, registry: &RegistryName) -> Result<(), AuthError> {
        let nothing = || AuthError::NotLoggedIn { registry: registry.to_string(), path: path.to_owned() };
        if !path.exists() {
            return Err(nothing());
        }
        edit::change(path, |file, text| {
            let helper = self.helper_for(&file, registry)?;
            let had_helper = match &helper {
                Some((name, _)) => matches!(self.ask(name, registry.as_str())?, Found::Credentials(_)),
                None => false,
            };
            if let Some((name, helper)) = helper {
                erase(helper, &name, registry)?;
            }
            if !text.remove(registry.as_str()) && !had_helper {
                return Err(nothing());
            }
            Ok(())
        })
    }

    /// Forgets all credentials that the file at `path` has or says to be with a helper, and returns their registries.
    pub fn erase_all(&self, path: &Path) -> Result<Vec<String>, AuthError> {
        let mut erased = Vec::new();
        if !path.exists() {
            return Ok(erased);
        }
        edit::change(path, |file, text| {
            erased = text.keys();
            for key in &erased {
                // A key with a path is of no helper.
                let Ok(registry) = key.parse::<RegistryName>() else { continue };
                if let Some((name, helper)) = self.helper_for(&file, &registry)? {
                    erase(helper, &name, &registry)?;
                }
            }
            text.clear();
            Ok(())
        })?;
        Ok(erased)
    }

    /// Returns the helper that has the credentials of a registry, as far as the file says.
    fn helper_for(
        &self,
        file: &AuthFile,
        registry: &RegistryName,
    ) -> Result<Option<(HelperName, &dyn CredentialHelper)>, AuthError> {
        let name = match file.assigned_helper(hosts(&registry.as_str()))? {
            Some(name) => Some(name),
            None => file.common_helper()?,
        };
        let Some(name) = name else { return Ok(None) };
        match &self.helper {
            Some(helper) => Ok(Some((name, helper.as_ref()))),
            None => Err(no_helpers(registry.as_str(), &name)),
        }
    }
}

fn no_helpers(registry: &str, name: &HelperName) -> AuthError {
    AuthError::NoHelpers { registry: registry.to_owned(), helper: name.program() }
}

fn erase(
    helper: &dyn CredentialHelper,
    name: &HelperName,
    registry: &RegistryName,
) -> Result<(), HelperError> {
    servers(&registry.as_str()).iter().try_for_each(|server| helper.erase(name, server))
}

/// Returns the names under which Docker and containers file a registry with helpers.
fn servers<'a>(registry: &'a &'a str) -> &'a [&'a str] {
    if *registry == DEFAULT_REGISTRY { &[HUB_KEY, DEFAULT_REGISTRY] } else { std::slice::from_ref(registry) }
}

/// Returns the name under which Docker files a registry.
fn server(registry: &RegistryName) -> &str {
    if registry.as_str() == DEFAULT_REGISTRY { HUB_KEY } else { registry.as_str() }
}

fn hosts<'a>(registry: &'a &'a str) -> &'a [&'a str] {
    if *registry == DEFAULT_REGISTRY { &HUB_NAMES } else { std::slice::from_ref(registry) }
}

/// Returns `host/a/b`, `host/a`, `host` for each name of the registry, the longest first.
fn names(registry: &str, repository: Option<&str>) -> Vec<String> {
    let hosts = hosts(&registry);
    let mut path = repository;
    let mut names = Vec::new();
    while let Some(prefix) = path {
        names.extend(hosts.iter().map(|host| format!("{host}/{prefix}")));
        path = prefix.rsplit_once('/').map(|(parent, _)| parent);
    }
    names.extend(hosts.iter().map(|&host| host.to_owned()));
    names
}

#[cfg(test)]
mod tests;
