//! The files of a log: where they are, how they are opened, and the lock.

use super::{AuditError, AuditLog, io_error};
use mvm_plan::audit::{Head, HeadError};
use rustix::fs::{FlockOperation, OFlags, flock};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The record of where the log ends, whose file is the lock as well.
#[derive(Debug)]
pub(super) struct HeadFile {
    file: File,
    path: PathBuf,
}

/// What the record says.
#[derive(Debug)]
pub(super) enum Recorded {
    /// Nothing has been recorded yet.
    Nothing,
    /// The log ended here.
    End(Head),
    /// It is no record.
    Damaged(HeadError),
}

impl AuditLog {
    pub(super) fn directory(&self) -> PathBuf {
        self.root.join("audit")
    }

    /// Returns the file that is written to.
    pub(super) fn current(&self) -> PathBuf {
        self.directory().join("audit.jsonl")
    }

    /// Returns the file that the entries from `first` on are kept in once the log goes on in another one.
    pub(super) fn rotated(&self, first: u64) -> PathBuf {
        self.directory().join(format!("audit-{first:012}.jsonl"))
    }

    pub(super) fn head_path(&self) -> PathBuf {
        self.root.join("audit.head")
    }

    pub(super) fn settings_path(&self) -> PathBuf {
        self.root.join("audit.toml")
    }

    /// Returns the files that are not written to any more, by the number of their first entry, in order.
    pub(super) fn rotated_files(&self) -> Result<Vec<(u64, PathBuf)>, AuditError> {
        let directory = self.directory();
        let failed = |source| io_error("list", &directory)(source);
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("audit-")?.strip_suffix(".jsonl"));
            let digits = number.filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
            if let Some(first) = digits.and_then(|digits| digits.parse().ok()) {
                files.push((first, entry.path()));
            }
        }
        files.sort();
        Ok(files)
    }

    /// Opens the file that is written to, and makes it if there is none.
    pub(super) fn open_current(&self) -> Result<File, AuditError> {
        let path = self.current();
        let open = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(no_links())
                .open(&path)
        };
        let is_new = !path.exists();
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let directory = self.directory();
                let mut builder = DirBuilder::new();
                builder.recursive(true).mode(0o700).create(&directory).map_err(io_error("create", &path))?;
                open().map_err(io_error("create", &path))?
            }
            other => other.map_err(io_error("open", &path))?,
        };
        if is_new {
            self.sync_directory()?;
        }
        Ok(file)
    }

    /// Has the names of files outlast a power cut, as what is in them does.
    pub(super) fn sync_directory(&self) -> Result<(), AuditError> {
        let directory = self.directory();
        let synced = File::open(&directory).and_then(|directory| directory.sync_all());
        synced.map_err(io_error("sync the directory of", &directory))
    }
}

impl HeadFile {
    /// Waits until no other process writes or looks, and keeps it so until it is dropped.
    pub(super) fn lock(log: &AuditLog) -> Result<Self, AuditError> {
        let path = log.head_path();
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(no_links())
                .open(&path)
                .map_err(io_error("open the record of the end of", &path))?;
            let locked = Self { file, path: path.clone() };
            if locked.take(FlockOperation::LockExclusive)? {
                return Ok(locked);
            }
        }
    }

    /// Waits until no other process writes; nothing is locked where nothing has been written.
    pub(super) fn lock_shared(log: &AuditLog) -> Result<Option<Self>, AuditError> {
        let path = log.head_path();
        loop {
            let file = match open_to_read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                file => file.map_err(io_error("open the record of the end of", &path))?,
            };
            let locked = Self { file, path: path.clone() };
            if locked.take(FlockOperation::LockShared)? {
                return Ok(Some(locked));
            }
        }
    }

    /// Takes the lock, and says whether its file is still the one by that name.
    fn take(&self, operation: FlockOperation) -> Result<bool, AuditError> {
        let failed = || io_error("lock", &self.path);
        loop {
            match flock(&self.file, operation) {
                Err(rustix::io::Errno::INTR) => {}
                locked => break locked.map_err(|error| failed()(error.into()))?,
            }
        }
        let own = self.file.metadata().map_err(failed())?;
        match fs::symlink_metadata(&self.path) {
            Ok(named) => Ok((named.dev(), named.ino()) == (own.dev(), own.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed()(error)),
        }
    }

    /// Reads the record.
    pub(super) fn read(&self) -> Result<Recorded, AuditError> {
        let mut bytes = Vec::new();
        let mut part = (&self.file).take(2 * Head::SIZE as u64);
        part.read_to_end(&mut bytes).map_err(io_error("read the record of the end of", &self.path))?;
        Ok(match Head::parse(&bytes) {
            _ if bytes.is_empty() => Recorded::Nothing,
            Ok(head) => Recorded::End(head),
            Err(error) => Recorded::Damaged(error),
        })
    }

    /// Replaces the record. It is not synced: one that a power cut took back is behind the log, which then shows it.
    pub(super) fn write(&self, head: &Head) -> Result<(), AuditError> {
        let bytes = head.to_bytes()?;
        let written = self.file.write_all_at(&bytes, 0);
        written.map_err(io_error("write the record of the end of", &self.path))
    }

    /// Forgets what is behind the record, if something else was written there.
    pub(super) fn trim(&self) -> Result<(), AuditError> {
        let trimmed = self.file.set_len(Head::SIZE as u64);
        trimmed.map_err(io_error("write the record of the end of", &self.path))
    }
}

/// Opens a file of the log for reading.
pub(super) fn open_to_read(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(no_links()).open(path)
}

/// A link in place of a file of the log is not followed.
fn no_links() -> i32 {
    OFlags::NOFOLLOW.bits().cast_signed()
}
