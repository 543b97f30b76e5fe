//! Names and what they resolved to; manifests and what they became.

use super::{Inner, Scope};
use crate::error::StoreError;
use crate::index::{Durability, digest, optional_digest, parsed};
use mvm_ref::{Digest, Platform};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;

/// What a reference led to when it was last resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ResolutionRecord {
    /// The reference in canonical form.
    pub requested: String,
    /// The platform it was resolved for.
    pub platform: Platform,
    /// The digest of the platform's manifest.
    pub manifest: Digest,
    /// The digest of the index that led there, if one did.
    pub index: Option<Digest>,
    /// When, in seconds since 1970.
    pub resolved_at: i64,
}

/// What a manifest became.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ManifestRecord {
    /// The digest of the manifest.
    pub manifest: Digest,
    /// The digest of its image config.
    pub config: Digest,
    /// The diff IDs of its layers, lowest first.
    pub chain: Vec<Digest>,
    /// The platform in its image config.
    pub platform: Platform,
    /// The root hash of the image that was assembled from it.
    pub root_hash: Digest,
    /// What was checked about it, in the words of the plan.
    pub posture: String,
    /// When, in seconds since 1970.
    pub pulled_at: i64,
}

/// One line of a list of images: a manifest with its names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImageListing {
    /// The references that resolve to the manifest, sorted; empty if all moved on.
    pub references: Vec<String>,
    /// The digest of the manifest.
    pub manifest: Digest,
    /// The digest of its image config.
    pub config: Digest,
    /// The root hash of its image.
    pub root_hash: Digest,
    /// The platform in its image config.
    pub platform: Platform,
    /// The length of the image file in bytes; none if the file is gone and has to be assembled again.
    pub size: Option<u64>,
    /// When it was pulled, in seconds since 1970.
    pub pulled_at: i64,
    /// Whether it stays though no name leads to it.
    pub pinned: bool,
}

const RESOLUTION: &str = "SELECT requested, platform, manifest, index_digest, resolved_at FROM resolutions";

impl Scope {
    /// Records what a reference resolved to, in place of what it resolved to before.
    pub fn record_resolution(&self, record: &ResolutionRecord) -> Result<(), StoreError> {
        let mut named = vec![record.manifest];
        named.extend(record.index);
        // A reference may be resolved without its documents being kept, so an absent one is no error.
        self.inner.sync_documents(&named)?;
        self.inner.index.write(Durability::Disk, "record a resolution", |connection| {
            connection
                .prepare_cached("INSERT OR REPLACE INTO resolutions VALUES (?1, ?2, ?3, ?4, ?5)")?
                .execute(params![
                    record.requested,
                    record.platform.to_string(),
                    record.manifest.as_bytes(),
                    record.index.as_ref().map(Digest::as_bytes),
                    record.resolved_at,
                ])
        })?;
        self.inner.settle_documents(&named);
        Ok(())
    }

    /// Returns what a reference last resolved to for a platform.
    pub fn resolution(
        &self,
        requested: &str,
        platform: &Platform,
    ) -> Result<Option<ResolutionRecord>, StoreError> {
        Ok(self.inner.index.read("look up a reference", |connection| {
            connection
                .prepare_cached(&format!("{RESOLUTION} WHERE requested = ?1 AND platform = ?2"))?
                .query_row(params![requested, platform.to_string()], read_resolution)
                .optional()
        })?)
    }

    /// Returns all resolutions, sorted by reference and platform.
    pub fn resolutions(&self) -> Result<Vec<ResolutionRecord>, StoreError> {
        Ok(self.inner.index.read("list the references", |connection| {
            let mut query =
                connection.prepare_cached(&format!("{RESOLUTION} ORDER BY requested, platform"))?;
            query.query_map([], read_resolution)?.collect()
        })?)
    }

    /// Records what a manifest became. Its manifest and config must have been stored as documents.
    ///
    /// Until a resolution or a lease refers to it too, it lasts only as long as somebody holds the
    /// [`Image`](crate::Image) and the [`Segment`](crate::Segment)s it was made from.
    pub fn record_manifest(&self, record: &ManifestRecord) -> Result<(), StoreError> {
        let documents = [record.manifest, record.config];
        if let Some(&digest) = self.inner.sync_documents(&documents)?.first() {
            return Err(StoreError::DocumentMissing { manifest: record.manifest, digest });
        }
        self.inner
            .index
            .write(Durability::Disk, "record a manifest", |connection| write_manifest(connection, record))?;
        self.inner.settle_documents(&documents);
        Ok(())
    }

