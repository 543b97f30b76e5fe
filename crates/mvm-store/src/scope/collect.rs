//! Collection: removing what no reference, lease or work in progress reaches.
//!
//! Each thing is removed under the lock that its makers hold and only if its users' lock is free, first the
//! row and then the file. So a pull that runs at the same time keeps what it has, and a kill in the middle
//! leaves at most a file without a row.

use super::leases::{Stale, holders};
use super::report::{Collected, CollectedKind, GcOptions, GcReport, Reason};
use super::segments::Segment;
use super::usage::Freed;
use super::{Inner, Scope};
use crate::dir::FileError;
use crate::error::StoreError;
use crate::index::{Durability, IndexError, digest, optional_digest};
use crate::lock::{self, Key, KeyLock, parse_hex};
use mvm_ref::Digest;
use rusqlite::{Connection, OptionalExtension};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::PoisonError;

impl Scope {
    /// Removes images that no reference, pin or lease reaches, then segments and documents that no manifest
    /// reaches, what killed processes left behind, and what is not as it was stored; syncs the segments that stay.
    ///
    /// Reports what opening the scope removed too, once.
    ///
    /// An image for whose root hash `keep` answers true stays too, with its manifests.
    pub fn gc(&self, options: &GcOptions, keep: &dyn Fn(&Digest) -> bool) -> Result<GcReport, StoreError> {
        if options.dry_run {
            return self.collect(options, keep);
        }
        let index = &self.inner.index;
        // Each fold waits for the disk, and what is removed takes many transactions.
        index.hold_folding(true)?;
        let report = self.collect(options, keep);
        index.hold_folding(false)?;
        unless_full(index.fold())?;
        report
    }

