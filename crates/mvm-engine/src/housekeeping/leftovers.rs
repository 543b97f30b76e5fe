//! What lies outside the scopes and nobody needs any more: initramfs of bundles whose image is gone, signatures kept for
//! scopes that are gone, documents that were half written, notes of used-up plans that have expired; and what killed supervisors left on the host.

use super::{entries, size_below};
use crate::clock;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::used_plans::{Expired, UsedPlans};
use mvm_launch::LaunchError;
use mvm_launch::confinement;
use mvm_ref::{Digest, ScopeName};
use mvm_store::{Collected, CollectedKind, Reason};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

impl Engine {
    /// Removes what lies in the store, and returns what it was. A dry run changes nothing.
    pub(super) fn collect_leftovers(&self, dry_run: bool) -> Result<Vec<Collected>, EngineError> {
        let mut found = Vec::new();
        let mut add = |kind, reason, path: &Path| {
            let bytes = size_below(path)?;
            found.push(Collected { kind, reason, path: path.to_owned(), bytes });
            Ok::<_, EngineError>(())
        };
        for path in self.unneeded_initramfs()? {
            add(CollectedKind::Initramfs, Reason::Unreferenced, &path)?;
        }
        for path in self.signatures_of_nobody()? {
            add(CollectedKind::Signatures, Reason::Unreferenced, &path)?;
        }
        for path in self.half_written()? {
            add(CollectedKind::Leftover, Reason::Abandoned, &path)?;
        }
        for path in self.unneeded_builds()? {
            add(CollectedKind::Leftover, Reason::Expired, &path)?;
        }
        let used = UsedPlans::new(&self.settings.root);
        let expired = used.expired(clock::unix_seconds())?;
        for Expired { path, .. } in &expired {
            add(CollectedKind::UsedPlan, Reason::Expired, path)?;
        }
        if !dry_run {
            used.forget(&expired)?;
            let ours = [CollectedKind::Initramfs, CollectedKind::Signatures, CollectedKind::Leftover];
            for item in found.iter().filter(|item| ours.contains(&item.kind)) {
                remove(&item.path)?;
            }
        }
        Ok(found)
    }

    /// Removes what supervisors that were killed, of whatever store, left on this host: control groups, and locks of
    /// hypervisors' users. A dry run changes nothing.
    pub fn collect_of_host(&self, dry_run: bool) -> Result<Vec<Collected>, EngineError> {
        let left = confinement::sweep(dry_run).map_err(LaunchError::from)?;
        let (kind, reason) = (CollectedKind::Leftover, Reason::Abandoned);
        Ok(left.into_iter().map(|path| Collected { kind, reason, path, bytes: 0 }).collect())
    }

    /// Returns the files of initramfs that no image needs which came with them, in order.
    fn unneeded_initramfs(&self) -> Result<Vec<PathBuf>, EngineError> {
        // Looked at before the images: an import records its image first.
        let files = entries(&self.initramfs_directory())?;
        if files.is_empty() {
            return Ok(files);
        }
        let Some(images) = self.images_of_all_scopes()? else { return Ok(Vec::new()) };
        let needed: BTreeSet<&str> = files
            .iter()
            .filter_map(|path| parts(path))
            .filter(|(_, root)| images.roots.iter().any(|known| known.hex() == *root))
            .map(|(initramfs, _)| initramfs)
            .collect();
        let marked: BTreeSet<&str> =
            files.iter().filter_map(|path| parts(path)).map(|(name, _)| name).collect();
        let stays = |path: &&PathBuf| match path.file_stem().and_then(|stem| stem.to_str()) {
            // It came before there were marks.
            Some(name) if !marked.contains(name) && images.imported => true,
            Some(name) => needed.contains(name),
            None => false,
        };
        let mut unneeded: Vec<PathBuf> = files.iter().filter(|path| !stays(path)).cloned().collect();
        unneeded.sort();
        Ok(unneeded)
    }

    /// Returns what images there are; nothing if a scope doesn't say.
    fn images_of_all_scopes(&self) -> Result<Option<Images>, EngineError> {
        let mut images = Images { roots: self.images_of_vms()?.into_keys().collect(), imported: false };
        for name in self.store.scopes()? {
            let Ok(scope) = self.store.existing_scope(&name) else { return Ok(None) };
            for image in scope.map_or(Ok(Vec::new()), |scope| scope.list_images())? {
                images.roots.insert(image.root_hash);
                images.imported |= image.references.iter().any(|name| name.starts_with("plan:"));
            }
        }
        Ok(Some(images))
    }

    /// Returns the directories of signatures of images whose scope is gone, in order.
    fn signatures_of_nobody(&self) -> Result<Vec<PathBuf>, EngineError> {
        let mut directories = entries(&self.store.cache().join("signatures"))?;
        let scopes: BTreeSet<ScopeName> = self.store.scopes()?.into_iter().collect();
        directories.retain(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
            name.is_none_or(|name: ScopeName| !scopes.contains(&name))
        });
        directories.sort();
        Ok(directories)
    }

    /// Returns the files of signatures and provenance whose writers are gone before they gave them their names, in order.
    fn half_written(&self) -> Result<Vec<PathBuf>, EngineError> {
        let mut files = Vec::new();
        for kind in ["provenance", "signatures"] {
            for scope in entries(&self.store.cache().join(kind))? {
                files.extend(entries(&scope)?.into_iter().filter(|path| is_half_written(path)));
            }
        }
        files.sort();
        Ok(files)
    }
}

/// Says whether a file has the name that `write_atomically` gives it first, `NAME.PROCESS-NUMBER.new`, and the process is gone.
fn is_half_written(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let writer = name.strip_suffix(".new").and_then(|name| name.rsplit_once('.'));
    let process = writer.and_then(|(_, writer)| writer.split_once('-')).map(|(process, _)| process);
    let process = process.and_then(|process| process.parse::<u32>().ok());
    process.is_some_and(|process| !Path::new("/proc").join(process.to_string()).exists())
}

/// The images of a store.
struct Images {
    roots: BTreeSet<Digest>,
    /// Whether some came in a bundle.
    imported: bool,
}

/// Returns the digest of the initramfs and the root hash that a mark has in its name.
fn parts(path: &Path) -> Option<(&str, &str)> {
    let name = path.file_name()?.to_str()?;
    name.split_once('.').filter(|(_, end)| end.len() == 64)
}

fn remove(path: &Path) -> Result<(), EngineError> {
    let is_directory = path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
    match if is_directory { fs::remove_dir_all(path) } else { fs::remove_file(path) } {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(EngineError::Io { act: "remove", path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}
