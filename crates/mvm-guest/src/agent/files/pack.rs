//! Packing: one archive of a file or a directory with all that is in it.

use rustix::fs::{CWD, Mode, OFlags, openat};
use std::fs::{File, Metadata};
use std::io::{self, BufWriter, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};

/// Directories in which the kernel makes up what there is; their content is left out where they lie in what is packed.
const MADE_UP: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Writes the archive. Its entries begin with the last name of `path`; sockets are left out.
pub(super) fn pack(path: &Path, top: &Metadata, out: File) -> io::Result<()> {
    let mut archive = Builder::new(BufWriter::with_capacity(64 * 1024, out));
    let name = path.file_name().map_or_else(|| PathBuf::from("."), PathBuf::from);
    let mut directories = Vec::new();
    add(&mut archive, path, &name, top, &mut directories)?;
    while let Some((directory, name)) = directories.pop() {
        if directory != path && MADE_UP.iter().any(|made_up| directory == Path::new(made_up)) {
            continue;
        }
        let mut entries = std::fs::read_dir(&directory)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let (path, name) = (entry.path(), name.join(entry.file_name()));
            match path.symlink_metadata() {
                Ok(metadata) => add(&mut archive, &path, &name, &metadata, &mut directories)?,
                // It was removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(named(&path, error)),
            }
        }
    }
    archive.into_inner()?.flush()
}

/// Adds one entry, and remembers a directory, whose entries follow later.
fn add(
    archive: &mut Builder<BufWriter<File>>,
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
        let target = std::fs::read_link(path).map_err(|error| named(path, error))?;
        return archive.append_link(&mut header, name, target);
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
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(CWD, path, flags, Mode::empty()).map(File::from);
    let file = file.map_err(|error| named(path, error.into()))?;
    let size = metadata.len();
    header.set_size(size);
    // One that is written to meanwhile keeps the length that its header says.
    archive.append_data(&mut header, name, file.take(size).chain(io::repeat(0)).take(size))
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
