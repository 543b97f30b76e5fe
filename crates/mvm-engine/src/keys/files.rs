//! Files of keys: read with suspicion, written so that a crash leaves the old or the new one.

use super::KeysError;
use mvm_fetch::Secret;
use rustix::fs::{Mode, OFlags};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use zeroize::Zeroizing;

/// Most bytes of a key or of the list of keys.
const MAX_FILE: u64 = 64 << 10;
/// Most bytes of a file that begins with a passphrase.
const MAX_PASSPHRASE: u64 = 4096;

/// What a file is to us, and so who may do what with it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// A private key: nobody else may read it.
    Private,
    /// A file of the store that is no secret: nobody else may change it.
    Own,
    /// A public key from elsewhere, which the caller names.
    Outside,
}

/// Reads a whole file of text.
pub(super) fn read(path: &Path, sort: Sort) -> Result<Zeroizing<String>, KeysError> {
    let follow = if sort == Sort::Outside { OFlags::empty() } else { OFlags::NOFOLLOW };
    // A pipe must not make us wait before we see that it is one.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY | follow;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
        rustix::io::Errno::LOOP if sort != Sort::Outside => KeysError::Symlink { path: path.to_owned() },
        errno => io_error("read", path)(errno.into()),
    })?;
    let file = File::from(file);
    let metadata = file.metadata().map_err(io_error("read", path))?;
    if !metadata.is_file() {
        return Err(KeysError::NotAFile { path: path.to_owned() });
    }
    let mode = metadata.mode() & 0o7777;
    match sort {
        Sort::Private if mode & 0o077 != 0 => return Err(KeysError::Exposed { path: path.to_owned(), mode }),
        Sort::Own if mode & 0o022 != 0 => return Err(KeysError::Writable { path: path.to_owned(), mode }),
        Sort::Outside => {}
        _ => check_owner(path, metadata.uid())?,
    }
    read_text(file, path, MAX_FILE)
}

/// Reads the passphrase in a file's first line, as OpenSSL and GnuPG do. A pipe will do.
pub(super) fn read_passphrase(path: &Path) -> Result<Secret, KeysError> {
    let file = File::open(path).map_err(io_error("read", path))?;
    let metadata = file.metadata().map_err(io_error("read", path))?;
    let mode = metadata.mode() & 0o7777;
    if metadata.is_dir() {
        return Err(KeysError::NotAFile { path: path.to_owned() });
    }
    if metadata.is_file() && mode & 0o077 != 0 {
        return Err(KeysError::ExposedPassphrase { path: path.to_owned(), mode });
    }
    let text = read_text(file, path, MAX_PASSPHRASE)?;
    let line = text.split('\n').next().unwrap_or_default();
    let secret = Secret::from(line.strip_suffix('\r').unwrap_or(line).to_owned());
    if secret.expose().is_empty() { Err(KeysError::EmptyPassphrase) } else { Ok(secret) }
}

fn read_text(file: File, path: &Path, max: u64) -> Result<Zeroizing<String>, KeysError> {
    // Long enough that it never moves and leaves a copy behind.
    let mut text = Zeroizing::new(String::with_capacity(max as usize + 1));
    let read = file.take(max + 1).read_to_string(&mut text);
    let got = read.map_err(io_error("read", path))? as u64;
    if got > max { Err(KeysError::Size { path: path.to_owned(), got, max }) } else { Ok(text) }
}

/// Refuses what another user has: that one can change it at any time.
pub(super) fn check_owner(path: &Path, uid: u32) -> Result<(), KeysError> {
    let own = rustix::process::geteuid().as_raw();
    if uid == own || uid == 0 { Ok(()) } else { Err(KeysError::Owner { path: path.to_owned(), uid }) }
}

/// Writes a file under a name that nobody reads, and returns when it is on disk.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), KeysError> {
    // What a crash left under that name goes with its content.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error("remove", path)(error)),
        _ => {}
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .map_err(io_error("write", path))
}

/// Gives a written file its name, in place of what has it, and returns when that is on disk.
pub(super) fn publish(from: &Path, to: &Path) -> Result<(), KeysError> {
    fs::rename(from, to).map_err(io_error("write", to))?;
    sync_parent(to)
}

/// Removes a file, and returns when that is on disk.
pub(super) fn remove(path: &Path) -> Result<(), KeysError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_error("remove", path)(error)),
        Ok(()) => sync_parent(path),
    }
}

fn sync_parent(path: &Path) -> Result<(), KeysError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io_error("write", directory))
}

pub(super) fn io_error(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeysError {
    let path = path.to_owned();
    move |source| KeysError::Io { act, path, source }
}
