//! Directories held by descriptor: every entry is opened relative to one, and never through a symbolic link.

use rustix::fs::{Access, AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Says which act on which file of the store failed.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file system or the user's quota is full.
    #[error("no space left to {act} {}", path.display())]
    Full {
        /// What was attempted.
        act: &'static str,
        /// On what.
        path: PathBuf,
    },
    /// The file system is mounted read-only.
    #[error("cannot {act} {}: the file system is read-only", path.display())]
    ReadOnly {
        /// What was attempted.
        act: &'static str,
        /// On what.
        path: PathBuf,
    },
    /// The permissions do not allow it.
    #[error("not permitted to {act} {}", path.display())]
    Denied {
        /// What was attempted.
        act: &'static str,
        /// On what.
        path: PathBuf,
    },
    /// A symbolic link lies where the store has an entry of its own.
    #[error("{} is a symbolic link, which a store never contains", path.display())]
    Symlink {
        /// The link.
        path: PathBuf,
    },
    /// An entry is of another kind than the store makes there.
    #[error("{} is not a {expected}", path.display())]
    Kind {
        /// The entry.
        path: PathBuf,
        /// What belongs there.
        expected: &'static str,
    },
    /// A directory belongs to somebody else.
    #[error("{} belongs to user {owner}, not to user {user} who runs this", path.display())]
    Owner {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// The effective user.
        user: u32,
    },
    /// Other users can write to a directory.
    #[error("{} can be written by other users (mode {mode:04o}); expected 0700", path.display())]
    Writable {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Anything else that the system answers.
    #[error("cannot {act} {}", path.display())]
    Io {
        /// What was attempted.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl FileError {
    /// Sorts the system's answer into the variants.
    pub(crate) fn new(act: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        let (source, path) = (source.into(), path.into());
        match source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOSPC | Errno::DQUOT) => Self::Full { act, path },
            Some(Errno::ROFS) => Self::ReadOnly { act, path },
            Some(Errno::ACCESS | Errno::PERM) => Self::Denied { act, path },
            Some(Errno::LOOP) => Self::Symlink { path },
            _ => Self::Io { act, path, source },
        }
    }
}

