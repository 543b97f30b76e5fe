//! Files that a user names: read with a bound, from stdin for `-`.

use std::fs::File;
use std::io::{self, Read as _};
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
