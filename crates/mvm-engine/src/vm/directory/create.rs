//! Making the directory of a VM: it has its name once it is whole, so that a crash before that takes no name.

use super::{RECORD, VmDirectory, VmError, VmRegistry, io_error, remove_all};
use crate::vm::process::ProcessIdentity;
use crate::vm::record::{Record, State};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the name of a directory begins with that is being made, before the number of its maker's process; no VM has such
/// a name.
pub const NEW: &str = ".new-";

impl VmRegistry {
    /// Makes the directory of a new VM with its record. The caller answers for it until a supervisor does.
    pub fn create(&self, record: &Record) -> Result<VmDirectory, VmError> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        self.check_free(&record.name)?;
        let directory = self.at(&record.name);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = self.root.join(format!("{NEW}{}-{number}", std::process::id()));
        let new = VmDirectory { path, ..directory.clone() };
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        builder.recursive(true).create(&self.root).map_err(io_error("create", &self.root))?;
        builder.recursive(false).create(&new.path).map_err(io_error("create", &new.path))?;
        if let Err(error) = fill(&new, record, &directory.path) {
            remove_all(&new.path)?;
            return Err(error);
        }
        Ok(directory)
    }
}

/// Writes what a VM's directory has from the beginning, and gives it its name.
fn fill(new: &VmDirectory, record: &Record, path: &Path) -> Result<(), VmError> {
    new.write_state(&State::created(ProcessIdentity::current()?))?;
    new.write_json(RECORD, record)?;
    renameat_with(CWD, &new.path, CWD, path, RenameFlags::NOREPLACE).map_err(|errno| match errno {
        Errno::EXIST => VmError::NameTaken(record.name.clone()),
        errno => io_error("create", path)(errno.into()),
    })
}

/// Removes a directory that was being made, if its maker has died. `maker` is the name after [`NEW`].
///
/// Should another process have the maker's number by now, the directory stays until that has ended too.
pub(super) fn remove_if_abandoned(maker: &str, path: &Path) -> Result<(), VmError> {
    let pid = maker.split('-').next().and_then(|pid| pid.parse().ok());
    match pid.is_some_and(|pid| ProcessIdentity::of(pid).is_ok()) {
        true => Ok(()),
        false => remove_all(path),
    }
}
