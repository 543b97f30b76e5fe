use super::*;
use crate::exec::{Invocation, Limits, find_program};
use std::ffi::OsStr;
use std::io::{Seek, Write};
use std::time::Duration;

fn sample() -> Vec<u8> {
    let mut archive = Archive::new();
    archive.directory("dev", 0o755).unwrap();
    archive.character_device("dev/console", 0o600, (5, 1)).unwrap();
    archive.file("init", 0o755, b"hello").unwrap();
    archive.finish()
}

#[test]
fn bytes_are_fixed() {
    let bytes = sample();
    let first = "07070100000001000041ED000000000000000000000001000000000000000000000000000000000000000000000000\
                 0000000400000000dev\0\0\0";
    assert_eq!(&bytes[..first.len()], first.as_bytes());
    let trailer = "0707010000000000000000000000000000000000000001000000000000000000000000000000000000000000000000\
                   0000000B00000000TRAILER!!!\0\0\0\0";
    assert_eq!(&bytes[bytes.len() - trailer.len()..], trailer.as_bytes());
    assert_eq!(bytes.len() % 4, 0);
    assert_eq!(bytes, sample());
}

#[test]
fn cpio_lists_what_was_written() {
    let Ok(cpio) = find_program("cpio", OsStr::new("")) else {
        eprintln!("SKIP cpio_lists_what_was_written: cpio is not installed (apt-get install cpio)");
        return;
    };
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&sample()).unwrap();
    file.rewind().unwrap();
    let output = Invocation::new(cpio)
        .args(["-t", "-v", "-n", "--quiet"])
        .env("TZ", "UTC")
        .env("LC_ALL", "C")
        .input(file)
        .run(Limits { time: Duration::from_secs(20), output: 65536 })
        .unwrap()
        .success()
        .unwrap();
    let listing = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<String> =
        listing.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        lines,
        [
            "drwxr-xr-x 1 0 0 0 Jan 1 1970 dev",
            "crw------- 1 0 0 5, 1 Jan 1 1970 dev/console",
            "-rwxr-xr-x 1 0 0 5 Jan 1 1970 init",
        ]
    );
}

#[test]
fn names_that_could_leave_the_archive_are_refused() {
    for name in ["", "/init", "a//b", "a/", "../x", "a/../b", "./a", "a\0b"] {
        let error = Archive::new().file(name, 0o644, b"").unwrap_err();
        assert_eq!(error, CpioError::Name(name.to_owned()));
    }
}
