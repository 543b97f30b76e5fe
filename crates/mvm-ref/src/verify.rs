//! The check of a layer: compressed digest, compressed size and diff ID, compared only at the end of the stream.

use crate::Digest;
use sha2::{Digest as _, Sha256};

/// What the manifest and the config say about one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Digest of the bytes as stored in the registry (the descriptor's digest).
    pub digest: Digest,
    /// Length of those bytes.
    pub size: u64,
    /// Digest of the uncompressed tar stream.
    pub diff_id: Digest,
}

/// Evidence that one layer's stream was read to its end and matched its manifest and config.
///
/// The only constructor is [`CompressedSide::finish`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedLayer {
    expected: Expected,
    tar_size: u64,
}

/// Says in what a layer differs from its manifest or config.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum VerifyError {
    /// The stored bytes are shorter or longer than the descriptor says.
    #[error("layer {digest} has {got} bytes, its descriptor says {expected}")]
    Size {
        /// The descriptor's digest.
        digest: Digest,
        /// The descriptor's size.
        expected: u64,
        /// Bytes seen.
        got: u64,
    },
    /// The stored bytes hash to something else.
    #[error("layer {expected} has digest {got}")]
    Digest {
        /// The descriptor's digest.
        expected: Digest,
        /// Digest of the bytes seen.
        got: Digest,
    },
    /// The uncompressed stream hashes to something else than the config's diff ID.
    #[error("layer {digest} unpacks to {got}, the image config says diff ID {expected}")]
    DiffId {
        /// The descriptor's digest.
        digest: Digest,
        /// The config's diff ID.
        expected: Digest,
        /// Digest of the uncompressed bytes seen.
        got: Digest,
    },
}

/// Starts the check of one layer; the two sides may be fed from two threads.
pub fn layer(expected: Expected) -> (CompressedSide, TarSide) {
    (CompressedSide { expected, hash: Sha256::new(), size: 0 }, TarSide { hash: Sha256::new(), size: 0 })
}

/// The stored side of a layer's check.
pub struct CompressedSide {
    expected: Expected,
    hash: Sha256,
    size: u64,
}

/// The uncompressed side of a layer's check.
pub struct TarSide {
    hash: Sha256,
    size: u64,
}

impl CompressedSide {
    /// Adds bytes as they came from outside.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
    }

    /// Compares size, digest and diff ID. Call it only when both streams have been read to their ends.
    pub fn finish(self, tar: TarSide) -> Result<VerifiedLayer, VerifyError> {
        let Expected { digest, size, diff_id } = self.expected;
        if self.size != size {
            return Err(VerifyError::Size { digest, expected: size, got: self.size });
        }
        let got = Digest::from_sha256(self.hash.finalize().into());
        if got != digest {
            return Err(VerifyError::Digest { expected: digest, got });
        }
        let got = Digest::from_sha256(tar.hash.finalize().into());
        if got != diff_id {
            return Err(VerifyError::DiffId { digest, expected: diff_id, got });
        }
        Ok(VerifiedLayer { expected: self.expected, tar_size: tar.size })
    }
}

impl TarSide {
    /// Adds uncompressed bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
    }
}

impl VerifiedLayer {
    /// Returns the digest of the stored bytes.
    pub fn digest(&self) -> Digest {
        self.expected.digest
    }

    /// Returns the digest of the uncompressed stream.
    pub fn diff_id(&self) -> Digest {
        self.expected.diff_id
    }

    /// Returns the length of the stored bytes.
    pub fn size(&self) -> u64 {
        self.expected.size
    }

    /// Returns the length of the uncompressed stream.
    pub fn tar_size(&self) -> u64 {
        self.tar_size
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
