//! Unpacking an archive into a directory, out of which nothing in it leads.

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps, chownat, fchmod, futimens, linkat,
    mkdirat, mknodat, openat, openat2, symlinkat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::fchown;
use std::path::{Component, Path, PathBuf};
use tar::{Archive, Entry, EntryType};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const NEW: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens the directory that is unpacked into.
pub(super) fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, DIRECTORY, Mode::empty())?)
}

/// Unpacks an archive; `owners` says whether entries get the owners and set-id bits that it names, or belong to root.
pub(super) fn unpack(directory: &OwnedFd, owners: bool, archive: File) -> io::Result<()> {
    let mut archive = Archive::new(BufReader::with_capacity(64 * 1024, archive));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        put(directory, owners, &mut entry, &path)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    }
    Ok(())
}

type FileEntry<'a> = Entry<'a, BufReader<File>>;

fn put(root: &OwnedFd, owners: bool, entry: &mut FileEntry<'_>, path: &Path) -> io::Result<()> {
    let header = entry.header();
    let kind = header.entry_type();
    if matches!(kind, EntryType::XGlobalHeader) {
        return Ok(());
    }
    let mode = header.mode()? & if owners { 0o7777 } else { 0o777 };
    let number = |id: u64| u32::try_from(id).map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
    let (uid, gid) = if owners { (number(header.uid()?)?, number(header.gid()?)?) } else { (0, 0) };
    let modified = Timespec { tv_sec: i64::try_from(header.mtime()?).unwrap_or(i64::MAX), tv_nsec: 0 };
    let times = Timestamps { last_access: modified, last_modification: modified };
    let names = plain_names(path)?;
    let Some((name, parents)) = names.split_last() else {
        // The directory itself stays as it is.
        return if kind.is_dir() { Ok(()) } else { Err(io::ErrorKind::InvalidInput.into()) };
    };
    let parent = make_parents(root, parents)?;
    let mode = Mode::from_raw_mode(mode);
    match kind {
        EntryType::Directory => {
            match mkdirat(&parent, *name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            let made = openat2(&parent, *name, DIRECTORY, Mode::empty(), beneath())?;
            fchown(&made, Some(uid), Some(gid))?;
            fchmod(&made, mode)?;
        }
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            clear(&parent, name)?;
            let mut file = File::from(openat(&parent, *name, NEW, Mode::RUSR | Mode::WUSR)?);
            io::copy(entry, &mut file)?;
            fchown(&file, Some(uid), Some(gid))?;
            fchmod(&file, mode)?;
            futimens(&file, &times)?;
        }
        EntryType::Symlink => {
            let target = entry.link_name()?.ok_or(io::ErrorKind::InvalidData)?.into_owned();
            clear(&parent, name)?;
            symlinkat(&target, &parent, *name)?;
            own_link(&parent, name, uid, gid)?;
        }
        EntryType::Link => {
            let target = entry.link_name()?.ok_or(io::ErrorKind::InvalidData)?.into_owned();
            let target = plain_names(&target)?;
            let (from, parents) = target.split_last().ok_or(io::ErrorKind::InvalidData)?;
            let source = make_parents(root, parents)?;
            clear(&parent, name)?;
            linkat(&source, *from, &parent, *name, AtFlags::empty())?;
        }
        EntryType::Fifo => {
            clear(&parent, name)?;
            mknodat(&parent, *name, FileType::Fifo, mode, 0)?;
            own_link(&parent, name, uid, gid)?;
        }
        _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "a device is not copied")),
    }
    Ok(())
}

/// Links and what else has no descriptor of its own.
fn own_link(parent: &OwnedFd, name: &OsStr, uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    Ok(chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Removes what is in the place of a new entry, unless it is a directory.
fn clear(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Links that are in the directory are followed as far as they stay in it.
fn beneath() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS
}

/// Opens a directory below the root, and makes what is missing of it.
fn make_parents(root: &OwnedFd, names: &[&OsStr]) -> io::Result<OwnedFd> {
    let mut here = root.as_fd().try_clone_to_owned()?;
    let mut walked = PathBuf::new();
    for name in names {
        walked.push(name);
        here = match openat2(root, &walked, DIRECTORY, Mode::empty(), beneath()) {
            Err(Errno::NOENT) => {
                mkdirat(&here, *name, Mode::from_raw_mode(0o755))?;
                openat(&here, *name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?
            }
            opened => opened?,
        };
    }
    Ok(here)
}

/// Returns the names of a path that leads downwards only.
fn plain_names(path: &Path) -> io::Result<Vec<&OsStr>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "a path with .. is not copied"));
            }
        }
    }
    Ok(names)
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
