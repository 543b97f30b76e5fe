//! Pins: images that stay though no name leads to them.

use super::{Scope, now};
use crate::error::StoreError;
use crate::index::{Durability, digest};
use mvm_ref::Digest;
use rusqlite::params;
use std::collections::BTreeSet;

impl Scope {
    /// Pins the image of a manifest: until it is unpinned, neither collection nor removal of its names takes it away.
    /// Returns whether it was not pinned before.
    pub fn pin(&self, manifest: &Digest) -> Result<bool, StoreError> {
        let inner = &self.inner;
        let added = inner.index.write(Durability::Disk, "record a pin", |connection| {
            let known = connection
                .prepare_cached("SELECT 1 FROM manifests WHERE manifest = ?1")?
                .exists([manifest.as_bytes()])?;
            let added = known.then(|| {
                connection.execute(
                    "INSERT OR IGNORE INTO pins VALUES (?1, ?2)",
                    params![manifest.as_bytes(), now()],
                )
            });
            added.transpose()
        })?;
        let absent =
            || StoreError::NoReference { requested: manifest.to_string(), scope: inner.name.to_string() };
        Ok(added.ok_or_else(absent)? > 0)
    }

    /// Takes back the pin of a manifest's image. Returns whether it was pinned.
    pub fn unpin(&self, manifest: &Digest) -> Result<bool, StoreError> {
        let removed = self.inner.index.write(Durability::Disk, "remove a pin", |connection| {
            connection.execute("DELETE FROM pins WHERE manifest = ?1", [manifest.as_bytes()])
        })?;
        Ok(removed > 0)
    }

    /// Returns the manifests whose images are pinned.
    pub fn pins(&self) -> Result<BTreeSet<Digest>, StoreError> {
        Ok(self.inner.index.read("list the pins", |connection| {
            connection
                .prepare_cached("SELECT manifest FROM pins")?
                .query_map([], |row| digest(row, 0))?
                .collect()
        })?)
    }
}
