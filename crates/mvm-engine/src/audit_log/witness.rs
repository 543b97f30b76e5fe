//! A witness: a file elsewhere that gets a copy of each checkpoint, best where it can only be appended to.

use mvm_plan::audit::{Checkpoint, CheckpointError};
use rustix::fs::{FlockOperation, OFlags, flock};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Most bytes of a line; a checkpoint has less than a thousand.
const LONGEST: u64 = 64 * 1024;

/// Says what failed on a witness.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// The file could not be read or written.
    #[error("{act} the witness {}", path.display())]
    Io {
        /// What was tried.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// It is something else than a file.
    #[error("the witness {} is not a file", path.display())]
    NotAFile {
        /// What it is.
        path: PathBuf,
    },
    /// A line is not a checkpoint.
    #[error("line {line} of the witness {} is not a checkpoint", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        source: CheckpointError,
    },
    /// A line is too long to be a checkpoint.
    #[error("line {line} of the witness {} is too long to be a checkpoint", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
    },
}

/// What a witness holds.
#[derive(Debug, Default)]
pub(super) struct Witnessed {
    /// Checkpoints with their lines, from 1.
    pub(super) checkpoints: Vec<(u64, Checkpoint)>,
    /// Lines whose writing was cut short.
    pub(super) torn: u64,
}

/// Adds a line, and returns when it is on disk. The file is never written to but at its end.
pub(super) fn append(path: &Path, line: &[u8]) -> Result<(), WitnessError> {
    let failed = |act| io_error(act, path);
    let mut file = open(OpenOptions::new().read(true).append(true).create(true).mode(0o600), path)?;
    loop {
        match flock(&file, FlockOperation::LockExclusive) {
            Err(rustix::io::Errno::INTR) => {}
            locked => break locked.map_err(|error| failed("lock")(error.into()))?,
        }
    }
    let length = file.seek(SeekFrom::End(0)).map_err(failed("read"))?;
    let mut last = [b'\n'];
    if length > 0 {
        file.seek(SeekFrom::Start(length - 1)).map_err(failed("read"))?;
        file.read_exact(&mut last).map_err(failed("read"))?;
    }
    // A line that was cut short stays: nothing is ever taken out of a witness.
    let text = if last == *b"\n" { line.to_vec() } else { [b"\n", line].concat() };
    file.write_all(&text).and_then(|()| file.sync_data()).map_err(failed("write"))
}

/// Reads all checkpoints.
pub(super) fn read(path: &Path) -> Result<Witnessed, WitnessError> {
    let file = open(OpenOptions::new().read(true), path)?;
    let mut reader = BufReader::new(file);
    let mut witnessed = Witnessed::default();
    for line in 1.. {
        let mut text = Vec::new();
        let read = reader.by_ref().take(LONGEST + 1).read_until(b'\n', &mut text);
        if read.map_err(io_error("read", path))? == 0 {
            break;
        }
        if text.len() as u64 > LONGEST {
            return Err(WitnessError::Length { path: path.to_owned(), line });
        }
        match Checkpoint::parse(text.trim_ascii_end()) {
            Ok(checkpoint) => witnessed.checkpoints.push((line, checkpoint)),
            Err(CheckpointError::Envelope(mvm_plan::dsse::DsseError::Parse(error))) if error.is_eof() => {
                witnessed.torn += 1;
            }
            Err(source) => return Err(WitnessError::Line { path: path.to_owned(), line, source }),
        }
    }
    Ok(witnessed)
}

/// Opens a file, but nothing that reading or writing would wait on.
fn open(options: &mut OpenOptions, path: &Path) -> Result<File, WitnessError> {
    let file = options.custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path);
    let file = file.map_err(io_error("open", path))?;
    if !file.metadata().map_err(io_error("open", path))?.is_file() {
        return Err(WitnessError::NotAFile { path: path.to_owned() });
    }
    Ok(file)
}

fn io_error(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WitnessError {
    let path = path.to_owned();
    move |source| WitnessError::Io { act, path, source }
}
