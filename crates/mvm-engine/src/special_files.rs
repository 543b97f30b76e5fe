//! What of an image's files can give more rights than their owner has: set-id bits, capabilities, devices.

use crate::image_tree::Shown;
use mvm_image::ReadAt;
use mvm_image::erofs::{InodeKind, ReadError, Reader};
use serde::Serialize;

/// The most paths of one sort that are listed.
const MAX_PATHS: usize = 1000;

/// Files that an auditor asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SpecialFiles {
    /// Those that run as another user or group: anything but a directory with a set-user-ID or set-group-ID bit.
    pub set_id: PathList,
    /// Those with the extended attribute `security.capability`.
    pub file_capabilities: PathList,
    /// Character and block devices.
    pub devices: PathList,
}

/// Paths, of which at most the first 1,000 are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PathList {
    /// How many there are.
    pub count: u64,
    /// The first of them, each with a leading `/`.
    pub paths: Vec<Shown>,
}

impl PathList {
    fn add(&mut self, path: &[u8]) {
        self.count += 1;
        if self.paths.len() < MAX_PATHS {
            self.paths.push(Shown::new(&[b"/", path].concat()));
        }
    }
}

/// Looks at every name of an image.
pub(crate) fn special_files<R: ReadAt>(reader: &Reader<R>) -> Result<SpecialFiles, ReadError> {
    let mut found = SpecialFiles::default();
    for item in reader.walk() {
        let (path, inode) = item?;
        let attributes = inode.attributes();
        let kind = inode.kind();
        if attributes.mode & 0o6000 != 0 && *kind != InodeKind::Directory {
            found.set_id.add(&path);
        }
        if attributes.xattrs.iter().any(|xattr| &*xattr.name == b"security.capability") {
            found.file_capabilities.add(&path);
        }
        if matches!(kind, InodeKind::CharDevice(_) | InodeKind::BlockDevice(_)) {
            found.devices.add(&path);
        }
    }
    Ok(found)
}
