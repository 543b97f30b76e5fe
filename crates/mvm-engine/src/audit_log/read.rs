//! Reading: the last entries, all of them, and those that are still to come.

use super::files::{HeadFile, Recorded, open_to_read};
use super::{AuditError, AuditLog, io_error};
use mvm_plan::LaunchNonce;
use mvm_plan::audit::{Entry, Event, MAX_LINE};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Seek as _, SeekFrom};
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;

/// A buffer for reading whole files.
const BUFFER: usize = 256 * 1024;

/// One file of a log, as long as it was when nobody wrote.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) length: u64,
}

/// A log as it was when nobody wrote.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// Its files, in order.
    pub(super) parts: Vec<Part>,
    /// The record of where it ends.
    pub(super) recorded: Recorded,
}

/// All files of a log as one stream.
struct Joined<'a> {
    parts: std::slice::Iter<'a, Part>,
    current: Option<(&'a Part, u64)>,
}

/// How far a launch has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The log tells nothing of it.
    Unknown,
    /// It was begun.
    Launched,
    /// It is over.
    Ended,
}

/// A reader of entries as they are written; it goes from file to file with the log.
#[derive(Debug)]
pub struct Follower {
    log: AuditLog,
    /// The file that is read, and how far it has been.
    at: Option<(File, u64)>,
}

impl AuditLog {
    /// Opens all files and looks at how long they are.
    pub(super) fn snapshot(&self) -> Result<Snapshot, AuditError> {
        let lock = HeadFile::lock_shared(self)?;
        let recorded = lock.as_ref().map_or(Ok(Recorded::Nothing), HeadFile::read)?;
        let mut paths: Vec<PathBuf> = self.rotated_files()?.into_iter().map(|(_, path)| path).collect();
        paths.push(self.current());
        let mut parts = Vec::new();
        for path in paths {
            let file = match open_to_read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file.map_err(io_error("read", &path))?,
            };
            let length = file.metadata().map_err(io_error("read", &path))?.len();
            parts.push(Part { path, file, length });
        }
        drop(lock);
        Ok(Snapshot { parts, recorded })
    }

    /// Returns the last `count` lines.
    pub fn tail(&self, count: usize) -> Result<Vec<u8>, AuditError> {
        Ok(self.tail_of(&self.snapshot()?, count)?.concat())
    }

    /// Returns the last `count` lines, and a reader of those that come after them.
    pub fn follow(&self, count: usize) -> Result<(Vec<u8>, Follower), AuditError> {
        let mut snapshot = self.snapshot()?;
        let lines = self.tail_of(&snapshot, count)?.concat();
        let last = snapshot.parts.pop().map(|part| (part.file, part.length));
        Ok((lines, Follower { log: self.clone(), at: last }))
    }

    fn tail_of(&self, snapshot: &Snapshot, count: usize) -> Result<Vec<Vec<u8>>, AuditError> {
        let mut left = count;
        let mut ends = Vec::new();
        for part in snapshot.parts.iter().rev() {
            if left == 0 {
                break;
            }
            let lines = part.tail(left).map_err(io_error("read", &part.path))?;
            left -= lines.split_inclusive(|&byte| byte == b'\n').count();
            ends.push(lines);
        }
        ends.reverse();
        Ok(ends)
    }

    /// Shows each line, newline included, until `visit` has seen enough. What is longer than any entry comes in pieces.
    pub fn lines(&self, visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) -> Result<(), AuditError> {
        for part in self.snapshot()?.parts {
            let failed = || io_error("read", &part.path);
            let mut reader = BufReader::with_capacity(BUFFER, (&part.file).take(part.length));
            loop {
                let mut line = Vec::new();
                let mut limited = reader.by_ref().take(MAX_LINE as u64);
                if limited.read_until(b'\n', &mut line).map_err(failed())? == 0 {
                    break;
                }
                if visit(&line).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

impl AuditLog {
    /// Says how far a launch has come, as the log tells it.
    pub fn fate(&self, nonce: &LaunchNonce) -> Result<Fate, AuditError> {
        let text = nonce.to_string();
        // Newest first, and no further than to where the launch is.
        for part in self.snapshot()?.parts.iter().rev() {
            let mut fate = Fate::Unknown;
            let mut reader = BufReader::with_capacity(BUFFER, (&part.file).take(part.length));
            let mut line = String::new();
            loop {
                line.clear();
                match reader.by_ref().take(MAX_LINE as u64).read_line(&mut line) {
                    Ok(0) => break,
                    Ok(_) => {}
                    // What is not text is no entry.
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => continue,
                    Err(error) => return Err(io_error("read", &part.path)(error)),
                }
                if !line.contains(&text) {
                    continue;
                }
                match Entry::parse(line.as_bytes()).map(|entry| entry.event) {
                    Ok(Event::Launch { nonce: of, .. }) if of == *nonce => fate = Fate::Launched,
                    Ok(Event::Stop { nonce: of, .. }) if of == *nonce => return Ok(Fate::Ended),
                    _ => {}
                }
            }
            if fate == Fate::Launched {
                return Ok(fate);
            }
        }
        Ok(Fate::Unknown)
    }
}

impl Part {
    /// Returns the last `count` lines.
    fn tail(&self, count: usize) -> io::Result<Vec<u8>> {
        let mut window = 64 * 1024;
        loop {
            let start = self.length.saturating_sub(window);
            let mut bytes = vec![0; usize::try_from(self.length - start).unwrap_or(usize::MAX)];
            self.file.read_exact_at(&mut bytes, start)?;
            let lines: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
            // With more lines than wanted the first one, which may be cut, isn't among them.
            if lines.len() > count || start == 0 {
                return Ok(lines[lines.len().saturating_sub(count)..].concat());
            }
            window = window.saturating_mul(4);
        }
    }
}

impl Snapshot {
    /// Returns all files as one stream, from its start.
    pub(super) fn reader(&self) -> BufReader<impl Read + '_> {
        BufReader::with_capacity(BUFFER, Joined { parts: self.parts.iter(), current: None })
    }

    /// Finds the file that holds a line of the whole log, and the number of lines before that file; the last file if the
    /// log has fewer lines.
    pub(super) fn locate(&self, line: u64) -> io::Result<(PathBuf, u64)> {
        let mut found = (PathBuf::new(), 0);
        let mut before = 0;
        for part in &self.parts {
            found = (part.path.clone(), before);
            let mut reader =
                BufReader::with_capacity(BUFFER, Joined { parts: [].iter(), current: Some((part, 0)) });
            loop {
                let bytes = reader.fill_buf()?;
                if bytes.is_empty() {
                    break;
                }
                before += bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
                let length = bytes.len();
                reader.consume(length);
            }
            if before >= line {
                break;
            }
        }
        Ok(found)
    }
}

impl Read for Joined<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some((part, offset)) = &mut self.current else {
                let Some(part) = self.parts.next() else { return Ok(0) };
                self.current = Some((part, 0));
                continue;
            };
            let left = usize::try_from(part.length - *offset).unwrap_or(usize::MAX).min(buffer.len());
            let count = if left == 0 { 0 } else { part.file.read_at(&mut buffer[..left], *offset)? };
            if count > 0 || buffer.is_empty() {
                *offset += count as u64;
                return Ok(count);
            }
            // At its end, or shorter than it was: then a line is missing, which is for the check to find.
            self.current = None;
            if self.parts.as_slice().is_empty() {
                return Ok(0);
            }
        }
    }
}

