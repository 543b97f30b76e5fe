//! What can be done with a flake beside building it: to list its outputs, to evaluate all of them, to begin a new one.

use super::SYSTEM;
use super::build::close;
use super::error::BuildError;
use super::kept::{BuildOutcome, LogWriter};
use super::library::FlakeLibrary;
use super::locking;
use super::log::BuildLog;
use super::nix::Nix;
use super::request::BuildRequest;
use super::stage::Staged;
use crate::engine::Engine;
use crate::error::{EngineError, chain};
use crate::policies;
use crate::progress::{Cancel, Progress};
use mvm_ref::FlakeReference;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// What a flake has.
#[derive(Clone, Debug, Serialize)]
pub struct FlakeOutputs {
    /// The flake, with the full path of its directory.
    pub flake: FlakeReference,
    /// Its packages by system.
    pub packages: BTreeMap<String, Vec<String>>,
}

/// The template where none is named.
const TEMPLATE: &str = "static";

impl Engine {
    /// Lists the packages of a flake, without evaluating them.
    pub fn show_flake(
        &self,
        request: &BuildRequest,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<FlakeOutputs, EngineError> {
        const NAMES: &str = "p: builtins.mapAttrs (_: builtins.attrNames) p";
        self.evaluated(request, progress, cancel, |nix, log| {
            let packages = nix.evaluate("packages", NAMES, log, progress, cancel)?;
            Ok(packages.map(|packages| FlakeOutputs { flake: nix.staged.flake.clone(), packages }))
        })
    }

    /// Evaluates all packages of a flake for this system, and returns the derivation of each.
    pub fn check_flake(
        &self,
        request: &BuildRequest,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<BTreeMap<String, String>, EngineError> {
        const PATHS: &str = "builtins.mapAttrs (_: guest: guest.drvPath)";
        let packages = format!("packages.{SYSTEM}");
        self.evaluated(request, progress, cancel, |nix, log| {
            nix.evaluate(&packages, PATHS, log, progress, cancel)
        })
    }

    /// Evaluates something of a flake in the builder.
    fn evaluated<T>(
        &self,
        request: &BuildRequest,
        progress: &dyn Progress,
        cancel: &Cancel,
        work: impl FnOnce(&mut Nix<'_, '_>, (&mut BuildLog, &mut LogWriter)) -> Result<Option<T>, EngineError>,
    ) -> Result<T, EngineError> {
        let policy = policies::load(&request.policy)?;
        let staged = Staged::find(request, self.settings.flake_library)?;
        locking::check_policy(&policy, request, &staged)?;
        staged.tell(progress);
        let mut session = self.open_for(request, &staged, progress, cancel)?;
        let version = session.nix_version().to_owned();
        let mut writer = self.begin_log()?;
        let mut nix = Nix { session: &mut session, staged: &staged, offline: request.offline };
        let mut log = BuildLog::default();
        let done = nix.check().map_err(EngineError::from).and_then(|()| {
            locking::check_locked(&mut nix, cancel)?;
            match work(&mut nix, (&mut log, &mut writer))? {
                Some(value) => Ok(value),
                None => Err(nix.failure(&log, &writer.id, cancel).into()),
            }
        });
        let value = match done {
            Ok(value) => value,
            Err(error) => {
                let outcome = BuildOutcome::Failed { message: chain(&error) };
                writer.finish((&staged.flake, &version), 0, outcome)?;
                close(session, Some(&error))?;
                return Err(error);
            }
        };
        writer.discard()?;
        session.close()?;
        Ok(value)
    }
}

/// Begins a flake in a directory, from a template of the library. Returns the files that were written.
pub fn init_flake(
    library: &FlakeLibrary,
    directory: &Path,
    template: Option<&str>,
) -> Result<Vec<PathBuf>, EngineError> {
    let name = template.unwrap_or(TEMPLATE);
    let files = library.template(name);
    if files.is_empty() {
        return Err(BuildError::NoTemplate { name: name.to_owned(), there: library.templates() }.into());
    }
    let paths: Vec<PathBuf> = files.iter().map(|(path, _)| directory.join(path)).collect();
    // Before anything is written.
    if let Some(there) = paths.iter().find(|path| path.symlink_metadata().is_ok()) {
        return Err(BuildError::InTheWay(there.clone()).into());
    }
    for (path, (_, bytes)) in paths.iter().zip(files) {
        let failed = |act| {
            let path = path.clone();
            move |source: io::Error| BuildError::Io { act, path, source }
        };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed("make the directory of"))?;
        }
        let file = OpenOptions::new().write(true).create_new(true).open(path);
        file.and_then(|mut file| file.write_all(bytes)).map_err(failed("write"))?;
    }
    Ok(paths)
}
