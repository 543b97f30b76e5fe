//! The audit log: a file of JSON lines, each with the hash of the one before.

use crate::clock;
use mvm_plan::audit::{self, Chain, ChainSummary, EntryError, Event, Record, Subject, VerifyError};
use mvm_plan::{UtcTime, time::TimeError};
use mvm_ref::ScopeName;
use rustix::fs::{FlockOperation, flock};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The log of one store.
#[derive(Clone, Debug)]
pub struct AuditLog {
    path: PathBuf,
}

/// Says what failed on the audit log.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file could not be read or written.
    #[error("{act} the audit log {}", path.display())]
    Io {
        /// What was tried.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The last entry is not one that a new entry can follow.
    #[error("the last entry of the audit log {} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: EntryError,
    },
    /// An entry can't be written.
    #[error("write an audit entry")]
    Entry(#[from] EntryError),
    /// The host's clock shows a time that has no date.
    #[error("the clock")]
    Clock(#[from] TimeError),
    /// The log doesn't verify.
    #[error("the audit log {} does not verify", path.display())]
    Verify {
        /// The file.
        path: PathBuf,
        /// The first thing that is wrong with it.
        source: VerifyError,
    },
}

impl AuditLog {
    /// Names the log of a store; the file is made with its first entry.
    pub fn new(store_root: &Path) -> Self {
        Self { path: store_root.join("audit/audit.jsonl") }
    }

    /// Appends entries, all or none, and returns when they are on disk.
    ///
    /// Writers wait for each other. A last line that a crash tore is set aside, and that is recorded.
    pub fn append(&self, scope: &ScopeName, events: Vec<Event>) -> Result<(), AuditError> {
        if events.is_empty() {
            return Ok(());
        }
        let mut file = self.open()?;
        flock(&file, FlockOperation::LockExclusive).map_err(|error| self.io("lock")(error.into()))?;
        let length = file.seek(SeekFrom::End(0)).map_err(self.io("read"))?;
        let (mut chain, whole) = self.resume(&mut file, length)?;
        let now = UtcTime::from_unix_millis(clock::unix_millis())?;
        let mut lines = Vec::new();
        let mut detail = BTreeMap::new();
        let mut recovered = Vec::new();
        if whole < length {
            let torn = self.set_aside(&mut file, whole)?;
            detail.insert("set-aside".to_owned(), torn);
            recovered.push(Event::Recover { subject: Subject::AuditLog });
        }
        for event in recovered.into_iter().chain(events) {
            let detail = std::mem::take(&mut detail);
            let uid = rustix::process::getuid().as_raw();
            lines.extend(chain.append(Record {
                time: now,
                uid,
                login: login().filter(|&login| login != uid),
                scope: Some(scope.clone()),
                event,
                detail,
            })?);
        }
        file.seek(SeekFrom::Start(whole)).map_err(self.io("write"))?;
        let written = file.write_all(&lines).and_then(|()| file.sync_data());
        if let Err(error) = written {
            // On a full disk a part may have been written: take it back, so that the log ends with a whole line.
            file.set_len(whole).map_err(self.io("shorten"))?;
            return Err(self.io("write")(error));
        }
        Ok(())
    }

    /// Returns the last `count` lines.
    pub fn tail(&self, count: usize) -> Result<Vec<u8>, AuditError> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.io("read")(error)),
        };
        let lines: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
        Ok(lines[lines.len().saturating_sub(count)..].concat())
    }

    /// Checks the whole chain.
    pub fn verify(&self) -> Result<ChainSummary, AuditError> {
        let verified = match File::open(&self.path) {
            Ok(file) => audit::verify(BufReader::new(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => audit::verify(io::empty()),
            Err(error) => return Err(self.io("read")(error)),
        };
        verified.map_err(|source| AuditError::Verify { path: self.path.clone(), source })
    }

    fn open(&self) -> Result<File, AuditError> {
        let open = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&self.path)
        };
        match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let directory = self.path.parent().unwrap_or(Path::new("."));
                DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(self.io("create"))?;
                let file = open().map_err(self.io("create"))?;
                // The file's name must outlast a power cut as its entries do.
                File::open(directory)
                    .and_then(|directory| directory.sync_all())
                    .map_err(self.io("create"))?;
                Ok(file)
            }
            other => other.map_err(self.io("open")),
        }
    }

    /// Finds the end of the last whole line and continues the chain from there.
    fn resume(&self, file: &mut File, length: u64) -> Result<(Chain, u64), AuditError> {
        // Two lines' worth: a torn one and the one before.
        let window = length.min(2 * audit::MAX_LINE as u64 + 2);
        let start = length - window;
        let mut end = vec![0; usize::try_from(window).unwrap_or(usize::MAX)];
        file.seek(SeekFrom::Start(start)).map_err(self.io("read"))?;
        file.read_exact(&mut end).map_err(self.io("read"))?;
        let damaged = |source| AuditError::Damaged { path: self.path.clone(), source };
        let Some(last) = end.iter().rposition(|&byte| byte == b'\n') else {
            // With something before the window this is no torn line: none is so long.
            return match start {
                0 => Ok((Chain::start(), 0)),
                _ => Err(damaged(EntryError::Length { got: end.len() })),
            };
        };
        let from = end[..last].iter().rposition(|&byte| byte == b'\n').map_or(0, |before| before + 1);
        let chain = Chain::resume(&end[from..=last]).map_err(damaged)?;
        Ok((chain, start + last as u64 + 1))
    }

    /// Moves what follows `whole` into a file of its own and returns that file's name.
    fn set_aside(&self, file: &mut File, whole: u64) -> Result<String, AuditError> {
        let mut torn = Vec::new();
        file.seek(SeekFrom::Start(whole)).map_err(self.io("read"))?;
        file.read_to_end(&mut torn).map_err(self.io("read"))?;
        let name = format!("torn-at-{whole}");
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(self.path.with_file_name(&name))
            .and_then(|mut aside| aside.write_all(&torn))
            .map_err(self.io("set aside the torn end of"))?;
        file.set_len(whole).map_err(self.io("shorten"))?;
        Ok(name)
    }

    fn io(&self, act: &'static str) -> impl FnOnce(io::Error) -> AuditError {
        let path = self.path.clone();
        move |source| AuditError::Io { act, path, source }
    }
}

/// Returns the user that had logged in, as the kernel keeps it over sudo and su; none outside of a login.
fn login() -> Option<u32> {
    static LOGIN: OnceLock<Option<u32>> = OnceLock::new();
    // A kernel without auditing has no such file, and no answer is given then.
    let read = || fs::read_to_string("/proc/self/loginuid").ok()?.trim().parse().ok();
    LOGIN.get_or_init(read).filter(|&login| login != u32::MAX)
}

#[cfg(test)]
mod tests;
