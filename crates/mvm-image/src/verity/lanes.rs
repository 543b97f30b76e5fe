//! SHA-256 of two messages of equal length at a time, with the SHA instructions of x86-64.
//!
//! One message leaves the SHA unit idle most of the time, as each round waits for the one before; two keep it busy,
//! which is nearly twice as fast. The instructions' use follows their description in Intel's Software Developer's
//! Manual, the algorithm is that of FIPS 180-4.

use super::{DIGEST_LEN, SALT};
use crate::BLOCK;
use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_cvtsi128_si64, _mm_set_epi64x, _mm_sha256msg1_epu32,
    _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8, _mm_shuffle_epi32, _mm_unpackhi_epi64,
};
use std::array::from_fn;

/// Bytes that SHA-256 compresses at a time.
const CHUNK: usize = 64;

/// The first chunk ends, and the last begins, in the middle of the salt and the block.
const SPLIT: usize = CHUNK - SALT.len();

/// The initial hash value (FIPS 180-4, 5.3.3).
const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// The round constants (FIPS 180-4, 4.2.2).
#[rustfmt::skip]
const ROUNDS: [[u32; 4]; 16] = [
    [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5], [0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5],
    [0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3], [0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174],
    [0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc], [0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da],
    [0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7], [0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967],
    [0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13], [0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85],
    [0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3], [0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070],
    [0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5], [0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3],
    [0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208], [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2],
];

/// Returns the digests of two blocks, salted, or nothing where the processor has no SHA instructions.
pub(super) fn leaf_pair(blocks: [&[u8; BLOCK]; 2]) -> Option<[[u8; DIGEST_LEN]; 2]> {
    if !is_x86_feature_detected!("sha")
        || !is_x86_feature_detected!("sse4.1")
        || !is_x86_feature_detected!("ssse3")
    {
        return None;
    }
    // SAFETY: the function is safe but for needing the features that were just found; SSE2 is part of x86-64.
    #[expect(unsafe_code, reason = "a function with target features can be called only so")]
    let digests = unsafe { digests(blocks) };
    Some(digests)
}

#[target_feature(enable = "sha,sse4.1,ssse3")]
fn digests(blocks: [&[u8; BLOCK]; 2]) -> [[u8; DIGEST_LEN]; 2] {
    let mut lanes = [Lane::new(), Lane::new()];
    compress(&mut lanes, from_fn(|lane| joined(&SALT, &blocks[lane][..SPLIT])).each_ref());
    let (first, rest) = (blocks[0][SPLIT..].as_chunks::<CHUNK>(), blocks[1][SPLIT..].as_chunks::<CHUNK>());
    for (one, other) in first.0.iter().zip(rest.0) {
        compress(&mut lanes, [one, other]);
    }
    // What is left of the block, one bit, zeros, and the length of the message in bits.
    let mut padding = [0; SPLIT];
    padding[0] = 0x80;
    let bits = 8 * (SALT.len() + BLOCK) as u64;
    padding[SPLIT - 8..].copy_from_slice(&bits.to_be_bytes());
    compress(&mut lanes, from_fn(|lane| joined(&blocks[lane][BLOCK - SPLIT..], &padding)).each_ref());
    lanes.map(|lane| lane.digest())
}

fn joined(head: &[u8], tail: &[u8]) -> [u8; CHUNK] {
    let mut chunk = [0; CHUNK];
    chunk[..head.len()].copy_from_slice(head);
    chunk[head.len()..].copy_from_slice(tail);
    chunk
}

/// The hash value of one message so far, in the order that the instructions need.
#[derive(Clone, Copy)]
struct Lane {
    /// Words a, b, e, f, from the highest.
    abef: __m128i,
    /// Words c, d, g, h, from the highest.
    cdgh: __m128i,
}

impl Lane {
    #[target_feature(enable = "sse2")]
    fn new() -> Self {
        let [a, b, c, d, e, f, g, h] = INITIAL;
        Self { abef: words([f, e, b, a]), cdgh: words([h, g, d, c]) }
    }

