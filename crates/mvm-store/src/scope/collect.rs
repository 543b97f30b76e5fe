//! Collection: removing what no reference, lease or work in progress reaches.
//!
//! Each thing is removed under the lock that its makers hold and only if its users' lock is free, first the
//! row and then the file. So a pull that runs at the same time keeps what it has, and a kill in the middle
//! leaves at most a file without a row.

use super::leases::{Stale, holders};
use super::{Inner, Scope};
use crate::error::StoreError;
use crate::index::{Durability, IndexError, digest, optional_digest};
use crate::lock::{self, Key, KeyLock, parse_hex};
use mvm_ref::Digest;
use rusqlite::Connection;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

/// What kind of thing was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CollectedKind {
    /// An image file.
    Image,
    /// The files of a segment.
    Segment,
    /// A manifest, index or config.
    Document,
    /// What a maker who is gone left in `staging/`.
    Leftover,
}

impl fmt::Display for CollectedKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Image => "image",
            Self::Segment => "segment",
            Self::Document => "document",
            Self::Leftover => "leftover",
        })
    }
}

/// One thing that was removed, or would be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Collected {
    /// What it was.
    pub kind: CollectedKind,
    /// Where it was, relative to the directory of the scope.
    pub path: PathBuf,
    /// The bytes of disk that it held.
    pub bytes: u64,
}

/// How to collect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GcOptions {
    /// Removes nothing and says what would be removed.
    pub dry_run: bool,
    /// Bytes of disk that segments may hold; beyond, those unused longest go first. None: no limit.
    pub segment_budget: Option<u64>,
}

/// What was collected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GcReport {
    /// What was removed, in order of removal.
    pub removed: Vec<Collected>,
    /// The bytes of disk that it held.
    pub freed: u64,
    /// How many things nothing refers to but somebody is using or making right now.
    pub busy: usize,
}

/// How many things of a kind there are, and the bytes of disk that they hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// Bytes of disk.
    pub bytes: u64,
}

/// What a scope holds on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Image files.
    pub images: Tally,
    /// Segments.
    pub segments: Tally,
    /// Manifests, indexes and configs.
    pub documents: Tally,
    /// Work in progress, and what was left of it.
    pub staging: Tally,
}

impl Scope {
    /// Removes images that no reference or lease reaches, then segments and documents that no manifest
    /// reaches, and what killed processes left behind; syncs the segments that stay.
    ///
    /// Reports what opening the scope removed too, once.
    ///
    /// An image for whose root hash `keep` answers true stays too, with its manifests.
    pub fn gc(&self, options: &GcOptions, keep: &dyn Fn(&Digest) -> bool) -> Result<GcReport, StoreError> {
        let inner = &self.inner;
        let mut collection = Collection::new(inner, options.dry_run, inner.stale_leases()?);
        // Opening this scope was the first part of the collection.
        for leftover in std::mem::take(&mut *inner.swept.lock().unwrap_or_else(PoisonError::into_inner)) {
            collection.note(leftover);
        }
        // First what needs no write to the index, then a folded log, which is written from its start again:
        // so that even a full disk can be collected.
        for leftover in inner.sweep_staging(options.dry_run)? {
            collection.note(leftover);
        }
        if !options.dry_run {
            unless_full(inner.index.fold())?;
            unless_full(inner.drop_leases(&collection.stale))?;
        }
        for root in inner.all_roots()? {
            if !keep(&root) {
                collection.root(&root)?;
            }
        }
        collection.segments(None, options.segment_budget)?;
        collection.documents(None)?;
        // What was removed has made room for the rows that did not fit before.
        for root in std::mem::take(&mut collection.unwritten) {
            collection.root(&root)?;
        }
        let report = collection.report;
        if !options.dry_run {
            unless_full(self.seal_segments())?;
        }
        Ok(report)
    }

