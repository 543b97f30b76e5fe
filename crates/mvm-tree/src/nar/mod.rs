//! Reads a Nix archive (NAR): one file, link or directory, in the one spelling that each has.
//!
//! Source: E. Dolstra, "The Purely Functional Software Deployment Model", figure 5.2; the Nix manual, "Nix Archive (NAR) format".
//!
//! A NAR says nothing of owners, times and most permissions: everything belongs to root, was last changed in the first second of
//! 1970, and may be read by all, as in a Nix store.

mod error;
mod input;
mod reader;

#[cfg(test)]
mod tests;

pub use error::{NarError, NarRefusal};
pub use reader::read_nar;

/// What a NAR held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NarSummary {
    /// Files, links and directories.
    pub entries: u64,
    /// Bytes of files.
    pub data_bytes: u64,
    /// Length of the NAR.
    pub nar_bytes: u64,
}
