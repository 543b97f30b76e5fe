//! Locking inputs: the one thing that a build writes on the host, and only when it is asked to.

use super::error::BuildError;
use super::lock::Lock;
use super::nix::Nix;
use super::request::{BuildRequest, InputName, LIBRARY};
use super::stage::Staged;
use crate::builder::SOURCE_TARGET;
use crate::error::EngineError;
use crate::progress::{Cancel, Progress, Step};
use mvm_plan::policy::Policy;
use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Refuses what a policy doesn't let a build do: one that wants images pinned wants inputs locked.
pub(super) fn check_policy(
    policy: &Policy,
    request: &BuildRequest,
    staged: &Staged,
) -> Result<(), BuildError> {
    let strict = policy.layers().iter().find(|layer| layer.restrictions().pinned_images == Some(true));
    let Some(layer) = strict else { return Ok(()) };
    let what = if request.update_lock {
        "--update-lock"
    } else if !request.update_inputs.is_empty() {
        "--update-input"
    } else if staged.lock.is_none() {
        "the flake has no flake.lock"
    } else {
        return Ok(());
    };
    Err(BuildError::LockRefused { policy: layer.name().to_owned(), what })
}

/// Refuses a flake with inputs that nothing pins: neither its lock, nor a directory in their place.
pub(super) fn check_locked(nix: &mut Nix<'_, '_>, cancel: &Cancel) -> Result<(), EngineError> {
    let Some(mut inputs) = nix.inputs(cancel)? else { return Ok(()) };
    inputs.retain(|input| !given(nix.staged).contains(input));
    let staged = nix.staged;
    match &staged.lock {
        None if inputs.is_empty() => Ok(()),
        None => Err(BuildError::NotLocked { directory: staged.directory(), inputs }.into()),
        Some(lock) => {
            let locked = lock.inputs();
            inputs.retain(|input| !locked.contains(input));
            match inputs.is_empty() {
                true => Ok(()),
                false => Err(BuildError::Unlocked { path: staged.source.lock_path(), inputs }.into()),
            }
        }
    }
}

/// Returns the inputs that a directory takes the place of.
fn given(staged: &Staged) -> BTreeSet<String> {
    let own = staged.overrides.keys().filter(|input| input.is_own());
    own.map(|input| input.as_str().to_owned()).chain([LIBRARY.to_owned()]).collect()
}

/// Locks inputs in the builder and writes the outcome beside `flake.nix`.
///
/// What a directory takes the place of is locked only if it was before: it would be a path of the builder.
pub(super) fn update(
    nix: &mut Nix<'_, '_>,
    request: &BuildRequest,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<(), EngineError> {
    let staged = nix.staged;
    let locked = staged.lock.as_ref().map(Lock::inputs).unwrap_or_default();
    let mut forget = given(staged);
    let updated = |input: &str| request.update_inputs.iter().any(|update| update.as_str() == input);
    forget.retain(|input| !locked.contains(input) || updated(input));
    let mut options = Vec::new();
    let mut put = |input: &str, place: String| {
        options.extend(["--override-input".to_owned(), input.to_owned(), place]);
    };
    if forget.contains(LIBRARY) {
        put(LIBRARY, format!("path:{SOURCE_TARGET}/mvm"));
    }
    for (at, input) in staged.overrides.keys().enumerate() {
        if !input.is_own() || forget.contains(input.as_str()) {
            put(input.as_str(), format!("path:{SOURCE_TARGET}/inputs/{at}"));
        }
    }
    for input in &request.update_inputs {
        options.extend(["--update-input".to_owned(), input.to_string()]);
    }
    let path = staged.source.lock_path();
    let bytes = match nix.lock(&options, cancel)? {
        Ok(bytes) => bytes,
        Err(text) => {
            let online = !request.offline;
            let fetch = ["unable to download", "cannot fetch", "unable to fetch"];
            return Err(match fetch.iter().any(|words| text.contains(words)) {
                true => BuildError::Fetch { text, online },
                false => BuildError::Evaluation { text },
            }
            .into());
        }
    };
    let failed = |source| BuildError::Lock { path: path.clone(), source };
    let lock = Lock::parse(&bytes).map_err(failed)?;
    // Nix passes over a name that no input has.
    let there = lock.inputs();
    let unknown = |input: &&InputName| input.is_own() && !there.contains(input.as_str());
    if let Some(wanted) = request.update_inputs.iter().find(unknown) {
        let (directory, wanted) = (staged.directory(), wanted.clone());
        return Err(BuildError::NoInput { directory, wanted, there }.into());
    }
    let lock = lock.without(&forget);
    if staged.lock.as_ref() == Some(&lock) {
        progress.step(Step::Notice(format!("{} stays as it is", path.display())));
        return Ok(());
    }
    let bytes = lock.to_bytes().map_err(failed)?;
    replace(&path, &bytes).map_err(|source| BuildError::WriteLock { path: path.clone(), source })?;
    let inputs = lock.inputs().into_iter().collect::<Vec<_>>().join(", ");
    let words = if inputs.is_empty() { "nothing, since all inputs are given".to_owned() } else { inputs };
    progress.step(Step::Notice(format!("wrote {}, which locks {words}", path.display())));
    Ok(())
}

/// Writes a file of the user's as a whole, with the mode that it had.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mode = fs::metadata(path).map_or(0o644, |meta| meta.permissions().mode() & 0o777);
    let new = path.with_extension(format!("lock.{}.new", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    let written = file.write_all(bytes).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        // The first error is the one that counts.
        drop(fs::remove_file(&new));
    }
    written
}
