//! Programs that keep credentials: what they are asked, and under which names.
//!
//! Source: docker-credential-helpers, section "Development" of its description.

use super::Login;
use std::fmt;
use std::str::FromStr;

const MAX_NAME: usize = 64;
/// What comes before a helper's name to make the name of its program.
const PREFIX: &str = "docker-credential-";

/// The name of a credential helper, without what its program's name begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelperName(String);

impl HelperName {
    /// Returns the name of the program.
    pub fn program(&self) -> String {
        format!("{PREFIX}{}", self.0)
    }
}

impl fmt::Display for HelperName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Says that a text can't be a part of a program's name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} is no name of a credential helper; it may have 1 to {MAX_NAME} of a-z, A-Z, 0-9, '.', '_' and '-'"
)]
pub struct HelperNameError(String);

impl FromStr for HelperName {
    type Err = HelperNameError;

    fn from_str(text: &str) -> Result<Self, HelperNameError> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(fits) {
            Ok(Self(text.to_owned()))
        } else {
            Err(HelperNameError(text.chars().take(MAX_NAME).collect()))
        }
    }
}

/// Says what went wrong with a helper. No variant carries a secret.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// There is no such program.
    #[error("credential helper {program} is not installed")]
    NotInstalled {
        /// The program's name.
        program: String,
    },
    /// The program could not be run to its end.
    #[error("cannot run credential helper {program}")]
    Run {
        /// The program's name.
        program: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The program was given up.
    #[error("credential helper {program} did not answer for {server} within {seconds} s")]
    Slow {
        /// The program's name.
        program: String,
        /// What it was asked about.
        server: String,
        /// How long it had.
        seconds: u64,
    },
    /// The program says that it failed.
    #[error("credential helper {program} failed for {server}{}", said(.message))]
    Failed {
        /// The program's name.
        program: String,
        /// What it was asked about.
        server: String,
        /// Its words.
        message: String,
    },
    /// What the program prints is not what a helper prints.
    #[error("credential helper {program} gives no usable answer for {server}")]
    Answer {
        /// The program's name.
        program: String,
        /// What it was asked about.
        server: String,
    },
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" (it says: {message})") }
}

/// Whoever runs credential helpers; this crate starts no programs.
pub trait CredentialHelper: Send + Sync + fmt::Debug {
    /// Asks for the credentials of a server; none if the helper has none.
    fn get(&self, helper: &HelperName, server: &str) -> Result<Option<Login>, HelperError>;

    /// Has the helper keep the credentials of a server.
    fn store(&self, helper: &HelperName, server: &str, login: &Login) -> Result<(), HelperError>;

    /// Has the helper forget the credentials of a server; having none is no error.
    fn erase(&self, helper: &HelperName, server: &str) -> Result<(), HelperError>;
}
