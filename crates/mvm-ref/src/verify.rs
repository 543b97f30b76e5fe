//! The checks of what becomes a segment: of a layer its compressed digest, compressed size and diff ID, of a store path the
//! hash and size of its NAR. All are compared only at the end of the stream.

use crate::Digest;
use crate::nix::{NarHash, PathInfo, StorePath};
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

/// Evidence that the NAR of one store path was read to its end and has the hash and size that were expected.
///
/// It says that the bytes are those that somebody described, not that whoever described them is to be trusted. The only
/// constructor is [`NarSide::finish`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedPath {
    path: StorePath,
    nar_hash: NarHash,
    nar_size: u64,
}

/// Evidence for a segment, of whichever of the two checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedSegment {
    key: Digest,
    digest: Digest,
    size: u64,
    stream_size: u64,
}

/// Says in what a store path differs from what was said of it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum VerifyPathError {
    /// The NAR is shorter or longer.
    #[error("the NAR of {path} has {got} bytes, its description says {expected}")]
    Size {
        /// The path.
        path: StorePath,
        /// Its size as described.
        expected: u64,
        /// Bytes seen.
        got: u64,
    },
    /// The NAR hashes to something else.
    #[error("the NAR of {path} has hash {got}, its description says {expected}")]
    Hash {
        /// The path.
        path: StorePath,
        /// Its hash as described.
        expected: NarHash,
        /// The hash of the bytes seen.
        got: NarHash,
    },
}

/// Starts the check of one store path.
pub fn store_path(info: &PathInfo) -> NarSide {
    let expected = VerifiedPath { path: info.path.clone(), nar_hash: info.nar_hash, nar_size: info.nar_size };
    NarSide { expected, hash: Sha256::new(), size: 0 }
}

/// The NAR of a store path's check.
pub struct NarSide {
    expected: VerifiedPath,
    hash: Sha256,
    size: u64,
}

impl NarSide {
    /// Adds bytes as they came from outside.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
    }

    /// Compares size and hash. Call it only when the NAR has been read to its end.
    pub fn finish(self) -> Result<VerifiedPath, VerifyPathError> {
        let VerifiedPath { path, nar_hash, nar_size } = &self.expected;
        let path = || path.clone();
        if self.size != *nar_size {
            return Err(VerifyPathError::Size { path: path(), expected: *nar_size, got: self.size });
        }
        let got = NarHash::from(Digest::from_sha256(self.hash.finalize().into()));
        if got != *nar_hash {
            return Err(VerifyPathError::Hash { path: path(), expected: *nar_hash, got });
        }
        Ok(self.expected)
    }
}

impl VerifiedPath {
    /// Returns the path.
    pub fn path(&self) -> &StorePath {
        &self.path
    }

    /// Returns the hash of its NAR.
    pub fn nar_hash(&self) -> NarHash {
        self.nar_hash
    }

    /// Returns the length of its NAR.
    pub fn nar_size(&self) -> u64 {
        self.nar_size
    }
}

impl VerifiedSegment {
    /// Returns what the store knows the segment by: a layer's diff ID, or a path's [`PathInfo::segment_key`].
    pub fn key(&self) -> Digest {
        self.key
    }

    /// Returns the digest of the bytes as they came.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns how many bytes came.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the length of the uncompressed stream.
    pub fn stream_size(&self) -> u64 {
        self.stream_size
    }
}

impl From<&VerifiedLayer> for VerifiedSegment {
    fn from(layer: &VerifiedLayer) -> Self {
        let Expected { digest, size, diff_id } = layer.expected;
        Self { key: diff_id, digest, size, stream_size: layer.tar_size }
    }
}

impl From<&VerifiedPath> for VerifiedSegment {
    fn from(path: &VerifiedPath) -> Self {
        let key = crate::nix::segment_key(&path.path, &path.nar_hash);
        Self { key, digest: path.nar_hash.digest(), size: path.nar_size, stream_size: path.nar_size }
    }
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
