//! The rules on one entry.

use super::{Breach, Devices, HardLinks, Knob, Rule, UnpackPolicy};
use crate::{Attributes, Change, Device, Escaped, Kind};

/// Character devices of a container's `/dev`: number and name (Linux, `Documentation/admin-guide/devices.txt`).
const USUAL: [(u32, u32, &str); 10] = [
    (1, 3, "null"),
    (1, 5, "zero"),
    (1, 7, "full"),
    (1, 8, "random"),
    (1, 9, "urandom"),
    (5, 0, "tty"),
    (5, 1, "console"),
    (5, 2, "ptmx"),
    (10, 200, "net/tun"),
    (10, 229, "fuse"),
];

const CAPABILITY: &[u8] = b"security.capability";

/// An entry of a layer, as far as rules look at it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Item<'a> {
    Whiteout,
    Link { target: &'a [u8] },
    Node { attributes: &'a Attributes, what: What<'a> },
}

/// A node, as far as rules look at it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum What<'a> {
    Directory,
    File,
    Symlink(&'a [u8]),
    Device { is_block: bool, number: Device },
    Other,
}

impl<'a> From<&'a Change> for Item<'a> {
    fn from(change: &'a Change) -> Self {
        match change {
            Change::Put { attributes, kind, .. } => Self::Node { attributes, what: kind.into() },
            Change::Link { target, .. } => Self::Link { target },
            Change::Whiteout { .. } | Change::Opaque { .. } => Self::Whiteout,
        }
    }
}

impl<'a> From<&'a Kind> for What<'a> {
    fn from(kind: &'a Kind) -> Self {
        match kind {
            Kind::Directory => Self::Directory,
            Kind::Regular(_) => Self::File,
            Kind::Symlink(target) => Self::Symlink(target),
            Kind::CharDevice(number) => Self::Device { is_block: false, number: *number },
            Kind::BlockDevice(number) => Self::Device { is_block: true, number: *number },
            Kind::Fifo | Kind::Socket => Self::Other,
        }
    }
}

impl UnpackPolicy {
    /// Checks an entry but for its names, which are looked at where they are split, and for what is counted.
    pub(crate) fn check(&self, item: Item<'_>) -> Result<(), Breach> {
        match item {
            Item::Whiteout if self.whiteouts == Rule::Refuse => Err(Breach::Whiteout),
            Item::Link { target } if self.hard_links == HardLinks::Refuse => {
                Err(Breach::HardLink { target: Escaped::new(target) })
            }
            Item::Whiteout | Item::Link { .. } => Ok(()),
            Item::Node { attributes, what } => {
                self.check_attributes(attributes, what)?;
                self.check_kind(what)
            }
        }
    }

    fn check_attributes(&self, attributes: &Attributes, what: What<'_>) -> Result<(), Breach> {
        let limit = u64::from(self.max_uid);
        for (name, id) in [("uid", attributes.uid), ("gid", attributes.gid)] {
            within(Knob::MaxUid, name, id.into(), limit)?;
        }
        let mode = attributes.mode;
        // On a directory the bits hand the group down, and run nothing.
        let runs_as_another = mode & 0o6000 != 0 && !matches!(what, What::Directory);
        if self.set_id == Rule::Refuse && runs_as_another {
            return Err(Breach::SetId { mode });
        }
        if self.file_capabilities == Rule::Refuse && attributes.xattrs.iter().any(|x| &*x.name == CAPABILITY)
        {
            return Err(Breach::FileCapability);
        }
        let got: usize = attributes.xattrs.iter().map(|xattr| xattr.name.len() + xattr.value.len()).sum();
        let limit = self.xattr_bytes_per_entry as u64;
        within(Knob::Xattrs, "bytes of extended attributes", got as u64, limit)
    }

    fn check_kind(&self, what: What<'_>) -> Result<(), Breach> {
        match what {
            What::Symlink(target) if self.absolute_symlinks == Rule::Refuse && target.starts_with(b"/") => {
                Err(Breach::AbsoluteSymlink { target: Escaped::new(target) })
            }
            What::Symlink(target) => self.check_path(target.len()),
            What::Device { is_block, number: Device { major, minor } } => {
                let is_usual = !is_block && USUAL.iter().any(|usual| (usual.0, usual.1) == (major, minor));
                let kind = if is_block { "block" } else { "character" };
                match self.devices {
                    Devices::Any => Ok(()),
                    Devices::Usual if is_usual => Ok(()),
                    Devices::Usual | Devices::Refuse => Err(Breach::Device { kind, major, minor }),
                }
            }
            What::Directory | What::File | What::Other => Ok(()),
        }
    }

    /// Checks the length of a path or link target.
    pub(crate) fn check_path(&self, len: usize) -> Result<(), Breach> {
        let limit = (self.path_bytes as u64).saturating_sub(1);
        within(Knob::Path, "bytes of a path", len as u64, limit)
    }

    /// Checks the length of a path's component.
    pub(crate) fn check_name(&self, len: usize) -> Result<(), Breach> {
        within(Knob::Name, "bytes of a name", len as u64, self.name_bytes as u64)
    }

    /// Checks the bytes of an archive, from its start.
    pub(crate) fn check_archive(&self, len: u64) -> Result<(), Breach> {
        within(Knob::Unpacked, "bytes of the archive", len, self.archive_bytes())
    }

    /// Checks the bytes of names, link targets and extended attributes.
    pub(crate) fn check_metadata(&self, len: u64) -> Result<(), Breach> {
        within(Knob::Metadata, "bytes of names and attributes", len, self.metadata_bytes)
    }

    /// Checks the number of layers of an image.
    pub fn check_layers(&self, count: usize) -> Result<(), Breach> {
        within(Knob::Layers, "layers", count as u64, self.layers.into())
    }
}

fn within(knob: Knob, what: &'static str, got: u64, limit: u64) -> Result<(), Breach> {
    if got > limit { Err(Breach::OverLimit { knob, what, got, limit }) } else { Ok(()) }
}
