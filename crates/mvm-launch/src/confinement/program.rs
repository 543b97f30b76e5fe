//! What the kernel opens to start a program: the program, and the interpreters that it names.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Interpreters that name interpreters; the kernel follows five.
const DEPTH: usize = 6;
/// `PT_INTERP` of elf(5).
const PT_INTERP: u32 = 3;
/// Longest path that the kernel takes, `PATH_MAX`.
const MAX_PATH: u64 = 4096;

/// Returns the program and its interpreters, in the order in which they are started; what is absent names none.
pub(super) fn executables(program: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![program.to_owned()];
    while let Some(next) = interpreter(&found[found.len() - 1])? {
        if found.len() == DEPTH || found.contains(&next) {
            break;
        }
        found.push(next);
    }
    Ok(found)
}

/// Returns the interpreter that a script or a dynamically linked program names.
fn interpreter(program: &Path) -> io::Result<Option<PathBuf>> {
    let file = match File::open(program) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut head = Vec::new();
    (&file).take(MAX_PATH).read_to_end(&mut head)?;
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let word = line.split(u8::is_ascii_whitespace).find(|word| !word.is_empty());
        return Ok(word.map(to_path));
    }
    let Some((offset, count)) = headers(&head) else { return Ok(None) };
    for index in 0..u64::from(count) {
        let mut header = [0; 56];
        // A table that ends early names nothing; the kernel will say so.
        if file.read_exact_at(&mut header, offset.saturating_add(index * 56)).is_err() {
            return Ok(None);
        }
        if u32::from_le_bytes([header[0], header[1], header[2], header[3]]) == PT_INTERP {
            let (at, length) = (long(&header, 8), long(&header, 32));
            let mut path = vec![0; usize::try_from(length.min(MAX_PATH)).unwrap_or(0)];
            if file.read_exact_at(&mut path, at).is_err() {
                return Ok(None);
            }
            return Ok(path.split(|&byte| byte == 0).next().filter(|path| !path.is_empty()).map(to_path));
        }
    }
    Ok(None)
}

/// Returns where a 64-bit little-endian ELF file has its table of program headers, and how many there are.
fn headers(head: &[u8]) -> Option<(u64, u16)> {
    if head.len() < 64 || !head.starts_with(b"\x7fELF\x02\x01") || head[54..56] != 56_u16.to_le_bytes() {
        return None;
    }
    Some((long(head, 32), u16::from_le_bytes([head[56], head[57]])))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn to_path(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    std::ffi::OsStr::from_bytes(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_and_programs_name_their_interpreters() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            std::fs::write(directory.path().join(name), bytes).unwrap();
            directory.path().join(name)
        };
        for (bytes, expected) in [
            (&b"#!/bin/sh\n"[..], Some("/bin/sh")),
            (b"#! /usr/bin/env sh", Some("/usr/bin/env")),
            (b"#!\n", None),
            (b"", None),
            (b"\x7fELF\x02\x01", None),
            (&[&b"\x7fELF\x02\x01"[..], &[0xff; 100]].concat(), None),
        ] {
            assert_eq!(interpreter(&file("f", bytes)).unwrap(), expected.map(PathBuf::from), "{bytes:?}");
        }
        let script = file("script", b"#!/bin/sh\n");
        let found = executables(&script).unwrap();
        assert_eq!(found[..2], [script, PathBuf::from("/bin/sh")]);
        assert!(found.len() == 2 || found[2].to_string_lossy().contains("ld"), "{found:?}");
        let own = file("loop", format!("#!{}/loop", directory.path().display()).as_bytes());
        assert_eq!(executables(&own).unwrap(), [own]);
        let absent = Path::new("/no/such/program");
        assert_eq!(executables(absent).unwrap(), [absent]);
        assert!(executables(directory.path()).is_err());
    }
}
