//! Putting what came from a guest below a directory of the host.

use super::{CopyError, Landing, LeftBehind};
use mvm_tree::{
    Attributes, Budget, Change, Content, Devices, Escaped, Kind, LayerSink, ReadError, UnpackPolicy,
    read_layer,
};
use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, fchmod, futimens, linkat,
    mkdirat, openat, openat2, renameat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// Neither out of the directory nor through any link, wherever it comes from.
const BELOW: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Says what of an archive can't be put on the host.
#[derive(Debug, thiserror::Error)]
pub enum LandError {
    /// The archive can't be read, or holds what no archive should.
    #[error("read the archive from the guest")]
    Read(#[source] ReadError<PutError>),
}

/// Says why an entry can't be put in its place.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The file system refused.
    #[error("put {path}")]
    File {
        /// Where.
        path: Escaped,
        /// Why not.
        source: io::Error,
    },
    /// A name says that something is removed, as in the layers of images.
    #[error("{path} has a name that only layers of images have")]
    Whiteout {
        /// The name.
        path: Escaped,
    },
    /// The entry is not a part of what was asked for.
    #[error("{path} was not asked for")]
    Stray {
        /// The entry.
        path: Escaped,
    },
}

/// Reads an archive and puts what it holds where it lands.
pub(super) fn land(
    archive: &mut impl BufRead,
    landing: &Landing,
    owners: bool,
) -> Result<LeftBehind, CopyError> {
    let path = &landing.directory;
    let failed = |source| CopyError::Host { act: "open", path: path.clone(), source };
    let root = openat(CWD, path, DIRECTORY, Mode::empty()).map_err(|errno| failed(errno.into()))?;
    let owners = owners && rustix::process::geteuid().is_root();
    let mut sink = Ground { root, landing, owners, staged: None, left: LeftBehind::default() };
    // What is copied is the user's own affair, how much it is among it; what leads astray is refused below.
    let policy = UnpackPolicy { devices: Devices::Any, ..UnpackPolicy::loosest() };
    let read = read_layer(archive, &Budget::new(&policy), &mut sink);
    sink.discard();
    match read {
        Ok(_) => Ok(sink.left),
        Err(ReadError::Read { source, .. }) => Err(CopyError::from(source)),
        Err(error) => Err(Box::new(LandError::Read(error)).into()),
    }
}

/// The directory, and a file that has no place yet.
struct Ground<'a> {
    root: OwnedFd,
    landing: &'a Landing,
    owners: bool,
    staged: Option<File>,
    left: LeftBehind,
}