    /// Returns what the scope holds on the disk.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let tally = |dir: &crate::dir::Dir| {
            let mut tally = Tally::default();
            for name in dir.names()? {
                tally.count += 1;
                tally.bytes += dir.disk_usage(&name)?;
            }
            Ok::<_, StoreError>(tally)
        };
        let inner = &self.inner;
        Ok(Usage {
            images: tally(&inner.images)?,
            segments: tally(&inner.segments)?,
            documents: tally(&inner.documents)?,
            staging: tally(&inner.staging)?,
        })
    }
}

/// One run of collection.
pub(super) struct Collection<'a> {
    inner: &'a Inner,
    dry_run: bool,
    stale: Stale,
    /// Manifests that are removed, or would be: in a dry run their rows are still there.
    doomed: BTreeSet<Digest>,
    /// Images whose rows did not fit on the disk.
    unwritten: Vec<Digest>,
    pub(super) report: GcReport,
}

/// What is to be done about one image.
struct Verdict {
    dangling: Vec<Digest>,
    remove_image: bool,
    remove_row: bool,
}

impl<'a> Collection<'a> {
    pub(super) fn new(inner: &'a Inner, dry_run: bool, stale: Stale) -> Self {
        let (doomed, unwritten) = (BTreeSet::new(), Vec::new());
        Self { inner, dry_run, stale, doomed, unwritten, report: GcReport::default() }
    }

    fn note(&mut self, collected: Collected) {
        self.report.freed += collected.bytes;
        self.report.removed.push(collected);
    }

    /// Removes the manifests of an image that have no name, and the image if none is left.
    pub(super) fn root(&mut self, root: &Digest) -> Result<(), StoreError> {
        let inner = self.inner;
        let name = Inner::image_name(root);
        let file = inner.images.open_file(&name)?;
        let verdict = inner
            .index
            .read("look for references", |connection| judge(connection, root, file.is_some(), &self.stale))?;
        if verdict.dangling.is_empty() && !verdict.remove_image && !verdict.remove_row {
            return Ok(());
        }
        let Some(_turn) = KeyLock::try_acquire(&inner.staging, &Key::root(root))? else {
            self.report.busy += 1;
            return Ok(());
        };
        // Opened and judged anew: before the lock both may have changed.
        let file = inner.images.open_file(&name)?;
        if let Some(file) = &file
            && !lock::try_exclusive(file, &inner.images.join(&name))?
        {
            self.report.busy += 1;
            return Ok(());
        }
        let judge_again = |connection: &Connection| judge(connection, root, file.is_some(), &self.stale);
        let written = inner.index.write(Durability::Kill, "remove an image", |connection| {
            let verdict = judge_again(connection)?;
            if !self.dry_run {
                execute(connection, root, &verdict)?;
            }
            Ok(verdict)
        });
        let verdict = match written {
            // A row without its file counts for nothing, so on a full disk the file may go first.
            Err(IndexError::Full { .. }) => {
                self.unwritten.push(*root);
                inner.index.read("look for references", judge_again)?
            }
            other => other?,
        };
        self.doomed.extend(verdict.dangling);
        if verdict.remove_image {
            let bytes = inner.images.disk_usage(&name)?;
            if !self.dry_run {
                inner.images.remove_file(&name)?;
            }
            self.note(Collected { kind: CollectedKind::Image, path: Path::new("images").join(name), bytes });
        }
        Ok(())
    }

