//! A log with a bound: when the file is full it becomes `NAME.1` and a new one is begun.

use super::{CONSOLE_END, CONSOLE_LINE, Supervisor, services};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Appends to a file and keeps at most twice `limit` bytes of it.
#[derive(Debug)]
pub struct BoundedLog {
    path: PathBuf,
    file: File,
    length: u64,
    limit: u64,
    /// There is an old one that belongs to this one.
    rotated: bool,
    failure: Option<io::Error>,
}

impl BoundedLog {
    /// Begins an empty log.
    pub fn create(path: PathBuf, limit: u64) -> io::Result<Self> {
        let file = open(&path)?;
        Ok(Self { path, file, length: 0, limit, rotated: false, failure: None })
    }

    /// Appends bytes, unless that failed before: a log that can't be written must not end the VM that it is about.
    pub fn append(&mut self, bytes: &[u8]) {
        if self.failure.is_none() {
            self.failure = self.write(bytes).err();
        }
    }

    /// Returns the last `limit` bytes of the log, or all if it has fewer.
    pub fn end(&self, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        if self.rotated && self.length < limit {
            read_end(&self.old(), limit - self.length, &mut bytes)?;
        }
        read_end(&self.path, limit, &mut bytes)?;
        Ok(bytes)
    }

    /// Returns why the log is incomplete, if it is.
    pub fn failure(&self) -> Option<String> {
        let failure = self.failure.as_ref()?;
        Some(format!("{} is incomplete: {failure}", self.path.display()))
    }

    fn old(&self) -> PathBuf {
        let mut old = self.path.clone().into_os_string();
        old.push(".1");
        old.into()
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.length >= self.limit {
                fs::rename(&self.path, self.old())?;
                self.rotated = true;
                self.file = open(&self.path)?;
                self.length = 0;
            }
            let room = usize::try_from(self.limit - self.length).unwrap_or(usize::MAX).max(1);
            let (fits, rest) = bytes.split_at(room.min(bytes.len()));
            self.file.write_all(fits)?;
            self.length += fits.len() as u64;
            bytes = rest;
        }
        Ok(())
    }
}

/// Appends the last `limit` bytes of a file.
fn read_end(path: &Path, limit: u64, to: &mut Vec<u8>) -> io::Result<()> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(limit)))?;
    file.take(limit).read_to_end(to)?;
    Ok(())
}

fn open(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

impl Supervisor {
    /// Returns what the console says of the guest's end, for an error: nothing, if it is only what kernels say anyway.
    pub(super) fn console_end(&self) -> String {
        const TELLING: [&str; 5] =
            ["mvm-guest:", "Kernel panic", "Out of memory", "is corrupted", "Unable to mount"];
        let text = self.console_log.end(CONSOLE_END).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let told = |line: &str| {
            let mut line = line.trim().to_owned();
            services::shorten(&mut line, CONSOLE_LINE);
            line
        };
        let lines = text.lines().filter(|line| TELLING.iter().any(|words| line.contains(words)));
        let lines: Vec<String> = lines.map(told).collect();
        lines[lines.len().saturating_sub(3)..].join("; ")
    }
}

#[cfg(test)]
mod tests;
