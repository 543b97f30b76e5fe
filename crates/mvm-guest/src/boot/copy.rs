//! Copying what an image has at the place of a volume into the volume, before anything runs.

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Stat, Timespec, Timestamps, chownat, fchmod, fstat, futimens,
    mkdirat, mknodat, openat, readlinkat, statat, symlinkat, utimensat,
};
use rustix::process::{Gid, Uid};
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// How a directory is opened that is read.
pub(super) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const NEW: OFlags = OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::CLOEXEC);

/// Returns whether a directory has no entries.
pub(super) fn is_empty(directory: BorrowedFd<'_>) -> io::Result<bool> {
    for entry in Dir::read_from(directory)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Copies owner, mode, times and entries of one directory to another that is empty. Devices are left out, as no mount
/// has any; a file with several names becomes several files.
pub(super) fn tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    // A stack of its own: an image may nest deeper than this thread's stack.
    let mut directories = vec![(from.try_clone_to_owned()?, to.try_clone_to_owned()?)];
    let mut done = Vec::new();
    while let Some((from, to)) = directories.pop() {
        for entry in Dir::read_from(&from)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = statat(&from, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                mkdirat(&to, name, Mode::RWXU)?;
                let inner = openat(&from, name, DIRECTORY, Mode::empty())?;
                directories.push((inner, openat(&to, name, DIRECTORY, Mode::empty())?));
            } else {
                leaf(from.as_fd(), to.as_fd(), name, &stat)?;
            }
        }
        let stat = fstat(&from)?;
        done.push((to, stat));
        if done.len() + directories.len() >= MAX_OPEN {
            settle(&mut done)?;
        }
    }
    settle(&mut done)
}

/// Directories that are open at one time; beyond, those that are finished get their attributes.
const MAX_OPEN: usize = 256;

/// Gives finished directories their attributes: a new entry would have changed their times.
fn settle(done: &mut Vec<(std::os::fd::OwnedFd, Stat)>) -> io::Result<()> {
    for (directory, stat) in done.drain(..) {
        attributes(&directory, &stat)?;
    }
    Ok(())
}

fn attributes(file: impl AsFd, stat: &Stat) -> io::Result<()> {
    std::os::unix::fs::fchown(file.as_fd(), Some(stat.st_uid), Some(stat.st_gid))?;
    fchmod(file.as_fd(), Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    Ok(futimens(file, &times(stat))?)
}

fn leaf(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> io::Result<()> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let mut source = File::from(openat(from, name, FILE, Mode::empty())?);
            let mut target = File::from(openat(to, name, NEW, Mode::RUSR | Mode::WUSR)?);
            io::copy(&mut source, &mut target)?;
            return attributes(&target, stat);
        }
        FileType::Symlink => symlinkat(readlinkat(from, name, Vec::new())?, to, name)?,
        FileType::Fifo | FileType::Socket => {
            let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
            mknodat(to, name, FileType::from_raw_mode(stat.st_mode), mode, 0)?;
        }
        _ => return Ok(()),
    }
    let (owner, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(to, name, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(utimensat(to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn times(stat: &Stat) -> Timestamps {
    let modified = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ };
    Timestamps { last_access: modified, last_modification: modified }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::CWD;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn a_tree_is_copied_with_its_attributes() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |name: &str| from.path().join(name);
        fs::create_dir_all(at("d/e")).unwrap();
        fs::write(at("d/e/file"), "content").unwrap();
        fs::set_permissions(at("d/e/file"), fs::Permissions::from_mode(0o4751)).unwrap();
        symlink("/nowhere", at("d/link")).unwrap();
        for number in 0..300 {
            fs::create_dir(at(&format!("d/{number}"))).unwrap();
        }
        fs::set_permissions(at("d"), fs::Permissions::from_mode(0o1711)).unwrap();
        let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000);
        fs::File::open(at("d")).unwrap().set_modified(old).unwrap();

        let open = |path: &std::path::Path| openat(CWD, path, DIRECTORY, Mode::empty()).unwrap();
        let (source, target) = (open(from.path()), open(to.path()));
        assert!(is_empty(target.as_fd()).unwrap());
        tree(source.as_fd(), target.as_fd()).unwrap();
        assert!(!is_empty(target.as_fd()).unwrap());
        for name in ["", "d", "d/e", "d/e/file", "d/link", "d/299"] {
            let (a, b) = (at(name), to.path().join(name));
            let (a, b) = (fs::symlink_metadata(a).unwrap(), fs::symlink_metadata(b).unwrap());
            assert_eq!((a.mode(), a.uid(), a.mtime()), (b.mode(), b.uid(), b.mtime()), "{name}");
        }
        assert_eq!(fs::read(to.path().join("d/e/file")).unwrap(), b"content");
        assert_eq!(fs::read_link(to.path().join("d/link")).unwrap(), std::path::Path::new("/nowhere"));
    }
}
