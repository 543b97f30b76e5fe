//! The flake library that a program carries.

use mvm_ref::{Digest, Hasher};
use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Write};
use std::path::Path;

/// The files of the flake library, by their paths in it.
#[derive(Clone, Copy)]
pub struct FlakeLibrary {
    files: &'static [(&'static str, &'static [u8])],
}

/// Where its templates are.
const TEMPLATES: &str = "templates/";

impl FlakeLibrary {
    /// Takes the files, in order of their paths.
    pub const fn new(files: &'static [(&'static str, &'static [u8])]) -> Self {
        Self { files }
    }

    /// Returns a digest over names and contents.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::default();
        hasher.update(b"mvm library v1\n");
        for (path, bytes) in self.files {
            for field in [path.as_bytes(), bytes] {
                hasher.update(&(field.len() as u64).to_le_bytes());
                hasher.update(field);
            }
        }
        hasher.finish()
    }

    /// Returns the names of the templates for new flakes.
    pub fn templates(&self) -> Vec<String> {
        let names = self.files.iter().filter_map(|(path, _)| path.strip_prefix(TEMPLATES)?.split_once('/'));
        names.map(|(name, _)| name.to_owned()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Returns the files of a template, by their paths in it.
    pub(super) fn template(&self, name: &str) -> Vec<(&'static str, &'static [u8])> {
        let below = format!("{TEMPLATES}{name}/");
        self.files.iter().filter_map(|(path, bytes)| Some((path.strip_prefix(&below)?, *bytes))).collect()
    }

    /// Writes all of it below a directory of an archive.
    pub(super) fn write(&self, below: &str, output: &mut dyn Write) -> io::Result<()> {
        let mut archive = tar::Builder::new(output);
        let mut made = BTreeSet::new();
        for (path, bytes) in self.files {
            let path = Path::new(below).join(path);
            let mut parents: Vec<_> =
                path.ancestors().skip(1).filter(|up| !up.as_os_str().is_empty()).collect();
            parents.reverse();
            for parent in parents {
                if made.insert(parent.to_owned()) {
                    archive.append_data(
                        &mut header(tar::EntryType::Directory, 0o755, 0),
                        parent,
                        io::empty(),
                    )?;
                }
            }
            let mut header = header(tar::EntryType::Regular, 0o644, bytes.len() as u64);
            archive.append_data(&mut header, &path, *bytes)?;
        }
        archive.finish()
    }
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1);
    header.set_size(size);
    header
}

impl fmt::Debug for FlakeLibrary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} files)", self.files.len())
    }
}
