//! The index of one scope: a SQLite database in WAL mode.
//!
//! The database is left at `synchronous=NORMAL`, which survives a kill and, after a loss of power, may forget
//! the last transactions without being torn. What a user would miss (names, images, durable leases, removals)
//! is written with [`Durability::Disk`], one wait for the disk each; what can be made again (segments, leases
//! that die with their process) is not.
//!
//! The log is not folded into the database when the last process closes it: that would have every short
//! command that leased something wait for the disk three times. It is folded when it has grown to
//! [`LOG_PAGES`], which bounds what the next open has to read, and by collection.
//!
//! Where nothing can be written, SQLite needs the log and its index beside the database as they were left, or no
//! log at all; see [`Index::open_frozen`].

use crate::dir::{Dir, FileError};
use crate::lock;
use mvm_ref::Digest;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, TransactionBehavior};
use std::cmp::Ordering;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

#[cfg(test)]
mod tests;

const FILE: &str = "index.db";
const LOG: &str = "index.db-wal";
const LOG_INDEX: &str = "index.db-shm";

/// The steps from an empty database to the newest format; `user_version` counts those taken.
const MIGRATIONS: &[&str] = &[include_str!("v1.sql"), include_str!("v2.sql"), include_str!("v3.sql")];

/// Writers of other processes hold the index for milliseconds; one that takes this long is stuck.
const BUSY_TIMEOUT: Duration = Duration::from_secs(20);

/// The length of the log, in pages of 4096 bytes, at which it is folded into the database.
const LOG_PAGES: u32 = 200;

/// The bytes that the log's file keeps once the log is folded.
const LOG_LIMIT: u32 = LOG_PAGES * 4096;

/// Says which act on an index failed.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The directory or a file of the index.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file system is full.
    #[error("no space left to {act} in {}", path.display())]
    Full {
        /// What was attempted.
        act: &'static str,
        /// The database.
        path: PathBuf,
    },
    /// The database cannot be written.
    #[error("cannot {act} in {}: it is read-only", path.display())]
    ReadOnly {
        /// What was attempted.
        act: &'static str,
        /// The database.
        path: PathBuf,
    },
    /// Another process holds the database and does not let go.
    #[error("cannot {act} in {}: another process has held it for {} s", path.display(), BUSY_TIMEOUT.as_secs())]
    Busy {
        /// What was attempted.
        act: &'static str,
        /// The database.
        path: PathBuf,
    },
    /// The file is not a database, or a damaged one.
    #[error("{} is damaged; move its directory away to start that scope anew", path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
    /// A newer mvm made the database.
    #[error("{} has format {found}; this mvmctl knows formats up to {supported}", path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: usize,
        /// The newest known here.
        supported: usize,
    },
    /// The database has to be changed before this mvm can read it, and can't be.
    #[error("{} has format {found}; this mvmctl reads format {supported} and can't change it where it is read-only", path.display())]
    Older {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: usize,
        /// The one that is read.
        supported: usize,
    },
    /// The database has a log that can't be read without writing.
    #[error("{} has a log without its index, which has to be made anew, and is read-only", path.display())]
    Log {
        /// The database.
        path: PathBuf,
    },
    /// Anything else that SQLite answers.
    #[error("cannot {act} in {}", path.display())]
    Sqlite {
        /// What was attempted.
        act: &'static str,
        /// The database.
        path: PathBuf,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
}

/// How much a transaction waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// It survives a kill.
    Kill,
    /// It survives a loss of power.
    Disk,
}

/// An open index. Threads share it and take turns.
#[derive(Debug)]
pub(crate) struct Index {
    connection: Mutex<Connection>,
    path: PathBuf,
}

impl Index {
    /// Opens the index in a scope's directory, making or migrating it where needed.
    pub(crate) fn open(scope: &Dir) -> Result<Self, IndexError> {
        Self::open_with(scope, MIGRATIONS)
    }

