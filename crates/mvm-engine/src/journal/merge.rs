//! Reading what the main process and the services of a VM wrote, in the order of time.

use super::{LOGS, LineReader, LogLine, SERVICES, now};
use crate::supervisor::MAIN;
use mvm_plan::UtcTime;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Reads output, the oldest first, and goes on with what is added after it came to the end.
#[derive(Debug)]
pub struct OutputReader {
    logs: PathBuf,
    /// The only source that is wanted.
    only: Option<String>,
    sources: BTreeMap<String, Source>,
    /// When those sources were last looked at that had nothing more.
    looked: Option<UtcTime>,
}

#[derive(Debug)]
struct Source {
    reader: LineReader,
    next: Option<LogLine>,
}

impl OutputReader {
    /// Reads the output of the VM in a directory: all of it, or that of one source.
    pub fn new(vm: &Path, only: Option<&str>) -> Self {
        let only = only.map(str::to_owned);
        Self { logs: vm.join(LOGS), only, sources: BTreeMap::new(), looked: None }
    }

    /// Returns the next piece of output; `None` at the end of what there is now.
    pub fn next_output(&mut self) -> io::Result<Option<LogLine>> {
        // A source that had nothing more when the line was written may have written before it since.
        if self.earliest().is_none_or(|(time, _)| self.looked.is_none_or(|looked| time >= looked)) {
            self.look()?;
        }
        let Some((_, name)) = self.earliest() else { return Ok(None) };
        let Some(source) = self.sources.get_mut(&name) else { return Ok(None) };
        let line = source.next.take();
        source.next = source.reader.next_output()?;
        Ok(line)
    }

    /// Returns the time and the source of the oldest line that is at hand.
    fn earliest(&self) -> Option<(UtcTime, String)> {
        let at_hand =
            self.sources.iter().filter_map(|(name, source)| Some((source.next.as_ref()?.time, name)));
        at_hand.min().map(|(time, name)| (time, name.clone()))
    }

    /// Looks for sources that are new, and for more of those that had no more.
    fn look(&mut self) -> io::Result<()> {
        self.looked = Some(now());
        for (name, directory) in self.directories()? {
            let reader = || Source { reader: LineReader::of_output(&directory), next: None };
            let source = self.sources.entry(name).or_insert_with(reader);
            if source.next.is_none() {
                source.next = source.reader.next_output()?;
            }
        }
        Ok(())
    }

    /// Returns the sources that are wanted and there, and the directories of their files.
    fn directories(&self) -> io::Result<Vec<(String, PathBuf)>> {
        let mut found = vec![(MAIN.to_owned(), self.logs.clone())];
        match fs::read_dir(self.logs.join(SERVICES)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            entries => {
                for entry in entries? {
                    let entry = entry?;
                    found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
                }
            }
        }
        found.retain(|(name, _)| self.only.as_ref().is_none_or(|only| only == name));
        Ok(found)
    }
}
