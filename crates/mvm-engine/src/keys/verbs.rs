//! What is done with keys: listing, making, bringing, giving out, trusting, revoking, replacing, removing.

use super::files::{self, Sort};
use super::store::{KeyStore, Locked, former_name, make_key};
use super::{KeysError, random};
use crate::clock;
use crate::engine::Engine;
use crate::error::EngineError;
use mvm_fetch::Secret;
use mvm_plan::audit::KeyAct;
use mvm_plan::{
    EncryptionSeed, KeyError, KeyId, PublicKey, SigningKey, Standing, TrustEntry, TrustedKey, UtcTime,
};
use mvm_ref::KeyName;
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

const DAY: i64 = 86_400;

/// Keys that are open and sign a plan; none stands for the local one.
#[derive(Clone, Debug, Default)]
pub struct Signers(Arc<[SigningKey]>);

/// A private key that was found: ready to sign, or still under its passphrase.
#[derive(Debug)]
pub enum StoredKey {
    /// It can sign.
    Open(SigningKey),
    /// It needs a passphrase.
    Sealed(SealedKey),
}

/// A private key under a passphrase.
pub struct SealedKey {
    name: String,
    text: Zeroizing<String>,
}

/// Where the private half of a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PrivateHalf {
    /// Not in this store.
    Elsewhere,
    /// In this store, as it is.
    Plain,
    /// In this store, under a passphrase.
    Passphrase,
}

/// One key of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyListing {
    /// What it is called.
    // tidy: allow string-field: a label of the list of trusted keys, which may be anything that a person wrote
    pub name: String,
    /// Its ID; unknown where the list of trusted keys doesn't have it and a passphrase hides it.
    pub id: Option<KeyId>,
    /// Its public half.
    pub key: Option<PublicKey>,
    /// Where its private half is.
    pub private: PrivateHalf,
    /// Whether it is for development; none if it is not in the list of trusted keys.
    pub development: Option<bool>,
    /// Whether its signatures count.
    pub trusted: bool,
    /// When they stop or stopped counting.
    pub until: Option<UtcTime>,
    /// When it was revoked.
    pub revoked: Option<UtcTime>,
}

/// A key that took the place of another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rotated {
    /// The new key.
    pub new: KeyListing,
    /// The one before.
    pub old: KeyListing,
}

impl Signers {
    /// Returns the keys, in the order they were asked for.
    pub fn keys(&self) -> &[SigningKey] {
        &self.0
    }
}

impl From<Vec<SigningKey>> for Signers {
    fn from(keys: Vec<SigningKey>) -> Self {
        Self(keys.into())
    }
}

impl std::fmt::Debug for SealedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealedKey({})", self.name)
    }
}

impl SealedKey {
    /// Returns the key's name, or its file's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Opens the key.
    pub fn open(&self, passphrase: &Secret) -> Result<SigningKey, EngineError> {
        let opened = SigningKey::from_encrypted_pem(&self.text, passphrase.expose());
        Ok(opened.map_err(|source| KeysError::Open { name: self.name.clone(), source })?)
    }
}

impl StoredKey {
    fn from_text(name: &str, path: &Path, text: Zeroizing<String>) -> Result<Self, KeysError> {
        match SigningKey::from_pem(&text) {
            Ok(key) => Ok(Self::Open(key)),
            Err(KeyError::NeedsPassphrase) => Ok(Self::Sealed(SealedKey { name: name.to_owned(), text })),
            Err(source) => Err(KeysError::Key { path: path.to_owned(), source }),
        }
    }
}

impl Engine {
    /// Returns a private key of the store, if it may still sign.
    ///
    /// The first use makes the key `local`.
    pub fn signing_key(&self, name: &KeyName) -> Result<StoredKey, EngineError> {
        Ok(signing_key(&self.key_store(), name)?)
    }

    /// Returns the keys that a plan is signed with: those that were opened, or else the local one.
    pub(crate) fn signers(&self, asked: &Signers) -> Result<Signers, EngineError> {
        if !asked.0.is_empty() {
            return Ok(asked.clone());
        }
        let local: KeyName = super::LOCAL.parse().map_err(|_| KeysError::Unknown(super::LOCAL.to_owned()))?;
        match self.signing_key(&local)? {
            StoredKey::Open(key) => Ok(vec![key].into()),
            StoredKey::Sealed(key) => {
                Err(KeysError::Open { name: key.name, source: KeyError::NeedsPassphrase }.into())
            }
        }
    }

