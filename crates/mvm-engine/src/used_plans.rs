//! Plans for one launch that were launched: a file for each, named by the plan's digest.
//!
//! ```text
//! <root>/used-plans/<digest>     the launch's nonce; the end of the plan's validity, in seconds since 1970
//! <root>/used-plans/forgotten    the last such end among the files that were removed
//! ```
//!
//! A clock that was set back must not make an expired plan new. So a file is removed only once its plan has expired,
//! and from then on no plan that ends as early or earlier counts as unused, whatever the clock says.

use crate::error::EngineError;
use mvm_plan::LaunchNonce;
use mvm_ref::Digest;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

const FORGOTTEN: &str = "forgotten";

/// How long a plan must have been over before its file goes, in seconds: clocks are wrong by hours, seldom by more.
const MARGIN: i64 = 86_400;

/// The plans of one store that were used up.
pub(crate) struct UsedPlans {
    root: PathBuf,
    directory: PathBuf,
}

/// A plan that was used up and has expired.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Expired {
    /// The file.
    pub path: PathBuf,
    /// When the plan's validity ended.
    not_after: i64,
}

impl UsedPlans {
    pub fn new(store_root: &Path) -> Self {
        Self { root: store_root.to_owned(), directory: store_root.join("used-plans") }
    }

    /// Uses a plan up for the launch of a nonce, and returns whether it was not used before. On disk when this returns.
    ///
    /// A crash on the way leaves the plan used: better a launch too few than one too many.
    pub fn use_up(&self, plan: &Digest, not_after: i64, nonce: &LaunchNonce) -> Result<bool, EngineError> {
        match DirBuilder::new().mode(0o700).create(&self.directory) {
            Ok(()) => sync(&self.root)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io_error("create", &self.directory)(error)),
        }
        let path = self.directory.join(plan.hex());
        let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            Err(error) => return Err(io_error("create", &path)(error)),
        };
        file.write_all(format!("{nonce}\n{not_after}\n").as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(io_error("write", &path))?;
        sync(&self.directory)?;
        // Looked at last: it is written before a file goes.
        Ok(self.forgotten()?.is_none_or(|forgotten| not_after > forgotten))
    }

    /// Lists the plans that have been over for a day, in order. Files that don't say when their plans end stay.
    pub fn expired(&self, now: i64) -> Result<Vec<Expired>, EngineError> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(io_error("list", &self.directory))?,
        };
        let mut expired = Vec::new();
        for entry in entries {
            let entry = entry.map_err(io_error("list", &self.directory))?;
            let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
            if format!("sha256:{name}").parse::<Digest>().is_err() {
                continue;
            }
            let text = match fs::read_to_string(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                text => text.map_err(io_error("read", &path))?,
            };
            let end = text.lines().nth(1).and_then(|line| line.parse::<i64>().ok());
            if let Some(not_after) = end.filter(|end| end.saturating_add(MARGIN) < now) {
                expired.push(Expired { path, not_after });
            }
        }
        expired.sort();
        Ok(expired)
    }

    /// Removes the files of plans that have expired, which stay used up all the same.
    pub fn forget(&self, expired: &[Expired]) -> Result<(), EngineError> {
        let Some(last) = expired.iter().map(|plan| plan.not_after).max() else { return Ok(()) };
        let turn = File::open(&self.directory).map_err(io_error("open", &self.directory))?;
        flock(&turn, FlockOperation::LockExclusive)
            .map_err(|errno| io_error("lock", &self.directory)(errno.into()))?;
        if self.forgotten()?.is_none_or(|forgotten| forgotten < last) {
            let (path, new) = (self.directory.join(FORGOTTEN), self.directory.join("forgotten.new"));
            let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new);
            written
                .and_then(|mut file| file.write_all(format!("{last}\n").as_bytes()).and(file.sync_all()))
                .and_then(|()| fs::rename(&new, &path))
                .map_err(io_error("write", &path))?;
            sync(&self.directory)?;
        }
        for plan in expired {
            match fs::remove_file(&plan.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error("remove", &plan.path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns the last end of a plan whose file was removed.
    fn forgotten(&self) -> Result<Option<i64>, EngineError> {
        let path = self.directory.join(FORGOTTEN);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(io_error("read", &path))?,
        };
        let moment = text.trim_end().parse::<i64>();
        moment.map(Some).map_err(|error| io_error("read", &path)(io::Error::other(error)))
    }
}

fn sync(directory: &Path) -> Result<(), EngineError> {
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io_error("sync", directory))
}

fn io_error(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> EngineError {
    let path = path.to_owned();
    move |source| EngineError::Io { act, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: LaunchNonce = LaunchNonce::from_bytes([1; 16]);

    #[test]
    fn a_plan_is_used_once_by_whoever_comes_first() {
        let root = tempfile::tempdir().unwrap();
        let used = UsedPlans::new(root.path());
        let use_up = |plan: &[u8]| used.use_up(&Digest::of(plan), 7, &NONCE).unwrap();
        let firsts = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| use_up(b"one"))).collect();
            threads
                .into_iter()
                .filter(|_| true)
                .map(|thread| thread.join().unwrap())
                .filter(|first| *first)
                .count()
        });
        assert_eq!(firsts, 1);
        assert!(use_up(b"other"));
        assert!(!use_up(b"other"));
        let text = fs::read_to_string(root.path().join("used-plans").join(Digest::of(b"one").hex())).unwrap();
        assert_eq!(text, "01010101010101010101010101010101\n7\n");
    }

    #[test]
    fn what_is_forgotten_stays_used_whatever_the_clock_says() {
        let root = tempfile::tempdir().unwrap();
        let used = UsedPlans::new(root.path());
        let use_up = |plan: &[u8], not_after| used.use_up(&Digest::of(plan), not_after, &NONCE).unwrap();
        assert_eq!(used.expired(i64::MAX).unwrap(), []);
        assert!(use_up(b"early", 100) && use_up(b"late", 200) && use_up(b"endless", i64::MAX));
        // As earlier versions wrote it.
        let old = root.path().join("used-plans").join(Digest::of(b"old").hex());
        fs::write(&old, "01010101010101010101010101010101\n").unwrap();
        let names =
            |now| used.expired(now).unwrap().into_iter().map(|plan| plan.not_after).collect::<Vec<_>>();
        assert_eq!((names(100 + MARGIN), names(101 + MARGIN)), (vec![], vec![100]));
        let expired = used.expired(201 + MARGIN).unwrap();
        assert_eq!(expired.len(), 2);
        used.forget(&expired[..1]).unwrap();
        used.forget(&expired).unwrap();
        assert_eq!(names(i64::MAX - 1), [] as [i64; 0]);
        assert!(!use_up(b"early", 100) && !use_up(b"late", 200) && !use_up(b"never seen", 200));
        assert!(!use_up(b"endless", i64::MAX) && !use_up(b"old", 300) && use_up(b"new", 201));
        fs::write(root.path().join("used-plans/forgotten"), "x").unwrap();
        assert!(used.use_up(&Digest::of(b"other"), 300, &NONCE).is_err());
    }
}