    /// Removes segments that no manifest reaches or that can't be trusted, then those over the budget.
    /// With `only`, looks at no other layers than these.
    pub(super) fn segments(
        &mut self,
        only: Option<&BTreeSet<Digest>>,
        budget: Option<u64>,
    ) -> Result<(), StoreError> {
        let inner = self.inner;
        let rows = inner.segment_rows()?;
        let reached = inner.reached_layers(&self.doomed)?;
        let mut names: BTreeMap<String, (Digest, u32)> = BTreeMap::new();
        for &(diff_id, generation) in rows.keys() {
            names.insert(Inner::segment_name(&diff_id, generation), (diff_id, generation));
        }
        for name in inner.segments.names()? {
            if let Some(key) = parse_segment(&name) {
                names.insert(name, key);
            }
        }
        names.retain(|_, (diff_id, _)| only.is_none_or(|only| only.contains(diff_id)));
        let mut kept = Vec::new();
        let mut total = 0;
        for (name, key) in names {
            let bytes = inner.segments.disk_usage(&name)?;
            let present = inner.segments.stat(&name)?.is_some();
            match rows.get(&key) {
                Some(&Some(last_used)) if present && reached.contains(&key.0) => {
                    total += bytes;
                    kept.push((last_used, name, key, bytes));
                }
                _ => self.segment(name, key, bytes)?,
            }
        }
        kept.sort();
        for (_, name, key, bytes) in kept {
            if budget.is_none_or(|budget| total <= budget) {
                break;
            }
            self.segment(name, key, bytes)?;
            total -= bytes;
        }
        Ok(())
    }

    fn segment(&mut self, name: String, key: (Digest, u32), bytes: u64) -> Result<(), StoreError> {
        let inner = self.inner;
        let (diff_id, generation) = key;
        let Some(_turn) = KeyLock::try_acquire(&inner.staging, &Key::segment(&diff_id, generation))? else {
            self.report.busy += 1;
            return Ok(());
        };
        let dir = inner.segments.open_dir(&name)?;
        if let Some(dir) = &dir
            && !lock::try_exclusive(dir, dir.path())?
        {
            self.report.busy += 1;
            return Ok(());
        }
        if !self.dry_run {
            unless_full(inner.forget_segment(&diff_id, generation))?;
            inner.segments.remove_tree(&name)?;
        }
        if dir.is_some() {
            self.note(Collected {
                kind: CollectedKind::Segment,
                path: Path::new("segments").join(name),
                bytes,
            });
        }
        Ok(())
    }

    /// Removes documents that no manifest or resolution names. With `only`, looks at no others than these.
    pub(super) fn documents(&mut self, only: Option<&BTreeSet<Digest>>) -> Result<(), StoreError> {
        let inner = self.inner;
        let turn = inner.documents.reopen()?;
        let free = lock::try_exclusive(&turn, turn.path())?;
        // Only now: those who hold the lock name their documents before they let go of it.
        let named = inner.named_documents(&self.doomed)?;
        for name in inner.documents.names()? {
            let Some(digest) = parse_hex(&name) else { continue };
            if named.contains(&digest) || only.is_some_and(|only| !only.contains(&digest)) {
                continue;
            }
            if !free {
                self.report.busy += 1;
                continue;
            }
            let bytes = inner.documents.disk_usage(&name)?;
            if !self.dry_run {
                inner.documents.remove_file(&name)?;
            }
            self.note(Collected {
                kind: CollectedKind::Document,
                path: Path::new("documents").join(name),
                bytes,
            });
        }
        Ok(())
    }
}

/// Lets a full disk pass in what collection can do without.
fn unless_full<T, E: Into<StoreError>>(result: Result<T, E>) -> Result<(), StoreError> {
    match result.map_err(Into::into) {
        Err(StoreError::Index(IndexError::Full { .. })) | Ok(_) => Ok(()),
        Err(error) => Err(error),
    }
}

fn judge(connection: &Connection, root: &Digest, has_file: bool, stale: &Stale) -> rusqlite::Result<Verdict> {
    let has_row =
        connection.prepare_cached("SELECT 1 FROM images WHERE root = ?1")?.exists([root.as_bytes()])?;
    if !holders(connection, root, stale)?.is_empty() {
        return Ok(Verdict { dangling: Vec::new(), remove_image: false, remove_row: has_row && !has_file });
    }
    let mut dangling = Vec::new();
    let mut named = 0;
    let mut query = connection.prepare_cached(
        "SELECT manifest, EXISTS (SELECT 1 FROM resolutions WHERE resolutions.manifest = manifests.manifest)
         FROM manifests WHERE root = ?1",
    )?;
    let mut rows = query.query([root.as_bytes()])?;
    while let Some(row) = rows.next()? {
        if row.get(1)? {
            named += 1;
        } else {
            dangling.push(digest(row, 0)?);
        }
    }
    let unreached = named == 0 || !has_row;
    Ok(Verdict {
        dangling,
        remove_image: has_file && unreached,
        remove_row: has_row && (unreached || !has_file),
    })
}

