//! Reads layers that are tar archives: v7, ustar, PAX and GNU.
//!
//! One pass, no seeks. Where readers of tar disagree on what an archive holds, an entry is refused, or read as
//! container engines do (Go's `archive/tar`):
//!
//! - The size in a PAX record counts for everything, the header's size then for nothing.
//! - Links, directories, devices and fifos have no data, whatever their size field says.
//! - An archive may end without the two zero blocks, between entries.
//! - A `..` component, a NUL in a name, and two extended headers of one type for one entry are refused.
//! - Global PAX headers may set owner, times and extended attributes, never a name or size.

mod device;
mod error;
mod header;
mod input;
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
