//! Writing output: appended line by line, rotated by size, given up without a fuss.

use super::{FILE_LIMIT, FILES, LOGS, LogLine, OUTPUT, Origin, SERVICES};
use crate::supervisor::MAIN;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Most bytes of output in one line of a file.
const PIECE: usize = 16 << 10;

/// Appends output to the files of one VM: those of its main process and, apart from them, those of each service.
#[derive(Debug)]
pub struct Journal {
    logs: PathBuf,
    limit: u64,
    main: Files,
    /// Of the services that wrote something.
    services: BTreeMap<String, Files>,
    failure: Option<String>,
}

/// The files of one source, the youngest of which is appended to.
#[derive(Debug)]
struct Files {
    path: PathBuf,
    file: Option<File>,
    length: u64,
    limit: u64,
    /// The last line may lack its end.
    torn: bool,
}

impl Journal {
    /// Opens the files in a VM's directory; what is there from earlier launches stays.
    pub fn open(vm: &Path) -> io::Result<Self> {
        Self::with_limit(vm, FILE_LIMIT)
    }

    /// Does the same, with another size at which a file is full.
    pub fn with_limit(vm: &Path, limit: u64) -> io::Result<Self> {
        let logs = vm.join(LOGS);
        let main = Files::open(&logs, limit)?;
        Ok(Self { logs, limit, main, services: BTreeMap::new(), failure: None })
    }

    /// Appends output, a line to a line. A log that can't be written must not end the VM that it is about: what fails is
    /// lost, and the first failure is kept.
    pub fn append(&mut self, origin: &Origin, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let files = match self.files(&origin.source) {
            Ok(files) => files,
            Err((path, error)) => return self.failed(&path, &error),
        };
        if let Err(error) = files.append(origin, bytes) {
            let path = files.path.clone();
            self.failed(&path, &error);
        }
    }

    /// Returns why the log is incomplete, if it is.
    pub fn failure(&self) -> Option<String> {
        self.failure.clone()
    }

    fn files(&mut self, source: &str) -> Result<&mut Files, (PathBuf, io::Error)> {
        if source == MAIN {
            return Ok(&mut self.main);
        }
        if !self.services.contains_key(source) {
            let directory = self.logs.join(SERVICES).join(source);
            let files = Files::open(&directory, self.limit).map_err(|error| (directory, error))?;
            self.services.insert(source.to_owned(), files);
        }
        Ok(self.services.get_mut(source).expect("they were opened, if not before"))
    }

    fn failed(&mut self, path: &Path, error: &io::Error) {
        // The VM's directory may have another name by the time that this is read.
        let path = self.logs.parent().and_then(|vm| path.strip_prefix(vm).ok()).unwrap_or(path);
        self.failure.get_or_insert_with(|| format!("{} is incomplete: {error}", path.display()));
    }
}

impl Files {
    fn open(directory: &Path, limit: u64) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let path = directory.join(OUTPUT);
        let file = append_to(&path)?;
        let length = file.metadata()?.len();
        // What an earlier supervisor could not finish ends here.
        let torn = length > 0 && last_byte(&path, length)? != b'\n';
        Ok(Self { path, file: Some(file), length, limit, torn })
    }

    /// Appends what can be written and returns the first failure.
    fn append(&mut self, origin: &Origin, bytes: &[u8]) -> io::Result<()> {
        let time = super::now();
        let mut block = Vec::new();
        let mut outcome = Ok(());
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            for piece in pieces(line) {
                block.extend(LogLine::line(time, origin, piece));
            }
            if block.len() as u64 >= self.limit.min(1 << 20) {
                outcome = outcome.and(self.put(&std::mem::take(&mut block)));
            }
        }
        outcome.and(self.put(&block))
    }

    fn put(&mut self, block: &[u8]) -> io::Result<()> {
        let written = self.write(block);
        self.torn |= written.is_err();
        written
    }

    fn write(&mut self, block: &[u8]) -> io::Result<()> {
        if block.is_empty() {
            return Ok(());
        }
        if self.length >= self.limit || self.file.is_none() {
            self.rotate()?;
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        if self.torn {
            file.write_all(b"\n")?;
            self.torn = false;
        }
        self.length += block.len() as u64;
        file.write_all(block)
    }

    /// Makes each file the one before, and begins a new one.
    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        for number in (1..FILES).rev() {
            let from = if number == 1 { self.path.clone() } else { numbered(&self.path, number - 1) };
            match fs::rename(from, numbered(&self.path, number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.file = Some(append_to(&self.path)?);
        self.length = 0;
        Ok(())
    }
}

/// Returns the last byte of a file that is not empty.
fn last_byte(path: &Path, length: u64) -> io::Result<u8> {
    let mut byte = [0];
    File::open(path)?.read_exact_at(&mut byte, length - 1)?;
    Ok(byte[0])
}

/// Returns the path of an earlier file.
pub(super) fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(format!(".{number}"));
    name.into()
}

/// Opens a file to append to it, and makes it if need be.
pub(super) fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Splits a line into pieces, not inside a character.
fn pieces(mut line: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if line.is_empty() {
            return None;
        }
        let mut end = PIECE.min(line.len());
        if end < line.len() {
            // A continuation byte: its character began at most three bytes before.
            let start = (end - 3..=end).rev().find(|&at| line[at] & 0b1100_0000 != 0b1000_0000);
            end = start.unwrap_or(end);
        }
        let (piece, rest) = line.split_at(end);
        line = rest;
        Some(piece)
    })
}
