//! Secrets on the host: where they come from, and their way to the process that gives them to the guest.
//!
//! A value is read when a VM is launched, handed to the VM's supervisor in a file in memory, and kept there only. The VM's
//! record says where it came from, so that it can be read again; the plan and the audit log have its name.

use mvm_ref::SecretName;
use rustix::fs::MemfdFlags;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Bytes of a secret at most.
pub const MAX_SECRET: usize = 1 << 20;

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SecretSource {
    /// A file, by its absolute path.
    File {
        /// The path.
        path: PathBuf,
    },
    /// A variable of the environment.
    Environment {
        /// Its name.
        variable: String,
    },
    /// Standard input, which is there once.
    Stdin,
}

/// A secret's name and where it comes from: `NAME=FILE`, `NAME=env:VAR` or `NAME=-`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedSource {
    /// The name, also of the file in the guest.
    pub name: SecretName,
    /// Where it comes from.
    pub source: SecretSource,
}

/// A secret's value; it does not print, and is wiped.
#[derive(Clone)]
pub struct SecretValue(Arc<Zeroizing<Vec<u8>>>);

/// A secret that was read.
#[derive(Clone, Debug)]
pub struct Secret {
    /// Its name and where it came from.
    pub named: NamedSource,
    /// Its value.
    pub value: SecretValue,
}

