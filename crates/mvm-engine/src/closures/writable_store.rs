//! What a root has for a guest that builds into its own store: what its paths are, in the words of `nix-store --load-db`, a
//! root of garbage collection, and settings.

use super::ImportError;
use mvm_image::segment::read_index;
use mvm_ref::GuestDefinition;
use mvm_ref::nix::{Closure, StorePath};
use mvm_store::Segment;
use mvm_tree::Change;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::BufReader;

/// Files of the root beside the store.
pub(super) struct WritableStore {
    /// The package of Nix.
    pub nix: StorePath,
    /// What is built, which keeps all paths of the root.
    pub output: StorePath,
    /// The description of all paths.
    pub registration: String,
}

/// Builds run as root, in the sandbox, without users of their own.
pub(super) const SETTINGS: &str = "build-users-group =\nexperimental-features = nix-command flakes\n";

impl WritableStore {
    /// Finds the package of Nix in a guest and describes its paths.
    pub fn of(
        guest: &GuestDefinition,
        closure: &Closure,
        output: &StorePath,
        segments: &BTreeMap<StorePath, Segment>,
    ) -> Result<Self, ImportError> {
        for package in &guest.packages {
            if has_program(package, &segments[package])? {
                let (nix, output) = (package.clone(), output.clone());
                return Ok(Self { nix, output, registration: registration(closure) });
            }
        }
        Err(ImportError::NoNix)
    }
}

fn has_program(package: &StorePath, segment: &Segment) -> Result<bool, ImportError> {
    let program = format!("{package}/bin/nix-store");
    let program = program.trim_start_matches('/').as_bytes();
    let mut found = false;
    read_index(BufReader::new(&segment.open()?.index), |change| {
        found |= matches!(&change, Change::Put { path, .. } if **path == *program);
        Ok::<_, Infallible>(())
    })?;
    Ok(found)
}

/// Describes each path by its lines: path, hash and size of its NAR, deriver, number of references, references
/// (`decodeValidPathInfo` of Nix). The deriver is left out: the same path may have been made by several.
fn registration(closure: &Closure) -> String {
    let mut text = String::new();
    for info in closure.paths() {
        let hash = info.nar_hash.digest().hex();
        text.push_str(&format!("{}\n{hash}\n{}\n\n{}\n", info.path, info.nar_size, info.references.len()));
        for reference in &info.references {
            text.push_str(&format!("{reference}\n"));
        }
    }
    text
}
