//! Reading a Debian package as a layer.
//!
//! A package is an `ar` archive with the files in its member `data.tar` (deb(5)). Of its scripts nothing is read.

use super::base::Base;
use mvm_ref::{Digest, Hasher};
use std::fs::File;
use std::io::{self, Read, Seek as _, Write};
use std::path::{Path, PathBuf};
use tar::{Archive, Builder, EntryType, Header};

/// What xz may use; packages are packed with a dictionary of at most 64 MiB.
const XZ_MEMORY_KIB: u32 = 256 << 10;
/// Directories that are links into `/usr` on every system since Debian 12 (usrmerge).
const MERGED: [&str; 5] = ["bin", "sbin", "lib", "lib64", "lib32"];
/// What nothing in a builder reads.
const UNREAD: [&str; 8] = [
    "usr/share/bash-completion/",
    "usr/share/doc/",
    "usr/share/info/",
    "usr/share/lintian/",
    "usr/share/locale/",
    "usr/share/man/",
    "usr/share/perl/",
    "usr/share/perl5/",
];
/// Certificates of authorities, which Debian's script joins to one file.
pub(super) const AUTHORITIES: &str = "usr/share/ca-certificates/mozilla/";
/// Far more than any certificate has.
const MAX_AUTHORITY: u64 = 64 << 10;

/// Says why a package can't be read.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    /// The package is not what apt's index says.
    #[error("{} has the SHA-256 {got}, apt's index says {expected}", path.display())]
    Digest {
        /// The file.
        path: PathBuf,
        /// What the index says.
        expected: Digest,
        /// What it has.
        got: Digest,
    },
    /// The package has no member with its files.
    #[error("{} has no member data.tar", path.display())]
    NoData {
        /// The file.
        path: PathBuf,
    },
    /// The files are packed in a way that isn't read.
    #[error("{} has the member {member}; data.tar and data.tar.xz are supported", path.display())]
    Packing {
        /// The file.
        path: PathBuf,
        /// The member.
        member: String,
    },
    /// The package holds something that is no file, directory or link.
    #[error("{} holds {entry}, which is {kind}", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
        /// What is in it.
        entry: String,
        /// What that is.
        kind: String,
    },
    /// The package can't be read, or its layer not be written.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Writes the files of a package as a layer, and tells `base` of them.
pub(super) fn to_layer(
    path: &Path,
    expected: Digest,
    out: &mut dyn Write,
    base: &mut Base,
) -> Result<(), DebError> {
    let failed = |source| DebError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let mut hasher = Hasher::default();
    io::copy(&mut file, &mut hasher).map_err(failed)?;
    let got = hasher.finish();
    if got != expected {
        return Err(DebError::Digest { path: path.to_owned(), expected, got });
    }
    file.rewind().map_err(failed)?;
    let mut members = ar::Archive::new(file);
    while let Some(member) = members.next_entry() {
        let member = member.map_err(failed)?;
        let name = String::from_utf8_lossy(member.header().identifier()).into_owned();
        let Some(packing) = name.trim_end_matches('/').strip_prefix("data.tar") else { continue };
        return match packing {
            "" => copy(path, member, out, base),
            ".xz" => copy(path, lzma_rust2::XzReader::new_mem_limit(member, false, XZ_MEMORY_KIB), out, base),
            _ => Err(DebError::Packing { path: path.to_owned(), member: name }),
        };
    }
    Err(DebError::NoData { path: path.to_owned() })
}

fn copy(path: &Path, data: impl Read, out: &mut dyn Write, base: &mut Base) -> Result<(), DebError> {
    let failed = |source| DebError::Read { path: path.to_owned(), source };
    let mut layer = Builder::new(out);
    let mut archive = Archive::new(data);
    for entry in archive.entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        let name = entry.path_bytes().into_owned();
        let Some(name) = merged(&String::from_utf8_lossy(&name)).filter(|name| is_read(name)) else {
            continue;
        };
        let kind = entry.header().entry_type();
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(entry.header().mode().map_err(failed)?);
        header.set_uid(entry.header().uid().map_err(failed)?);
        header.set_gid(entry.header().gid().map_err(failed)?);
        header.set_mtime(entry.header().mtime().map_err(failed)?);
        header.set_size(0);
        match kind {
            EntryType::Regular => {
                let size = entry.size();
                header.set_size(size);
                if name.starts_with(AUTHORITIES) && name.ends_with(".crt") && size <= MAX_AUTHORITY {
                    let mut text = Vec::new();
                    entry.read_to_end(&mut text).map_err(failed)?;
                    layer.append_data(&mut header, &name, &text[..]).map_err(failed)?;
                    base.add_authority(&name, text);
                } else {
                    layer.append_data(&mut header, &name, &mut entry).map_err(failed)?;
                }
            }
            EntryType::Directory => layer.append_data(&mut header, &name, io::empty()).map_err(failed)?,
            EntryType::Symlink | EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                let target = String::from_utf8_lossy(&target).into_owned();
                let target = match kind {
                    EntryType::Link => merged(&target).unwrap_or(target),
                    _ => target,
                };
                layer.append_link(&mut header, &name, target).map_err(failed)?;
            }
            other => {
                let (path, kind) = (path.to_owned(), format!("{other:?}"));
                return Err(DebError::Kind { path, entry: name, kind });
            }
        }
        base.see(name);
    }
    layer.finish().map_err(failed)
}

/// Returns where a path of a package is in the root: none for the root itself.
pub(super) fn merged(path: &str) -> Option<String> {
    let path = path.strip_prefix("./").unwrap_or(path).trim_matches('/');
    if path.is_empty() || path == "." {
        return None;
    }
    let first = path.split('/').next().unwrap_or_default();
    Some(if MERGED.contains(&first) { format!("usr/{path}") } else { path.to_owned() })
}

fn is_read(name: &str) -> bool {
    !UNREAD.iter().any(|unread| name.starts_with(unread) || format!("{name}/") == *unread)
}
