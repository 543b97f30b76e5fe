//! The scope's builder: what is known of it, and who uses it now.
//!
//! ```text
//! builder/lock          held locked (flock(2)) by whoever uses the builder, so that it is free when that process ends
//!         holder        who used it last, for messages
//!         clean         is there while all that the builder has written is on its disk
//!         record.json   what it is; the store keeps it and doesn't read it
//! ```

use super::Scope;
use crate::dir::{Dir, FileError};
use crate::error::StoreError;
use crate::lock;
use std::fs::File;
use std::io::{Read as _, Write as _};

const BUILDER: &str = "builder";
const LOCK: &str = "lock";
const HOLDER: &str = "holder";
const CLEAN: &str = "clean";
const RECORD: &str = "record.json";
const DRAFT: &str = "record.new";
/// Far more than either text has.
const TEXT_LIMIT: u64 = 4 << 20;

/// The right to use the scope's builder, and to change what is known of it.
#[derive(Debug)]
pub struct BuilderLock {
    dir: Dir,
    // Held for its lock only.
    _file: File,
}

/// Whether the builder could be had.
#[derive(Debug)]
pub enum BuilderClaim {
    /// It is the caller's until this is dropped.
    Free(BuilderLock),
    /// Somebody has it, who called himself so.
    Busy(String),
}

impl Scope {
    /// Takes the builder, unless somebody has it, for `holder`.
    pub fn claim_builder(&self, holder: &str) -> Result<BuilderClaim, StoreError> {
        let dir = self.inner.dir.ensure_dir(BUILDER)?;
        let file = File::from(dir.open_or_create(LOCK)?);
        if !lock::try_exclusive(&file, &dir.join(LOCK))? {
            let text = read(&dir, HOLDER)?.filter(|text| !text.is_empty());
            let text = text.map(|text| String::from_utf8_lossy(&text).into_owned());
            return Ok(BuilderClaim::Busy(text.unwrap_or_else(|| "another command".to_owned())));
        }
        // Told to whoever waits meanwhile; it needs not outlive a loss of power.
        dir.remove_file(HOLDER)?;
        write(&dir, HOLDER, holder.as_bytes())?;
        Ok(BuilderClaim::Free(BuilderLock { dir, _file: file }))
    }

    /// Returns who has the builder now, if somebody has.
    pub fn builder_holder(&self) -> Result<Option<String>, StoreError> {
        let Some(dir) = self.inner.dir.open_dir(BUILDER)? else { return Ok(None) };
        let Some(file) = dir.open_file(LOCK)? else { return Ok(None) };
        // Locked for a moment, until the file is closed.
        if lock::try_shared(&file, &dir.join(LOCK))? {
            return Ok(None);
        }
        let text = read(&dir, HOLDER)?.unwrap_or_default();
        Ok(Some(String::from_utf8_lossy(&text).into_owned()))
    }

    /// Returns what is known of the builder, if there is one.
    pub fn builder_record(&self) -> Result<Option<Vec<u8>>, StoreError> {
        match self.inner.dir.open_dir(BUILDER)? {
            Some(dir) => Ok(read(&dir, RECORD)?),
            None => Ok(None),
        }
    }
}

impl BuilderLock {
    /// Puts down what the builder is, in place of what was known.
    pub fn set_record(&self, record: &[u8]) -> Result<(), StoreError> {
        self.dir.remove_file(DRAFT)?;
        let file = write(&self.dir, DRAFT, record)?;
        file.sync_all().map_err(|error| FileError::new("sync", self.dir.join(DRAFT), error))?;
        self.dir.rename(DRAFT, &self.dir, RECORD)?;
        Ok(self.dir.sync()?)
    }

    /// Returns whether whoever had the builder last said that all is on its disk, which from here on isn't so.
    pub fn take_clean(&self) -> Result<bool, StoreError> {
        if self.dir.open_file(CLEAN)?.is_none() {
            return Ok(false);
        }
        self.dir.remove_file(CLEAN)?;
        // What is written next may be on the disk sooner.
        self.dir.sync()?;
        Ok(true)
    }

    /// Notes that all that the builder has written is on its disk. It needs not outlive a loss of power.
    ///
    /// The note was taken before the builder was started.
    pub fn set_clean(&self) -> Result<(), StoreError> {
        Ok(write(&self.dir, CLEAN, b"").map(drop)?)
    }

    /// Forgets what the builder was.
    pub fn remove_record(&self) -> Result<(), StoreError> {
        self.dir.remove_file(CLEAN)?;
        self.dir.remove_file(RECORD)?;
        Ok(self.dir.sync()?)
    }
}

fn read(dir: &Dir, name: &str) -> Result<Option<Vec<u8>>, FileError> {
    let Some(file) = dir.open_file(name)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(TEXT_LIMIT)
        .read_to_end(&mut bytes)
        .map_err(|error| FileError::new("read", dir.join(name), error))?;
    Ok(Some(bytes))
}

fn write(dir: &Dir, name: &str, bytes: &[u8]) -> Result<File, FileError> {
    let mut file = dir.create_file(name)?;
    file.write_all(bytes).map_err(|error| FileError::new("write", dir.join(name), error))?;
    Ok(file)
}
