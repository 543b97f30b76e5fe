//! Why a NAR can't be read.

use crate::{Breach, Escaped};
use std::io;

/// Why reading a NAR stopped; `E` is the sink's error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NarError<E: std::error::Error + 'static> {
    /// The input failed.
    #[error("read the NAR at byte {offset}")]
    Read {
        /// Bytes of the NAR read before.
        offset: u64,
        /// What the input says.
        source: io::Error,
    },
    /// The NAR is malformed, not canonical or not allowed.
    #[error("read the NAR at byte {offset}, in {path}")]
    Refused {
        /// Where what is refused begins.
        offset: u64,
        /// The file, link or directory that it is in.
        path: Escaped,
        /// Why.
        source: NarRefusal,
    },
    /// The sink failed.
    #[error("store {path}, at byte {offset} of the NAR")]
    Store {
        /// Bytes of the NAR read before.
        offset: u64,
        /// The file, link or directory.
        path: Escaped,
        /// What the sink says.
        source: E,
    },
}

/// What is wrong with a NAR.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum NarRefusal {
    /// The NAR ends too early.
    #[error("the NAR ends here, {missing} or more bytes early")]
    Truncated {
        /// Bytes that should have followed, at least.
        missing: u64,
    },
    /// A word that the format wants here isn't there.
    #[error("expected {expected}, got {got:?}")]
    Word {
        /// The words that may stand here.
        expected: &'static str,
        /// What stands here.
        got: Escaped,
    },
    /// A word is longer than any that the format has.
    #[error("expected {expected}, got {got} bytes")]
    Length {
        /// What may stand here.
        expected: &'static str,
        /// Its length.
        got: u64,
    },
    /// What fills up a text to eight bytes is not zero.
    #[error("the padding of a text of {length} bytes is not zero")]
    Padding {
        /// The length of the text.
        length: u64,
    },
    /// A name is none.
    #[error("{name:?} can't be the name of a directory's entry")]
    Name {
        /// The name.
        name: Escaped,
    },
    /// Entries are not in the order of their bytes.
    #[error("entry {name:?} comes after {before:?}; the entries of a directory are in order of their bytes")]
    Order {
        /// The name.
        name: Escaped,
        /// The name before it.
        before: Escaped,
    },
    /// A directory has a name twice.
    #[error("entry {name:?} comes twice")]
    Twice {
        /// The name.
        name: Escaped,
    },
    /// A link's target is empty or has a NUL byte.
    #[error("a link to {target:?}")]
    Target {
        /// The target.
        target: Escaped,
    },
    /// The policy doesn't allow it.
    #[error(transparent)]
    Policy(#[from] Breach),
}
