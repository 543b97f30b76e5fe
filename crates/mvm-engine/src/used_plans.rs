//! Plans for one launch that were launched: a file for each, named by the plan's digest.
//!
//! The file is there for ever: it has a few bytes, and a clock that was set back must not make an expired plan new.

use crate::error::EngineError;
use mvm_plan::LaunchNonce;
use mvm_ref::Digest;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The plans of one store that were used up.
pub(crate) struct UsedPlans {
    root: PathBuf,
    directory: PathBuf,
}

impl UsedPlans {
    pub fn new(store_root: &Path) -> Self {
        Self { root: store_root.to_owned(), directory: store_root.join("used-plans") }
    }

    /// Uses a plan up for the launch of a nonce, and returns whether it was not used before. On disk when this returns.
    ///
    /// A crash on the way leaves the plan used: better a launch too few than one too many.
    pub fn use_up(&self, plan: &Digest, nonce: &LaunchNonce) -> Result<bool, EngineError> {
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
        file.write_all(format!("{nonce}\n").as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(io_error("write", &path))?;
        sync(&self.directory)?;
        Ok(true)
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

    #[test]
    fn a_plan_is_used_once_by_whoever_comes_first() {
        let root = tempfile::tempdir().unwrap();
        let used = UsedPlans::new(root.path());
        let use_up = |plan: &[u8]| used.use_up(&Digest::of(plan), &LaunchNonce::from_bytes([1; 16])).unwrap();
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
        let text =
            std::fs::read_to_string(root.path().join("used-plans").join(Digest::of(b"one").hex())).unwrap();
        assert_eq!(text, "01010101010101010101010101010101\n");
    }
}
