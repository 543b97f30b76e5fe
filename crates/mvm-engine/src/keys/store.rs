//! The directory of keys: one writer at a time, first use, and what a crash left.

use super::files::{self, Sort, io_error};
use super::{KeysError, LOCAL};
use crate::audit_log::AuditLog;
use crate::clock;
use crate::engine::Engine;
use mvm_plan::audit::{Event, KeyAct};
use mvm_plan::{KeyId, SigningKey, TrustEntry, TrustStore, TrustedKey, UtcTime};
use mvm_ref::{KeyName, ScopeName};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const TRUST: &str = "trust.json";
const STAGED: &str = ".next";
const UNFINISHED: &str = ".new";

/// The keys of one store.
#[derive(Debug)]
pub struct KeyStore<'a> {
    directory: PathBuf,
    audit: Option<(&'a AuditLog, &'a ScopeName)>,
}

/// The keys of a store while nobody else changes them.
pub(super) struct Locked<'a> {
    store: &'a KeyStore<'a>,
    // Held for its lock only.
    _directory: File,
}

impl Engine {
    pub(crate) fn key_store(&self) -> KeyStore<'_> {
        KeyStore {
            directory: self.settings.root.join("keys"),
            audit: Some((&self.audit, &self.settings.scope)),
        }
    }
}

impl KeyStore<'_> {
    /// Names the keys of a store whose changes no audit log tells of.
    pub(crate) fn unaudited(store_root: &Path) -> Self {
        Self { directory: store_root.join("keys"), audit: None }
    }

    /// Returns the keys whose signatures count, or once did; the first use makes the local one.
    pub fn trust(&self) -> Result<TrustStore, KeysError> {
        match self.read_trust()? {
            Some(trust) => Ok(trust),
            None => self.lock()?.ensure_local(),
        }
    }

    /// Returns the local key; the first use makes it.
    pub(crate) fn local(&self) -> Result<SigningKey, KeysError> {
        let text = self.private(LOCAL)?.ok_or_else(|| KeysError::Unknown(LOCAL.to_owned()))?;
        SigningKey::from_pem(&text).map_err(|source| KeysError::Key { path: self.pem(LOCAL), source })
    }

    /// Returns the text of a private key, after the first use has made the local one; none if there is no such key.
    pub(super) fn private(&self, name: &str) -> Result<Option<Zeroizing<String>>, KeysError> {
        let settled = match name {
            LOCAL => self.pem(LOCAL).exists() && self.directory.join(TRUST).exists(),
            _ => true,
        };
        if !settled {
            self.lock()?.ensure_local()?;
        } else if self.entries()?.iter().any(|entry| entry.ends_with(STAGED)) {
            // Somebody is about to replace a key, or was killed while at it.
            drop(self.lock()?);
        }
        self.read_private(name)
    }

    /// Returns the list of keys as it is, without making one.
    pub(super) fn stored_trust(&self) -> Result<Vec<TrustEntry>, KeysError> {
        Ok(self.read_trust()?.map(|trust| trust.entries().to_vec()).unwrap_or_default())
    }

    pub(super) fn read_private(&self, name: &str) -> Result<Option<Zeroizing<String>>, KeysError> {
        found(files::read(&self.pem(name), Sort::Private))
    }

    /// Returns the names of the private keys.
    pub(super) fn private_names(&self) -> Result<Vec<KeyName>, KeysError> {
        let entries = self.entries()?;
        Ok(entries.iter().filter_map(|entry| entry.strip_suffix(".pem")?.parse().ok()).collect())
    }

    pub(super) fn pem(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.pem"))
    }

    fn read_trust(&self) -> Result<Option<TrustStore>, KeysError> {
        let path = self.directory.join(TRUST);
        let Some(text) = found(files::read(&path, Sort::Own))? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|source| KeysError::Trust { path, source })
    }

    /// Returns the names of what is in the directory, in order.
    fn entries(&self) -> Result<Vec<String>, KeysError> {
        let listed = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listed => listed.map_err(io_error("read", &self.directory))?,
        };
        let mut names = Vec::new();
        for entry in listed {
            let entry = entry.map_err(io_error("read", &self.directory))?;
            names.extend(entry.file_name().into_string());
        }
        names.sort();
        Ok(names)
    }

    /// Waits for other writers, and finishes or discards what one of them left when it was killed.
    pub(super) fn lock(&self) -> Result<Locked<'_>, KeysError> {
        let path = &self.directory;
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io_error("create", path))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::LOOP | Errno::NOTDIR => KeysError::Symlink { path: path.clone() },
            errno => io_error("open", path)(errno.into()),
        })?;
        let directory = File::from(directory);
        let metadata = directory.metadata().map_err(io_error("read", path))?;
        files::check_owner(path, metadata.uid())?;
        let mode = metadata.mode() & 0o7777;
        if mode & 0o022 != 0 {
            return Err(KeysError::Writable { path: path.clone(), mode });
        }
        loop {
            match flock(&directory, FlockOperation::LockExclusive) {
                Err(Errno::INTR) => {}
                locked => break locked.map_err(|errno| io_error("lock", path)(errno.into()))?,
            }
        }
        let locked = Locked { store: self, _directory: directory };
        locked.recover()?;
        Ok(locked)
    }
}

