//! The unpack policy: what a tree may hold.
//!
//! A policy keeps or refuses and never alters: a tree is what its layers say. Its concerns are whiteouts, symbolic links,
//! hard links, modes, owners and sizes. The rules are the same functions where a layer is read and where stored layers
//! are merged, so that what was stored under a looser policy passes no stricter one.

mod breach;
mod budget;
mod item;
mod knob;

pub use breach::Breach;
pub use budget::Budget;
pub(crate) use item::{Item, What};
pub use knob::{Knob, SettingError};

/// Whether something that layers may hold is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A layer with it is refused.
    Refuse,
    /// It is kept.
    Keep,
}

/// Which hard links are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HardLinks {
    /// None.
    Refuse,
    /// Those to names that the same layer put.
    SameLayer,
    /// All.
    Keep,
}

/// Which devices are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Devices {
    /// None.
    Refuse,
    /// The character devices of a container's `/dev`.
    Usual,
    /// All.
    Any,
}

/// What the layers of one image may hold; every bound is inclusive.
///
/// The defaults are far above real images and far below what would exhaust a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnpackPolicy {
    /// Whiteouts, opaque ones among them, which remove what lower layers put.
    pub whiteouts: Rule,
    /// Symbolic links followed while one parent directory is looked up.
    pub symlink_depth: u32,
    /// Symbolic links with an absolute target.
    pub absolute_symlinks: Rule,
    /// Hard links.
    pub hard_links: HardLinks,
    /// Set-user-ID and set-group-ID bits of anything but directories.
    pub set_id: Rule,
    /// The extended attribute `security.capability`.
    pub file_capabilities: Rule,
    /// Devices.
    pub devices: Devices,
    /// The largest owner, user and group alike.
    pub max_uid: u32,
    /// Entries of all layers together, and names in the merged tree.
    pub entries: u64,
    /// Bytes of file data that all layers together store, holes not counted.
    pub unpacked_bytes: u64,
    /// Sum of the lengths of the files of all layers, holes counted.
    pub apparent_bytes: u64,
    /// Number of layers.
    pub layers: u32,
    /// Longest path and longest link target, counting a terminating NUL (as `PATH_MAX` does).
    pub path_bytes: usize,
    /// Longest path component.
    pub name_bytes: usize,
    /// Names and values of one entry's extended attributes.
    pub xattr_bytes_per_entry: usize,
    /// Names, link targets and extended attributes of one layer, and what the merged tree keeps in memory besides its
    /// inodes (these, and the places of file data).
    pub metadata_bytes: u64,
    /// Bytes of a layer for each of its stored, compressed bytes; `u64::MAX` is no limit.
    pub ratio: u64,
    /// Bytes that a layer may have whatever its ratio.
    pub ratio_from: u64,
}

impl Default for UnpackPolicy {
    fn default() -> Self {
        const GIB: u64 = 1 << 30;
        Self {
            whiteouts: Rule::Keep,
            symlink_depth: 40,
            absolute_symlinks: Rule::Keep,
            hard_links: HardLinks::Keep,
            set_id: Rule::Keep,
            file_capabilities: Rule::Keep,
            devices: Devices::Usual,
            max_uid: u32::MAX - 1,
            entries: 2_000_000,
            unpacked_bytes: 64 * GIB,
            apparent_bytes: 128 * GIB,
            layers: 512,
            path_bytes: 4096,
            name_bytes: 255,
            xattr_bytes_per_entry: 64 << 10,
            metadata_bytes: 256 << 20,
            ratio: 1000,
            ratio_from: GIB,
        }
    }
}

impl UnpackPolicy {
    /// Returns the policy that refuses the least that a policy can.
    pub fn loosest() -> Self {
        let mut policy = Self::default();
        Knob::ALL.into_iter().for_each(|knob| policy.put(knob, knob.most()));
        policy
    }

    /// Says whether everything that this policy keeps is also kept by `other`.
    pub fn is_within(&self, other: &Self) -> bool {
        Knob::ALL.into_iter().all(|knob| self.get(knob) <= other.get(knob))
    }

    /// Returns the bytes that the archive of one layer may have, with headers, padding and what follows its end.
    pub(crate) fn archive_bytes(&self) -> u64 {
        // Headers of all entries, and what pads them.
        self.unpacked_bytes.saturating_add(64 << 30)
    }
}

#[cfg(test)]
mod tests;
