//! Volumes: make, list, grow, give out, remove.

use crate::audit_log::Note;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::progress::Cancel;
use crate::size::Size;
use mvm_launch::{Disk, volume_serial};
use mvm_plan::audit::{Event, Subject};
use mvm_plan::plan::{Mount, MountSource};
use mvm_ref::{ScopeName, VmName, VolumeName};
use mvm_store::{StoreError, VolumeRecord, VolumeUse};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

/// Bytes of a volume for which no size is asked. It takes only what is written to it.
pub const VOLUME_SIZE: u64 = 10 << 30;
/// The least that holds a file system with a journal.
const LEAST: u64 = 16 << 20;
/// The most that one file of a common file system holds: ext4's limit.
const MOST: u64 = (16 << 40) - (1 << 20);
/// What a new volume takes of the disk, about.
const FORMATTED: u64 = 4 << 20;
/// Sizes are whole multiples of this.
const STEP: u64 = 1 << 20;
/// Where an ext4 superblock has its magic number, in bytes from the start of the disk, and that number.
///
/// Source: Linux `Documentation/filesystems/ext4/super.rst`.
const MAGIC: (u64, [u8; 2]) = (1024 + 0x38, 0xef53_u16.to_le_bytes());
const CHUNK: usize = 1 << 20;

