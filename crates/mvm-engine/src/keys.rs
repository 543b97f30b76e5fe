//! The local signing key and the keys that this store trusts.
//!
//! `keys/local.pem` (0600) is made at first use and entered in `keys/trust.json` as a development key: anyone who can
//! read the store can sign with it, so production policy refuses it.

use mvm_plan::{KeyError, SigningKey, TrustError, TrustStore, TrustedKey};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Says what failed on a key.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A file could not be read or written.
    #[error("{act} {}", path.display())]
    Io {
        /// What was tried.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Others may read the private key.
    #[error("private key {} has mode {mode:04o}; run chmod 600 on it, or remove it if others may have read it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file holds no key.
    #[error("{} holds no key", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: KeyError,
    },
    /// The list of trusted keys is damaged.
    #[error("{} is not a list of trusted keys", path.display())]
    Trust {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: serde_json::Error,
    },
    /// The list of trusted keys can't hold the local key.
    #[error("enter the local key in the list of trusted keys")]
    List(#[from] TrustError),
    /// The kernel gave no random bytes.
    #[error("get random bytes")]
    Random(#[source] getrandom::Error),
}

/// The key that signs plans made here, and the keys whose signatures count here.
#[derive(Debug)]
pub struct Keys {
    /// The local key.
    pub local: SigningKey,
    /// All trusted keys, the local one among them.
    pub trust: TrustStore,
}

/// Loads the keys of a store; the first use makes the local one.
pub fn load(store_root: &Path) -> Result<Keys, KeysError> {
    let directory = store_root.join("keys");
    let local = load_local(&directory)?;
    let path = directory.join("trust.json");
    let trust = match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| KeysError::Trust { path, source })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = TrustedKey { name: "local".to_owned(), key: local.public_key(), development: true };
            let trust = TrustStore::new(vec![key])?;
            let mut text = serde_json::to_vec_pretty(&trust)
                .map_err(|source| KeysError::Trust { path: path.clone(), source })?;
            text.push(b'\n');
            crate::vm::write_atomically(&path, &text).map_err(io_error("write", &path))?;
            trust
        }
        Err(error) => return Err(io_error("read", &path)(error)),
    };
    Ok(Keys { local, trust })
}

/// Returns `N` bytes of randomness from the kernel.
pub fn random<const N: usize>() -> Result<[u8; N], KeysError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(KeysError::Random)?;
    Ok(bytes)
}

fn load_local(directory: &Path) -> Result<SigningKey, KeysError> {
    let path = directory.join("local.pem");
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            generate(directory, &path)?;
            fs::read_to_string(&path)
        }
        other => other,
    };
    let text = Zeroizing::new(text.map_err(io_error("read", &path))?);
    let mode = fs::metadata(&path).map_err(io_error("read", &path))?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeysError::Exposed { path, mode });
    }
    SigningKey::from_pem(&text).map_err(|source| KeysError::Key { path, source })
}

/// Makes a key under a temporary name and links it into place, so that of two first uses one wins and both see it.
fn generate(directory: &Path, path: &Path) -> Result<(), KeysError> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(io_error("create", directory))?;
    let seed = Zeroizing::new(random::<32>()?);
    let text = SigningKey::from_seed(&seed)
        .to_pem()
        .map_err(|source| KeysError::Key { path: path.to_owned(), source })?;
    // A name that no other thread uses, and no process of the same number that was killed here.
    let temporary = directory.join(format!("local.{:016x}.new", u64::from_be_bytes(random()?)));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| match fs::hard_link(&temporary, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        });
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io_error("remove", &temporary)(error));
        }
        _ => {}
    }
    written.map_err(io_error("write", path))
}

fn io_error(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeysError {
    let path = path.to_owned();
    move |source| KeysError::Io { act, path, source }
}

#[cfg(test)]
mod tests;