    /// Opens the index of a directory in which nothing can be written, or nothing may be.
    ///
    /// A log is read where its index lies beside it. Without a log the database is all there is.
    pub(crate) fn open_frozen(scope: &Dir) -> Result<Self, IndexError> {
        let path = scope.join(FILE);
        refuse_others(scope)?;
        let has_log = scope.file_len(LOG)?.is_some_and(|bytes| bytes > 0);
        let how = match (has_log, scope.file_len(LOG_INDEX)?.is_some()) {
            (false, _) => "immutable=1",
            (true, true) => "readonly_shm=1",
            (true, false) => return Err(IndexError::Log { path }),
        };
        let name = format!("file:{}?mode=ro&{how}", uri_path(&path));
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let index = Self::connect_as(path, &name, flags)?;
        let (found, supported) = (index.format()?, MIGRATIONS.len());
        match found.cmp(&supported) {
            Ordering::Equal => Ok(index),
            Ordering::Less => Err(IndexError::Older { path: index.path, found, supported }),
            Ordering::Greater => Err(IndexError::Newer { path: index.path, found, supported }),
        }
    }

    fn open_with(scope: &Dir, migrations: &[&str]) -> Result<Self, IndexError> {
        let path = scope.join(FILE);
        refuse_others(scope)?;
        if let Some(bytes) = scope.file_len(FILE)?
            && bytes > 0
        {
            let index = Self::connect(path.clone())?;
            if index.format()? == migrations.len() {
                return Ok(index);
            }
        }
        Self::prepare(scope, path, migrations)
    }

    /// Makes or migrates the database while no other process does.
    fn prepare(scope: &Dir, path: PathBuf, migrations: &[&str]) -> Result<Self, IndexError> {
        let turn = scope.reopen()?;
        lock::exclusive(&turn, turn.path())?;
        // Made here and not by SQLite, for the mode; the files beside it take it over.
        drop(scope.open_or_create(FILE)?);
        let index = Self::connect(path)?;
        let act = "create the tables";
        {
            let connection = index.connection();
            let fail = |error| index.fail(act, error);
            connection.pragma_update(None, "journal_mode", "WAL").map_err(fail)?;
        }
        let found = index.format()?;
        if found > migrations.len() {
            return Err(IndexError::Newer { path: index.path, found, supported: migrations.len() });
        }
        index.write(Durability::Disk, act, |connection| {
            for step in &migrations[found..] {
                connection.execute_batch(step)?;
            }
            connection.pragma_update(None, "user_version", migrations.len())
        })?;
        scope.sync()?;
        Ok(index)
    }

    fn connect(path: PathBuf) -> Result<Self, IndexError> {
        let name = path.clone();
        Self::connect_as(path, name, OpenFlags::SQLITE_OPEN_READ_WRITE)
    }

    fn connect_as(path: PathBuf, name: impl AsRef<Path>, flags: OpenFlags) -> Result<Self, IndexError> {
        let flags = flags
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW
            | OpenFlags::SQLITE_OPEN_EXRESCODE;
        let open = || {
            let connection = Connection::open_with_flags(name, flags)?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            connection.set_prepared_statement_cache_capacity(64);
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            connection.execute_batch(&format!(
                "PRAGMA foreign_keys=ON; PRAGMA trusted_schema=OFF; PRAGMA synchronous=NORMAL;
                 PRAGMA wal_autocheckpoint={LOG_PAGES}; PRAGMA journal_size_limit={LOG_LIMIT};"
            ))?;
            Ok(connection)
        };
        match open() {
            Ok(connection) => Ok(Self { connection: Mutex::new(connection), path }),
            Err(error) => Err(sort("open the index", path, error)),
        }
    }

    /// Returns how many migrations the database has had.
    fn format(&self) -> Result<usize, IndexError> {
        self.read("read the format", |connection| {
            connection.pragma_query_value(None, "user_version", |row| row.get(0))
        })
    }

