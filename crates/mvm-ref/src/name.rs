//! Names that a user gives: of a VM, a scope, a key, a volume, a secret, a service and a health check.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Says why a text is not a name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{kind} name {name:?} is not valid; use 1 to 63 of a-z, 0-9, '-', '_' and '.', starting with a letter or digit"
)]
pub struct NameError {
    kind: &'static str,
    name: String,
}

macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Returns the name as text; it is safe as a file name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                if is_name(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(NameError { kind: $kind, name: text.to_owned() })
                }
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name_type!(
    /// The name of a virtual machine, unique in one store.
    VmName,
    "VM"
);
name_type!(
    /// The name of a scope: one partition of the store.
    ScopeName,
    "scope"
);
name_type!(
    /// The name of a key, unique in one store.
    KeyName,
    "key"
);

name_type!(
    /// The name of a volume, unique in one scope.
    VolumeName,
    "volume"
);
name_type!(
    /// The name of a secret, unique in one VM, and the name of its file in the guest.
    SecretName,
    "secret"
);

name_type!(
    /// The name of a service, unique in one VM.
    ServiceName,
    "service"
);
name_type!(
    /// The name of a health check, unique in one VM.
    CheckName,
    "health check"
);

impl Default for ScopeName {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

fn is_name(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && word(bytes[0])
        && bytes.iter().all(|&b| word(b) || matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
#[path = "name_tests.rs"]
mod tests;