fn execute(connection: &Connection, root: &Digest, verdict: &Verdict) -> rusqlite::Result<()> {
    for manifest in &verdict.dangling {
        connection
            .prepare_cached("DELETE FROM manifests WHERE manifest = ?1")?
            .execute([manifest.as_bytes()])?;
    }
    if verdict.remove_row {
        connection.prepare_cached("DELETE FROM images WHERE root = ?1")?.execute([root.as_bytes()])?;
    }
    Ok(())
}

fn parse_segment(name: &str) -> Option<(Digest, u32)> {
    let (hex, generation) = name.split_once("-g")?;
    let key = (parse_hex(hex)?, generation.parse().ok()?);
    (Inner::segment_name(&key.0, key.1) == name).then_some(key)
}

impl Inner {
    /// Returns the root hashes of all rows and files.
    fn all_roots(&self) -> Result<BTreeSet<Digest>, StoreError> {
        let mut roots: BTreeSet<Digest> = self.index.read("list the images", |connection| {
            connection
                .prepare_cached("SELECT root FROM images UNION SELECT root FROM manifests")?
                .query_map([], |row| digest(row, 0))?
                .collect()
        })?;
        roots.extend(
            self.images.names()?.iter().filter_map(|name| name.strip_suffix(".img")).filter_map(parse_hex),
        );
        Ok(roots)
    }

    /// Returns when each segment that can be trusted was last used.
    fn segment_rows(&self) -> Result<BTreeMap<(Digest, u32), Option<i64>>, StoreError> {
        Ok(self.index.read("list the segments", |connection| {
            connection
                .prepare_cached(
                    "SELECT diff_id, generation, last_used, sealed OR boot_id = ?1 FROM segments",
                )?
                .query_map([&self.host.boot_id], |row| {
                    let last_used = row.get::<_, bool>(3)?.then(|| row.get(2)).transpose()?;
                    Ok(((digest(row, 0)?, row.get(1)?), last_used))
                })?
                .collect()
        })?)
    }

    fn reached_layers(&self, doomed: &BTreeSet<Digest>) -> Result<BTreeSet<Digest>, StoreError> {
        let layers = self.index.read("list the layers", |connection| {
            connection
                .prepare_cached("SELECT manifest, diff_id FROM layers")?
                .query_map([], |row| Ok((digest(row, 0)?, digest(row, 1)?)))?
                .collect::<Result<Vec<_>, _>>()
        })?;
        Ok(layers.into_iter().filter(|(manifest, _)| !doomed.contains(manifest)).map(|(_, id)| id).collect())
    }

    fn named_documents(&self, doomed: &BTreeSet<Digest>) -> Result<BTreeSet<Digest>, StoreError> {
        let mut named = BTreeSet::new();
        self.index.read("list the documents", |connection| {
            let mut query = connection.prepare_cached("SELECT manifest, config FROM manifests")?;
            let mut rows = query.query([])?;
            while let Some(row) = rows.next()? {
                let manifest = digest(row, 0)?;
                if !doomed.contains(&manifest) {
                    named.extend([manifest, digest(row, 1)?]);
                }
            }
            let mut query = connection.prepare_cached("SELECT manifest, index_digest FROM resolutions")?;
            let mut rows = query.query([])?;
            while let Some(row) = rows.next()? {
                named.insert(digest(row, 0)?);
                named.extend(optional_digest(row, 1)?);
            }
            Ok(())
        })?;
        Ok(named)
    }
}
