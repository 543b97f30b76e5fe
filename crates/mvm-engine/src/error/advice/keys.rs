//! What errors of keys call for.

use crate::error::ErrorKind;
use crate::keys::KeysError;
use mvm_plan::KeyError;

/// Returns which exit code fits an error of keys.
pub(super) fn of_keys(error: &KeysError) -> ErrorKind {
    match error {
        KeysError::Unknown(_) | KeysError::PublicOnly(_) => ErrorKind::NotFound,
        KeysError::Ambiguous { .. } | KeysError::EmptyPassphrase | KeysError::PassphraseNeeded(_) => {
            ErrorKind::Usage
        }
        KeysError::NameTaken(_) | KeysError::AlreadyThere { .. } => ErrorKind::Conflict,
        KeysError::Lapsed { .. } => ErrorKind::Refused,
        _ => ErrorKind::Failure,
    }
}

/// Returns what to do about a key.
pub(super) fn for_keys(error: &KeysError) -> Option<String> {
    Some(match error {
        KeysError::Unknown(_) | KeysError::Ambiguous { .. } => "mvmctl key ls lists them".to_owned(),
        KeysError::PublicOnly(name) => {
            format!("mvmctl key import FILE --name {name} brings the private half")
        }
        KeysError::NameTaken(name) => {
            format!(
                "choose another name; mvmctl key rotate {name} replaces it, mvmctl key rm {name} removes it"
            )
        }
        KeysError::Lapsed { name, .. } => {
            format!("mvmctl key rotate {name} makes a new one of that name; --key signs with another")
        }
        KeysError::PassphraseNeeded(_) => {
            "--passphrase asks for one, --passphrase-file FILE gives it".to_owned()
        }
        KeysError::Open { name, source: KeyError::NeedsPassphrase } => {
            format!("--key {name} asks for it, --passphrase-file FILE beside that gives it")
        }
        KeysError::Trust { path, .. } => {
            format!("put back a copy of {}; without it only the key local is trusted, anew", path.display())
        }
        _ => return None,
    })
}
