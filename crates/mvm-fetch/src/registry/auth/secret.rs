//! Text that nobody gets to see by accident.

use serde::Deserialize;
use std::fmt;
use zeroize::Zeroizing;

/// Text that is wiped from memory after use and never shown.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Returns the text, to be handed to whom it belongs.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// What a person or a helper says to log in with.
///
/// With the user `<token>` the secret is an identity token, as Docker's helpers write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// The password, or an identity token.
    pub secret: Secret,
}
