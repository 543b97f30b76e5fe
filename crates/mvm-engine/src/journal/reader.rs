//! Reading files of lines while they are written and rotated.

use super::writer::numbered;
use super::{FILES, LogLine, VmEvent};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// How many files of events there are, with the one that is written.
const EVENT_FILES: u32 = 2;
/// Longer than any line that is written: 16 KiB of control characters, each six bytes in JSON.
const MAX_LINE: u64 = 256 << 10;

/// Reads lines, the oldest first, and goes on with those that are added after it came to the end.
#[derive(Debug)]
pub struct LineReader {
    path: PathBuf,
    files: u32,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    reader: BufReader<File>,
    /// Device and number of the file, which it keeps when it is renamed.
    id: (u64, u64),
    /// The beginning of a line whose end is still to come.
    partial: Vec<u8>,
}

impl LineReader {
    /// Reads the output of one source, whose files are in a directory.
    pub(super) fn of_output(directory: &Path) -> Self {
        Self { path: directory.join(super::OUTPUT), files: FILES, current: None }
    }

    /// Reads the events of a store.
    pub fn of_events(root: &Path) -> Self {
        Self { path: root.join(super::EVENTS), files: EVENT_FILES, current: None }
    }

    /// Goes to the end of what there is.
    pub fn skip_to_end(&mut self) -> io::Result<()> {
        let Some((file, id)) = open(&self.path)? else { return Ok(()) };
        let mut reader = BufReader::new(file);
        reader.seek(SeekFrom::End(0))?;
        self.current = Some(Current { reader, id, partial: Vec::new() });
        Ok(())
    }

    /// Returns the next piece of output; `None` at the end of what there is now.
    pub(super) fn next_output(&mut self) -> io::Result<Option<LogLine>> {
        self.next_with(LogLine::parse)
    }

    /// Returns the next event; `None` at the end of what there is now.
    pub fn next_event(&mut self) -> io::Result<Option<VmEvent>> {
        self.next_with(|line| serde_json::from_slice(line).ok())
    }

    /// Returns the next line that can be read; others were cut off by a crash, or are empty.
    fn next_with<T>(&mut self, parse: impl Fn(&[u8]) -> Option<T>) -> io::Result<Option<T>> {
        while let Some(line) = self.next_line()? {
            if let Some(parsed) = parse(&line) {
                return Ok(Some(parsed));
            }
        }
        Ok(None)
    }

    fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let Some(current) = &mut self.current else {
                // The oldest file that there is; between a rename and the next open there may be no newest.
                if !self.open_oldest()? {
                    return Ok(None);
                }
                continue;
            };
            let room = MAX_LINE.saturating_sub(current.partial.len() as u64);
            let count = current.reader.by_ref().take(room).read_until(b'\n', &mut current.partial)?;
            if current.partial.last() == Some(&b'\n') || (room == 0 && !current.partial.is_empty()) {
                return Ok(Some(std::mem::take(&mut current.partial)));
            }
            if count > 0 {
                continue;
            }
            if !self.go_on()? {
                return Ok(None);
            }
        }
    }

    /// Goes on with the file after the one that was read, if there is one.
    fn go_on(&mut self) -> io::Result<bool> {
        let Some(read) = self.current.as_ref().map(|current| current.id) else { return Ok(false) };
        let mut newer = None;
        for number in 0..self.files {
            let Some((file, id)) = open(&self.path_of(number))? else { continue };
            if id == read {
                let Some((file, id)) = newer else { return Ok(false) };
                // What was written between the last look and the renaming comes first.
                if self.has_more()? {
                    return Ok(true);
                }
                self.current = Some(Current { reader: BufReader::new(file), id, partial: Vec::new() });
                return Ok(true);
            }
            newer = Some((file, id));
        }
        if self.has_more()? {
            return Ok(true);
        }
        // It was rotated away meanwhile: what is left begins with the oldest.
        self.current = None;
        self.open_oldest()
    }

    fn has_more(&mut self) -> io::Result<bool> {
        match &mut self.current {
            Some(current) => Ok(!current.reader.fill_buf()?.is_empty()),
            None => Ok(false),
        }
    }

    fn open_oldest(&mut self) -> io::Result<bool> {
        for number in (0..self.files).rev() {
            if let Some((file, id)) = open(&self.path_of(number))? {
                self.current = Some(Current { reader: BufReader::new(file), id, partial: Vec::new() });
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn path_of(&self, number: u32) -> PathBuf {
        if number == 0 { self.path.clone() } else { numbered(&self.path, number) }
    }
}

/// Opens a file, unless it isn't there.
fn open(path: &Path) -> io::Result<Option<(File, (u64, u64))>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(file) => {
            let metadata = file.metadata()?;
            Ok(Some((file, (metadata.dev(), metadata.ino()))))
        }
    }
}
