//! What VMs wrote, and what happened to them.

use super::control::stored_plan;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::journal::{LineReader, LogLine, OutputReader};
use crate::vm::{self, VmDirectory, VmError};
use mvm_ref::VmName;
use std::fs;
use std::io;

/// Reads the output of a VM while it is written.
#[derive(Debug)]
pub struct VmLogs {
    reader: OutputReader,
    directory: VmDirectory,
}

impl Engine {
    /// Opens the output of a VM's main process and services, or of one of them, from its oldest line.
    pub fn logs(&self, name: &VmName, service: Option<&str>) -> Result<VmLogs, EngineError> {
        let directory = self.vms.get(name)?;
        Ok(VmLogs { reader: OutputReader::new(directory.path(), service), directory })
    }

    /// Returns what a VM's console said since its last start: the last two MiB.
    pub fn console(&self, name: &VmName) -> Result<Vec<u8>, EngineError> {
        let directory = self.vms.get(name)?;
        let mut text = Vec::new();
        for name in [format!("{}.1", vm::CONSOLE), vm::CONSOLE.to_owned()] {
            let path = directory.file(&name);
            match fs::read(&path) {
                Ok(bytes) => text.extend(bytes),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(EngineError::Io { act: "read", path, source }),
            }
        }
        Ok(text)
    }

    /// Opens the events of all VMs of the store, from the oldest.
    pub fn event_log(&self) -> LineReader {
        LineReader::of_events(&self.settings.root)
    }
}

impl VmLogs {
    /// Returns the next piece of output; `None` at the end of what there is now.
    pub fn next_line(&mut self) -> Result<Option<LogLine>, EngineError> {
        self.reader.next_output().map_err(|source| EngineError::Io {
            act: "read the output in",
            path: self.directory.path().to_owned(),
            source,
        })
    }

    /// Returns whether services may have written some of it.
    pub fn has_services(&self) -> Result<bool, EngineError> {
        Ok(!stored_plan(&self.directory)?.services.is_empty())
    }

    /// Returns whether nothing more can come: the VM has ended, or is gone.
    pub fn is_over(&self) -> Result<bool, EngineError> {
        match self.directory.is_over() {
            Err(VmError::NotFound(_)) => Ok(true),
            over => Ok(over?),
        }
    }
}
