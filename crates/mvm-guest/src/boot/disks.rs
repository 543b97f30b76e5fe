//! Disks, found by the serial that the host gave them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The number of a block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

/// Disks that can't be told apart or are not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    #[error("reading {} failed", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} holds {got:?}, expected MAJOR:MINOR", path.display())]
    Number { path: PathBuf, got: String },
    #[error("disks {first} and {second} both have serial {serial:?}")]
    Duplicate { serial: String, first: String, second: String },
    #[error("no disk has serial {serial:?}; the serials are {found:?}")]
    Missing { serial: String, found: Vec<String> },
}

/// Returns the disks with the serials `wanted`, in that order, waiting for them up to `limit`.
///
/// `block` is the kernel's directory of block devices; whatever has no serial there is passed over.
pub(crate) fn find(block: &Path, wanted: &[&str], limit: Duration) -> Result<Vec<Device>, DiskError> {
    let until = Instant::now() + limit;
    loop {
        let found = scan(block)?;
        match wanted.iter().find(|serial| !found.contains_key(**serial)) {
            None => return wanted.iter().map(|serial| number(block, &found[*serial])).collect(),
            Some(_) if Instant::now() < until => std::thread::sleep(Duration::from_millis(1)),
            Some(serial) => {
                let found = found.into_keys().collect();
                return Err(DiskError::Missing { serial: (*serial).to_owned(), found });
            }
        }
    }
}

/// Returns the names of all disks that have a serial, by serial.
fn scan(block: &Path) -> Result<BTreeMap<String, String>, DiskError> {
    let mut found = BTreeMap::new();
    let entries = match std::fs::read_dir(block) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(source) => return Err(DiskError::Read { path: block.to_owned(), source }),
    };
    for entry in entries {
        let entry = entry.map_err(|source| DiskError::Read { path: block.to_owned(), source })?;
        let path = entry.path().join("serial");
        let serial = match std::fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).trim().to_owned(),
            // No disk, or one that is going away.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                continue;
            }
            Err(source) => return Err(DiskError::Read { path, source }),
        };
        if serial.is_empty() {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(other) = found.insert(serial.clone(), name.clone()) {
            let (first, second) = if other < name { (other, name) } else { (name, other) };
            return Err(DiskError::Duplicate { serial, first, second });
        }
    }
    Ok(found)
}

fn number(block: &Path, name: &str) -> Result<Device, DiskError> {
    let path = block.join(name).join("dev");
    let text =
        std::fs::read_to_string(&path).map_err(|source| DiskError::Read { path: path.clone(), source })?;
    let parsed = text
        .trim()
        .split_once(':')
        .and_then(|(major, minor)| Some(Device { major: major.parse().ok()?, minor: minor.parse().ok()? }));
    parsed.ok_or(DiskError::Number { path, got: text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(disks: &[(&str, Option<&str>, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, serial, number) in disks {
            let disk = dir.path().join(name);
            std::fs::create_dir(&disk).unwrap();
            std::fs::write(disk.join("dev"), format!("{number}\n")).unwrap();
            if let Some(serial) = serial {
                std::fs::write(disk.join("serial"), serial).unwrap();
            }
        }
        dir
    }

    #[test]
    fn finds_disks_by_serial() {
        let dir = block(&[
            ("vda", Some("scratch"), "254:0"),
            ("vdb", Some("root\n"), "254:16"),
            ("vdb1", None, "254:17"),
            ("vdc", Some(""), "254:32"),
        ]);
        let found = find(dir.path(), &["root", "scratch"], Duration::ZERO).unwrap();
        assert_eq!(found, [Device { major: 254, minor: 16 }, Device { major: 254, minor: 0 }]);
    }

    #[test]
    fn refuses_duplicate_missing_and_misnumbered_disks() {
        type Disks<'a> = &'a [(&'a str, Option<&'a str>, &'a str)];
        let cases: &[(Disks<'_>, &str)] = &[
            (
                &[("vdb", Some("x"), "1:2"), ("vda", Some("x"), "1:1")],
                "disks vda and vdb both have serial \"x\"",
            ),
            (&[("vda", Some("x"), "1:1")], "no disk has serial \"root\"; the serials are [\"x\"]"),
            (&[("vda", Some("root"), "1")], "DIR/vda/dev holds \"1\\n\", expected MAJOR:MINOR"),
        ];
        for (disks, expected) in cases {
            let dir = block(disks);
            let error = find(dir.path(), &["root"], Duration::ZERO).unwrap_err().to_string();
            assert_eq!(error.replace(&dir.path().display().to_string(), "DIR"), *expected);
        }
        let absent = find(Path::new("/nonexistent/block"), &["root"], Duration::ZERO).unwrap_err();
        assert_eq!(absent.to_string(), "no disk has serial \"root\"; the serials are []");
    }
}