impl Locked<'_> {
    /// Returns the list of keys, which is empty where there is none.
    pub(super) fn trust(&self) -> Result<Vec<TrustEntry>, KeysError> {
        self.store.stored_trust()
    }

    /// Replaces the list of keys, after the audit log has been told.
    pub(super) fn set_trust(
        &self,
        entries: Vec<TrustEntry>,
        told: &[(KeyAct, KeyId)],
    ) -> Result<TrustStore, KeysError> {
        let trust = TrustStore::with_entries(entries)?;
        let path = self.store.directory.join(TRUST);
        let mut text = serde_json::to_vec_pretty(&trust)
            .map_err(|source| KeysError::Trust { path: path.clone(), source })?;
        text.push(b'\n');
        let new = self.store.directory.join(format!("{TRUST}{UNFINISHED}"));
        files::write_new(&new, &text)?;
        self.tell(told)?;
        files::publish(&new, &path)?;
        Ok(trust)
    }

    /// Adds a private key under a name, or puts it in the place of the one that has it, together with a new list.
    pub(super) fn install(
        &self,
        name: &KeyName,
        key: &SigningKey,
        text: &str,
        entries: Vec<TrustEntry>,
        told: &[(KeyAct, KeyId)],
    ) -> Result<TrustStore, KeysError> {
        let id = key.public_key().id();
        let staged = self.store.directory.join(format!("{name}.{id}{STAGED}"));
        files::write_new(&staged, text.as_bytes())?;
        let trust = self.set_trust(entries, told)?;
        files::publish(&staged, &self.store.pem(name.as_str()))?;
        Ok(trust)
    }

    /// Tells the audit log, before it happens.
    pub(super) fn tell(&self, told: &[(KeyAct, KeyId)]) -> Result<(), KeysError> {
        let Some((audit, scope)) = self.store.audit else { return Ok(()) };
        let events = told.iter().map(|&(act, id)| Event::Key { act, id }).collect();
        Ok(audit.append(scope, events)?)
    }

    /// Sees to it that there is a local key and a list.
    ///
    /// Without a list, the local key is trusted anew. Where the list has a local key whose private half is gone, that
    /// may have been removed because others had seen it: it is revoked, and another one made. A list that has no local
    /// key is its owner's decision and stays as it is.
    pub(super) fn ensure_local(&self) -> Result<TrustStore, KeysError> {
        let name: KeyName = LOCAL.parse().map_err(|_| KeysError::Unknown(LOCAL.to_owned()))?;
        let trust = self.store.read_trust()?;
        let private = self.store.read_private(LOCAL)?;
        let entry = |key: &SigningKey| {
            TrustEntry::from(TrustedKey { name: LOCAL.to_owned(), key: key.public_key(), development: true })
        };
        match (private, trust) {
            (Some(_), Some(trust)) => Ok(trust),
            (Some(text), None) => {
                let path = self.store.pem(LOCAL);
                let key = SigningKey::from_pem(&text).map_err(|source| KeysError::Key { path, source })?;
                self.set_trust(vec![entry(&key)], &[(KeyAct::Trust, key.public_key().id())])
            }
            (None, trust) => {
                let key = make_key()?;
                let text = key.to_pem().map_err(KeysError::Write)?;
                let id = key.public_key().id();
                let mut told = vec![(KeyAct::Generate, id)];
                let mut entries = match &trust {
                    None => vec![entry(&key)],
                    Some(trust) => trust.entries().to_vec(),
                };
                let now = UtcTime::from_unix_seconds(clock::unix_seconds())?;
                let old = entries.iter_mut().find(|entry| entry.key.name == LOCAL && entry.key.id() != id);
                if let Some(old) = old {
                    if old.revoked.is_none() {
                        old.revoked = Some(now);
                        told.push((KeyAct::Revoke, old.key.id()));
                    }
                    old.key.name = former_name(&old.key);
                    entries.push(entry(&key));
                }
                if entries.iter().any(|entry| entry.key.id() == id) {
                    told.push((KeyAct::Trust, id));
                }
                self.install(&name, &key, &text, entries, &told)
            }
        }
    }

    fn recover(&self) -> Result<(), KeysError> {
        for entry in self.store.entries()? {
            let path = self.store.directory.join(&entry);
            if entry.ends_with(UNFINISHED) {
                files::remove(&path)?;
                continue;
            }
            let Some((name, id)) = staged(&entry) else { continue };
            let trust = self.store.read_trust()?;
            let listed = trust.as_ref().and_then(|trust| trust.entry(&id));
            match listed.is_some_and(|listed| listed.key.name == name.as_str()) {
                true => files::publish(&path, &self.store.pem(name.as_str()))?,
                false => files::remove(&path)?,
            }
        }
        Ok(())
    }
}

/// Makes a key from the kernel's randomness.
pub(super) fn make_key() -> Result<SigningKey, KeysError> {
    let seed = Zeroizing::new(super::random::<32>()?);
    Ok(SigningKey::from_seed(&seed))
}

/// Returns the name of a key that another one has replaced; no key that is made here has one like it.
pub(super) fn former_name(key: &TrustedKey) -> String {
    format!("{}~{:.8}", key.name, key.id())
}

/// Takes the name of a staged file apart.
fn staged(entry: &str) -> Option<(KeyName, KeyId)> {
    let (name, id) = entry.strip_suffix(STAGED)?.rsplit_once('.')?;
    Some((name.parse().ok()?, id.parse().ok()?))
}

/// Turns the error of an absent file into none.
fn found<T>(read: Result<T, KeysError>) -> Result<Option<T>, KeysError> {
    match read {
        Ok(text) => Ok(Some(text)),
        Err(KeysError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
