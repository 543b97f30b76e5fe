//! Writing: a batch of entries, on disk before anything else happens.

use super::files::HeadFile;
use super::resume::{Resumed, resume, resume_from_record};
use super::settings::LogSettings;
use super::{AuditError, AuditLog, Note, Signed, io_error, witness};
use crate::error::chain;
use crate::{clock, keys};
use mvm_plan::audit::{Chain, Checkpoint, Event, Head, Record, Statement};
use mvm_plan::{SigningKey, UtcTime};
use mvm_ref::{Digest, ScopeName};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Most entries between two checkpoints.
const SIGN_EVERY: u64 = 64;

/// Room that is kept on the disk for the ends of machines that run: about two hundred of them.
const RESERVE: u64 = 256 * 1024;

/// The right to write to a log, and where it is gone on with.
pub(super) struct Writer<'a> {
    log: &'a AuditLog,
    settings: LogSettings,
    head: HeadFile,
    file: File,
    at: Resumed,
}

/// Lines that are to be written, and what the log is then.
struct Batch {
    lines: Vec<u8>,
    chain: Chain,
    origin: Option<Digest>,
    time: UtcTime,
    checkpoint: u64,
    signed: Option<(Signed, Vec<u8>)>,
}

impl<'a> Writer<'a> {
    /// Waits for the log and finds its end.
    pub(super) fn open(log: &'a AuditLog) -> Result<Self, AuditError> {
        Self::open_with(log, resume)
    }

    /// Does the same where the end is damaged, going by the record of it.
    pub(super) fn open_after_damage(log: &'a AuditLog) -> Result<Self, AuditError> {
        Self::open_with(log, |log, head, _| resume_from_record(log, head))
    }

    fn open_with(
        log: &'a AuditLog,
        resume: impl FnOnce(&AuditLog, &HeadFile, &mut File) -> Result<Resumed, AuditError>,
    ) -> Result<Self, AuditError> {
        let settings = log.settings()?;
        let head = HeadFile::lock(log)?;
        let mut file = log.open_current()?;
        let at = resume(log, &head, &mut file)?;
        Ok(Self { log, settings, head, file, at })
    }

    /// Writes entries, all or none, and a checkpoint if one is due.
    pub(super) fn write(&mut self, scope: Option<&ScopeName>, notes: Vec<Note>) -> Result<(), AuditError> {
        let ends = notes.iter().any(|note| note.event.is_end());
        // An end goes where room was reserved for it.
        if !ends && self.at.whole >= self.settings.rotate_at {
            self.rotate()?;
        }
        let entries = self.at.chain.entries() + (self.at.notes.len() + notes.len()) as u64;
        let turns = self.at.notes.iter().any(|note| matches!(note.event, Event::Rotate { .. }));
        let due = ends || turns || entries.saturating_sub(self.at.checkpoint) >= SIGN_EVERY;
        let mut notes = notes;
        let key = match due.then(|| keys::signing(&self.log.root)).transpose() {
            // Before the first plan there is no key.
            Ok(key) => key.flatten(),
            Err(error) => {
                // What happened goes on record all the same, and that it is not signed does too.
                if let Some(last) = notes.pop() {
                    notes.push(last.with("not-signed", &chain(&error)));
                }
                None
            }
        };
        let signed = self.write_batch(scope, notes, key.as_ref(), ends)?;
        if let Some(witness) = self.settings.witness.clone()
            && let Some((_, line)) = signed
            && let Err(error) = witness::append(&witness, &line)
        {
            let note = Note::from(Event::Unwitnessed).with("witness", &witness.to_string_lossy());
            self.write_batch(None, vec![note.with("error", &chain(&error))], None, ends)?;
        }
        Ok(())
    }

    /// Signs the log up to its end.
    pub(super) fn sign(
        &mut self,
        key: &SigningKey,
        also: Option<&Path>,
    ) -> Result<Option<Signed>, AuditError> {
        if self.at.chain.entries() == 0 {
            return Ok(None);
        }
        let signed = self.write_batch(None, Vec::new(), Some(key), false)?;
        let Some((signed, line)) = signed else { return Ok(None) };
        for witness in self.settings.witness.as_deref().into_iter().chain(also) {
            witness::append(witness, &line)?;
        }
        Ok(Some(signed))
    }

    /// Goes on in a new file now.
    pub(super) fn rotate_now(&mut self) -> Result<Option<PathBuf>, AuditError> {
        if self.at.whole == 0 {
            return Ok(None);
        }
        let kept = self.log.rotated(self.at.first);
        self.rotate()?;
        self.write(None, Vec::new())?;
        Ok(Some(kept))
    }

