//! Discarding what was found to be damaged, so that nothing is made from it again.

use super::collect::Collection;
use super::report::{Collected, CollectedKind, Reason};
use super::{Inner, Scope};
use crate::error::StoreError;
use crate::index::{Durability, digest};
use crate::lock::{Key, KeyLock};
use mvm_ref::Digest;
use rusqlite::Connection;
use std::collections::BTreeSet;
use std::path::Path;

impl Scope {
    /// Discards an image and the segments that it can have been made from; names and manifests stay, so that it is
    /// found missing and fetched again. Returns what was removed.
    ///
    /// Those who have the image open keep what they have. A segment that somebody is using right now is forgotten
    /// all the same; its files go with the next claim or collection.
    pub fn discard_image(&self, root: &Digest) -> Result<Vec<Collected>, StoreError> {
        let inner = &self.inner;
        let mut removed = Vec::new();
        let layers = {
            // A chain can be about to lead to this file.
            let _turn = KeyLock::acquire(&inner.staging, &Key::root(root), &|| false)?;
            // One transaction, and before the file goes: a segment's data can be the image's very file.
            let layers = inner.index.write(Durability::Disk, "discard an image", |connection| {
                let layers = layers_of(connection, root)?;
                connection.execute("DELETE FROM images WHERE root = ?1", [root.as_bytes()])?;
                forget(connection, &layers)?;
                Ok(layers)
            })?;
            let name = Inner::image_name(root);
            if inner.images.stat(&name)?.is_some() {
                let bytes = inner.images.remove_file(&name)?;
                let path = Path::new("images").join(name);
                removed.push(Collected { kind: CollectedKind::Image, reason: Reason::Damaged, path, bytes });
            }
            layers
        };
        removed.extend(self.remove_forgotten(&layers)?);
        Ok(removed)
    }

    /// Discards the segments of layers, of all generations. Returns what was removed.
    ///
    /// A segment that somebody is using right now is forgotten all the same; its files go with the next claim or
    /// collection.
    pub fn discard_segments(&self, diff_ids: &BTreeSet<Digest>) -> Result<Vec<Collected>, StoreError> {
        self.inner
            .index
            .write(Durability::Disk, "discard segments", |connection| forget(connection, diff_ids))?;
        self.remove_forgotten(diff_ids)
    }

    fn remove_forgotten(&self, diff_ids: &BTreeSet<Digest>) -> Result<Vec<Collected>, StoreError> {
        let inner = &self.inner;
        let mut collection = Collection::new(inner, false, inner.stale_leases()?);
        // What has a row by now was made anew, and stays.
        collection.segments(Some(diff_ids), None)?;
        let damaged = |item| Collected { reason: Reason::Damaged, ..item };
        Ok(collection.report.removed.into_iter().map(damaged).collect())
    }
}

fn layers_of(connection: &Connection, root: &Digest) -> rusqlite::Result<BTreeSet<Digest>> {
    connection
        .prepare_cached("SELECT diff_id FROM layers JOIN manifests USING (manifest) WHERE root = ?1")?
        .query_map([root.as_bytes()], |row| digest(row, 0))?
        .collect()
}

fn forget(connection: &Connection, diff_ids: &BTreeSet<Digest>) -> rusqlite::Result<()> {
    let mut query = connection.prepare_cached("DELETE FROM segments WHERE diff_id = ?1")?;
    for diff_id in diff_ids {
        query.execute([diff_id.as_bytes()])?;
    }
    Ok(())
}