    fn collect(&self, options: &GcOptions, keep: &dyn Fn(&Digest) -> bool) -> Result<GcReport, StoreError> {
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

    /// Removes segments that nobody uses right now, those unused longest first, until they hold no more than `budget`
    /// bytes of disk for themselves. Where they seem to hold less already, nothing is looked at.
    pub fn trim_segments(&self, budget: u64) -> Result<GcReport, StoreError> {
        let inner = &self.inner;
        // A little more than the files hold, as a rule.
        let estimate: Option<u64> = inner.index.read("add up the segments", |connection| {
            connection
                .prepare_cached("SELECT SUM(blocks * 4128 + tail_bytes + index_bytes + entries * 1024 + 20480) FROM segments")?
                .query_row([], |row| row.get(0))
        })?;
        let mut collection = Collection::new(inner, false, Stale::default());
        if estimate.unwrap_or(0) > budget {
            collection.segments(None, Some(budget))?;
        }
        Ok(collection.report)
    }

    /// Removes those of some segments that no manifest reaches and nobody uses right now, and returns what was removed.
    pub fn drop_segments(&self, diff_ids: &BTreeSet<Digest>) -> Result<Vec<Collected>, StoreError> {
        let mut collection = Collection::new(&self.inner, false, Stale::default());
        collection.segments(Some(diff_ids), None)?;
        Ok(collection.report.removed)
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
    freed: Freed,
    pub(super) report: GcReport,
}

/// What is to be done about one image.
struct Verdict {
    dangling: Vec<Digest>,
    remove_image: bool,
    remove_row: bool,
    reason: Reason,
}

/// A segment that is in the index, or in its directory, or both.
struct Found {
    key: (Digest, u32),
    files: Vec<rustix::fs::Stat>,
    is_present: bool,
}

impl<'a> Collection<'a> {
    pub(super) fn new(inner: &'a Inner, dry_run: bool, stale: Stale) -> Self {
        let (doomed, unwritten, freed) = (BTreeSet::new(), Vec::new(), Freed::new(dry_run));
        Self { inner, dry_run, stale, doomed, unwritten, freed, report: GcReport::default() }
    }

    fn note(&mut self, collected: Collected) {
        self.report.freed += collected.bytes;
        self.report.removed.push(collected);
    }

    /// Removes the manifests of an image that have no name, and the image if none is left.
    pub(super) fn root(&mut self, root: &Digest) -> Result<(), StoreError> {
        let inner = self.inner;
        let name = Inner::image_name(root);
        let length = length_of(inner.images.open_file(&name)?.as_ref(), inner, &name)?;
        let verdict = inner
            .index
            .read("look for references", |connection| judge(connection, root, length, &self.stale))?;
        if verdict.dangling.is_empty() && !verdict.remove_image && !verdict.remove_row {
            return Ok(());
        }
        let Some(_turn) = KeyLock::turn(&inner.staging, &Key::root(root), self.dry_run)? else {
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
        let length = length_of(file.as_ref(), inner, &name)?;
        let judge_again = |connection: &Connection| judge(connection, root, length, &self.stale);
        let written = if self.dry_run {
            inner.index.read("look for references", judge_again)
        } else {
            inner.index.write(Durability::Kill, "remove an image", |connection| {
                let verdict = judge_again(connection)?;
                execute(connection, root, &verdict)?;
                Ok(verdict)
            })
        };
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
            let bytes = self.freed.remove(&inner.images.files(&name)?);
            if !self.dry_run {
                inner.images.remove_file(&name)?;
            }
            self.removed(CollectedKind::Image, verdict.reason, &name, bytes);
        } else if verdict.reason == Reason::Lost && !self.has_removed(&name) {
            self.removed(CollectedKind::Image, verdict.reason, &name, 0);
        }
        Ok(())
    }

    /// Says whether this run has removed an image's file already, before its row could go.
    fn has_removed(&self, name: &str) -> bool {
        let path = Path::new("images").join(name);
        self.report.removed.iter().any(|item| item.path == path)
    }

    fn removed(&mut self, kind: CollectedKind, reason: Reason, name: &str, bytes: u64) {
        let directory = match kind {
            CollectedKind::Image => "images",
            CollectedKind::Segment => "segments",
            CollectedKind::Document => "documents",
            // All others are outside of scopes.
            _ => "staging",
        };
        self.note(Collected { kind, reason, path: Path::new(directory).join(name), bytes });
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
            let dir = inner.segments.open_dir(&name)?;
            let files = dir.as_ref().map_or(Ok(Vec::new()), |_| inner.segments.files(&name))?;
            let found = Found { key, files, is_present: dir.is_some() };
            let reason = match (rows.get(&key), &dir) {
                (_, None) => Reason::Lost,
                (None, _) => Reason::Unrecorded,
                (Some(_), _) if !reached.contains(&key.0) => Reason::Unreferenced,
                (Some(row), _) if !row.is_trusted => Reason::Unsynced,
                (Some(row), Some(dir)) if !Segment::is_whole(dir, &row.record)? => Reason::Torn,
                (Some(row), _) => {
                    // What an image has too costs nothing.
                    total += self.freed.with(&found.files);
                    kept.push((row.last_used, name, found));
                    continue;
                }
            };
            self.segment(&name, &found, reason)?;
        }
        kept.sort_by(|(a_used, a, _), (b_used, b, _)| (a_used, a).cmp(&(b_used, b)));
        for (_, name, found) in kept {
            if budget.is_none_or(|budget| total <= budget) {
                break;
            }
            total -= self.segment(&name, &found, Reason::OverBudget)?;
        }
        Ok(())
    }

    /// Removes a segment unless somebody uses it, and returns the bytes that became free.
    fn segment(&mut self, name: &str, found: &Found, reason: Reason) -> Result<u64, StoreError> {
        let inner = self.inner;
        let (diff_id, generation) = found.key;
        let key = Key::segment(&diff_id, generation);
        let Some(_turn) = KeyLock::turn(&inner.staging, &key, self.dry_run)? else {
            self.report.busy += 1;
            return Ok(0);
        };
        let dir = inner.segments.open_dir(name)?;
        if dir.is_some() != found.is_present {
            // Somebody was faster; what is there now is as new as can be.
            return Ok(0);
        }
        if let Some(dir) = &dir
            && !lock::try_exclusive(dir, dir.path())?
        {
            self.report.busy += 1;
            return Ok(0);
        }
        let bytes = self.freed.remove(&found.files);
        if !self.dry_run {
            unless_full(inner.forget_segment(&diff_id, generation))?;
            inner.segments.remove_tree(name)?;
        }
        self.removed(CollectedKind::Segment, reason, name, bytes);
        Ok(bytes)
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
            let bytes = self.freed.remove(&inner.documents.files(&name)?);
            if !self.dry_run {
                inner.documents.remove_file(&name)?;
            }
            self.removed(CollectedKind::Document, Reason::Unreferenced, &name, bytes);
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

/// Returns the length of an image's file, none if there is none.
fn length_of(file: Option<&std::fs::File>, inner: &Inner, name: &str) -> Result<Option<u64>, FileError> {
    let inspect = |error| FileError::new("inspect", inner.images.join(name), error);
    file.map(|file| Ok(file.metadata().map_err(inspect)?.len())).transpose()
}

fn judge(
    connection: &Connection,
    root: &Digest,
    length: Option<u64>,
    stale: &Stale,
) -> rusqlite::Result<Verdict> {
    let size: Option<u64> = connection
        .prepare_cached("SELECT size FROM images WHERE root = ?1")?
        .query_row([root.as_bytes()], |row| row.get(0))
        .optional()?;
    let (has_row, has_file) = (size.is_some(), length.is_some());
    if !holders(connection, root, stale)?.is_empty() {
        let remove_row = has_row && !has_file;
        let reason = if remove_row { Reason::Lost } else { Reason::Unreferenced };
        return Ok(Verdict { dangling: Vec::new(), remove_image: false, remove_row, reason });
    }
    let mut dangling = Vec::new();
    let mut named = 0;
    let mut query = connection.prepare_cached(
        "SELECT manifest, EXISTS (SELECT 1 FROM resolutions WHERE resolutions.manifest = manifests.manifest)
         OR EXISTS (SELECT 1 FROM pins WHERE pins.manifest = manifests.manifest)
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
    let is_torn = has_row && has_file && size != length;
    let unreached = named == 0 || !has_row;
    Ok(Verdict {
        dangling,
        remove_image: has_file && (unreached || is_torn),
        remove_row: has_row && (unreached || is_torn || !has_file),
        reason: match (has_row, has_file) {
            (true, false) => Reason::Lost,
            (false, true) => Reason::Unrecorded,
            _ if is_torn && named > 0 => Reason::Torn,
            _ => Reason::Unreferenced,
        },
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
