//! Why a layer can't be read.

use std::io;

use crate::{Breach, Escaped};

/// Why reading a layer stopped; `E` is the sink's error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError<E: std::error::Error + 'static> {
    /// The input failed.
    #[error("read the archive at byte {offset}")]
    Read {
        /// Bytes read before.
        offset: u64,
        /// What the input says.
        source: io::Error,
    },
    /// An entry is malformed or not allowed.
    #[error("read entry {index} at byte {offset}{}", named(path))]
    Refused {
        /// Number of the entry, from 0.
        index: u64,
        /// Where the entry's first header starts.
        offset: u64,
        /// The entry's path as the archive has it, empty as long as it isn't known.
        path: Escaped,
        /// Why.
        source: Refusal,
    },
    /// The sink failed.
    #[error("store entry {index} at byte {offset}{}", named(path))]
    Store {
        /// Number of the entry, from 0.
        index: u64,
        /// Where the entry's first header starts.
        offset: u64,
        /// The entry's path.
        path: Escaped,
        /// What the sink says.
        source: E,
    },
}

/// What is wrong with an entry.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The archive ends inside the entry.
    #[error("the archive ends inside this entry, {missing} or more bytes early")]
    Truncated {
        /// Bytes that should have followed, at least.
        missing: u64,
    },
    /// Something other than a header follows a single zero block.
    #[error("a single zero block inside the archive, the mark of its end has two")]
    LoneZeroBlock,
    /// The header's checksum is that of other bytes.
    #[error("header checksum {expected:o} expected, got {got:o} (octal)")]
    Checksum {
        /// Checksum in the header.
        expected: i64,
        /// Checksum of the header's bytes, as unsigned.
        got: i64,
    },
    /// A header field isn't a number.
    #[error("header field {field} is not a number: {value}")]
    Number {
        /// Name of the field.
        field: &'static str,
        /// Its bytes.
        value: Escaped,
    },
    /// A number lies outside of its range.
    #[error("{field} is {value}, allowed are 0 to {limit}")]
    Range {
        /// Name of the field.
        field: &'static str,
        /// Its value.
        value: i64,
        /// The largest value.
        limit: u64,
    },
    /// The entry's type isn't known, or can't be part of a layer.
    #[error("entry type {flag} is not supported{}", type_name(*flag))]
    TypeFlag {
        /// The type flag as a byte.
        flag: u8,
    },
    /// An extended header is larger than allowed.
    #[error("extended header of type {flag} has {got} bytes, at most {limit} are allowed")]
    HeaderLong {
        /// Its type flag.
        flag: char,
        /// Its size.
        got: u64,
        /// The limit.
        limit: u64,
    },
    /// Two extended headers of one type for one entry.
    #[error("a second extended header of type {flag} for one entry")]
    HeaderRepeated {
        /// The type flag.
        flag: char,
    },
    /// No entry follows an extended header.
    #[error("the archive ends after an extended header, before its entry")]
    HeaderDangling,
    /// The PAX record and the GNU long name say different things.
    #[error("two different names: {pax} by PAX, {gnu} by GNU extended header")]
    NamesDiffer {
        /// Value of the PAX record.
        pax: Escaped,
        /// Value of the GNU header.
        gnu: Escaped,
    },
    /// A PAX record isn't `LENGTH KEY=VALUE`.
    #[error("malformed PAX record at byte {at} of the extended header")]
    PaxRecord {
        /// Offset in the extended header.
        at: usize,
    },
    /// A PAX record's value is no valid value for its key.
    #[error("PAX record {key} has no valid value: {value}")]
    PaxValue {
        /// The key.
        key: Escaped,
        /// The value.
        value: Escaped,
    },
    /// A PAX record that belongs to one entry stands in a global header.
    #[error("PAX record {key} in a global header")]
    PaxGlobal {
        /// The key.
        key: Escaped,
    },
    /// A path has a `..` component.
    #[error("{what} with a `..` component: {value}")]
    Parent {
        /// Whose path.
        what: &'static str,
        /// The path.
        value: Escaped,
    },
    /// A path or link target has a NUL byte.
    #[error("{what} with a NUL byte: {value}")]
    Nul {
        /// Whose.
        what: &'static str,
        /// The bytes.
        value: Escaped,
    },
    /// A link has no target, or the root as target of a hard link.
    #[error("a link without a target")]
    LinkTarget,
    /// The root is something other than a directory.
    #[error("the root is not a directory")]
    Root,
    /// A whiteout names no file.
    #[error("a whiteout of {target:?}")]
    Whiteout {
        /// What follows `.wh.`.
        target: Escaped,
    },
    /// Something lies beneath a whiteout.
    #[error("a path beneath a whiteout")]
    BeneathWhiteout,
    /// A character device 0/0, which overlayfs takes for a whiteout.
    #[error("a character device 0:0, which overlayfs would take for a whiteout")]
    OverlayWhiteout,
    /// An extended attribute that steers overlayfs.
    #[error("extended attribute {name}, which overlayfs would obey")]
    OverlayXattr {
        /// Its name.
        name: Escaped,
    },
    /// An extended attribute's name is empty or too long.
    #[error("extended attribute with a name of {got} bytes, allowed are 1 to 255")]
    XattrName {
        /// Length of the name.
        got: usize,
    },
    /// The two PAX records that can hold an extended attribute say different things.
    #[error("two different values of extended attribute {name}, by SCHILY.xattr and LIBARCHIVE.xattr")]
    XattrsDiffer {
        /// Its name.
        name: Escaped,
    },
    /// The map of a sparse file is malformed or doesn't fit the file.
    #[error("map of a sparse file: {reason}")]
    Sparse {
        /// What is wrong with it.
        reason: SparseFault,
    },
    /// The policy doesn't allow it.
    #[error(transparent)]
    Policy(#[from] Breach),
}

/// What is wrong with the map of a sparse file.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SparseFault {
    /// A number is missing or isn't one.
    #[error("malformed number")]
    Number,
    /// Regions overlap, are out of order or reach past the end of the file.
    #[error("regions out of order or past the end of the file")]
    Order,
    /// The regions add up to another size than the entry stores.
    #[error("regions and stored bytes differ in size")]
    Size,
    /// A region other than the last one isn't a multiple of 512 bytes; readers disagree on what follows it.
    #[error("a region that is no multiple of 512 bytes before the last one")]
    Unaligned,
    /// More regions than are allowed.
    #[error("too many regions")]
    Long,
    /// The records name no version that is known.
    #[error("unknown version")]
    Version,
    /// The entry isn't a regular file.
    #[error("not a regular file")]
    Kind,
}

fn named(path: &Escaped) -> String {
    if path.is_empty() { String::new() } else { format!(", {path}") }
}

fn type_name(flag: u8) -> &'static str {
    match flag {
        b'A' => ": access control list",
        b'D' => ": GNU directory dump",
        b'E' => ": extended attribute file",
        b'I' => ": inode only",
        b'M' => ": continuation of another volume",
        b'N' => ": old GNU long name",
        b'V' => ": GNU volume label",
        _ => "",
    }
}
