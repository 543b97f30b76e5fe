//! Reads layers that are tar archives: v7, ustar, star, Solaris, PAX and GNU.
//!
//! One pass, no seeks. Where readers of tar disagree on what an archive holds, an entry is refused, or read as
//! container engines do (Go's `archive/tar`):
//!
//! - The size in a PAX record counts for everything, the header's size then for nothing.
//! - Links, directories, devices and fifos have no data, whatever their size field says.
//! - An archive may end without the two zero blocks, between entries, and without the padding of its last one.
//! - A `..` component, a NUL in a name, and two extended headers of one type for one entry are refused.
//! - Global PAX headers must be well-formed and say nothing about an entry; a name or size in one is refused.
//! - Extended attributes come from `SCHILY.xattr.`, and from `LIBARCHIVE.xattr.` where that alone has them; with two
//!   different values the entry is refused. An empty value is one, as in containerd and Docker.
//! - ACLs as text (`SCHILY.acl.`), `RHT.security.selinux` and file flags are left out, as all engines do: they name
//!   users and labels of the machine that wrote the archive. ACLs as extended attributes are kept.
//! - The headers of a hard link say nothing about the file that it names.
//! - `V`, `M` and `D` entries (labels, further volumes, dumps) belong to backups and are refused.

mod device;
mod error;
mod header;
mod input;
mod libarchive;
mod number;
mod path;
mod pax;
mod reader;
mod sparse;

pub use error::{ReadError, Refusal, SparseFault};
pub use reader::read_layer;

/// What was read of a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerSummary {
    /// Entries of the archive, whiteouts and global headers among them.
    pub entries: u64,
    /// Whiteouts, opaque ones among them.
    pub whiteouts: u64,
    /// Bytes of file data, holes not counted.
    pub data_bytes: u64,
    /// Lengths of all files, holes counted.
    pub apparent_bytes: u64,
    /// Bytes of the archive, all of the input.
    pub archive_bytes: u64,
    /// Bytes after the mark of the archive's end.
    pub trailing_bytes: u64,
    /// Extended attributes left out, since Linux file systems have no place for their namespace.
    pub ignored_xattrs: u64,
}

#[cfg(test)]
mod tests;
