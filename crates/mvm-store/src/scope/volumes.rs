//! Volumes: named disks that outlive the VMs that use them. Nothing collects them.
//!
//! ```text
//! volumes/NAME/disk.img    the raw disk, sparse; whoever uses it holds it locked (flock(2))
//!              info.json   when it was made
//!              holder      who used it last, for messages
//! ```
//!
//! A volume is made in `staging/` and becomes visible by one rename, and it is gone by one rename back. A lock belongs to
//! the open disk, so that it ends with the last process that has it open, however that ends.

use super::staging::Staged;
use super::{Inner, Scope, now};
use crate::dir::{Dir, FileError, allocated};
use crate::error::StoreError;
use crate::lock::{self, Key, KeyLock};
use mvm_ref::VolumeName;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub(super) const VOLUMES: &str = "volumes";
const DISK: &str = "disk.img";
const INFO: &str = "info.json";
const HOLDER: &str = "holder";
/// Far more than the files beside a disk ever have.
const TEXT_LIMIT: u64 = 4096;

/// Whoever only looks whether a volume is in use has it locked for a moment, and so has a process that is being started.
const ATTEMPTS: u32 = 15;
const PAUSE: Duration = Duration::from_millis(20);

/// The version of `info.json`.
const SCHEMA: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Info {
    schema: u32,
    created_at: i64,
}

/// What is known of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VolumeRecord {
    /// Its name.
    pub name: VolumeName,
    /// The disk's file.
    pub path: PathBuf,
    /// Bytes of the disk.
    pub size: u64,
    /// Bytes that it holds of the host's disk.
    pub used: u64,
    /// When it was made, in seconds since 1970.
    pub created_at: i64,
    /// Who uses it now.
    pub holder: Option<String>,
}

/// What a volume is locked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeUse {
    /// To write to it.
    Write,
    /// To read it, while nobody else has it.
    Read,
    /// To read it together with others who do.
    Share,
}

/// A volume that is locked while this or a copy of its open disk lives.
#[derive(Debug)]
pub struct Volume {
    name: VolumeName,
    dir: Dir,
    disk: File,
}

/// The right to make one volume. Dropping it removes what was written.
#[derive(Debug)]
pub struct VolumeSlot {
    inner: Arc<Inner>,
    name: VolumeName,
    dir: Dir,
    staged: Staged,
    // Last, so that it outlives the removal of the staged directory.
    _lock: KeyLock,
}

impl Scope {
    /// Returns the right to make a volume, which fails if there is one of that name. While another process makes it, this
    /// waits, and asks `cancelled` about every 20 ms.
    pub fn new_volume(
        &self,
        name: &VolumeName,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<VolumeSlot, StoreError> {
        let inner = &self.inner;
        let key = Key::volume(name);
        let lock = KeyLock::acquire(&inner.staging, &key, cancelled)?;
        if inner.dir.ensure_dir(VOLUMES)?.stat(name.as_str())?.is_some() {
            return Err(StoreError::VolumeExists { name: name.clone() });
        }
        let staged = Staged::new(&inner.staging, key.as_str().to_owned())?;
        let dir = inner.staging.ensure_dir(staged.name())?;
        Ok(VolumeSlot { inner: Arc::clone(inner), name: name.clone(), dir, staged, _lock: lock })
    }

    /// Locks a volume for `holder`. Fails at once if it is in use otherwise.
    pub fn lock_volume(
        &self,
        name: &VolumeName,
        purpose: VolumeUse,
        holder: &str,
    ) -> Result<Volume, StoreError> {
        let dir = self.inner.volume(name)?;
        let disk = match purpose {
            VolumeUse::Write => dir.open_writable(DISK),
            VolumeUse::Read | VolumeUse::Share => dir.open_file(DISK),
        };
        let disk = disk?.ok_or_else(|| self.inner.no_volume(name))?;
        let path = dir.join(DISK);
        let mut attempts = 0;
        loop {
            let locked = match purpose {
                VolumeUse::Share => lock::try_shared(&disk, &path)?,
                VolumeUse::Write | VolumeUse::Read => lock::try_exclusive(&disk, &path)?,
            };
            if locked {
                break;
            }
            attempts += 1;
            if attempts == ATTEMPTS {
                return Err(StoreError::VolumeInUse { name: name.clone(), holder: holder_of(&dir)? });
            }
            std::thread::sleep(PAUSE);
        }
        // Removed between the look and the lock.
        if !self.inner.volume(name)?.leads_to(DISK, &disk)? {
            return Err(self.inner.no_volume(name));
        }
        // Told to whoever is refused meanwhile; it needs not outlive a loss of power.
        match write_text(&dir, HOLDER, holder) {
            // Another one who shares it writes the same.
            Err(_) if purpose == VolumeUse::Share => {}
            written => drop(written?),
        }
        Ok(Volume { name: name.clone(), dir, disk })
    }

    /// Returns what is known of a volume.
    pub fn volume(&self, name: &VolumeName) -> Result<VolumeRecord, StoreError> {
        let dir = self.inner.volume(name)?;
        self.inner.volume_record(name, &dir)?.ok_or_else(|| self.inner.no_volume(name))
    }

    /// Lists the volumes, by name.
    pub fn volumes(&self) -> Result<Vec<VolumeRecord>, StoreError> {
        let inner = &self.inner;
        let Some(volumes) = inner.dir.open_dir(VOLUMES)? else { return Ok(Vec::new()) };
        let mut records = Vec::new();
        for name in volumes.names()? {
            let Ok(volume) = name.parse::<VolumeName>() else { continue };
            if let Some(dir) = volumes.open_dir(&name)? {
                records.extend(inner.volume_record(&volume, &dir)?);
            }
        }
        Ok(records)
    }

    /// Removes a volume that nobody uses, and returns the bytes of disk that became free.
    pub fn remove_volume(&self, name: &VolumeName) -> Result<u64, StoreError> {
        let inner = &self.inner;
        let key = Key::volume(name);
        let _lock = KeyLock::acquire(&inner.staging, &key, &|| false)?;
        let volume = self.lock_volume(name, VolumeUse::Read, "its removal")?;
        let staged = Staged::new(&inner.staging, key.as_str().to_owned())?;
        let volumes = inner.dir.ensure_dir(VOLUMES)?;
        volumes.rename(name.as_str(), &inner.staging, staged.name())?;
        volumes.sync()?;
        drop(volume);
        Ok(inner.staging.remove_tree(staged.name())?)
    }
}

impl Volume {
    /// Returns the volume's name.
    pub fn name(&self) -> &VolumeName {
        &self.name
    }

