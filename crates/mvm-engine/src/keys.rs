//! The keys of a store: private ones that sign plans made here, and those whose signatures count here.
//!
//! A private key is `keys/NAME.pem` (0600, PKCS#8, under a passphrase or not); `keys/trust.json` lists the public ones.
//! Two files can't change at once, so the list decides: a new private key is staged under a name with its ID, the list is
//! replaced as a whole, and then the staged file gets its name. Whoever comes next after a crash between the two
//! finishes, or discards what the list doesn't know.
//!
//! The key `local` is made at first use and trusted as a development key: anyone who can read the store can sign with
//! it, so production policy refuses it.

mod error;
mod files;
mod store;
mod verbs;

pub use error::KeysError;
use mvm_plan::{PublicKey, SigningKey};
use std::path::Path;
pub use verbs::{KeyListing, PrivateHalf, Rotated, SealedKey, Signers, StoredKey};

/// Loads the local key; the first use makes it, and tells no audit log.
pub fn local(store_root: &Path) -> Result<SigningKey, KeysError> {
    store::KeyStore::unaudited(store_root).local()
}

/// Returns the local key if there is one. It waits for nobody, so that whoever changes keys can be told of meanwhile.
pub fn signing(store_root: &Path) -> Result<Option<SigningKey>, KeysError> {
    let store = store::KeyStore::unaudited(store_root);
    let Some(text) = store.read_private(LOCAL)? else { return Ok(None) };
    let key = SigningKey::from_pem(&text);
    key.map(Some).map_err(|source| KeysError::Key { path: store.pem(LOCAL), source })
}

/// Returns the public keys that a store knows, revoked ones among them; makes none, and there are none before the first
/// use.
pub fn known(store_root: &Path) -> Result<Vec<PublicKey>, KeysError> {
    let entries = store::KeyStore::unaudited(store_root).stored_trust()?;
    Ok(entries.iter().map(|entry| entry.key.key).collect())
}

/// The name of the key that signs when no other is asked for.
pub const LOCAL: &str = "local";

/// Returns `N` bytes of randomness from the kernel.
pub fn random<const N: usize>() -> Result<[u8; N], KeysError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(KeysError::Random)?;
    Ok(bytes)
}

#[cfg(test)]
pub(crate) mod tests;
