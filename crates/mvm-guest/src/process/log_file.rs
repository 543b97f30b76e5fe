//! The file that takes a service's output.
//!
//! The service opens it under its own rights. Where it isn't there it is made for the service, as root, because log
//! directories are root's: only by a path without symlinks, so that no user leads root elsewhere.

use super::user::User;
use rustix::fs::{Mode, OFlags, ResolveFlags, fchown, openat2};
use rustix::io::Errno;
use rustix::thread::{Gid, Uid};
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

/// A log file that can't be made.
#[derive(Debug, thiserror::Error)]
#[error("making log file {} failed", path.display())]
pub(crate) struct LogFileError {
    path: PathBuf,
    source: io::Error,
}

/// Makes the file `path` inside `root` for `user`, unless there is something of that name.
pub(crate) fn prepare(root: BorrowedFd<'_>, path: &Path, user: &User) -> Result<(), LogFileError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let made = openat2(root, path, flags, Mode::from_raw_mode(0o640), resolve)
        .and_then(|file| fchown(&file, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid))));
    match made {
        // With a symlink on its way, or as something else: whether the user may write it, opening it says.
        Ok(()) | Err(Errno::EXIST | Errno::LOOP) => Ok(()),
        Err(errno) => Err(LogFileError { path: path.to_owned(), source: errno.into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::AsFd;
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn a_file_is_made_where_no_symlink_leads() {
        let dir = tempfile::tempdir().unwrap();
        let (outside, root) = (dir.path().join("outside"), dir.path().join("root"));
        fs::create_dir_all(root.join("var/log")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(root.join("var/log/old"), "kept").unwrap();
        symlink("/var/log", root.join("log")).unwrap();
        symlink(outside.join("planted"), root.join("var/log/link")).unwrap();
        let opened = fs::File::open(&root).unwrap();
        let user = User {
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            groups: vec![],
            home: "/".to_owned(),
        };
        let make = |path: &str| prepare(opened.as_fd(), Path::new(path), &user);

        make("/var/log/new").unwrap();
        let made = fs::metadata(root.join("var/log/new")).unwrap();
        assert_eq!((made.mode() & 0o777, made.uid()), (0o640 & made.mode(), user.uid));
        for path in ["/var/log/old", "/var/log/link", "/log/other", "/var/log"] {
            make(path).unwrap();
        }
        assert_eq!(fs::read(root.join("var/log/old")).unwrap(), b"kept");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        assert!(!root.join("var/log/other").exists());
        let error = make("/nowhere/app.log").unwrap_err();
        assert_eq!(error.to_string(), "making log file /nowhere/app.log failed");
    }
}
