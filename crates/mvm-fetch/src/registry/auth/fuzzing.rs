//! Files of credentials, on bytes in memory.

use super::edit::{Entry, Text};
use super::file::{AuthFile, encode};
use super::{Credentials, Secret, names, server};
use mvm_ref::RegistryName;
use std::path::Path;

/// Returns the name and password that a file has for a registry; `<token>` and the token where it has one.
pub fn credentials(bytes: &[u8], registry: &RegistryName) -> Option<(String, String)> {
    let file = AuthFile::parse(Path::new("file"), bytes).ok()?;
    let keys = names(registry.as_str(), None);
    match keys.iter().find_map(|key| file.credentials(key).transpose())?.ok()? {
        Credentials::Password { user, password } => Some((user, password.expose().to_owned())),
        Credentials::Identity(token) | Credentials::Registry(token) => {
            Some(("<token>".to_owned(), token.expose().to_owned()))
        }
    }
}

/// Returns the text after a login; nothing where the file can't be read.
pub fn log_in(bytes: &[u8], registry: &RegistryName, user: &str, password: &str) -> Option<Vec<u8>> {
    AuthFile::parse(Path::new("file"), bytes).ok()?;
    let mut text = Text::parse(Path::new("file"), bytes).ok()?;
    let entry = Entry::Auth(encode(user, &Secret::from(password.to_owned())));
    text.set(registry.as_str(), server(registry), &entry);
    text.write().ok().map(|text| text.to_vec())
}

/// Returns the text after a logout; nothing where the file can't be read.
pub fn log_out(bytes: &[u8], registry: &RegistryName) -> Option<Vec<u8>> {
    AuthFile::parse(Path::new("file"), bytes).ok()?;
    let mut text = Text::parse(Path::new("file"), bytes).ok()?;
    text.remove(registry.as_str());
    text.write().ok().map(|text| text.to_vec())
}
