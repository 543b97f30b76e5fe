//! Files that a user names: read with a bound, from stdin for `-`; written as a whole.

use anyhow::Context as _;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

/// Reads a file of fewer than `limit` bytes; a longer one is an error.
pub fn read_limited(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        io::stdin().lock().take(limit).read_to_end(&mut bytes)?;
    } else {
        File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    }
    if u64::try_from(bytes.len()).is_ok_and(|length| length < limit) {
        Ok(bytes)
    } else {
        Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has {limit} bytes or more")))
    }
}

/// Writes a file as a whole: who reads it sees the old text or the new one. A special file is written to as it is.
pub fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    replace_with(path, |file| Ok(file.write_all(bytes)?))
}

/// Writes a file as a whole, with what `fill` writes.
pub fn replace_with(path: &Path, fill: impl FnOnce(&mut File) -> anyhow::Result<()>) -> anyhow::Result<()> {
    if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        return fill(&mut File::options().write(true).open(path)?);
    }
    let mut name = path.file_name().context("it names no file")?.to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = File::options().write(true).create_new(true).open(&temporary).map_err(anyhow::Error::from);
    let written = written.and_then(|mut file| {
        fill(&mut file)?;
        file.sync_all()?;
        Ok(std::fs::rename(&temporary, path)?)
    });
    if written.is_err() {
        // The first error is the one that counts.
        drop(std::fs::remove_file(&temporary));
    }
    written
}