    /// Reads the passphrase in a file's first line; others may not read the file.
    pub fn read_passphrase(&self, path: &Path) -> Result<Secret, EngineError> {
        Ok(files::read_passphrase(path)?)
    }

    /// Lists the keys: those of the list first, in its order, then private ones that it doesn't have.
    pub fn keys(&self) -> Result<Vec<KeyListing>, EngineError> {
        Ok(list(&self.key_store())?)
    }

    /// Makes a key and trusts it.
    pub fn generate_key(
        &self,
        name: &KeyName,
        passphrase: Option<&Secret>,
        development: bool,
    ) -> Result<KeyListing, EngineError> {
        let store = self.key_store();
        let locked = lock(&store, name)?;
        Ok(add(&locked, &store, name, &make_key()?, passphrase, development, KeyAct::Generate)?)
    }

    /// Reads a private key from a file of the caller's choice.
    pub fn read_private_key(&self, path: &Path) -> Result<StoredKey, EngineError> {
        let text = files::read(path, Sort::Private)?;
        Ok(StoredKey::from_text(&path.display().to_string(), path, text)?)
    }

    /// Brings a private key into the store and trusts it.
    pub fn import_key(
        &self,
        name: &KeyName,
        key: &SigningKey,
        passphrase: Option<&Secret>,
        development: bool,
    ) -> Result<KeyListing, EngineError> {
        let store = self.key_store();
        let locked = lock(&store, name)?;
        Ok(add(&locked, &store, name, key, passphrase, development, KeyAct::Import)?)
    }

    /// Returns the public half of a key as PEM.
    pub fn export_public_key(&self, which: &str) -> Result<String, EngineError> {
        let found = find(&list(&self.key_store())?, which)?;
        let key = found.key.ok_or(KeysError::Unknown(found.name))?;
        Ok(key.to_pem().map_err(KeysError::Write)?)
    }

    /// Returns the private half of a key as PEM, under its passphrase if it has one.
    pub fn export_private_key(&self, which: &str) -> Result<Zeroizing<String>, EngineError> {
        let store = self.key_store();
        let locked = store.lock()?;
        let found = find(&list(&store)?, which)?;
        if found.private == PrivateHalf::Elsewhere {
            return Err(KeysError::PublicOnly(found.name).into());
        }
        let text = store.read_private(&found.name)?.ok_or(KeysError::Unknown(found.name))?;
        if let Some(id) = found.id {
            locked.tell(&[(KeyAct::Export, id)])?;
        }
        Ok(text)
    }

    /// Reads a public key from a file and trusts it.
    pub fn trust_key(
        &self,
        path: &Path,
        name: &KeyName,
        development: bool,
    ) -> Result<KeyListing, EngineError> {
        let text = files::read(path, Sort::Outside)?;
        let key =
            PublicKey::from_pem(&text).map_err(|source| KeysError::Key { path: path.to_owned(), source })?;
        let store = self.key_store();
        let locked = store.lock()?;
        locked.ensure_local()?;
        let mut entries = locked.trust()?;
        // The public half of a private key that is here, and that the list doesn't have, is welcome.
        let own = list(&store)?.into_iter().any(|known| {
            known.name == name.as_str() && known.id == Some(key.id()) && known.development.is_none()
        });
        if !own {
            check_free(&store, &entries, name, &key.id(), false)?;
        }
        entries.push(TrustedKey { name: name.to_string(), key, development }.into());
        locked.set_trust(entries, &[(KeyAct::Trust, key.id())])?;
        Ok(find(&list(&store)?, &key.id().to_string())?)
    }

    /// Makes a key's signatures count no more, for ever. It stays listed.
    pub fn revoke_key(&self, which: &str) -> Result<KeyListing, EngineError> {
        let store = self.key_store();
        let locked = store.lock()?;
        let found = find(&list(&store)?, which)?;
        let (Some(id), Some(_)) = (found.id, found.development) else {
            // What nobody trusts needs no revocation, and saying that it has one would be a lie.
            return Err(KeysError::Unknown(which.to_owned()).into());
        };
        let mut entries = locked.trust()?;
        for entry in entries.iter_mut().filter(|entry| entry.key.id() == id && entry.revoked.is_none()) {
            entry.revoked = Some(now()?);
        }
        locked.set_trust(entries, &[(KeyAct::Revoke, id)])?;
        Ok(find(&list(&store)?, &id.to_string())?)
    }

