//! A layout in a tar file, of which only the places of the members are kept.

use super::opened::ArchiveFile;
use super::tar::{self, MemberKind};
use super::{Files, INDEX, LayoutError, MARKER, Part};
use mvm_ref::Digest;
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

pub(crate) const MAX_MEMBERS: usize = 65_536;
/// An open archive.
#[derive(Clone)]
pub(crate) struct Archive {
    archive: ArchiveFile,
    members: Arc<Members>,
}

#[derive(Default)]
struct Members {
    marker: Option<(u64, u64)>,
    index: Option<(u64, u64)>,
    blobs: HashMap<Digest, (u64, u64)>,
}

impl Archive {
    pub(crate) fn new(archive: ArchiveFile) -> Result<Self, LayoutError> {
        let members = Members::scan(&archive.path, &archive.file, archive.length)?;
        Ok(Self { archive, members: Arc::new(members) })
    }

    fn part(&self, (offset, size): (u64, u64)) -> Part {
        Part { file: Arc::clone(&self.archive.file), offset, size }
    }
}

impl Files for Archive {
    fn path(&self) -> &Path {
        &self.archive.path
    }

    fn open_named(&self, name: &'static str) -> Result<Option<Part>, LayoutError> {
        let place = if name == MARKER { self.members.marker } else { self.members.index };
        Ok(place.map(|place| self.part(place)))
    }

    fn open_digest(&self, digest: Digest) -> Result<Option<Part>, LayoutError> {
        Ok(self.members.blobs.get(&digest).map(|&place| self.part(place)))
    }
}

impl Members {
    fn scan(path: &Path, file: &File, length: u64) -> Result<Self, LayoutError> {
        let bad = |source| LayoutError::Tar { path: path.to_owned(), source };
        let mut members = Self::default();
        for (number, member) in tar::members(file, length).enumerate() {
            if number >= MAX_MEMBERS {
                return Err(LayoutError::TooManyMembers { path: path.to_owned(), limit: MAX_MEMBERS });
            }
            let member = member.map_err(bad)?;
            if member.kind != MemberKind::File {
                continue;
            }
            members.add(path, &member.name, (member.offset, member.size))?;
        }
        Ok(members)
    }

    /// Keeps a member's place. A blob that is there twice is the later one, as for a tool that unpacks.
    fn add(&mut self, path: &Path, name: &[u8], place: (u64, u64)) -> Result<(), LayoutError> {
        let name = name.strip_prefix(b"./").unwrap_or(name);
        let (slot, name) = match name {
            b"oci-layout" => (&mut self.marker, MARKER),
            b"index.json" => (&mut self.index, INDEX),
            _ => {
                let hex = name.strip_prefix(b"blobs/sha256/").and_then(|hex| std::str::from_utf8(hex).ok());
                if let Some(digest) = hex.and_then(|hex| format!("sha256:{hex}").parse().ok()) {
                    self.blobs.insert(digest, place);
                }
                return Ok(());
            }
        };
        if slot.replace(place).is_some() {
            return Err(LayoutError::Twice { path: path.to_owned(), name });
        }
        Ok(())
    }
}
