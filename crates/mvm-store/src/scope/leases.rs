//! Leases: who needs an image now, so that collection and removal leave it.

use super::{Inner, Scope, now};
use crate::error::StoreError;
use crate::host::{Host, ProcessError, ProcessId};
use crate::index::{Durability, digest};
use mvm_ref::Digest;
use rusqlite::{Connection, params};
use serde::Serialize;
use std::collections::BTreeSet;

/// How long a lease lasts if nobody releases it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseTerm {
    /// Until it is released: for a record on the disk, such as that of a stopped VM.
    Durable,
    /// As long as a process lives.
    Process(ProcessId),
}

/// One lease as the index holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeaseRecord {
    /// The root hash of the leased image.
    pub root_hash: Digest,
    /// Who holds it, for example `vm:NAME`.
    pub holder: String,
    /// The process that it ends with; none for a durable lease.
    pub pid: Option<u32>,
    /// When it was taken, in seconds since 1970.
    pub leased_at: i64,
}

/// A row of the table, with all that tells whether its process lives.
#[derive(Debug)]
pub(super) struct LeaseRow {
    record: LeaseRecord,
    start_time: Option<u64>,
    boot_id: Option<String>,
    pid_namespace: Option<String>,
}

/// The leases whose process was seen to be gone. Kept apart from the transaction that needs to know, since
/// looking up a process can fail; a lease taken anew under the same name names another process.
#[derive(Debug, Default)]
pub(super) struct Stale(BTreeSet<StaleKey>);

type StaleKey = (Digest, String, Option<u32>, Option<u64>);

impl Scope {
    /// Leases an image to `holder`; a lease that this holder has on it already changes its term.
    ///
    /// Fails with [`StoreError::NoImage`] if the image was collected meanwhile: claim it again.
    pub fn lease(&self, root: &Digest, holder: &str, term: LeaseTerm) -> Result<(), StoreError> {
        let host = &self.inner.host;
        let (durability, process) = match term {
            LeaseTerm::Durable => (Durability::Disk, None),
            // After a loss of power the process is gone too.
            LeaseTerm::Process(process) => (Durability::Kill, Some(process)),
        };
        let leased = self.inner.index.write(durability, "record a lease", |connection| {
            let known = connection
                .prepare_cached("SELECT 1 FROM images WHERE root = ?1")?
                .exists([root.as_bytes()])?;
            if known {
                connection
                    .prepare_cached("INSERT OR REPLACE INTO leases VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
                    .execute(params![
                        root.as_bytes(),
                        holder,
                        process.map(|process| process.pid()),
                        process.map(|process| process.start_time()),
                        process.map(|_| &host.boot_id),
                        process.map(|_| &host.pid_namespace),
                        now(),
                    ])?;
            }
            Ok(known)
        })?;
        if leased { Ok(()) } else { Err(StoreError::NoImage { root: *root }) }
    }

    /// Releases all leases of `holder` in this scope and returns how many there were.
    pub fn release(&self, holder: &str) -> Result<usize, StoreError> {
        let has_some = self.inner.index.read("look up a lease", |connection| {
            connection.prepare_cached("SELECT 1 FROM leases WHERE holder = ?1")?.exists([holder])
        })?;
        if !has_some {
            return Ok(0);
        }
        Ok(self.inner.index.write(Durability::Kill, "release a lease", |connection| {
            connection.prepare_cached("DELETE FROM leases WHERE holder = ?1")?.execute([holder])
        })?)
    }

    /// Returns the leases that hold, sorted by root hash and holder.
    pub fn leases(&self) -> Result<Vec<LeaseRecord>, StoreError> {
        let stale = self.inner.stale_leases()?;
        let rows = self.inner.index.read("list the leases", |connection| leases(connection, None))?;
        Ok(rows.into_iter().filter(|row| !stale.has(row)).map(|row| row.record).collect())
    }
}

impl LeaseRow {
    /// Says whether the lease still holds.
    ///
    /// A process of another process namespace can't be looked up, so its lease holds until the next boot.
    fn holds(&self, host: &Host) -> Result<bool, ProcessError> {
        let (Some(pid), Some(start_time)) = (self.record.pid, self.start_time) else { return Ok(true) };
        if self.boot_id.as_ref() != Some(&host.boot_id) {
            return Ok(false);
        }
        if self.pid_namespace.as_ref() != Some(&host.pid_namespace) {
            return Ok(true);
        }
        ProcessId::from_parts(pid, start_time).is_alive()
    }

    fn key(&self) -> StaleKey {
        (self.record.root_hash, self.record.holder.clone(), self.record.pid, self.start_time)
    }
}

impl Stale {
    fn has(&self, row: &LeaseRow) -> bool {
        self.0.contains(&row.key())
    }
}

impl Inner {
    /// Returns the leases whose process is gone.
    pub(super) fn stale_leases(&self) -> Result<Stale, StoreError> {
        let mut stale = Stale::default();
        for row in self.index.read("list the leases", |connection| leases(connection, None))? {
            if !row.holds(&self.host)? {
                stale.0.insert(row.key());
            }
        }
        Ok(stale)
    }

    /// Forgets leases whose process is gone.
    pub(super) fn drop_leases(&self, stale: &Stale) -> Result<(), StoreError> {
        if stale.0.is_empty() {
            return Ok(());
        }
        Ok(self.index.write(Durability::Kill, "drop stale leases", |connection| {
            let mut delete = connection.prepare_cached(
                "DELETE FROM leases WHERE root = ?1 AND holder = ?2 AND pid IS ?3 AND start_time IS ?4",
            )?;
            for (root, holder, pid, start_time) in &stale.0 {
                delete.execute(params![root.as_bytes(), holder, pid, start_time])?;
            }
            Ok(())
        })?)
    }
}

fn leases(connection: &Connection, root: Option<&Digest>) -> rusqlite::Result<Vec<LeaseRow>> {
    connection
        .prepare_cached(
            "SELECT root, holder, pid, leased_at, start_time, boot_id, pid_namespace
             FROM leases WHERE ?1 IS NULL OR root = ?1 ORDER BY root, holder",
        )?
        .query_map([root.map(Digest::as_bytes)], |row| {
            Ok(LeaseRow {
                record: LeaseRecord {
                    root_hash: digest(row, 0)?,
                    holder: row.get(1)?,
                    pid: row.get(2)?,
                    leased_at: row.get(3)?,
                },
                start_time: row.get(4)?,
                boot_id: row.get(5)?,
                pid_namespace: row.get(6)?,
            })
        })?
        .collect()
}

/// Returns who holds a lease on an image, sorted, but for the stale ones.
pub(super) fn holders(
    connection: &Connection,
    root: &Digest,
    stale: &Stale,
) -> rusqlite::Result<Vec<String>> {
    let rows = leases(connection, Some(root))?;
    Ok(rows.into_iter().filter(|row| !stale.has(row)).map(|row| row.record.holder).collect())
}
