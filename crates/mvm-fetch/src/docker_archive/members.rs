//! The members of an archive by name, links resolved inside the archive only.

use super::MemberProblem;
use crate::layout::opened::ArchiveFile;
use crate::layout::tar::{self, Member, MemberKind};
use crate::layout::{LayoutError, MAX_MEMBERS};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// No member of an image has a longer name; others are left out.
const MAX_NAME: usize = 1024;
const MAX_LINKS: usize = 8;

/// What stands under a name.
#[derive(Debug)]
enum Place {
    File { offset: u64, size: u64 },
    Link(Vec<u8>),
    Other,
    Twice,
}

/// The members of an archive.
#[derive(Debug, Default)]
pub(super) struct Members(HashMap<Vec<u8>, Place>);

impl Members {
    pub(super) fn scan(archive: &ArchiveFile) -> Result<Self, LayoutError> {
        let mut members = Self::default();
        for (number, member) in tar::members(&archive.file, archive.length).enumerate() {
            if number >= MAX_MEMBERS {
                return Err(LayoutError::TooManyMembers { path: archive.path.clone(), limit: MAX_MEMBERS });
            }
            let member = member.map_err(|source| LayoutError::Tar { path: archive.path.clone(), source })?;
            members.add(member);
        }
        Ok(members)
    }

    fn add(&mut self, Member { name, kind, offset, size }: Member) {
        // A name that leads out can't be asked for.
        let Some(name) = join(b"", &name).filter(|name| name.len() <= MAX_NAME) else { return };
        let place = match kind {
            MemberKind::File => Place::File { offset, size },
            MemberKind::SymbolicLink(target) => link(parent(&name), &target),
            MemberKind::HardLink(target) => link(b"", &target),
            MemberKind::Other => Place::Other,
        };
        match self.0.entry(name) {
            Entry::Vacant(vacant) => {
                vacant.insert(place);
            }
            // Directories come as often as their makers like.
            Entry::Occupied(there) if matches!((there.get(), &place), (Place::Other, Place::Other)) => {}
            Entry::Occupied(mut there) => {
                there.insert(Place::Twice);
            }
        }
    }

    /// Returns offset and length of a file, given the name that a document calls it by.
    pub(super) fn find(&self, name: &str) -> Result<(u64, u64), MemberProblem> {
        let mut name = join(b"", name.as_bytes()).ok_or(MemberProblem::Outside)?;
        for _ in 0..=MAX_LINKS {
            match self.0.get(&name) {
                None => return Err(MemberProblem::Missing),
                Some(Place::File { offset, size }) => return Ok((*offset, *size)),
                Some(Place::Link(target)) if target.is_empty() => return Err(MemberProblem::Outside),
                Some(Place::Link(target)) => name = target.clone(),
                Some(Place::Other) => return Err(MemberProblem::NotAFile),
                Some(Place::Twice) => return Err(MemberProblem::Twice),
            }
        }
        Err(MemberProblem::Loop)
    }

    /// Says whether there is a member of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name.as_bytes())
    }
}

/// Returns a link; one that leads out has an empty target.
fn link(directory: &[u8], target: &[u8]) -> Place {
    let target = join(directory, target).filter(|target| target.len() <= MAX_NAME);
    Place::Link(target.unwrap_or_default())
}

fn parent(name: &[u8]) -> &[u8] {
    name.iter().rposition(|&b| b == b'/').map_or(b"", |slash| &name[..slash])
}

/// Returns where a relative path leads from a directory; nothing if that is not inside the archive.
fn join(directory: &[u8], path: &[u8]) -> Option<Vec<u8>> {
    if path.starts_with(b"/") {
        return None;
    }
    let mut parts: Vec<&[u8]> = directory.split(|&b| b == b'/').filter(|part| !part.is_empty()).collect();
    for part in path.split(|&b| b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join(&b'/'))
}
