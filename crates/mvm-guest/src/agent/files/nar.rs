//! Store paths as Nix archives (NAR).
//!
//! Source: the Nix manual, "Nix Archive (NAR) format". Nothing below the store is opened through a link, and only what was seen to
//! be a file, link or directory is written; anything else has no place in a store, and ends the archive.

use mvm_wire::FailureKind;
use mvm_wire::message::MAX_NARS;
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2, readlinkat, sendfile, statat,
};
use rustix::io::Errno;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const STORE: &str = "/nix/store";
/// Bytes of framing that are collected before they are written.
const BUFFER: usize = 64 * 1024;
/// The longest file that is copied with the framing around it.
const SMALL: u64 = 16 * 1024;
/// Bytes of a file that are passed on at a time.
const PIECE: usize = 1 << 20;

/// Store paths that are known to be there.
pub(super) struct Paths {
    store: OwnedFd,
    names: Vec<CString>,
}

/// Store paths can't be packed.
#[derive(Debug, thiserror::Error)]
pub(super) enum NarError {
    #[error("{got} store paths were asked for at once; at most {MAX_NARS} may be")]
    Count { got: usize },
    #[error("{0:?} is not a name in {STORE}")]
    Name(String),
    #[error("{STORE}")]
    Store(#[source] Errno),
    #[error("{STORE}/{name}: {source}")]
    Path { name: String, source: Errno },
}

impl NarError {
    pub(super) fn kind(&self) -> FailureKind {
        match self {
            Self::Path { source: Errno::NOENT, .. } | Self::Store(Errno::NOENT) => FailureKind::NotFound,
            Self::Count { .. } => FailureKind::Limit,
            _ => FailureKind::Invalid,
        }
    }
}

/// Looks whether all paths are there.
pub(super) fn open(names: &[String]) -> Result<Paths, NarError> {
    if names.len() > MAX_NARS {
        return Err(NarError::Count { got: names.len() });
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let store = rustix::fs::open(STORE, flags, Mode::empty()).map_err(NarError::Store)?;
    check(store, names)
}

fn check(store: OwnedFd, names: &[String]) -> Result<Paths, NarError> {
    let checked = names.iter().map(|name| {
        let is_name = !matches!(name.as_str(), "" | "." | "..") && !name.contains('/');
        let path = CString::new(name.as_str()).ok().filter(|_| is_name);
        let path = path.ok_or_else(|| NarError::Name(name.clone()))?;
        statat(&store, &path, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|source| NarError::Path { name: name.clone(), source })?;
        Ok(path)
    });
    let names = checked.collect::<Result<_, NarError>>()?;
    Ok(Paths { store, names })
}

/// Writes the archives, one after the other.
pub(super) fn write(paths: Paths, out: File) -> io::Result<()> {
    let mut out = Output { out: BufWriter::with_capacity(BUFFER, out), buffer: Vec::new() };
    for name in &paths.names {
        out.text(b"nix-archive-1")?;
        write_tree(&mut out, paths.store.as_fd(), name)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", name.to_string_lossy())))?;
    }
    out.out.flush()
}

/// A directory whose entries are being written.
struct Open {
    directory: OwnedFd,
    /// Its entries, the last one first.
    entries: Vec<CString>,
}

fn write_tree(out: &mut Output, store: BorrowedFd<'_>, name: &CString) -> io::Result<()> {
    // Directories within directories are on the heap.
    let mut open: Vec<Open> = Vec::new();
    if let Some(directory) = write_node(out, store, name)? {
        open.push(directory);
    }
    while let Some(directory) = open.last_mut() {
        let Some(entry) = directory.entries.pop() else {
            out.text(b")")?;
            open.pop();
            if !open.is_empty() {
                out.text(b")")?;
            }
            continue;
        };
        for word in [&b"entry"[..], b"(", b"name", entry.as_bytes(), b"node"] {
            out.text(word)?;
        }
        match write_node(out, directory.directory.as_fd(), &entry)? {
            Some(inner) => open.push(inner),
            None => out.text(b")")?,
        }
    }
    Ok(())
}

/// Writes a file or link; of a directory what comes before its entries, which are returned.
fn write_node(out: &mut Output, directory: BorrowedFd<'_>, name: &CString) -> io::Result<Option<Open>> {
    let seen = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    out.text(b"(")?;
    out.text(b"type")?;
    match FileType::from_raw_mode(seen.st_mode) {
        FileType::RegularFile => {
            let (file, now) = open_below(directory, name, OFlags::NONBLOCK)?;
            if FileType::from_raw_mode(now.st_mode) != FileType::RegularFile {
                return Err(io::Error::other("it changed while it was read"));
            }
            out.text(b"regular")?;
            if now.st_mode & 0o100 != 0 {
                out.text(b"executable")?;
                out.text(b"")?;
            }
            out.text(b"contents")?;
            out.file(File::from(file), now.st_size as u64)?;
        }
        FileType::Symlink => {
            let target = readlinkat(directory, name, Vec::new())?;
            for word in [&b"symlink"[..], b"target", target.as_bytes()] {
                out.text(word)?;
            }
        }
        FileType::Directory => {
            let (inner, _) = open_below(directory, name, OFlags::DIRECTORY)?;
            out.text(b"directory")?;
            let mut entries = Vec::new();
            for entry in Dir::read_from(&inner)? {
                let entry = entry?;
                if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                    entries.push(entry.file_name().to_owned());
                }
            }
            entries.sort_by(|a, b| b.cmp(a));
            return Ok(Some(Open { directory: inner, entries }));
        }
        _ => return Err(io::Error::other("there is something other than files, links and directories")),
    }
    out.text(b")")?;
    Ok(None)
}

fn open_below(directory: BorrowedFd<'_>, name: &CString, flags: OFlags) -> io::Result<(OwnedFd, Stat)> {
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let opened = openat2(directory, name, flags, Mode::empty(), resolve)?;
    let stat = fstat(&opened)?;
    Ok((opened, stat))
}

/// The archives' bytes.
struct Output {
    out: BufWriter<File>,
    buffer: Vec<u8>,
}

impl Output {
    /// Writes a text with its length and what fills it up to eight bytes.
    fn text(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(&(bytes.len() as u64).to_le_bytes())?;
        self.out.write_all(bytes)?;
        self.pad(bytes.len() as u64)
    }

    fn pad(&mut self, length: u64) -> io::Result<()> {
        self.out.write_all(&[0; 8][..((8 - length % 8) % 8) as usize])
    }

    /// Writes a file of exactly `size` bytes; one that is shorter by now is an error.
    fn file(&mut self, mut file: File, size: u64) -> io::Result<()> {
        self.out.write_all(&size.to_le_bytes())?;
        if size <= SMALL {
            self.buffer.resize(size as usize, 0);
            file.read_exact(&mut self.buffer)?;
            self.out.write_all(&self.buffer)?;
        } else {
            self.out.flush()?;
            pass(&file, self.out.get_ref(), size)?;
        }
        self.pad(size)
    }
}

/// Passes a file on inside the kernel.
fn pass(file: &File, out: &File, size: u64) -> io::Result<()> {
    let mut left = size;
    while left > 0 {
        let piece = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        match sendfile(out, file, None, piece) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => left -= count as u64,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "nar_tests.rs"]
mod tests;