/// An open directory of the store and the path it was reached by.
#[derive(Debug)]
pub(crate) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
    /// Whom it and all below it has to belong to.
    owner: u32,
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Dir {
    /// Opens the top directory, whose own path may hold links, and checks that only this user writes there.
    pub(crate) fn open_root(path: &Path) -> Result<Self, FileError> {
        Self::checked(Self::open_path(path)?, path.to_owned(), user())
    }

    /// Opens the top directory of any user, to look at it only.
    pub(crate) fn open_root_of_anyone(path: &Path) -> Result<Self, FileError> {
        let fd = Self::open_path(path)?;
        let stat = rustix::fs::fstat(&fd).map_err(|errno| FileError::new("inspect", path, errno))?;
        Self::checked(fd, path.to_owned(), stat.st_uid)
    }

    fn open_path(path: &Path) -> Result<OwnedFd, FileError> {
        rustix::fs::open(path, DIRECTORY, Mode::empty()).map_err(|errno| match errno {
            Errno::NOTDIR => FileError::Kind { path: path.to_owned(), expected: "directory" },
            errno => FileError::new("open", path, errno),
        })
    }

    fn checked(fd: OwnedFd, path: PathBuf, user: u32) -> Result<Self, FileError> {
        let stat = rustix::fs::fstat(&fd).map_err(|errno| FileError::new("inspect", &path, errno))?;
        if stat.st_uid != user {
            return Err(FileError::Owner { path, owner: stat.st_uid, user });
        }
        let mode = stat.st_mode & 0o7777;
        if mode & 0o022 != 0 {
            return Err(FileError::Writable { path, mode });
        }
        Ok(Self { fd, path, owner: user })
    }

    /// Says whether this user can and may change what is in the directory.
    pub(crate) fn is_writable(&self) -> bool {
        self.owner == user()
            && rustix::fs::accessat(&self.fd, ".", Access::WRITE_OK, AtFlags::empty()).is_ok()
    }

    /// Returns the path of the directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of an entry.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn fail(&self, act: &'static str, name: &str, errno: Errno) -> FileError {
        if matches!(errno, Errno::NOTDIR | Errno::LOOP) {
            let path = self.join(name);
            return match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if is(&stat, FileType::Symlink) => FileError::Symlink { path },
                _ => FileError::Kind { path, expected: "directory" },
            };
        }
        FileError::new(act, self.join(name), errno)
    }

    /// Opens the same directory again, so that the two can be locked independently.
    pub(crate) fn reopen(&self) -> Result<Self, FileError> {
        let fd = rustix::fs::openat(&self.fd, ".", DIRECTORY, Mode::empty())
            .map_err(|errno| FileError::new("open", &self.path, errno))?;
        Ok(Self { fd, path: self.path.clone(), owner: self.owner })
    }

    /// Returns the same open directory under the path it was renamed to.
    pub(crate) fn moved_to(self, path: PathBuf) -> Self {
        Self { path, ..self }
    }

    /// Opens a directory, or returns none if there is no such entry.
    pub(crate) fn open_dir(&self, name: &str) -> Result<Option<Self>, FileError> {
        match rustix::fs::openat(&self.fd, name, DIRECTORY, Mode::empty()) {
            Ok(fd) => Self::checked(fd, self.join(name), self.owner).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.fail("open", name, errno)),
        }
    }

    /// Opens a directory, making it first if there is none.
    pub(crate) fn ensure_dir(&self, name: &str) -> Result<Self, FileError> {
        if let Some(dir) = self.open_dir(name)? {
            return Ok(dir);
        }
        if self.owner != user() {
            return Err(FileError::Denied { act: "create", path: self.join(name) });
        }
        match rustix::fs::mkdirat(&self.fd, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(self.fail("create", name, errno)),
        }
        self.open_dir(name)?.ok_or_else(|| self.fail("open", name, Errno::NOENT))
    }

    /// Makes a file that does not exist yet, open for reading and writing, mode 0600.
    pub(crate) fn create_file(&self, name: &str) -> Result<File, FileError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR)
            .map(File::from)
            .map_err(|errno| FileError::new("create", self.join(name), errno))
    }

    /// Makes a file that has no name. Where the file system has no such thing, its name is removed at once.
    pub(crate) fn unnamed_file(&self) -> Result<File, FileError> {
        let mode = Mode::RUSR | Mode::WUSR;
        match rustix::fs::openat(&self.fd, ".", OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC, mode) {
            Ok(fd) => return Ok(File::from(fd)),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT) => {}
            Err(errno) => return Err(FileError::new("create a file in", self.path(), errno)),
        }
        for attempt in 0_u32.. {
            let name = format!("unnamed.{}.{attempt}", std::process::id());
            match self.create_file(&name) {
                Err(FileError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {}
                other => {
                    let file = other?;
                    self.remove_file(&name)?;
                    return Ok(file);
                }
            }
        }
        Err(FileError::new("create a file in", self.path(), Errno::EXIST))
    }

    /// Opens a file for reading and writing, making it if there is none.
    pub(crate) fn open_or_create(&self, name: &str) -> Result<OwnedFd, FileError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| FileError::new("open", self.join(name), errno))
    }

    /// Opens a regular file for reading, or returns none if there is no such entry.
    pub(crate) fn open_file(&self, name: &str) -> Result<Option<File>, FileError> {
        self.open_regular(name, OFlags::RDONLY)
    }

    /// Opens a regular file for reading and writing, or returns none if there is no such entry.
    pub(crate) fn open_writable(&self, name: &str) -> Result<Option<File>, FileError> {
        self.open_regular(name, OFlags::RDWR)
    }

    fn open_regular(&self, name: &str, access: OFlags) -> Result<Option<File>, FileError> {
        // Without NONBLOCK a pipe put in the place of an entry would hang the open.
        let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(FileError::new("open", self.join(name), errno)),
        };
        let stat =
            rustix::fs::fstat(&fd).map_err(|errno| FileError::new("inspect", self.join(name), errno))?;
        if !is(&stat, FileType::RegularFile) {
            return Err(FileError::Kind { path: self.join(name), expected: "regular file" });
        }
        Ok(Some(File::from(fd)))
    }

    /// Returns what the entry itself is, not what it may point to; none if there is no such entry.
    pub(crate) fn stat(&self, name: &str) -> Result<Option<Stat>, FileError> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(FileError::new("inspect", self.join(name), errno)),
        }
    }

    /// Says whether `name` still leads to the open file or directory `held`.
    pub(crate) fn leads_to(&self, name: &str, held: impl AsFd) -> Result<bool, FileError> {
        let ours =
            rustix::fs::fstat(held).map_err(|errno| FileError::new("inspect", self.join(name), errno))?;
        Ok(self.stat(name)?.is_some_and(|now| (now.st_dev, now.st_ino) == (ours.st_dev, ours.st_ino)))
    }

    /// Returns the length of a regular file, none if there is no such entry or it is something else.
    pub(crate) fn file_len(&self, name: &str) -> Result<Option<u64>, FileError> {
        Ok(self.stat(name)?.filter(|stat| is(stat, FileType::RegularFile)).map(|stat| stat.st_size as u64))
    }

    /// Moves an entry to another directory of the same file system, replacing a file of that name.
    pub(crate) fn rename(&self, name: &str, to: &Self, new_name: &str) -> Result<(), FileError> {
        rustix::fs::renameat(&self.fd, name, &to.fd, new_name)
            .map_err(|errno| FileError::new("rename into place", to.join(new_name), errno))
    }

    /// Gives a file a further name in another directory of the same file system.
    pub(crate) fn link(&self, name: &str, to: &Self, new_name: &str) -> Result<(), FileError> {
        rustix::fs::linkat(&self.fd, name, &to.fd, new_name, AtFlags::empty())
            .map_err(|errno| FileError::new("link into place", to.join(new_name), errno))
    }

    /// Returns how many names a file has, none counting as 0.
    pub(crate) fn links(&self, name: &str) -> Result<u64, FileError> {
        Ok(self.stat(name)?.map_or(0, |stat| stat.st_nlink))
    }

    /// Lets two entries trade places.
    pub(crate) fn exchange(&self, name: &str, other: &str) -> Result<(), FileError> {
        rustix::fs::renameat_with(&self.fd, name, &self.fd, other, rustix::fs::RenameFlags::EXCHANGE)
            .map_err(|errno| FileError::new("replace", self.join(other), errno))
    }

    /// Removes a file or link; an absent one is no error. Returns the bytes of disk that became free: those of a file
    /// that has a further name stay.
    pub(crate) fn remove_file(&self, name: &str) -> Result<u64, FileError> {
        let bytes = self.stat(name)?.filter(|stat| stat.st_nlink == 1).map_or(0, |stat| allocated(&stat));
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) => Ok(bytes),
            Err(Errno::NOENT) => Ok(0),
            Err(errno) => Err(FileError::new("remove", self.join(name), errno)),
        }
    }

    /// Removes an entry: a file, a link, or a directory of files. Returns the bytes of disk that became free.
    ///
    /// The store makes no deeper directories, so a deeper one is not the store's and is an error.
    pub(crate) fn remove_tree(&self, name: &str) -> Result<u64, FileError> {
        self.remove_levels(name, 1)
    }

    /// Removes an entry with at most `levels` levels of directories. Returns the bytes of disk that became free.
    pub(crate) fn remove_levels(&self, name: &str, levels: usize) -> Result<u64, FileError> {
        match self.stat(name)? {
            None => return Ok(0),
            Some(stat) if levels == 0 || !is(&stat, FileType::Directory) => return self.remove_file(name),
            Some(_) => {}
        }
        let mut bytes = 0;
        if let Some(dir) = self.open_dir(name)? {
            for entry in dir.names()? {
                bytes += dir.remove_levels(&entry, levels - 1)?;
            }
        }
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(bytes),
            Err(errno) => Err(FileError::new("remove", self.join(name), errno)),
        }
    }

    /// Returns what the files of an entry are: of itself, or of those in it if it is a directory.
    pub(crate) fn files(&self, name: &str) -> Result<Vec<Stat>, FileError> {
        let Some(stat) = self.stat(name)? else { return Ok(Vec::new()) };
        if !is(&stat, FileType::Directory) {
            return Ok(vec![stat]);
        }
        let Some(dir) = self.open_dir(name)? else { return Ok(Vec::new()) };
        let files = dir.names()?.iter().map(|entry| dir.stat(entry)).collect::<Result<Vec<_>, _>>()?;
        Ok(files.into_iter().flatten().collect())
    }

    /// Returns the names of all entries, sorted; one that is not UTF-8 is none of the store's and left out.
    pub(crate) fn names(&self) -> Result<Vec<String>, FileError> {
        let fail = |errno: Errno| FileError::new("list", &self.path, errno);
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            match entry.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => names.push(name.to_owned()),
            }
        }
        names.sort();
        Ok(names)
    }

    /// Waits until the entries of the directory are on the disk.
    pub(crate) fn sync(&self) -> Result<(), FileError> {
        rustix::fs::fsync(&self.fd).map_err(|errno| FileError::new("sync", &self.path, errno))
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn is(stat: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind
}

fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Returns the bytes of disk that a file holds.
pub(crate) fn allocated(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0) * 512
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_act_and_path() {
        for (errno, expected) in [
            (Errno::NOSPC, "no space left to write /x"),
            (Errno::DQUOT, "no space left to write /x"),
            (Errno::ROFS, "cannot write /x: the file system is read-only"),
            (Errno::ACCESS, "not permitted to write /x"),
            (Errno::PERM, "not permitted to write /x"),
            (Errno::LOOP, "/x is a symbolic link, which a store never contains"),
            (Errno::IO, "cannot write /x"),
        ] {
            assert_eq!(FileError::new("write", "/x", errno).to_string(), expected);
        }
    }

    #[test]
    fn trees_are_removed_without_following_links() {
        let directory = tempfile::tempdir().unwrap();
        let dir = Dir::open_root(&directory.path().canonicalize().unwrap()).unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("kept"), "kept").unwrap();
        let tree = dir.ensure_dir("tree").unwrap();
        drop(tree.create_file("file").unwrap());
        std::os::unix::fs::symlink(outside.path(), tree.join("link")).unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.join("link")).unwrap();
        dir.remove_tree("tree").unwrap();
        dir.remove_tree("link").unwrap();
        assert_eq!(dir.remove_tree("absent").unwrap(), 0);
        assert_eq!(dir.names().unwrap(), [""; 0]);
        assert!(outside.path().join("kept").exists());
        // The store makes no directory this deep, so somebody else's is left alone.
        drop(dir.ensure_dir("tree").unwrap().ensure_dir("deeper").unwrap());
        assert!(dir.remove_tree("tree").is_err());
        assert_eq!(dir.names().unwrap(), ["tree"]);
    }
}
