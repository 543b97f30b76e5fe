//! How a log is gone on with: from its last line, and from the record of where it ended.

use super::files::{HeadFile, Recorded, open_to_read};
use super::{AuditError, AuditLog, Note, io_error};
use mvm_plan::UtcTime;
use mvm_plan::audit::{self, Chain, Entry, EntryError, Event, Head, Subject};
use mvm_ref::Digest;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Where a log is gone on with.
#[derive(Debug)]
pub(super) struct Resumed {
    /// The chain to go on with.
    pub(super) chain: Chain,
    /// Digest of the log's first line, if there is one.
    pub(super) origin: Option<Digest>,
    /// Number of the first entry in the file that is written to, also if it is still to come.
    pub(super) first: u64,
    /// Bytes of that file that are whole lines.
    pub(super) whole: u64,
    /// Number of entries that the last checkpoint covers.
    pub(super) checkpoint: u64,
    /// Time of the last entry.
    pub(super) last: Option<UtcTime>,
    /// What the log has to tell of itself.
    pub(super) notes: Vec<Note>,
}

/// The last line of a file.
struct End {
    chain: Chain,
    time: UtcTime,
    /// Where it ends.
    whole: u64,
}

/// Finds the end of a log.
pub(super) fn resume(
    log: &AuditLog,
    head_file: &HeadFile,
    current: &mut File,
) -> Result<Resumed, AuditError> {
    let path = log.current();
    let recorded = head_file.read()?;
    let length = current.seek(SeekFrom::End(0)).map_err(io_error("read", &path))?;
    let mut notes = Vec::new();
    let (end, before) = match last_line(current, length, &path)? {
        Some(end) => (Some(end), None),
        None => end_before(log)?,
    };
    let whole = end.as_ref().map_or(0, |end| end.whole);
    if whole < length {
        let torn = set_aside(log, current, whole)?;
        notes.push(Note::from(Event::Recover { subject: Subject::AuditLog }).with("set-aside", &torn));
    }
    let found = end.as_ref().map_or_else(Chain::start, |end| end.chain);
    let same = |head: &Head| (head.entries, head.head) == (found.entries(), found.head());
    let chain = match &recorded {
        Recorded::End(head) if same(head) => found,
        Recorded::End(head) if goes_on_from(head, found, current, whole, &path)? => found,
        Recorded::End(head) => {
            notes.push(Event::Gap { expected: head.entries, found: found.entries() }.into());
            Chain::after(head.entries, head.head)
        }
        Recorded::Nothing if found.entries() == 0 => found,
        Recorded::Nothing => {
            notes.push(Event::Recover { subject: Subject::AuditHead }.into());
            found
        }
        Recorded::Damaged(error) => {
            let words = crate::error::chain(error);
            notes.push(Note::from(Event::Recover { subject: Subject::AuditHead }).with("error", &words));
            head_file.trim()?;
            found
        }
    };
    if let Some(first) = before {
        notes.push(Event::Rotate { first }.into());
    }
    let first = match &recorded {
        _ if whole == 0 => chain.entries(),
        Recorded::End(head) if same(head) => head.first,
        _ => first_line(&path)?.map_or(0, |(first, _)| first),
    };
    let (origin, checkpoint) = match &recorded {
        Recorded::End(head) => (Some(head.origin), head.checkpoint),
        _ => (origin(log)?, 0),
    };
    Ok(Resumed { chain, origin, first, whole, checkpoint, last: end.map(|end| end.time), notes })
}

/// Finds the last line of the newest file that is not written to any more, and the number of that file's first entry.
fn end_before(log: &AuditLog) -> Result<(Option<End>, Option<u64>), AuditError> {
    let Some((first, path)) = log.rotated_files()?.pop() else { return Ok((None, None)) };
    let mut file = open_to_read(&path).map_err(io_error("open", &path))?;
    let length = file.seek(SeekFrom::End(0)).map_err(io_error("read", &path))?;
    let end = match last_line(&mut file, length, &path) {
        // It was put away because of that, and the record of the log's end says where to go on.
        Err(AuditError::Damaged { .. }) => None,
        end => end?,
    };
    Ok((end.map(|end| End { whole: 0, ..end }), Some(first)))
}

