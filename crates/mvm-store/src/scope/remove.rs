//! Removing a reference, and with the last one the image.

use super::Scope;
use super::collect::Collection;
use super::leases::{Stale, holders};
use super::report::Collected;
use crate::error::StoreError;
use crate::index::{Durability, digest, optional_digest};
use mvm_ref::Digest;
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;
use std::collections::BTreeSet;

/// What a removal did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// The references that are gone, sorted.
    pub untagged: Vec<String>,
    /// The files that nothing referred to any more.
    pub deleted: Vec<Collected>,
}

/// What a name or digest stands for.
#[derive(Debug, Default)]
struct Target {
    references: Vec<String>,
    manifests: BTreeSet<Digest>,
    roots: BTreeSet<Digest>,
    layers: BTreeSet<Digest>,
    documents: BTreeSet<Digest>,
}

enum Outcome {
    Untagged(Target),
    Nothing,
    Several(Vec<String>),
    InUse(Vec<String>),
    Pinned,
}

impl Scope {
    /// Removes a reference (canonical text) for all platforms, or an image named by the digest of its
    /// manifest, of its config, or by its root hash.
    ///
    /// What nothing refers to any more is deleted: the image, its documents, and the segments that no other
    /// manifest shares. If the image is leased or pinned, or `users` names some of its root hash, and this is its last
    /// reference, nothing is changed. A digest that several references lead to is refused.
    pub fn remove_reference(
        &self,
        requested: &str,
        users: &dyn Fn(&Digest) -> BTreeSet<String>,
    ) -> Result<Removed, StoreError> {
        let inner = &self.inner;
        let stale = inner.stale_leases()?;
        let outcome = inner.index.write(Durability::Disk, "remove a reference", |connection| {
            untag(connection, requested, &stale, users)
        })?;
        let requested = requested.to_owned();
        let target = match outcome {
            Outcome::Untagged(target) => target,
            Outcome::Nothing => {
                return Err(StoreError::NoReference { requested, scope: inner.name.to_string() });
            }
            Outcome::InUse(holders) => return Err(StoreError::InUse { requested, holders }),
            Outcome::Pinned => return Err(StoreError::Pinned { requested }),
            Outcome::Several(references) => {
                return Err(StoreError::SeveralReferences { requested, references });
            }
        };
        let mut collection = Collection::new(inner, false, stale);
        for root in &target.roots {
            collection.root(root)?;
        }
        collection.segments(Some(&target.layers), None)?;
        collection.documents(Some(&target.documents))?;
        Ok(Removed { untagged: target.references, deleted: collection.report.removed })
    }
}

fn untag(
    connection: &Connection,
    requested: &str,
    stale: &Stale,
    users: &dyn Fn(&Digest) -> BTreeSet<String>,
) -> rusqlite::Result<Outcome> {
    let target = match requested.parse::<Digest>() {
        Ok(digest) => by_digest(connection, &digest)?,
        Err(_) => by_name(connection, requested)?,
    };
    if target.manifests.is_empty() {
        return Ok(Outcome::Nothing);
    }
    if target.references.len() > 1 {
        return Ok(Outcome::Several(target.references));
    }
    for root in &target.roots {
        let mut used = users(root);
        used.extend(holders(connection, root, stale)?);
        if !used.is_empty() && !has_other_reference(connection, root, &target)? {
            return Ok(Outcome::InUse(used.into_iter().collect()));
        }
    }
    for manifest in &target.manifests {
        if is_pinned(connection, manifest)? && !keeps_reference(connection, manifest, &target)? {
            return Ok(Outcome::Pinned);
        }
    }
    for reference in &target.references {
        for manifest in &target.manifests {
            connection
                .prepare_cached("DELETE FROM resolutions WHERE requested = ?1 AND manifest = ?2")?
                .execute(params![reference, manifest.as_bytes()])?;
        }
    }
    Ok(Outcome::Untagged(target))
}

fn has_other_reference(connection: &Connection, root: &Digest, target: &Target) -> rusqlite::Result<bool> {
    let mut query = connection.prepare_cached(
        "SELECT requested, manifest FROM manifests JOIN resolutions USING (manifest) WHERE root = ?1",
    )?;
    let mut rows = query.query([root.as_bytes()])?;
    while let Some(row) = rows.next()? {
        let ours = target.references.contains(&row.get(0)?) && target.manifests.contains(&digest(row, 1)?);
        if !ours {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_pinned(connection: &Connection, manifest: &Digest) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM pins WHERE manifest = ?1")?.exists([manifest.as_bytes()])
}

/// Says whether another name than those that go leads to a manifest.
fn keeps_reference(connection: &Connection, manifest: &Digest, target: &Target) -> rusqlite::Result<bool> {
    let mut query = connection.prepare_cached("SELECT requested FROM resolutions WHERE manifest = ?1")?;
    let mut rows = query.query([manifest.as_bytes()])?;
    while let Some(row) = rows.next()? {
        if !target.references.contains(&row.get(0)?) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn by_name(connection: &Connection, requested: &str) -> rusqlite::Result<Target> {
    let mut target = Target::default();
    let mut query = connection.prepare_cached("SELECT manifest FROM resolutions WHERE requested = ?1")?;
    let mut rows = query.query([requested])?;
    while let Some(row) = rows.next()? {
        target.add(connection, digest(row, 0)?)?;
    }
    target.references = vec![requested.to_owned()];
    Ok(target)
}

fn by_digest(connection: &Connection, named: &Digest) -> rusqlite::Result<Target> {
    let mut target = Target::default();
    let mut query = connection.prepare_cached(
        "SELECT manifest FROM manifests WHERE ?1 IN (manifest, config, root)
         UNION SELECT manifest FROM resolutions WHERE manifest = ?1",
    )?;
    let mut rows = query.query([named.as_bytes()])?;
    while let Some(row) = rows.next()? {
        target.add(connection, digest(row, 0)?)?;
    }
    let mut references = BTreeSet::new();
    for manifest in &target.manifests {
        let mut query = connection.prepare_cached("SELECT requested FROM resolutions WHERE manifest = ?1")?;
        for reference in query.query_map([manifest.as_bytes()], |row| row.get(0))? {
            references.insert(reference?);
        }
    }
    target.references = references.into_iter().collect();
    Ok(target)
}

impl Target {
    /// Adds a manifest with all that only it may need.
    fn add(&mut self, connection: &Connection, manifest: Digest) -> rusqlite::Result<()> {
        self.manifests.insert(manifest);
        self.documents.insert(manifest);
        let key = [manifest.as_bytes()];
        let row = connection
            .prepare_cached("SELECT config, root FROM manifests WHERE manifest = ?1")?
            .query_row(key, |row| Ok((digest(row, 0)?, digest(row, 1)?)))
            .optional()?;
        if let Some((config, root)) = row {
            self.documents.insert(config);
            self.roots.insert(root);
        }
        for layer in connection
            .prepare_cached("SELECT diff_id FROM layers WHERE manifest = ?1")?
            .query_map(key, |row| digest(row, 0))?
        {
            self.layers.insert(layer?);
        }
        for index in connection
            .prepare_cached("SELECT index_digest FROM resolutions WHERE manifest = ?1")?
            .query_map(key, |row| optional_digest(row, 0))?
        {
            self.documents.extend(index?);
        }
        Ok(())
    }
}