    #[target_feature(enable = "sse2")]
    fn digest(self) -> [u8; DIGEST_LEN] {
        let [f, e, b, a] = split(self.abef);
        let [h, g, d, c] = split(self.cdgh);
        let mut digest = [0; DIGEST_LEN];
        for (place, word) in digest.as_chunks_mut::<4>().0.iter_mut().zip([a, b, c, d, e, f, g, h]) {
            *place = word.to_be_bytes();
        }
        digest
    }
}

/// Compresses the next chunk of each message.
#[target_feature(enable = "sha,sse4.1,ssse3")]
#[inline]
fn compress(lanes: &mut [Lane; 2], chunks: [&[u8; CHUNK]; 2]) {
    let before = *lanes;
    // The four vectors of the message schedule that the next ones follow from, in a ring.
    let mut schedules = [load(chunks[0]), load(chunks[1])];
    let (groups, _) = ROUNDS.as_chunks::<4>();
    for (number, group) in groups.iter().enumerate() {
        if number == 0 {
            rounds::<0, true>(lanes, &mut schedules, group);
            rounds::<1, true>(lanes, &mut schedules, group);
            rounds::<2, true>(lanes, &mut schedules, group);
            rounds::<3, true>(lanes, &mut schedules, group);
        } else {
            rounds::<0, false>(lanes, &mut schedules, group);
            rounds::<1, false>(lanes, &mut schedules, group);
            rounds::<2, false>(lanes, &mut schedules, group);
            rounds::<3, false>(lanes, &mut schedules, group);
        }
    }
    for (lane, before) in lanes.iter_mut().zip(before) {
        lane.abef = _mm_add_epi32(lane.abef, before.abef);
        lane.cdgh = _mm_add_epi32(lane.cdgh, before.cdgh);
    }
}

/// Does four rounds of each lane. Constant places in the ring keep it in registers.
#[target_feature(enable = "sha,sse4.1,ssse3")]
#[inline]
fn rounds<const NOW: usize, const FIRST: bool>(
    lanes: &mut [Lane; 2],
    schedules: &mut [[__m128i; 4]; 2],
    constants: &[[u32; 4]; 4],
) {
    for (lane, w) in lanes.iter_mut().zip(schedules) {
        if !FIRST {
            let last = w[(NOW + 3) % 4];
            let sum = _mm_add_epi32(
                _mm_sha256msg1_epu32(w[NOW], w[(NOW + 1) % 4]),
                _mm_alignr_epi8::<4>(last, w[(NOW + 2) % 4]),
            );
            w[NOW] = _mm_sha256msg2_epu32(sum, last);
        }
        let sum = _mm_add_epi32(w[NOW], words(constants[NOW]));
        lane.cdgh = _mm_sha256rnds2_epu32(lane.cdgh, lane.abef, sum);
        lane.abef = _mm_sha256rnds2_epu32(lane.abef, lane.cdgh, _mm_shuffle_epi32::<0x0e>(sum));
    }
}

/// Returns the 16 big-endian words of a chunk.
#[target_feature(enable = "ssse3")]
#[inline]
fn load(chunk: &[u8; CHUNK]) -> [__m128i; 4] {
    let swap = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
    let (halves, _) = chunk.as_chunks::<8>();
    let half = |at: usize| i64::from_le_bytes(halves[at]);
    from_fn(|at| _mm_shuffle_epi8(_mm_set_epi64x(half(2 * at + 1), half(2 * at)), swap))
}

/// Returns a vector of words, the lowest first.
#[target_feature(enable = "sse2")]
#[inline]
fn words(words: [u32; 4]) -> __m128i {
    let pair = |low: u32, high: u32| (u64::from(high) << 32 | u64::from(low)) as i64;
    _mm_set_epi64x(pair(words[2], words[3]), pair(words[0], words[1]))
}

/// Returns the words of a vector, the lowest first.
#[target_feature(enable = "sse2")]
fn split(vector: __m128i) -> [u32; 4] {
    let low = _mm_cvtsi128_si64(vector) as u64;
    let high = _mm_cvtsi128_si64(_mm_unpackhi_epi64(vector, vector)) as u64;
    [low as u32, (low >> 32) as u32, high as u32, (high >> 32) as u32]
}
