//! Names (digest, reference, platform, scope, VM name) and the documents that carry them, parsed.
//! Pure: nothing here opens a file or a socket.

mod digest;
mod name;
mod platform;
pub mod verify;

pub use digest::{Digest, DigestError};
pub use name::{NameError, ScopeName, VmName};
pub use platform::{Platform, PlatformError};
pub use verify::VerifiedLayer;
