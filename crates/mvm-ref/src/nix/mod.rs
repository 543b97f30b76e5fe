//! Names and documents of Nix: store paths, hashes, what a store knows of its paths, signatures.
//!
//! Source: the Nix manual, "Store Path Specification", "Nix Archive" and "JSON formats"; what differs between versions was read
//! off Nix 2.8 and 2.26.

mod base32;
mod closure;
mod content_address;
mod hash;
mod path_info;
mod signature;
mod store_path;

pub use closure::{Closure, ClosureError, MAX_CLOSURE_DOCUMENT, MAX_CLOSURE_PATHS};
pub use content_address::{ContentAddress, ContentAddressError, ContentHash};
pub use hash::{NarHash, NarHashError};
pub use path_info::PathInfo;
pub(crate) use path_info::segment_key;
pub use signature::{NixPublicKey, NixPublicKeyError, NixSignature, NixSignatureError, verify_signature};
pub use store_path::{STORE, StorePath, StorePathError};

#[cfg(test)]
mod tests;