    /// Makes a key of the same name, and revokes the one before or lets it count for some more days.
    pub fn rotate_key(
        &self,
        name: &KeyName,
        passphrase: Option<&Secret>,
        keep_days: Option<u32>,
    ) -> Result<Rotated, EngineError> {
        let store = self.key_store();
        let locked = store.lock()?;
        locked.ensure_local()?;
        let old = find(&list(&store)?, name.as_str())?;
        match (old.private, old.id) {
            (PrivateHalf::Elsewhere, _) => return Err(KeysError::PublicOnly(old.name).into()),
            (PrivateHalf::Passphrase, _) if passphrase.is_none() => {
                return Err(KeysError::PassphraseNeeded(old.name).into());
            }
            _ => {}
        }
        let (Some(id), Some(development)) = (old.id, old.development) else {
            return Err(KeysError::Unknown(old.name).into());
        };
        let key = make_key()?;
        let made = key.public_key().id();
        let mut told = vec![(KeyAct::Generate, made), (KeyAct::Trust, made)];
        let mut entries = locked.trust()?;
        for entry in entries.iter_mut().filter(|entry| entry.key.id() == id) {
            entry.key.name = former_name(&entry.key);
            if entry.revoked.is_some() {
                continue;
            }
            match keep_days {
                Some(days) => {
                    let end = UtcTime::from_unix_seconds(clock::unix_seconds() + i64::from(days) * DAY)
                        .map_err(KeysError::from)?;
                    entry.until = Some(entry.until.map_or(end, |until| until.min(end)));
                    told.push((KeyAct::Rotate, id));
                }
                None => {
                    entry.revoked = Some(now()?);
                    told.push((KeyAct::Revoke, id));
                }
            }
        }
        entries.push(TrustedKey { name: name.to_string(), key: key.public_key(), development }.into());
        let text = seal(&key, passphrase)?;
        locked.install(name, &key, &text, entries, &told)?;
        let listed = list(&store)?;
        let new = find(&listed, &made.to_string())?;
        Ok(Rotated { new, old: find(&listed, &id.to_string())? })
    }

    /// Removes a key with its private half, and forgets whether it was trusted or revoked.
    pub fn remove_key(&self, which: &str) -> Result<KeyListing, EngineError> {
        let store = self.key_store();
        let locked = store.lock()?;
        let found = find(&list(&store)?, which)?;
        let told: Vec<(KeyAct, KeyId)> = found.id.map(|id| (KeyAct::Remove, id)).into_iter().collect();
        let mut entries = locked.trust()?;
        let before = entries.len();
        entries.retain(|entry| Some(entry.key.id()) != found.id);
        // The list goes first: a private key that nobody trusts can still be removed by the next attempt.
        if entries.len() < before {
            locked.set_trust(entries, &told)?;
        } else {
            locked.tell(&told)?;
        }
        if found.private != PrivateHalf::Elsewhere {
            files::remove(&store.pem(&found.name))?;
        }
        Ok(found)
    }
}

/// Locks the keys for one that comes under `name`.
///
/// The first use of the store is this one, perhaps: then the local key is made too, for a list that is there without it
/// says that it isn't wanted.
fn lock<'a>(store: &'a KeyStore<'_>, name: &KeyName) -> Result<Locked<'a>, KeysError> {
    let locked = store.lock()?;
    if name.as_str() != super::LOCAL {
        locked.ensure_local()?;
    }
    Ok(locked)
}

fn signing_key(store: &KeyStore<'_>, name: &KeyName) -> Result<StoredKey, KeysError> {
    let text = store.private(name.as_str())?;
    let trust = store.trust()?;
    let Some(text) = text else {
        let listed = trust.entries().iter().any(|entry| entry.key.name == name.as_str());
        return Err(match listed {
            true => KeysError::PublicOnly(name.to_string()),
            false => KeysError::Unknown(name.to_string()),
        });
    };
    let stored = StoredKey::from_text(name.as_str(), &store.pem(name.as_str()), text)?;
    // What a passphrase hides is known by its name.
    let entry = match &stored {
        StoredKey::Open(key) => trust.entry(&key.public_key().id()),
        StoredKey::Sealed(_) => trust.entries().iter().find(|entry| entry.key.name == name.as_str()),
    };
    match entry.map(|entry| entry.standing(clock::unix_seconds())) {
        Some(standing @ (Standing::Revoked(_) | Standing::Ended(_))) => {
            Err(KeysError::Lapsed { name: name.to_string(), standing })
        }
        _ => Ok(stored),
    }
}