    /// Returns the disk's file, which carries the lock.
    pub fn disk(&self) -> &File {
        &self.disk
    }

    /// Gives the disk's file away, and the lock with it.
    pub fn into_disk(self) -> File {
        self.disk
    }

    /// Returns the path of the disk.
    pub fn path(&self) -> PathBuf {
        self.dir.join(DISK)
    }

    /// Returns the bytes of the disk.
    pub fn size(&self) -> Result<u64, StoreError> {
        let metadata = self.disk.metadata();
        Ok(metadata.map_err(|error| FileError::new("inspect", self.path(), error))?.len())
    }

    /// Makes the disk longer. The file system in it learns of that when it is next mounted.
    pub fn grow(&self, size: u64) -> Result<(), StoreError> {
        let got = self.size()?;
        if size <= got {
            return Err(StoreError::VolumeShrinks { name: self.name.clone(), got, asked: size });
        }
        let failed = |act| move |error| FileError::new(act, self.path(), error);
        self.disk.set_len(size).map_err(failed("resize"))?;
        Ok(self.disk.sync_all().map_err(failed("sync"))?)
    }
}

impl VolumeSlot {
    /// Returns where the disk is to be made.
    pub fn disk(&self) -> PathBuf {
        self.dir.join(DISK)
    }

    /// Makes the volume visible, once its disk is on the host's disk.
    pub fn commit(self) -> Result<(), StoreError> {
        let Self { inner, name, dir, staged, _lock } = self;
        let path = dir.join(DISK);
        let failed = |act, error| FileError::new(act, &path, error);
        let disk = dir.open_file(DISK)?;
        let disk = disk.ok_or_else(|| failed("open", std::io::ErrorKind::NotFound.into()))?;
        disk.sync_all().map_err(|error| failed("sync", error))?;
        let info = serde_json::to_string(&Info { schema: SCHEMA, created_at: now() });
        let info = info.map_err(|error| failed("describe", error.into()))?;
        write_text(&dir, INFO, &info)?.sync_all().map_err(|error| failed("sync", error))?;
        dir.sync()?;
        let volumes = inner.dir.ensure_dir(VOLUMES)?;
        staged.move_to(&volumes, name.as_str())?;
        volumes.sync()?;
        Ok(inner.dir.sync()?)
    }
}

impl Inner {
    fn volume(&self, name: &VolumeName) -> Result<Dir, StoreError> {
        let volume = match self.dir.open_dir(VOLUMES)? {
            Some(volumes) => volumes.open_dir(name.as_str())?,
            None => None,
        };
        volume.ok_or_else(|| self.no_volume(name))
    }

    fn no_volume(&self, name: &VolumeName) -> StoreError {
        StoreError::NoVolume { name: name.clone(), scope: self.name.clone() }
    }

    /// Returns what is known of a volume, none if it was removed meanwhile.
    fn volume_record(&self, name: &VolumeName, dir: &Dir) -> Result<Option<VolumeRecord>, StoreError> {
        let (Some(disk), Some(stat)) = (dir.open_file(DISK)?, dir.stat(DISK)?) else { return Ok(None) };
        let path = dir.join(DISK);
        let in_use = !lock::try_shared(&disk, &path)?;
        let info = read_text(dir, INFO)?.and_then(|text| serde_json::from_str::<Info>(&text).ok());
        Ok(Some(VolumeRecord {
            name: name.clone(),
            path,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            used: allocated(&stat),
            created_at: info.map_or(0, |info| info.created_at),
            holder: if in_use { Some(holder_of(dir)?) } else { None },
        }))
    }
}

fn holder_of(dir: &Dir) -> Result<String, FileError> {
    let text = read_text(dir, HOLDER)?.filter(|text| !text.is_empty());
    Ok(text.unwrap_or_else(|| "another command".to_owned()))
}

fn read_text(dir: &Dir, name: &str) -> Result<Option<String>, FileError> {
    let Some(file) = dir.open_file(name)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(TEXT_LIMIT)
        .read_to_end(&mut bytes)
        .map_err(|error| FileError::new("read", dir.join(name), error))?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Writes a file beside a disk anew.
fn write_text(dir: &Dir, name: &str, text: &str) -> Result<File, FileError> {
    dir.remove_file(name)?;
    let mut file = dir.create_file(name)?;
    file.write_all(text.as_bytes()).map_err(|error| FileError::new("write", dir.join(name), error))?;
    Ok(file)
}