    fn connection(&self) -> std::sync::MutexGuard<'_, Connection> {
        // A panic in the middle rolled its transaction back, so the connection is still good.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, act: &'static str, error: rusqlite::Error) -> IndexError {
        sort(act, self.path.clone(), error)
    }

    /// Leaves the log as it grows, or folds it again whenever it has grown to [`LOG_PAGES`]: for work of many
    /// transactions, after which it is folded once.
    pub(crate) fn hold_folding(&self, hold: bool) -> Result<(), IndexError> {
        let pages = if hold { 0 } else { LOG_PAGES };
        self.connection()
            .query_row(&format!("PRAGMA wal_autocheckpoint={pages}"), [], |_| Ok(()))
            .map_err(|error| self.fail("fold the log", error))
    }

    /// Folds the log into the database, as far as others who read it allow, and syncs both.
    pub(crate) fn fold(&self) -> Result<(), IndexError> {
        let fold = |row: &Row<'_>| row.get::<_, i64>(0);
        self.connection()
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], fold)
            .map(|_| ())
            .map_err(|error| self.fail("fold the log", error))
    }

    /// Runs queries that see one state of the database.
    pub(crate) fn read<T>(
        &self,
        act: &'static str,
        queries: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, IndexError> {
        let mut connection = self.connection();
        let run = || {
            let transaction = connection.transaction()?;
            let answer = queries(&transaction)?;
            transaction.commit()?;
            Ok(answer)
        };
        run().map_err(|error| self.fail(act, error))
    }

    /// Runs one writing transaction; nothing of it stays if it fails.
    pub(crate) fn write<T>(
        &self,
        durability: Durability,
        act: &'static str,
        changes: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, IndexError> {
        let mut connection = self.connection();
        let level = match durability {
            Durability::Kill => "NORMAL",
            Durability::Disk => "FULL",
        };
        let run = || {
            connection.pragma_update(None, "synchronous", level)?;
            // Immediate: a transaction that reads first and then writes would fail on another writer.
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let answer = changes(&transaction)?;
            transaction.commit()?;
            Ok(answer)
        };
        run().map_err(|error| self.fail(act, error))
    }
}

/// Refuses what is no file in the place of one: SQLite refuses a link for the database, but not for the files beside it.
fn refuse_others(scope: &Dir) -> Result<(), FileError> {
    for name in [FILE, LOG, LOG_INDEX] {
        if scope.stat(name)?.is_some() && scope.file_len(name)?.is_none() {
            return Err(FileError::Kind { path: scope.join(name), expected: "regular file" });
        }
    }
    Ok(())
}

/// Writes a path as SQLite's names have it that begin with `file:`.
fn uri_path(path: &Path) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'-' | b'_');
    path.as_os_str().as_bytes().iter().fold(String::new(), |mut text, &byte| {
        match plain(byte) {
            true => text.push(char::from(byte)),
            false => text.push_str(&format!("%{byte:02X}")),
        }
        text
    })
}

fn sort(act: &'static str, path: PathBuf, source: rusqlite::Error) -> IndexError {
    let extended = source.sqlite_error().map(|error| error.extended_code);
    match source.sqlite_error_code() {
        // The file by which readers share the log can't grow. SQLite doesn't say why; a full disk is what comes to pass.
        Some(ErrorCode::SystemIoFailure) if extended == Some(rusqlite::ffi::SQLITE_IOERR_SHMSIZE) => {
            IndexError::Full { act, path }
        }
        Some(ErrorCode::DiskFull) => IndexError::Full { act, path },
        Some(ErrorCode::ReadOnly) => IndexError::ReadOnly { act, path },
        Some(ErrorCode::DatabaseBusy) => IndexError::Busy { act, path },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => IndexError::Damaged { path, source },
        _ => IndexError::Sqlite { act, path, source },
    }
}

/// Reads a column that holds a digest.
pub(crate) fn digest(row: &Row<'_>, column: usize) -> rusqlite::Result<Digest> {
    row.get(column).map(Digest::from_sha256)
}

/// Reads a column that holds a digest or nothing.
pub(crate) fn optional_digest(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Digest>> {
    Ok(row.get::<_, Option<[u8; 32]>>(column)?.map(Digest::from_sha256))
}

/// Reads a column that holds text in a form of its own, such as a platform.
pub(crate) fn parsed<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: String = row.get(column)?;
    text.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}
