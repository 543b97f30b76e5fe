//! How much a layer may ask for before it is refused.

/// Bounds on what one layer, and the tree merged from layers, may hold.
///
/// Every bound is a policy of the caller; the defaults are far above real images and far below what would
/// exhaust a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries of one layer, and names in the merged tree.
    pub entries: u64,
    /// Bytes of one layer's archive, with headers, padding and what follows the end-of-archive mark.
    pub archive_bytes: u64,
    /// Bytes of file data that one layer stores, holes not counted.
    pub unpacked_bytes: u64,
    /// Sum of the file lengths of one layer, holes counted.
    pub apparent_bytes: u64,
    /// Bytes of paths, link targets and extended attributes of one layer, and of what the merged tree keeps
    /// in memory besides its inodes (names, link targets, extended attributes, extents).
    pub metadata_bytes: u64,
    /// Longest path and longest link target, counting a terminating NUL (as `PATH_MAX` does).
    pub path_bytes: usize,
    /// Longest path component.
    pub name_bytes: usize,
    /// Symbolic links followed while one parent directory is looked up.
    pub symlink_depth: u32,
    /// Names and values of one entry's extended attributes.
    pub xattr_bytes_per_entry: usize,
    /// Whether devices other than the usual ones of a container's `/dev` are kept.
    pub allow_devices: bool,
}

impl Default for Limits {
    fn default() -> Self {
        const GIB: u64 = 1 << 30;
        Self {
            entries: 2_000_000,
            archive_bytes: 128 * GIB,
            unpacked_bytes: 64 * GIB,
            apparent_bytes: 128 * GIB,
            metadata_bytes: GIB,
            path_bytes: 4096,
            name_bytes: 255,
            symlink_depth: 40,
            xattr_bytes_per_entry: 64 << 10,
            allow_devices: false,
        }
    }
}
