//! Locks between processes: `flock(2)`, which the kernel releases when its holder dies.

use crate::dir::{Dir, FileError};
use crate::error::StoreError;
use mvm_ref::{Digest, VolumeName};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How often a wait looks again whether it may go on or was called off.
const POLL: Duration = Duration::from_millis(20);

/// The name of a piece of work in `staging/`: of its lock file, and the stem of what is being made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(String);

impl Key {
    /// Names the making of one segment.
    pub(crate) fn segment(diff_id: &Digest, generation: u32) -> Self {
        Self(format!("segment-{}-g{generation}", diff_id.hex()))
    }

    /// Names the making of one image from a chain.
    pub(crate) fn image(chain: &Digest, generation: u32) -> Self {
        Self(format!("image-{}-g{generation}", chain.hex()))
    }

    /// Names the coming and going of one file in `images/`, which several chains may lead to.
    pub(crate) fn root(root: &Digest) -> Self {
        Self(format!("root-{}", root.hex()))
    }

    /// Names the making or the removal of one volume, whose own name could look like that of something else.
    pub(crate) fn volume(name: &VolumeName) -> Self {
        Self(format!("volume-{}", Digest::of(name.as_str().as_bytes()).hex()))
    }

    /// Returns the key that an entry of `staging/` belongs to; none for what the store did not make.
    pub(crate) fn of_entry(name: &str) -> Option<Self> {
        let stem = name.strip_suffix(".lock").or_else(|| name.strip_suffix(".img")).unwrap_or(name);
        let (kind, rest) = stem.split_once('-')?;
        let (hex, generation) = match rest.split_once("-g") {
            Some((hex, generation)) => (hex, Some(generation)),
            None => (rest, None),
        };
        let known = match kind {
            "segment" | "image" => generation.is_some_and(|text| text.parse::<u32>().is_ok()),
            "root" | "volume" => generation.is_none(),
            _ => false,
        };
        (known && parse_hex(hex).is_some()).then(|| Self(stem.to_owned()))
    }

    /// Returns the key as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    fn lock_name(&self) -> String {
        format!("{}.lock", self.0)
    }
}

/// Reads 64 hexadecimal digits, as the store's file names have them.
pub(crate) fn parse_hex(text: &str) -> Option<Digest> {
    format!("sha256:{text}").parse().ok()
}

/// The right to do one piece of work; given back, with its file, on drop.
#[derive(Debug)]
pub(crate) struct KeyLock {
    // Held for its lock only.
    _file: OwnedFd,
    staging: Arc<Dir>,
    name: String,
}

impl KeyLock {
    /// Takes the lock, or returns none if somebody has it.
    pub(crate) fn try_acquire(staging: &Arc<Dir>, key: &Key) -> Result<Option<Self>, FileError> {
        let name = key.lock_name();
        loop {
            let file = staging.open_or_create(&name)?;
            if !try_exclusive(&file, &staging.join(&name))? {
                return Ok(None);
            }
            // The holder before may have removed the file between our open and our lock; a lock on a file
            // that no longer has its name excludes nobody.
            if staging.leads_to(&name, &file)? {
                return Ok(Some(Self { _file: file, staging: Arc::clone(staging), name }));
            }
        }
    }

    /// Takes the lock, or with `look_only` says as much as that nobody has it, and changes nothing. None if somebody has it.
    pub(crate) fn turn(
        staging: &Arc<Dir>,
        key: &Key,
        look_only: bool,
    ) -> Result<Option<Option<Self>>, FileError> {
        if !look_only {
            return Ok(Self::try_acquire(staging, key)?.map(Some));
        }
        let name = key.lock_name();
        match staging.open_file(&name)? {
            // Locked for a moment, until the file is closed.
            Some(file) if !try_exclusive(&file, &staging.join(&name))? => Ok(None),
            _ => Ok(Some(None)),
        }
    }

    /// Takes the lock, waiting for its holder until `cancelled` says to give up.
    pub(crate) fn acquire(
        staging: &Arc<Dir>,
        key: &Key,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Self, StoreError> {
        loop {
            if let Some(lock) = Self::try_acquire(staging, key)? {
                return Ok(lock);
            }
            if cancelled() {
                return Err(StoreError::Cancelled { what: key.as_str().to_owned() });
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for KeyLock {
    fn drop(&mut self) {
        // Removed while still held, so that no second holder can be on the same file. If that fails, an
        // empty file stays, which the next open of the scope removes.
        drop(self.staging.remove_file(&self.name));
    }
}

/// Locks a file or directory for use, waiting while it is being removed.
pub(crate) fn shared(fd: impl AsFd, path: &Path) -> Result<(), FileError> {
    lock(fd, FlockOperation::LockShared, path).map(|_| ())
}

/// Locks a file or directory for change, waiting for all who use it.
pub(crate) fn exclusive(fd: impl AsFd, path: &Path) -> Result<(), FileError> {
    lock(fd, FlockOperation::LockExclusive, path).map(|_| ())
}

/// Locks a file or directory for change; false if somebody uses it.
pub(crate) fn try_exclusive(fd: impl AsFd, path: &Path) -> Result<bool, FileError> {
    lock(fd, FlockOperation::NonBlockingLockExclusive, path)
}

/// Locks a file or directory for use; false if somebody changes it.
pub(crate) fn try_shared(fd: impl AsFd, path: &Path) -> Result<bool, FileError> {
    lock(fd, FlockOperation::NonBlockingLockShared, path)
}

fn lock(fd: impl AsFd, operation: FlockOperation, path: &Path) -> Result<bool, FileError> {
    loop {
        match rustix::fs::flock(&fd, operation) {
            Ok(()) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(errno) => return Err(FileError::new("lock", path, errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_staging() {
        let digest = Digest::of(b"x");
        let hex = digest.hex();
        for (entry, expected) in [
            (format!("segment-{hex}-g1"), Some(Key::segment(&digest, 1))),
            (format!("segment-{hex}-g1.lock"), Some(Key::segment(&digest, 1))),
            (format!("image-{hex}-g4294967295.img"), Some(Key::image(&digest, u32::MAX))),
            (format!("root-{hex}.lock"), Some(Key::root(&digest))),
            (format!("root-{hex}-g1.lock"), None),
            (Key::volume(&"x".parse().unwrap()).lock_name(), Some(Key(format!("volume-{hex}")))),
            (format!("image-{hex}.img"), None),
            (format!("image-{hex}-g"), None),
            (format!("image-{hex}-g-1"), None),
            (format!("image-{}-g1", hex.to_uppercase()), None),
            (format!("image-{}-g1", &hex[1..]), None),
            (format!("vm-{hex}-g1"), None),
            (format!("document-{hex}.1.0"), None),
            (".lock".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(Key::of_entry(&entry), expected, "{entry:?}");
        }
    }
}