    /// Returns what a manifest became.
    pub fn manifest(&self, manifest: &Digest) -> Result<Option<ManifestRecord>, StoreError> {
        Ok(self.inner.index.read("look up a manifest", |connection| read_manifest(connection, manifest))?)
    }

    /// Returns all manifests with their names, the most recently pulled first.
    pub fn list_images(&self) -> Result<Vec<ImageListing>, StoreError> {
        let mut listings = self.inner.index.read("list the images", |connection| {
            let mut references = connection.prepare_cached(
                "SELECT DISTINCT requested FROM resolutions WHERE manifest = ?1 ORDER BY requested",
            )?;
            let mut query = connection.prepare_cached(
                "SELECT manifest, config, root, platform, size, pulled_at,
                 EXISTS (SELECT 1 FROM pins WHERE pins.manifest = manifests.manifest)
                 FROM manifests LEFT JOIN images USING (root) ORDER BY pulled_at DESC, manifest",
            )?;
            let rows = query.query_map([], |row| {
                let manifest = digest(row, 0)?;
                let named = references.query_map([manifest.as_bytes()], |row| row.get(0))?;
                Ok(ImageListing {
                    references: named.collect::<Result<_, _>>()?,
                    manifest,
                    config: digest(row, 1)?,
                    root_hash: digest(row, 2)?,
                    platform: parsed(row, 3)?,
                    size: row.get(4)?,
                    pulled_at: row.get(5)?,
                    pinned: row.get(6)?,
                })
            })?;
            rows.collect::<Result<Vec<_>, _>>()
        })?;
        for listing in &mut listings {
            let length = self.inner.images.file_len(&Inner::image_name(&listing.root_hash))?;
            listing.size = listing.size.filter(|&size| length == Some(size));
        }
        Ok(listings)
    }
}

fn read_resolution(row: &Row<'_>) -> rusqlite::Result<ResolutionRecord> {
    Ok(ResolutionRecord {
        requested: row.get(0)?,
        platform: parsed(row, 1)?,
        manifest: digest(row, 2)?,
        index: optional_digest(row, 3)?,
        resolved_at: row.get(4)?,
    })
}

fn write_manifest(connection: &Connection, record: &ManifestRecord) -> rusqlite::Result<()> {
    let manifest = record.manifest.as_bytes();
    connection.execute("DELETE FROM manifests WHERE manifest = ?1", [manifest])?;
    connection.prepare_cached("INSERT INTO manifests VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(params![
        manifest,
        record.config.as_bytes(),
        record.platform.to_string(),
        record.root_hash.as_bytes(),
        record.posture,
        record.pulled_at,
    ])?;
    let mut layer = connection.prepare_cached("INSERT INTO layers VALUES (?1, ?2, ?3)")?;
    for (position, diff_id) in record.chain.iter().enumerate() {
        layer.execute(params![manifest, position, diff_id.as_bytes()])?;
    }
    Ok(())
}

fn read_manifest(connection: &Connection, manifest: &Digest) -> rusqlite::Result<Option<ManifestRecord>> {
    let chain = connection
        .prepare_cached("SELECT diff_id FROM layers WHERE manifest = ?1 ORDER BY position")?
        .query_map([manifest.as_bytes()], |row| digest(row, 0))?
        .collect::<Result<_, _>>()?;
    connection
        .prepare_cached(
            "SELECT config, platform, root, posture, pulled_at FROM manifests WHERE manifest = ?1",
        )?
        .query_row([manifest.as_bytes()], |row| {
            Ok(ManifestRecord {
                manifest: *manifest,
                config: digest(row, 0)?,
                chain,
                platform: parsed(row, 1)?,
                root_hash: digest(row, 2)?,
                posture: row.get(3)?,
                pulled_at: row.get(4)?,
            })
        })
        .optional()
}