/// Says why a secret can't be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The text names no secret and source.
    #[error("{0:?} is not NAME=FILE, NAME=env:VARIABLE or NAME=-")]
    Form(String),
    /// The name can't be that of a secret.
    #[error(transparent)]
    Name(#[from] mvm_ref::NameError),
    /// The file can't be read.
    #[error("read secret {name} from {}", path.display())]
    Read {
        /// The secret.
        name: SecretName,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The variable is not set.
    #[error("the variable {variable} for secret {name} is not set")]
    Unset {
        /// The secret.
        name: SecretName,
        /// The variable.
        variable: String,
    },
    /// The value is too long.
    #[error("secret {0} has more than {MAX_SECRET} bytes")]
    TooLarge(SecretName),
    /// Standard input was read when the VM was made.
    #[error("secret {0} came from standard input, and can't be read again")]
    Gone(SecretName),
    /// Two secrets come from standard input.
    #[error("only one secret can come from standard input")]
    TwoFromStdin,
    /// The plan names a secret that was not given.
    #[error("the plan names secret {0}, and it was not given")]
    Missing(SecretName),
    /// A secret was given that the plan doesn't name.
    #[error("the plan names no secret {0}")]
    Unknown(SecretName),
    /// The secrets can't be handed over.
    #[error("{act} the secrets")]
    Pass {
        /// What was tried.
        act: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl SecretValue {
    /// Returns the bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads a value to its end; none if it is too long.
    fn read(mut from: impl Read) -> io::Result<Option<Self>> {
        // As long as it can become, so that no copy is left behind where it grew.
        let mut value = Zeroizing::new(Vec::with_capacity(MAX_SECRET + 1));
        let mut piece = Zeroizing::new([0; 4096]);
        loop {
            match from.read(&mut piece[..]) {
                Ok(0) => return Ok(Some(Self(Arc::new(value)))),
                Ok(count) if value.len() + count > MAX_SECRET => return Ok(None),
                Ok(count) => value.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(..)")
    }
}

impl FromStr for NamedSource {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        let (name, source) = text.split_once('=').ok_or_else(|| SecretError::Form(text.to_owned()))?;
        let source = match (source, source.strip_prefix("env:")) {
            ("", _) | (_, Some("")) => return Err(SecretError::Form(text.to_owned())),
            ("-", _) => SecretSource::Stdin,
            (_, Some(variable)) => SecretSource::Environment { variable: variable.to_owned() },
            (path, None) => SecretSource::File { path: path.into() },
        };
        Ok(Self { name: name.parse()?, source })
    }
}

/// Reads secrets from where they come from. `variable` looks up the caller's environment; standard input is read where
/// `first` says that this is the VM's first launch.
pub fn read_secrets(
    sources: &[NamedSource],
    variable: &dyn Fn(&str) -> Option<OsString>,
    first: bool,
) -> Result<Vec<Secret>, SecretError> {
    if sources.iter().filter(|named| named.source == SecretSource::Stdin).count() > 1 {
        return Err(SecretError::TwoFromStdin);
    }
    let read = |named: &NamedSource| {
        let name = &named.name;
        let (path, value) = match &named.source {
            SecretSource::File { path } => (path.clone(), File::open(path).and_then(SecretValue::read)),
            SecretSource::Environment { variable: wanted } => {
                let unset = || SecretError::Unset { name: name.clone(), variable: wanted.clone() };
                let bytes = Zeroizing::new(variable(wanted).ok_or_else(unset)?.into_vec());
                (PathBuf::new(), SecretValue::read(bytes.as_slice()))
            }
            SecretSource::Stdin if first => {
                (PathBuf::from("standard input"), standard_input().and_then(SecretValue::read))
            }
            SecretSource::Stdin => return Err(SecretError::Gone(name.clone())),
        };
        let value = value.map_err(|source| SecretError::Read { name: name.clone(), path, source })?;
        let value = value.ok_or_else(|| SecretError::TooLarge(name.clone()))?;
        Ok(Secret { named: named.clone(), value })
    };
    sources.iter().map(read).collect()
}

/// Puts secrets into the order in which a plan names them, and fails where the two differ.
pub(crate) fn in_order(names: &[SecretName], mut secrets: Vec<Secret>) -> Result<Vec<Secret>, SecretError> {
    let mut ordered = Vec::new();
    for name in names {
        let at = secrets.iter().position(|secret| secret.named.name == *name);
        ordered.push(secrets.remove(at.ok_or_else(|| SecretError::Missing(name.clone()))?));
    }
    match secrets.pop() {
        Some(secret) => Err(SecretError::Unknown(secret.named.name)),
        None => Ok(ordered),
    }
}

/// Writes secrets into a file in memory that is read from its start: for each its length, a little-endian u32, and itself.
pub(crate) fn pack(secrets: &[Secret]) -> Result<File, SecretError> {
    let failed = |act| move |source| SecretError::Pass { act, source };
    let file = rustix::fs::memfd_create("mvm-secrets", MemfdFlags::CLOEXEC);
    let mut file = File::from(file.map_err(io::Error::from).map_err(failed("make room for"))?);
    for secret in secrets {
        let bytes = secret.value.bytes();
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
        file.write_all(&length).and_then(|()| file.write_all(bytes)).map_err(failed("hand over"))?;
    }
    file.rewind().map_err(failed("hand over"))?;
    Ok(file)
}

/// Reads what [`pack`] wrote of the secrets that a VM's record names.
pub(crate) fn unpack(sources: &[NamedSource], mut from: impl Read) -> Result<Vec<Secret>, SecretError> {
    let mut secrets = Vec::new();
    for named in sources {
        let failed = |source| SecretError::Pass { act: "take over", source };
        let mut length = [0; 4];
        from.read_exact(&mut length).map_err(failed)?;
        let length = u64::from(u32::from_le_bytes(length));
        let value = SecretValue::read((&mut from).take(length)).map_err(failed)?;
        let value = value.ok_or_else(|| SecretError::TooLarge(named.name.clone()))?;
        if value.bytes().len() as u64 != length {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
        secrets.push(Secret { named: named.clone(), value });
    }
    Ok(secrets)
}

/// Takes a VM's secrets from standard input, where whoever starts its supervisor puts them, and wipes them there.
pub(crate) fn take_over(sources: &[NamedSource]) -> Result<Vec<Secret>, SecretError> {
    if sources.is_empty() {
        return Ok(Vec::new());
    }
    let failed = |act| move |source| SecretError::Pass { act, source };
    let input = standard_input().map_err(failed("take over"))?;
    let secrets = unpack(sources, &input)?;
    // A file in memory has no name. What has one is somebody else's file.
    if input.metadata().map_err(failed("take over"))?.nlink() == 0 {
        input.set_len(0).map_err(failed("wipe"))?;
    }
    Ok(secrets)
}

/// Returns standard input without a buffer, in which something would be left behind.
fn standard_input() -> io::Result<File> {
    Ok(io::stdin().as_fd().try_clone_to_owned()?.into())
}

/// Makes the path of a secret's file absolute, so that it is found again from anywhere.
pub fn absolute_source(named: NamedSource) -> io::Result<NamedSource> {
    let source = match named.source {
        SecretSource::File { path } => SecretSource::File { path: std::path::absolute(Path::new(&path))? },
        other => other,
    };
    Ok(NamedSource { source, ..named })
}

#[cfg(test)]
mod tests;
