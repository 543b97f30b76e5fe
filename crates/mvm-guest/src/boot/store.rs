//! The database of a store that the guest builds in.

use mvm_wire::GuestDocument;
use mvm_wire::document::mounts::MountSource;
use std::fs::File;
use std::io;
use std::process::{Command, Stdio};

/// What the root says of its store paths, in the words of `nix-store --dump-db`.
const REGISTRATION: &str = "/nix-path-registration";
/// A copy of what was loaded last, beside the database.
const LOADED: &str = "/nix/var/nix/mvm-path-registration";
/// Bytes of what Nix says that become part of an error.
const WORDS: usize = 2000;

/// A store whose database can't be made to say what is there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("{act} {path} failed")]
    File {
        act: &'static str,
        path: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("running {program} {option} failed")]
    Run {
        program: String,
        option: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("{program} --load-db ended with {status}: {words}")]
    Load { program: String, status: std::process::ExitStatus, words: String },
    #[error(
        "the store on the volume needs paths of another image than this one: {words}; run that image, or give a new volume"
    )]
    Stale { words: String },
}

/// Makes the paths of the root known to Nix, where that wasn't done with just these.
pub(crate) fn load(document: &GuestDocument) -> Result<(), StoreError> {
    let on_volume = document.mounts.iter().any(|mount| matches!(mount.source, MountSource::Overlay { .. }));
    let is_written = document.roots.iter().any(|root| !matches!(root.overlay, mvm_wire::Overlay::None {}));
    let Some(program) = document.writable_store.as_ref().filter(|_| on_volume || is_written) else {
        return Ok(());
    };
    let fail = |act, path| move |source| StoreError::File { act, path, source };
    let registration = std::fs::read(REGISTRATION).map_err(fail("reading", REGISTRATION))?;
    let loaded = match std::fs::read(LOADED) {
        Ok(loaded) => Some(loaded),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(fail("reading", LOADED)(error)),
    };
    if loaded.as_ref() == Some(&registration) {
        return Ok(());
    }
    let input = File::open(REGISTRATION).map_err(fail("reading", REGISTRATION))?;
    let (status, words) = run(program, "--load-db", input.into())?;
    if !status.success() {
        return Err(StoreError::Load { program: program.clone(), status, words });
    }
    // Paths that only an earlier image had are gone; what was built of them is of no use.
    if loaded.is_some() {
        let (status, words) = run(program, "--verify", Stdio::null())?;
        if !status.success() {
            return Err(StoreError::Stale { words });
        }
    }
    std::fs::write(LOADED, registration).map_err(fail("writing", LOADED))
}

/// Runs Nix to its end, and returns how it ended and the last of its words.
fn run(
    program: &str,
    option: &'static str,
    input: Stdio,
) -> Result<(std::process::ExitStatus, String), StoreError> {
    let output = Command::new(program).arg(option).env_clear().env("HOME", "/root").stdin(input).output();
    let output = output.map_err(|source| StoreError::Run { program: program.to_owned(), option, source })?;
    let words = &output.stderr[output.stderr.len().saturating_sub(WORDS)..];
    Ok((output.status, String::from_utf8_lossy(words).trim().to_owned()))
}
