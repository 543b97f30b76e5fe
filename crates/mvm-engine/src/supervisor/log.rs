//! A log with a bound: when the file is full it becomes `NAME.1` and a new one is begun.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

/// Appends to a file and keeps at most twice `limit` bytes of it.
#[derive(Debug)]
pub struct BoundedLog {
    path: PathBuf,
    file: File,
    length: u64,
    limit: u64,
    failure: Option<io::Error>,
}

impl BoundedLog {
    /// Begins an empty log.
    pub fn create(path: PathBuf, limit: u64) -> io::Result<Self> {
        let file = open(&path)?;
        Ok(Self { path, file, length: 0, limit, failure: None })
    }

    /// Appends bytes, unless that failed before: a log that can't be written must not end the VM that it is about.
    pub fn append(&mut self, bytes: &[u8]) {
        if self.failure.is_none() {
            self.failure = self.write(bytes).err();
        }
    }

    /// Returns why the log is incomplete, if it is.
    pub fn failure(&self) -> Option<String> {
        let failure = self.failure.as_ref()?;
        Some(format!("{} is incomplete: {failure}", self.path.display()))
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.length >= self.limit {
                let mut old = self.path.clone().into_os_string();
                old.push(".1");
                fs::rename(&self.path, old)?;
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

fn open(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests;
