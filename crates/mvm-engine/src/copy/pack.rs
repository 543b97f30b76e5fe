//! Packing a file or directory of the host.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{self, BufWriter, Read as _, Write};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};

/// Writes an archive of what is at `path`, which is called `name` in it; sockets are left out.
pub(super) fn pack(path: &Path, name: &OsStr, follow: bool, out: &mut dyn Write) -> io::Result<()> {
    let mut archive = Builder::new(BufWriter::with_capacity(64 * 1024, out));
    let follow = follow || super::ends_with_dot(path);
    let top = if follow { path.metadata() } else { path.symlink_metadata() };
    let mut directories = Vec::new();
    add(&mut archive, path, Path::new(name), &top?, &mut directories)?;
    while let Some((directory, name)) = directories.pop() {
        let mut entries = std::fs::read_dir(&directory)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let (path, name) = (entry.path(), name.join(entry.file_name()));
            add(&mut archive, &path, &name, &path.symlink_metadata()?, &mut directories)?;
        }
    }
    archive.into_inner()?.flush()
}

/// Adds one entry, and remembers a directory, whose entries follow later.
fn add<W: Write>(
    archive: &mut Builder<W>,
    path: &Path,
    name: &Path,
    metadata: &Metadata,
    directories: &mut Vec<(PathBuf, PathBuf)>,
) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_metadata(metadata);
    header.set_size(0);
    let kind = metadata.file_type();
    if kind.is_dir() {
        directories.push((path.to_owned(), name.to_owned()));
        return archive.append_data(&mut header, name, io::empty());
    }
    if kind.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        return archive.append_link(&mut header, name, std::fs::read_link(path)?);
    }
    if kind.is_socket() {
        return Ok(());
    }
    if !kind.is_file() {
        let device = metadata.rdev();
        header.set_device_major(rustix::fs::major(device))?;
        header.set_device_minor(rustix::fs::minor(device))?;
        return archive.append_data(&mut header, name, io::empty());
    }
    let size = metadata.len();
    header.set_size(size);
    // One that is written to meanwhile keeps the length that its header says.
    archive.append_data(&mut header, name, File::open(path)?.take(size).chain(io::repeat(0)).take(size))
}
