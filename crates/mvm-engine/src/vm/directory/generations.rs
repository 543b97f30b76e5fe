//! What a VM was before it went over to another image.

use super::{PLAN, RECORD, VmDirectory, VmError, io_error, read_file, remove_all_of, write_atomically};
use crate::vm::record::Record;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;

/// Plans and records that it had before.
const GENERATIONS: &str = "generations";

impl VmDirectory {
    /// Keeps a plan and its record as the generation that was, and forgets what is older than `kept` generations.
    pub fn keep_generation(&self, record: &Record, plan: &[u8], kept: u32) -> Result<(), VmError> {
        let path = self.file(GENERATIONS);
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(io_error("create", &path)(error));
            }
            _ => {}
        }
        let number = record.generation;
        let path = self.file(&generation_file(number, PLAN));
        write_atomically(&path, plan).map_err(io_error("write", &path))?;
        // The record says that it is all there.
        self.write_json(&generation_file(number, RECORD), record)?;
        if let Some(old) = number.checked_sub(kept) {
            for name in [RECORD, PLAN] {
                remove_all_of(&self.file(&generation_file(old, name)))?;
            }
        }
        Ok(())
    }

    /// Returns the record and the plan of the youngest generation that is kept before one.
    pub fn generation_before(&self, number: u32) -> Option<(Record, Vec<u8>)> {
        (1..number).rev().find_map(|number| self.generation(number).ok())
    }

    /// Returns the record and the plan of a generation that was.
    pub fn generation(&self, number: u32) -> Result<(Record, Vec<u8>), VmError> {
        let record = self.read_json(&generation_file(number, RECORD))?;
        let path = self.file(&generation_file(number, PLAN));
        Ok((record, read_file(&path).map_err(io_error("read", &path))?))
    }
}

/// Returns the name of a file of a generation.
fn generation_file(number: u32, name: &str) -> String {
    format!("{GENERATIONS}/{number}.{name}")
}
