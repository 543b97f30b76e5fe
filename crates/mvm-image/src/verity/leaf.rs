//! The hash of one block, and of many.

use super::{DIGEST_LEN, SALT};
use crate::BLOCK;
use sha2::{Digest as _, Sha256};

/// Returns the dm-verity digest of one block: SHA-256 of the salt and then the block.
pub fn leaf(block: &[u8; BLOCK]) -> [u8; DIGEST_LEN] {
    Sha256::new().chain_update(SALT).chain_update(block).finalize().into()
}

/// Appends the digest of each block of `blocks`, a whole number of blocks, to `into`.
///
/// Much faster than one [`leaf`] after the other where the processor can hash two blocks at a time.
pub fn leaves(blocks: &[u8], into: &mut Vec<u8>) {
    let (blocks, rest) = blocks.as_chunks::<BLOCK>();
    debug_assert!(rest.is_empty(), "callers pass whole blocks");
    into.reserve(blocks.len() * DIGEST_LEN);
    let (pairs, last) = blocks.as_chunks::<2>();
    for [one, other] in pairs {
        into.extend_from_slice(leaf_pair(one, other).as_flattened());
    }
    for block in last {
        into.extend_from_slice(&leaf(block));
    }
}

fn leaf_pair(one: &[u8; BLOCK], other: &[u8; BLOCK]) -> [[u8; DIGEST_LEN]; 2] {
    #[cfg(target_arch = "x86_64")]
    if let Some(digests) = super::lanes::leaf_pair([one, other]) {
        return digests;
    }
    [leaf(one), leaf(other)]
}