impl Ground<'_> {
    /// Returns the name of a file whose place is not known yet.
    fn staged_name() -> String {
        format!(".mvmctl-cp.{}", std::process::id())
    }

    fn discard(&mut self) {
        if self.staged.take().is_some() {
            match unlinkat(&self.root, Self::staged_name(), AtFlags::empty()) {
                // One that can't be removed stays under a name that tells what it is; what failed before counts.
                Ok(()) | Err(_) => {}
            }
        }
    }

    /// Returns the names below the directory that an entry's path becomes; none for the directory itself.
    fn names<'p>(&'p self, path: &'p [u8]) -> Result<Vec<&'p OsStr>, PutError> {
        let mut names: Vec<&OsStr> =
            path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).map(OsStr::from_bytes).collect();
        if self.landing.strip {
            if names.is_empty() {
                return Err(PutError::Stray { path: Escaped::new(path) });
            }
            names.remove(0);
        }
        if let Some(name) = &self.landing.name {
            names.insert(0, name);
        }
        Ok(names)
    }

    fn put(&self, names: &[&OsStr], attributes: &Attributes, kind: &Kind) -> io::Result<()> {
        let Some((name, parents)) = names.split_last() else {
            // What is copied into stays as it is.
            return match kind {
                Kind::Directory => Ok(()),
                _ => Err(Errno::ISDIR.into()),
            };
        };
        let parent = self.parents(parents)?;
        let mode = Mode::from_raw_mode(u32::from(attributes.mode) & 0o777);
        match kind {
            Kind::Directory => {
                match mkdirat(&parent, *name, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
                let made = openat2(&parent, *name, DIRECTORY, Mode::empty(), BELOW)?;
                self.own(&made, attributes)?;
                // Who copies goes on to put things into it.
                Ok(fchmod(&made, mode | Mode::RWXU)?)
            }
            Kind::Regular(_) => {
                let file = self.staged.as_ref().ok_or(Errno::NOENT)?;
                self.own(file, attributes)?;
                fchmod(file, mode)?;
                let time = Timespec { tv_sec: attributes.mtime.secs, tv_nsec: attributes.mtime.nanos.into() };
                futimens(file, &Timestamps { last_access: time, last_modification: time })?;
                Ok(renameat(&self.root, Self::staged_name(), &parent, *name)?)
            }
            Kind::Symlink(target) => {
                clear(&parent, name)?;
                Ok(symlinkat(OsStr::from_bytes(target), &parent, *name)?)
            }
            Kind::CharDevice(_) | Kind::BlockDevice(_) | Kind::Fifo | Kind::Socket => Ok(()),
        }
    }

    fn own(&self, file: impl std::os::fd::AsFd, attributes: &Attributes) -> io::Result<()> {
        if !self.owners {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
        Ok(rustix::fs::fchown(file, Some(uid), Some(gid))?)
    }

    fn link(&self, names: &[&OsStr], target: &[&OsStr]) -> io::Result<()> {
        let (Some((name, parents)), Some((from, sources))) = (names.split_last(), target.split_last()) else {
            return Err(Errno::ISDIR.into());
        };
        let source = self.parents(sources)?;
        let parent = self.parents(parents)?;
        clear(&parent, name)?;
        Ok(linkat(&source, *from, &parent, *name, AtFlags::empty())?)
    }

    /// Opens a directory below the root, and makes what is missing of it.
    fn parents(&self, names: &[&OsStr]) -> io::Result<OwnedFd> {
        let mut here = self.root.as_fd().try_clone_to_owned()?;
        let mut walked = PathBuf::new();
        for name in names {
            walked.push(name);
            here = match openat2(&self.root, &walked, DIRECTORY, Mode::empty(), BELOW) {
                Err(Errno::NOENT) => {
                    mkdirat(&here, *name, Mode::from_raw_mode(0o755))?;
                    openat(&here, *name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?
                }
                opened => opened?,
            };
        }
        Ok(here)
    }
}

/// Removes what is in the place of a new entry, unless it is a directory.
fn clear(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn at(path: &[u8]) -> impl FnOnce(io::Error) -> PutError + use<> {
    let path = Escaped::new(path);
    move |source| PutError::File { path, source }
}

impl LayerSink for Ground<'_> {
    type Error = PutError;

    fn begin(&mut self, _size: u64) -> Result<(), PutError> {
        let name = Self::staged_name();
        self.discard();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.root, &name, flags, Mode::RUSR | Mode::WUSR);
        self.staged = Some(File::from(file.map_err(|errno| at(name.as_bytes())(errno.into()))?));
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), PutError> {
        let Some(file) = &mut self.staged else { return Ok(()) };
        file.write_all(bytes).map_err(at(Self::staged_name().as_bytes()))
    }

    fn hole(&mut self, len: u64) -> Result<(), PutError> {
        let Some(file) = &mut self.staged else { return Ok(()) };
        let skipped =
            i64::try_from(len).map_err(io::Error::other).and_then(|len| file.seek(SeekFrom::Current(len)));
        skipped.map(drop).map_err(at(Self::staged_name().as_bytes()))
    }

    fn end(&mut self) -> Result<Content, PutError> {
        let Some(file) = &mut self.staged else { return Ok(Content::default()) };
        let sized = file.stream_position().and_then(|size| file.set_len(size).map(|()| size));
        let size = sized.map_err(at(Self::staged_name().as_bytes()))?;
        Ok(Content { size, ..Content::default() })
    }

    fn change(&mut self, change: Change) -> Result<(), PutError> {
        match &change {
            Change::Put { path, attributes, kind } => {
                self.put(&self.names(path)?, attributes, kind).map_err(at(path))?;
                match kind {
                    Kind::Regular(_) => self.staged = None,
                    Kind::CharDevice(_) | Kind::BlockDevice(_) | Kind::Fifo | Kind::Socket => {
                        self.left.special += 1;
                    }
                    Kind::Directory | Kind::Symlink(_) => {}
                }
                Ok(())
            }
            Change::Link { path, target } => {
                self.link(&self.names(path)?, &self.names(target)?).map_err(at(path))
            }
            Change::Whiteout { path } | Change::Opaque { path } => {
                Err(PutError::Whiteout { path: Escaped::new(path) })
            }
        }
    }
}
