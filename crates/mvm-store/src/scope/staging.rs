//! `staging/`: what is being made, each under the lock of its maker.

use super::documents;
use super::report::{Collected, CollectedKind, Reason};
use super::{Inner, Scope};
use crate::dir::{Dir, FileError};
use crate::error::StoreError;
use crate::lock::{self, Key, KeyLock};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// An entry of `staging/` that is removed on drop unless it was moved into place.
#[derive(Debug)]
pub(super) struct Staged {
    staging: Arc<Dir>,
    name: String,
    moved: bool,
}

impl Staged {
    /// Takes charge of the entry `name`, removing what an earlier maker left there.
    pub(super) fn new(staging: &Arc<Dir>, name: String) -> Result<Self, FileError> {
        staging.remove_tree(&name)?;
        Ok(Self { staging: Arc::clone(staging), name, moved: false })
    }

    /// Returns the name of the entry.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Moves the entry to where it becomes visible.
    pub(super) fn move_to(mut self, dir: &Dir, name: &str) -> Result<(), FileError> {
        self.staging.rename(&self.name, dir, name)?;
        self.moved = true;
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.moved {
            // If this fails, the entry stays without a holder, and the next open of the scope removes it.
            drop(self.staging.remove_tree(&self.name));
        }
    }
}

impl Scope {
    /// Returns an empty file of the store's file system that has no name: nothing of it is left once it is closed.
    pub fn scratch_file(&self) -> Result<File, StoreError> {
        Ok(self.inner.staging.unnamed_file()?)
    }
}

impl Inner {
    /// Removes what makers who are gone left behind; with `dry_run` only says what that would be.
    pub(super) fn sweep_staging(&self, dry_run: bool) -> Result<Vec<Collected>, StoreError> {
        let mut removed = Vec::new();
        let mut works: BTreeMap<Key, Vec<String>> = BTreeMap::new();
        let mut drafts = Vec::new();
        for name in self.staging.names()? {
            match Key::of_entry(&name) {
                Some(key) => works.entry(key).or_default().push(name),
                None if documents::is_draft(&name) => drafts.push(name),
                None => {}
            }
        }
        for (key, names) in works {
            // Whoever holds the lock is still at it.
            if let Some(_turn) = KeyLock::turn(&self.staging, &key, dry_run)? {
                self.remove_leftovers(&names, dry_run, &mut removed)?;
            }
        }
        if !drafts.is_empty() {
            // Those who write documents hold this shared.
            let turn = self.documents.reopen()?;
            if lock::try_exclusive(&turn, turn.path())? {
                self.remove_leftovers(&drafts, dry_run, &mut removed)?;
            }
        }
        Ok(removed)
    }

    fn remove_leftovers(
        &self,
        names: &[String],
        dry_run: bool,
        removed: &mut Vec<Collected>,
    ) -> Result<(), FileError> {
        for name in names.iter().filter(|name| !name.ends_with(".lock")) {
            let bytes = if dry_run {
                Self::freed_by(&self.staging, name)?
            } else {
                self.staging.remove_tree(name)?
            };
            removed.push(Collected {
                kind: CollectedKind::Leftover,
                reason: Reason::Abandoned,
                path: Path::new("staging").join(name),
                bytes,
            });
        }
        Ok(())
    }
}
