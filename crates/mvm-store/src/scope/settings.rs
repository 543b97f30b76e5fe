//! What was set for one scope.

use super::Scope;
use crate::error::StoreError;
use crate::index::Durability;
use rusqlite::{OptionalExtension, params};

const QUOTA: &str = "quota";

impl Scope {
    /// Returns how many bytes of disk the scope may hold; none if nobody set a limit.
    pub fn quota(&self) -> Result<Option<u64>, StoreError> {
        Ok(self.inner.index.read("read the quota", |connection| {
            connection
                .prepare_cached("SELECT value FROM settings WHERE name = ?1")?
                .query_row([QUOTA], |row| row.get(0))
                .optional()
        })?)
    }

    /// Sets how many bytes of disk the scope may hold, or takes the limit back.
    ///
    /// The store only keeps the number; whoever brings something in has to ask [`Scope::usage`] first. Numbers beyond
    /// 2⁶³ are kept as 2⁶³-1.
    pub fn set_quota(&self, quota: Option<u64>) -> Result<(), StoreError> {
        self.inner.index.write(Durability::Disk, "set the quota", |connection| match quota {
            Some(bytes) => connection.execute(
                "INSERT OR REPLACE INTO settings VALUES (?1, ?2)",
                params![QUOTA, i64::try_from(bytes).unwrap_or(i64::MAX)],
            ),
            None => connection.execute("DELETE FROM settings WHERE name = ?1", [QUOTA]),
        })?;
        Ok(())
    }
}
