//! The hash of one block.

use super::{DIGEST_LEN, SALT};
use crate::BLOCK;
use sha2::{Digest as _, Sha256};

/// Returns the dm-verity digest of one block: SHA-256 of the salt and then the block.
pub fn leaf(block: &[u8; BLOCK]) -> [u8; DIGEST_LEN] {
    Sha256::new().chain_update(SALT).chain_update(block).finalize().into()
}

/// Appends the digest of each block of `blocks`, a whole number of blocks, to `into`.
pub fn leaves(blocks: &[u8], into: &mut Vec<u8>) {
    let (blocks, rest) = blocks.as_chunks::<BLOCK>();
    debug_assert!(rest.is_empty(), "callers pass whole blocks");
    into.reserve(blocks.len() * DIGEST_LEN);
    for block in blocks {
        into.extend_from_slice(&leaf(block));
    }
}