impl Follower {
    /// Returns what has been written since the last time: whole lines, perhaps none.
    pub fn poll(&mut self) -> Result<Vec<u8>, AuditError> {
        let path = self.log.current();
        let failed = || io_error("read", &path);
        let lock = HeadFile::lock_shared(&self.log)?;
        let mut lines = Vec::new();
        loop {
            if let Some((file, offset)) = &mut self.at {
                file.seek(SeekFrom::Start(*offset)).map_err(failed())?;
                let count = file.read_to_end(&mut lines).map_err(failed())?;
                *offset += count as u64;
            }
            let Some(next) = self.next_file()? else { break };
            self.at = Some((next, 0));
        }
        drop(lock);
        Ok(lines)
    }

    /// Opens the file that comes after the one that is read, if there is one.
    fn next_file(&self) -> Result<Option<File>, AuditError> {
        let mut paths: Vec<PathBuf> = self.log.rotated_files()?.into_iter().map(|(_, path)| path).collect();
        paths.push(self.log.current());
        let mut files = Vec::new();
        for path in paths {
            match open_to_read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                file => files.push(file.map_err(io_error("read", &path))?),
            }
        }
        let Some((own, _)) = &self.at else { return Ok(files.into_iter().next()) };
        let identity = |file: &File| file.metadata().map(|metadata| (metadata.dev(), metadata.ino()));
        let path = self.log.current();
        let own = identity(own).map_err(io_error("read", &path))?;
        for (index, file) in files.iter().enumerate() {
            if identity(file).map_err(io_error("read", &path))? == own {
                return Ok((index + 1 < files.len()).then(|| files.swap_remove(index + 1)));
            }
        }
        // It was taken away: on with the file that is written to now.
        Ok(files.pop())
    }
}

#[cfg(test)]
mod tests;