/// Goes on from the record of a log's end where the log itself doesn't let that be found; the file that is written to
/// stays as it is.
pub(super) fn resume_from_record(log: &AuditLog, head: &HeadFile) -> Result<Resumed, AuditError> {
    let path = log.current();
    let recorded = head.read()?;
    let first = first_line(&path)?;
    let Recorded::End(head) = recorded else {
        let damaged = EntryError::Length { got: 0 };
        return Err(AuditError::Damaged { path, source: damaged });
    };
    Ok(Resumed {
        chain: Chain::after(head.entries, head.head),
        origin: Some(head.origin),
        first: first.map_or(head.first, |(first, _)| first),
        whole: std::fs::metadata(&path).map_err(io_error("read", &path))?.len(),
        checkpoint: head.checkpoint,
        last: None,
        notes: vec![Note::from(Event::Damage { subject: Subject::AuditLog })],
    })
}

/// Finds the last whole line of a file; nothing if there is none.
fn last_line(file: &mut File, length: u64, path: &Path) -> Result<Option<End>, AuditError> {
    // Two lines' worth: a torn one and the one before.
    let window = length.min(2 * audit::MAX_LINE as u64 + 2);
    let start = length - window;
    let mut end = vec![0; usize::try_from(window).unwrap_or(usize::MAX)];
    file.seek(SeekFrom::Start(start)).map_err(io_error("read", path))?;
    file.read_exact(&mut end).map_err(io_error("read", path))?;
    let damaged = |source| AuditError::Damaged { path: path.to_owned(), source };
    let Some(last) = end.iter().rposition(|&byte| byte == b'\n') else {
        // With something before the window this is no torn line: none is so long.
        return match start {
            0 => Ok(None),
            _ => Err(damaged(EntryError::Length { got: end.len() })),
        };
    };
    let from = end[..last].iter().rposition(|&byte| byte == b'\n').map_or(0, |before| before + 1);
    let line = &end[from..=last];
    let chain = Chain::resume(line).map_err(damaged)?;
    let time = Entry::parse(line).map_err(damaged)?.time;
    Ok(Some(End { chain, time, whole: start + last as u64 + 1 }))
}

/// Says whether a log that is longer than its record says goes on from there: the process that wrote the last entries
/// was killed before it could record them, or a power cut took the record back.
fn goes_on_from(
    head: &Head,
    found: Chain,
    file: &mut File,
    whole: u64,
    path: &Path,
) -> Result<bool, AuditError> {
    if found.entries() <= head.entries {
        return Ok(false);
    }
    // A new file that begins with the next entry, or the file of the record.
    let starts = match first_line(path)? {
        Some((first, _)) if first == head.entries => 0,
        Some(_) => head.bytes,
        None => return Ok(false),
    };
    if starts > whole {
        return Ok(false);
    }
    file.seek(SeekFrom::Start(starts)).map_err(io_error("read", path))?;
    let rest = BufReader::new((&*file).take(whole - starts));
    let walked = audit::walk(rest, Chain::after(head.entries, head.head), None, &mut |_| {});
    Ok(walked.is_ok_and(|summary| (summary.entries, summary.head) == (found.entries(), found.head())))
}

/// Returns the number of the first entry of a file and the digest of its line, if it is one.
fn first_line(path: &Path) -> Result<Option<(u64, Digest)>, AuditError> {
    let file = match open_to_read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(io_error("open", path))?,
    };
    let mut line = Vec::new();
    let mut start = BufReader::new(file.take(audit::MAX_LINE as u64));
    start.read_until(b'\n', &mut line).map_err(io_error("read", path))?;
    let text = line.strip_suffix(b"\n");
    Ok(text.and_then(|text| Some((Entry::parse(text).ok()?.seq, Digest::of(text)))))
}

/// Returns the digest of the log's first line.
fn origin(log: &AuditLog) -> Result<Option<Digest>, AuditError> {
    let oldest = log.rotated_files()?.into_iter().next();
    let path = oldest.map_or_else(|| log.current(), |(_, path)| path);
    Ok(first_line(&path)?.map(|(_, digest)| digest))
}

/// Moves what follows `whole` into a file of its own and returns that file's name.
fn set_aside(log: &AuditLog, file: &mut File, whole: u64) -> Result<String, AuditError> {
    let path = log.current();
    let mut torn = Vec::new();
    file.seek(SeekFrom::Start(whole)).map_err(io_error("read", &path))?;
    file.read_to_end(&mut torn).map_err(io_error("read", &path))?;
    let name = format!("torn-at-{whole}");
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path.with_file_name(&name))
        .and_then(|mut aside| aside.write_all(&torn))
        .map_err(io_error("set aside the torn end of", &path))?;
    file.set_len(whole).map_err(io_error("shorten", &path))?;
    Ok(name)
}
