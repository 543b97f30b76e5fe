//! Scratch disks: an empty ext4 file system, formatted once and copied for each machine.

use crate::exec::{ExecError, Invocation, Limits, find_program};
use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Formatting only writes a few tables; more time than this means that the disk is stuck.
const FORMAT_LIMITS: Limits = Limits { time: Duration::from_secs(60), output: 64 * 1024 };

/// The file system's UUID and hash seed: fixed, since a scratch disk has no identity and equal sizes should give
/// equal bytes.
const UUID: &str = "6d766d00-0000-4000-8000-000000000001";

/// The features, named one by one so that no configuration file of the host decides. There is no journal: what is on
/// the disk ends with the machine.
const FEATURES: &str = "none,dir_index,dir_nlink,ext_attr,extent,extra_isize,filetype,flex_bg,huge_file,large_file,sparse_super,uninit_bg";

/// Where an ext4 superblock has its magic number, in bytes from the start of the disk, and that number.
///
/// Source: Linux `Documentation/filesystems/ext4/super.rst`.
const MAGIC: (u64, [u8; 2]) = (1024 + 0x38, 0xef53_u16.to_le_bytes());

/// Says why a scratch disk could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    /// The formatting program is not on this host.
    #[error("mke2fs is not installed")]
    NotInstalled(#[source] ExecError),
    /// Formatting failed.
    #[error("cannot format {}", path.display())]
    Format {
        /// The disk's file.
        path: PathBuf,
        /// What the program said.
        source: ExecError,
    },
    /// A file cannot be created, opened or resized.
    #[error("cannot {act} {}", path.display())]
    File {
        /// What was tried.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The copy failed.
    #[error("cannot copy {} to {}", from.display(), to.display())]
    Copy {
        /// The file that is read.
        from: PathBuf,
        /// The file that is written.
        to: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
}

/// Creates `disk` as a sparse file of `size_mib` MiB with an empty ext4 file system, replacing what was there.
///
/// `path` is the text of a `PATH` variable, which mke2fs is looked up in. Equal sizes give equal bytes.
pub fn make_blank(path: &OsStr, disk: &Path, size_mib: u64) -> Result<(), ScratchError> {
    let extended = format!("lazy_itable_init=1,nodiscard,root_owner=0:0,hash_seed={UUID}");
    let (options, env) = (["-U", UUID], [("E2FSPROGS_FAKE_TIME", "1")]);
    let wanted = Format { features: FEATURES, extended: &extended, options: &options, env: &env };
    format(path, disk, size_mib.saturating_mul(1 << 20), &wanted)
}

/// What distinguishes one kind of file system from another.
pub(crate) struct Format<'a> {
    /// The features, after `-O`.
    pub features: &'a str,
    /// The extended options, after `-E`.
    pub extended: &'a str,
    /// Further options.
    pub options: &'a [&'a str],
    /// Further variables of the environment.
    pub env: &'a [(&'a str, &'a str)],
}

/// Creates `disk` as a sparse file of `size` bytes and formats it.
pub(crate) fn format(path: &OsStr, disk: &Path, size: u64, wanted: &Format<'_>) -> Result<(), ScratchError> {
    let program = find_program("mke2fs", path).map_err(ScratchError::NotInstalled)?;
    let failed = |act| move |source| ScratchError::File { act, path: disk.to_owned(), source };
    let file = File::create(disk).map_err(failed("create"))?;
    file.set_len(size).map_err(failed("resize"))?;
    drop(file);
    let mut invocation = Invocation::new(program)
        .args(["-q", "-F", "-b", "4096", "-I", "256", "-i", "16384", "-m", "0"])
        .args(["-O", wanted.features, "-E", wanted.extended])
        .args(wanted.options)
        .arg(disk)
        .env("MKE2FS_CONFIG", "/dev/null")
        .env("LC_ALL", "C");
    for (name, value) in wanted.env {
        invocation = invocation.env(*name, *value);
    }
    let outcome = invocation.run(FORMAT_LIMITS).and_then(crate::exec::Output::success);
    outcome.map(drop).map_err(|source| ScratchError::Format { path: disk.to_owned(), source })
}

/// Says whether `disk` can be one that [`make_blank`] made with this size: a regular file, reached through no link, of
/// that length and with the mark of ext4. What is absent or something else is not; a pipe does not make this wait.
pub fn is_blank(disk: &Path, size_mib: u64) -> Result<bool, ScratchError> {
    let failed = |act| move |source| ScratchError::File { act, path: disk.to_owned(), source };
    let file = match open(disk) {
        Ok(file) => file,
        // Absent, a link, a socket or a device without a driver.
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::NODEV) => return Ok(false),
        Err(errno) => return Err(failed("open")(errno.into())),
    };
    let meta = file.metadata().map_err(failed("inspect"))?;
    if !meta.is_file() || meta.len() != size_mib.saturating_mul(1 << 20) {
        return Ok(false);
    }
    let (offset, magic) = MAGIC;
    let mut found = [0; 2];
    match file.read_exact_at(&mut found, offset) {
        Ok(()) => Ok(found == magic),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(failed("read")(error)),
    }
}

/// Opens a file for reading; it waits for no pipe and follows no link.
fn open(path: &Path) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map(File::from)
}

/// Copies one open file over another, which is empty, with its holes, sharing blocks where the file system can.
pub fn copy_open(source: &File, target: &File) -> io::Result<()> {
    copy(source, target)
}

/// Copies the file `from` to `to` with its holes, sharing blocks where the file system can; `to` must not exist.
pub fn copy_sparse(from: &Path, to: &Path) -> Result<(), ScratchError> {
    let failed = |act, path: &Path| {
        let path = path.to_owned();
        move |source| ScratchError::File { act, path, source }
    };
    let source = open(from).map_err(|errno| failed("open", from)(errno.into()))?;
    let target = File::options().write(true).create_new(true).open(to).map_err(failed("create", to))?;
    copy(&source, &target).map_err(|source| ScratchError::Copy {
        from: from.to_owned(),
        to: to.to_owned(),
        source,
    })
}

fn copy(source: &File, target: &File) -> io::Result<()> {
    match rustix::fs::ioctl_ficlone(target, source) {
        Ok(()) => return Ok(()),
        // No such ability here, or not between these two files.
        Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY | Errno::NOSYS) => {}
        Err(errno) => return Err(errno.into()),
    }
    let size = source.metadata()?.len();
    target.set_len(size)?;
    let mut end = 0;
    while let Some(start) = seek(source, SeekFrom::Data(end))? {
        end = seek(source, SeekFrom::Hole(start))?.unwrap_or(size);
        copy_range(source, target, start, end)?;
    }
    Ok(())
}

/// Returns where the next data or hole begins, or nothing past the last.
fn seek(file: &File, to: SeekFrom) -> io::Result<Option<u64>> {
    match rustix::fs::seek(file, to) {
        Ok(offset) => Ok(Some(offset)),
        Err(Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn copy_range(source: &File, target: &File, start: u64, end: u64) -> io::Result<()> {
    let (mut from, mut to) = (start, start);
    while from < end {
        let length = usize::try_from(end - from).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), length) {
            // The file has shrunk under the copy.
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                return copy_through_memory(source, target, from, end);
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Copies by reading and writing, for file systems that cannot do it in the kernel.
fn copy_through_memory(source: &File, target: &File, start: u64, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; 128 * 1024];
    let mut at = start;
    while at < end {
        let length = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        source.read_exact_at(&mut buffer[..length], at)?;
        target.write_all_at(&buffer[..length], at)?;
        at += length as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