/// Says why a volume can't be made, changed or given out.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// No file system fits in so little, or so much in a file.
    #[error("a volume of {asked} bytes is not supported; it has {LEAST} to {MOST}")]
    Size {
        /// What was asked for.
        asked: u64,
    },
    /// The disk could not be made.
    #[error("make volume {name}")]
    Make {
        /// The volume.
        name: VolumeName,
        /// Why not.
        source: mvm_launch::ScratchError,
    },
    /// The scope holds as much as it may.
    #[error("scope {scope} may hold {quota} bytes and holds {used}; no volume is made")]
    Quota {
        /// The scope.
        scope: ScopeName,
        /// Bytes that it may hold.
        quota: u64,
        /// Bytes that it holds.
        used: u64,
    },
    /// What was to become a volume is something else.
    #[error("the disk for volume {name} has no ext4 file system")]
    NotExt4 {
        /// The volume.
        name: VolumeName,
    },
    /// The disk could not be given out, or taken in.
    #[error("{act} volume {name}")]
    Export {
        /// What was tried.
        act: &'static str,
        /// The volume.
        name: VolumeName,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl Engine {
    /// Makes a volume of `size` bytes, or as large as volumes are.
    pub fn create_volume(&self, name: &VolumeName, size: Option<Size>) -> Result<VolumeRecord, EngineError> {
        let size = rounded(size.map_or(VOLUME_SIZE, Size::bytes))?;
        self.check_volume_quota()?;
        let slot = self.scope.new_volume(name, &|| false)?;
        mvm_launch::make_volume(&self.settings.program_path, &slot.disk(), size)
            .map_err(|source| VolumeError::Make { name: name.clone(), source })?;
        self.audit.append(&self.settings.scope, vec![sized(name, size)])?;
        slot.commit()?;
        Ok(self.scope.volume(name)?)
    }

    /// Makes a volume of the disk that `from` is open at: a raw ext4 file system, such as one that was exported.
    pub fn create_volume_from(&self, name: &VolumeName, from: &File) -> Result<VolumeRecord, EngineError> {
        let failed = |act| {
            let name = name.clone();
            move |source| VolumeError::Export { act, name, source }
        };
        let length = from.metadata().map_err(failed("look at the disk for"))?.len();
        let size = rounded(length)?;
        let mut magic = [0; 2];
        from.read_exact_at(&mut magic, MAGIC.0).map_err(failed("read the disk for"))?;
        if magic != MAGIC.1 {
            return Err(VolumeError::NotExt4 { name: name.clone() }.into());
        }
        self.check_volume_quota()?;
        let slot = self.scope.new_volume(name, &|| false)?;
        let disk = File::create_new(slot.disk()).map_err(failed("make"))?;
        mvm_launch::copy_open(from, &disk).map_err(failed("copy the disk for"))?;
        disk.set_len(size).map_err(failed("make"))?;
        self.audit.append(&self.settings.scope, vec![sized(name, size)])?;
        slot.commit()?;
        Ok(self.scope.volume(name)?)
    }

    /// Makes a volume unless there is one of that name. Returns whether it was made.
    fn ensure_volume(&self, name: &VolumeName) -> Result<bool, EngineError> {
        match self.scope.volume(name) {
            Ok(_) => return Ok(false),
            Err(StoreError::NoVolume { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        match self.create_volume(name, None) {
            Ok(_) => Ok(true),
            // Somebody else was quicker.
            Err(EngineError::Store(StoreError::VolumeExists { .. })) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Locks the volumes that are to be mounted in a VM, each until its hypervisor is gone, and returns their disks. A volume
    /// that isn't there is made.
    pub(crate) fn lock_volumes(&self, mounts: &[Mount], vm: &VmName) -> Result<Vec<Disk>, EngineError> {
        let mut disks = Vec::new();
        for (index, mount) in mounts.iter().enumerate() {
            let MountSource::Volume { name } = &mount.source else { continue };
            self.ensure_volume(name)?;
            let purpose = if mount.read_only { VolumeUse::Read } else { VolumeUse::Write };
            let volume = self.scope.lock_volume(name, purpose, &format!("VM {vm}"))?;
            disks.push(Disk {
                path: volume.path(),
                serial: volume_serial(index),
                read_only: mount.read_only,
                durable: true,
                held: Some(Arc::new(volume.into_disk())),
            });
        }
        Ok(disks)
    }

    /// Lists the volumes of the scope, by name.
    pub fn volumes(&self) -> Result<Vec<VolumeRecord>, EngineError> {
        Ok(self.scope.volumes()?)
    }

    /// Returns what is known of a volume.
    pub fn volume(&self, name: &VolumeName) -> Result<VolumeRecord, EngineError> {
        Ok(self.scope.volume(name)?)
    }

    /// Makes a volume larger that nobody uses. Its file system follows when it is next mounted to be written.
    pub fn grow_volume(&self, name: &VolumeName, size: Size) -> Result<VolumeRecord, EngineError> {
        let size = rounded(size.bytes())?;
        let volume = self.scope.lock_volume(name, VolumeUse::Write, "mvmctl volume grow")?;
        let got = volume.size()?;
        if size <= got {
            return Err(StoreError::VolumeShrinks { name: name.clone(), got, asked: size }.into());
        }
        self.audit.append(&self.settings.scope, vec![sized(name, size)])?;
        volume.grow(size)?;
        drop(volume);
        Ok(self.scope.volume(name)?)
    }

    /// Writes the disk of a volume that nobody writes to, holes and all, to `out`, which is what `to` names, if it has a name.
    ///
    /// An empty file gets the holes as holes, a pipe gets them as zeros.
    pub fn export_volume(
        &self,
        name: &VolumeName,
        out: &File,
        to: Option<&Path>,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        let volume = self.scope.lock_volume(name, VolumeUse::Share, "mvmctl volume export")?;
        let note = Note::from(Event::Export { subject: Subject::Volume { name: name.clone() } });
        let note = match to {
            Some(path) => note.with("to", &path.to_string_lossy()),
            None => note,
        };
        self.audit.append_notes(&self.settings.scope, vec![note])?;
        let failed = |act| {
            let name = name.clone();
            move |source| VolumeError::Export { act, name, source }
        };
        let metadata = out.metadata().map_err(failed("export"))?;
        if metadata.is_file() && metadata.len() == 0 {
            return Ok(mvm_launch::copy_open(volume.disk(), out).map_err(failed("copy"))?);
        }
        let (mut disk, mut out, mut piece) = (volume.disk(), out, vec![0; CHUNK]);
        loop {
            if cancel.requested() {
                return Err(EngineError::Interrupted);
            }
            match disk.read(&mut piece).map_err(failed("read"))? {
                0 => return Ok(()),
                count => out.write_all(&piece[..count]).map_err(failed("write out"))?,
            }
        }
    }

    /// Removes a volume that nobody uses, with all that is in it. Returns the bytes of disk that became free.
    pub fn remove_volume(&self, name: &VolumeName) -> Result<u64, EngineError> {
        let freed = self.scope.remove_volume(name)?;
        let subject = Subject::Volume { name: name.clone() };
        self.audit.append(&self.settings.scope, vec![Event::Delete { subject }])?;
        Ok(freed)
    }

    fn check_volume_quota(&self) -> Result<(), EngineError> {
        let Some(quota) = self.scope.quota()? else { return Ok(()) };
        let used = self.scope.usage()?.total;
        if used.saturating_add(FORMATTED) <= quota {
            return Ok(());
        }
        Err(VolumeError::Quota { scope: self.settings.scope.clone(), quota, used }.into())
    }
}

/// Says of a volume how large it is now.
fn sized(name: &VolumeName, size: u64) -> Event {
    let subject = Subject::Volume { name: name.clone() };
    Event::Set { subject, setting: "size".to_owned(), value: size.to_string() }
}

/// Rounds a size up to what a volume can have.
fn rounded(asked: u64) -> Result<u64, VolumeError> {
    let size = asked.checked_next_multiple_of(STEP).filter(|size| (LEAST..=MOST).contains(size));
    size.ok_or(VolumeError::Size { asked })
}

/// Returns the path of a volume's disk in a store.
#[cfg(test)]
fn disk_of(engine: &Engine, name: &str) -> std::path::PathBuf {
    engine.scope.path().join("volumes").join(name).join("disk.img")
}

#[cfg(test)]
mod tests;