fn add(
    locked: &Locked<'_>,
    store: &KeyStore<'_>,
    name: &KeyName,
    key: &SigningKey,
    passphrase: Option<&Secret>,
    development: bool,
    act: KeyAct,
) -> Result<KeyListing, KeysError> {
    let mut entries = locked.trust()?;
    let public = key.public_key();
    let (id, mut told) = (public.id(), vec![(act, public.id())]);
    check_free(store, &entries, name, &id, true)?;
    if !entries.iter().any(|entry| entry.key.id() == id) {
        entries.push(TrustedKey { name: name.to_string(), key: public, development }.into());
        told.push((KeyAct::Trust, id));
    }
    let text = seal(key, passphrase)?;
    locked.install(name, key, &text, entries, &told)?;
    find(&list(store)?, &id.to_string())
}

/// Refuses a name or key that is there. To bring the private half of a key that is trusted under that name is fine.
fn check_free(
    store: &KeyStore<'_>,
    entries: &[TrustEntry],
    name: &KeyName,
    id: &KeyId,
    brings_private: bool,
) -> Result<(), KeysError> {
    if store.private_names()?.contains(name) {
        return Err(KeysError::NameTaken(name.to_string()));
    }
    for entry in entries {
        let (same_name, same_key) = (entry.key.name == name.as_str(), entry.key.id() == *id);
        match (same_name, same_key) {
            (_, true) if entry.revoked.is_some() => {
                let standing = entry.standing(clock::unix_seconds());
                return Err(KeysError::Lapsed { name: entry.key.name.clone(), standing });
            }
            (true, true) if brings_private => {}
            (_, true) => return Err(KeysError::AlreadyThere { id: *id, name: entry.key.name.clone() }),
            (true, false) => return Err(KeysError::NameTaken(name.to_string())),
            (false, false) => {}
        }
    }
    Ok(())
}

/// Returns the text that a private key is stored as.
fn seal(key: &SigningKey, passphrase: Option<&Secret>) -> Result<Zeroizing<String>, KeysError> {
    let text = match passphrase.map(Secret::expose) {
        None => key.to_pem(),
        Some("") => return Err(KeysError::EmptyPassphrase),
        Some(passphrase) => {
            key.to_encrypted_pem(passphrase, &EncryptionSeed { salt: random()?, iv: random()? })
        }
    };
    text.map_err(KeysError::Write)
}

fn list(store: &KeyStore<'_>) -> Result<Vec<KeyListing>, KeysError> {
    let now = clock::unix_seconds();
    let trust = store.stored_trust()?;
    let mut private: Vec<(String, PrivateHalf, Option<PublicKey>)> = Vec::new();
    for name in store.private_names()? {
        let Some(text) = store.read_private(name.as_str())? else { continue };
        let path = store.pem(name.as_str());
        let (half, key) = match StoredKey::from_text(name.as_str(), &path, text)? {
            StoredKey::Open(key) => (PrivateHalf::Plain, Some(key.public_key())),
            StoredKey::Sealed(_) => (PrivateHalf::Passphrase, None),
        };
        private.push((name.to_string(), half, key));
    }
    let mut rows = Vec::new();
    for entry in &trust {
        let key = entry.key.key;
        let own = private.iter().position(|(name, _, public)| {
            *name == entry.key.name && public.is_none_or(|public| public == key)
        });
        rows.push(KeyListing {
            name: entry.key.name.clone(),
            id: Some(key.id()),
            key: Some(key),
            private: own.map_or(PrivateHalf::Elsewhere, |own| private.remove(own).1),
            development: Some(entry.key.development),
            trusted: entry.standing(now).counts(),
            until: entry.until,
            revoked: entry.revoked,
        });
    }
    rows.extend(private.into_iter().map(|(name, private, key)| KeyListing {
        name,
        id: key.map(|key| key.id()),
        key,
        private,
        development: None,
        trusted: false,
        until: None,
        revoked: None,
    }));
    Ok(rows)
}

/// Finds a key by its name, its ID or the beginning of that.
fn find(keys: &[KeyListing], which: &str) -> Result<KeyListing, KeysError> {
    let named: Vec<&KeyListing> = keys.iter().filter(|key| key.name == which).collect();
    let begun =
        |key: &&KeyListing| which.len() >= 4 && key.id.is_some_and(|id| id.to_string().starts_with(which));
    let found = if named.is_empty() { keys.iter().filter(begun).collect() } else { named };
    match found[..] {
        [one] => Ok(one.clone()),
        [] => Err(KeysError::Unknown(which.to_owned())),
        _ => Err(KeysError::Ambiguous { text: which.to_owned(), count: found.len() }),
    }
}

fn now() -> Result<UtcTime, KeysError> {
    Ok(UtcTime::from_unix_seconds(clock::unix_seconds())?)
}