    /// Gives the file its last name and opens a new one, whose first entry says so.
    fn rotate(&mut self) -> Result<(), AuditError> {
        let (current, kept) = (self.log.current(), self.log.rotated(self.at.first));
        // Nobody else renames while the log is locked.
        if kept.symlink_metadata().is_ok() {
            return Err(AuditError::Taken { path: kept });
        }
        // What was reserved behind the end is given back.
        self.file.set_len(self.at.whole).map_err(io_error("shorten", &current))?;
        fs::rename(&current, &kept).map_err(io_error("rotate", &current))?;
        self.file = self.log.open_current()?;
        self.at.notes.push(Event::Rotate { first: self.at.first }.into());
        self.at.whole = 0;
        self.at.first = self.at.chain.entries();
        Ok(())
    }

    /// Writes what the log has to tell of itself, `notes`, and a checkpoint if there is a key; returns that and its line
    /// for a witness.
    fn write_batch(
        &mut self,
        scope: Option<&ScopeName>,
        notes: Vec<Note>,
        key: Option<&SigningKey>,
        ends: bool,
    ) -> Result<Option<(Signed, Vec<u8>)>, AuditError> {
        let Batch { lines, chain, origin, time, checkpoint, signed } = self.batch(scope, notes, key)?;
        let Some(origin) = origin else { return Ok(signed) };
        let path = self.log.current();
        let whole = self.at.whole;
        let length = whole + lines.len() as u64;
        // An end may use what was reserved for it; everything else leaves that as it is.
        let wanted = if ends { lines.len() as u64 } else { lines.len() as u64 + RESERVE };
        // A file system that reserves nothing says at the write that it is full.
        if let Err(error @ (Errno::NOSPC | Errno::DQUOT)) =
            fallocate(&self.file, FallocateFlags::KEEP_SIZE, whole, wanted)
        {
            return Err(io_error("write", &path)(error.into()));
        }
        self.file.seek(SeekFrom::Start(whole)).map_err(io_error("write", &path))?;
        let written = self.file.write_all(&lines).and_then(|()| self.file.sync_data());
        let head = Head {
            entries: chain.entries(),
            head: chain.head(),
            origin,
            first: self.at.first,
            bytes: length,
            checkpoint,
        };
        let recorded = written.map_err(io_error("write", &path)).and_then(|()| self.head.write(&head));
        if let Err(error) = recorded {
            // On a full disk a part may have been written: take it back, so that the log ends with a whole line.
            self.file.set_len(whole).map_err(io_error("shorten", &path))?;
            return Err(error);
        }
        self.at = Resumed {
            chain,
            origin: Some(origin),
            first: self.at.first,
            whole: length,
            checkpoint,
            last: Some(time),
            notes: Vec::new(),
        };
        Ok(signed)
    }

    fn batch(
        &self,
        scope: Option<&ScopeName>,
        notes: Vec<Note>,
        key: Option<&SigningKey>,
    ) -> Result<Batch, AuditError> {
        let time = UtcTime::from_unix_millis(clock::unix_millis())?;
        let mut batch = Batch {
            lines: Vec::new(),
            chain: self.at.chain,
            origin: self.at.origin,
            time,
            checkpoint: self.at.checkpoint,
            signed: None,
        };
        let own = self.at.notes.iter().map(|note| (None, note.clone()));
        for (index, (scope, note)) in own.chain(notes.into_iter().map(|note| (scope, note))).enumerate() {
            let note = match self.at.last.filter(|&last| index == 0 && time < last) {
                Some(last) => note.with("clock-stepped-back-from", &last.to_string()),
                None => note,
            };
            batch.push(scope, note)?;
        }
        if let (Some(key), Some(origin)) = (key, batch.origin) {
            let (entries, head) = (batch.chain.entries(), batch.chain.head());
            let (checkpoint, line) = Checkpoint::sign(Statement { entries, head, origin, time }, key)?;
            batch.push(None, checkpoint.event().into())?;
            batch.checkpoint = entries;
            batch.signed = Some((Signed { entries, head, time }, line));
        }
        Ok(batch)
    }
}

impl Batch {
    fn push(&mut self, scope: Option<&ScopeName>, note: Note) -> Result<(), AuditError> {
        let uid = rustix::process::getuid().as_raw();
        self.lines.extend(self.chain.append(Record {
            time: self.time,
            uid,
            login: login().filter(|&login| login != uid),
            scope: scope.cloned(),
            event: note.event,
            detail: note.detail,
        })?);
        self.origin = self.origin.or(Some(self.chain.head()));
        Ok(())
    }
}

/// Returns the user that had logged in, as the kernel keeps it over sudo and su; none outside of a login.
fn login() -> Option<u32> {
    static LOGIN: OnceLock<Option<u32>> = OnceLock::new();
    // A kernel without auditing has no such file, and no answer is given then.
    let read = || fs::read_to_string("/proc/self/loginuid").ok()?.trim().parse().ok();
    LOGIN.get_or_init(read).filter(|&login| login != u32::MAX)
}
