//! A user for each hypervisor, taken from a range that no account has.
//!
//! The range lies above what `subuid(5)` gives out by default and below the ids that systemd reserves at its end
//! (<https://systemd.io/UIDS-GIDS/>). A number is taken by locking a file that is named for it, so that it is free
//! again when its holder ends, however that happens.

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// The first uid of the range; a gid of the same number goes with each.
pub const FIRST_USER: u32 = 1_900_000_000;
/// How many uids the range has.
pub const USERS: u32 = 65_536;

/// Where the locks are. Only root writes below `/run`.
const LOCKS: &str = "/run/mvm/uids";

/// Says why no user could be reserved.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// A file of the reservation cannot be used.
    #[error("{act} {}", path.display())]
    File {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// Every number is taken.
    #[error("all {USERS} users from {FIRST_USER} on are taken")]
    Exhausted,
}

/// Returns the last uid of the range.
pub(super) const fn last_user() -> u32 {
    FIRST_USER + USERS - 1
}

/// Says whether the caller can hand out the range's users; if not, why that is as it should be.
pub(super) fn available() -> Result<(), String> {
    let caller = rustix::process::geteuid();
    if !caller.is_root() {
        return Err(format!("not started by root: it runs as uid {caller}, like its supervisor"));
    }
    for map in ["/proc/self/uid_map", "/proc/self/gid_map"] {
        // Without namespaces of users there is no such file, and every number exists.
        let Ok(text) = fs::read_to_string(map) else { continue };
        if !covers(&text, FIRST_USER.into(), USERS.into()) {
            return Err(format!("this user namespace has no ids from {FIRST_USER} to {}", last_user()));
        }
    }
    Ok(())
}

/// Says whether one line of a map of ids (user_namespaces(7)) holds a whole range.
fn covers(map: &str, first: u64, count: u64) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_ascii_whitespace().map(|word| word.parse::<u64>().unwrap_or(0));
        let (inside, _, length) = (numbers.next(), numbers.next(), numbers.next());
        inside.zip(length).is_some_and(|(inside, length)| inside <= first && first + count <= inside + length)
    })
}

/// A user that nobody else has while this lives.
#[derive(Debug)]
pub(super) struct ReservedUser {
    number: u32,
    path: PathBuf,
    _lock: File,
}

impl ReservedUser {
    /// Reserves the first free user from the `start`th on.
    pub fn take(start: u32) -> Result<Self, UserError> {
        Self::take_in(Path::new(LOCKS), start)
    }

    fn take_in(locks: &Path, start: u32) -> Result<Self, UserError> {
        DirBuilder::new().recursive(true).mode(0o700).create(locks).map_err(fail("create", locks))?;
        for offset in 0..USERS {
            let number = FIRST_USER + (start % USERS + offset) % USERS;
            let path = locks.join(number.to_string());
            if let Some(lock) = lock(&path, OFlags::CREATE)? {
                return Ok(Self { number, path, _lock: lock });
            }
        }
        Err(UserError::Exhausted)
    }

    pub fn uid(&self) -> Uid {
        Uid::from_raw(self.number)
    }

    pub fn gid(&self) -> Gid {
        Gid::from_raw(self.number)
    }
}

fn fail(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> UserError {
    let path = path.to_owned();
    move |source| UserError::File { act, path, source }
}

/// Opens and locks a file; nothing if somebody else has it locked.
fn lock(path: &Path, create: OFlags) -> Result<Option<File>, UserError> {
    let flags = OFlags::RDWR | create | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let lock = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)
        .map(File::from)
        .map_err(|errno| fail("open", path)(errno.into()))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(None),
        Err(errno) => return Err(fail("lock", path)(errno.into())),
    }
    // Its holder may have removed it between the two steps; then the lock is on nothing.
    let ours = lock.metadata().map_err(fail("inspect", path))?.ino();
    Ok(fs::symlink_metadata(path).is_ok_and(|meta| meta.ino() == ours).then_some(lock))
}

/// Removes the files that nobody has locked, unless it is a dry run, and returns their paths in order.
pub(super) fn sweep(dry_run: bool) -> Result<Vec<PathBuf>, UserError> {
    if available().is_ok() { sweep_in(Path::new(LOCKS), dry_run) } else { Ok(Vec::new()) }
}

fn sweep_in(locks: &Path, dry_run: bool) -> Result<Vec<PathBuf>, UserError> {
    let entries = match fs::read_dir(locks) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(fail("list", locks))?,
    };
    let mut gone = Vec::new();
    for entry in entries {
        let path = entry.map_err(fail("list", locks))?.path();
        let held = match lock(&path, OFlags::empty()) {
            Ok(Some(held)) => held,
            Ok(None) => continue,
            // Its holder has just removed it.
            Err(UserError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if !dry_run {
            // While it is locked, so that nobody takes it between the two steps.
            fs::remove_file(&path).map_err(fail("remove", &path))?;
        }
        drop(held);
        gone.push(path);
    }
    gone.sort();
    Ok(gone)
}

impl Drop for ReservedUser {
    fn drop(&mut self) {
        // A file that stays is locked by nobody, and used again.
        drop(fs::remove_file(&self.path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_one_holder_and_is_free_after_it() {
        let directory = tempfile::tempdir().unwrap();
        let locks = directory.path().join("a/b");
        let take = |start| ReservedUser::take_in(&locks, start).unwrap();
        let first = take(7);
        assert_eq!(first.uid().as_raw(), FIRST_USER + 7);
        assert_eq!(first.gid().as_raw(), FIRST_USER + 7);
        let second = take(7);
        assert_eq!(second.uid().as_raw(), FIRST_USER + 8);
        drop(first);
        assert_eq!(take(7).uid().as_raw(), FIRST_USER + 7);
        assert_eq!(take(USERS - 1).uid().as_raw(), last_user());
        drop(second);
        assert_eq!(fs::read_dir(&locks).unwrap().count(), 0, "nothing is left");
        // What a killed holder left is taken over.
        fs::write(locks.join((FIRST_USER + 3).to_string()), b"").unwrap();
        let third = take(3);
        assert_eq!(third.uid().as_raw(), FIRST_USER + 3);
        let [fourth, fifth] = [4, 5].map(|number| locks.join((FIRST_USER + number).to_string()));
        fs::write(&fifth, b"").unwrap();
        fs::write(&fourth, b"").unwrap();
        for dry_run in [true, false] {
            assert_eq!(sweep_in(&locks, dry_run).unwrap(), [fourth.clone(), fifth.clone()], "{dry_run}");
        }
        assert_eq!(sweep_in(&locks, false).unwrap(), [] as [PathBuf; 0]);
        assert!(third.path.exists(), "its holder lives");
        assert_eq!(sweep_in(&locks.join("none"), false).unwrap(), [] as [PathBuf; 0]);
    }

    #[test]
    fn maps_of_ids() {
        for (map, expected) in [
            ("         0          0 4294967295\n", true),
            ("0 1000 1\n1 100000 65536\n", false),
            ("0 0 1900065536\n", true),
            ("0 0 1900065535\n", false),
            ("", false),
            ("x y z\n", false),
        ] {
            assert_eq!(covers(map, FIRST_USER.into(), USERS.into()), expected, "{map:?}");
        }
    }
}
