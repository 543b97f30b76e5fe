//! Single bits flipped all over an image: each is found, and in its block.

use crate::shapes::every_kind;
use crate::support::*;
use mvm_image::BLOCK;
use mvm_image::verity::{Expected, Geometry, VerifyError, verify};
use std::collections::BTreeMap;

const FLIPS: usize = 10_000;

/// What the bytes of a block are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Region {
    FileSystemSuperblock,
    /// File data and metadata, which begin and end in any block.
    Data,
    VeritySuperblock,
    /// A level of the hash tree, 0 for the leaves.
    Hashes(usize),
}

fn region(geometry: &Geometry, block: u64) -> Region {
    let within =
        |level: &mvm_image::verity::Level| (level.start..level.start + level.blocks).contains(&block);
    match geometry.levels.iter().position(within) {
        Some(level) => Region::Hashes(level),
        None if block == 0 => Region::FileSystemSuperblock,
        None if block < geometry.data_blocks => Region::Data,
        None => {
            assert_eq!(block, geometry.data_blocks);
            Region::VeritySuperblock
        }
    }
}

#[test]
fn ten_thousand_flipped_bits() {
    // Enough data for two levels of hashes.
    let mut layers = every_kind();
    layers[1].push(file("noise", vec![Piece::Noise(99, 400_000)]));
    let built = build(&layers);
    let bytes = std::fs::read(&built.image).unwrap();
    let expected = Expected { root_hash: built.summary.root_hash, data_blocks: built.summary.data_blocks };
    let geometry = Geometry::new(expected.data_blocks);
    assert_eq!((geometry.levels.len(), geometry.size()), (2, bytes.len() as u64));
    verify(&bytes, &expected).unwrap();

    // Evenly over the whole file, each at a place of its own within its stretch.
    let bits = bytes.len() * 8;
    let mut random = Random(7);
    let flips: Vec<usize> = (0..FLIPS)
        .map(|number| {
            let [start, end] = [number, number + 1].map(|number| number * bits / FLIPS);
            start + random.below((end - start) as u64) as usize
        })
        .collect();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let found: Vec<BTreeMap<Region, usize>> = std::thread::scope(|scope| {
        let work = |flips: &[usize]| {
            let mut copy = bytes.clone();
            let mut found = BTreeMap::new();
            for &bit in flips {
                let (at, mask) = (bit / 8, 1 << (bit % 8));
                copy[at] ^= mask;
                let error = verify(&copy, &expected).expect_err("a flipped bit was not found");
                copy[at] ^= mask;
                let region = region(&geometry, (at / BLOCK) as u64);
                check(&error, at, region);
                *found.entry(region).or_insert(0) += 1;
            }
            verify(&copy, &expected).unwrap();
            found
        };
        let parts = flips.chunks(FLIPS.div_ceil(workers));
        let threads: Vec<_> = parts.map(|part| scope.spawn(move || work(part))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut total = BTreeMap::new();
    for (region, count) in found.into_iter().flatten() {
        *total.entry(region).or_insert(0) += count;
    }
    assert_eq!(total.values().sum::<usize>(), FLIPS);
    let regions: Vec<Region> = total.keys().copied().collect();
    let all = [
        Region::FileSystemSuperblock,
        Region::Data,
        Region::VeritySuperblock,
        Region::Hashes(0),
        Region::Hashes(1),
    ];
    assert_eq!(regions, all);
    // Superblocks are mostly padding, and so is the only block at the top.
    assert!(total.values().all(|count| *count > 20), "{total:?}");
}

/// Checks that an error is about the byte that was changed: itself or its block.
fn check(error: &VerifyError, at: usize, region: Region) {
    let block = (at / BLOCK * BLOCK) as u64;
    let (found, place) = match *error {
        VerifyError::Superblock { offset } => (Region::VeritySuperblock, (offset, at as u64)),
        VerifyError::HashBlock { level, offset, .. } => (Region::Hashes(level), (offset, block)),
        VerifyError::DataBlock { offset: 0, .. } => (Region::FileSystemSuperblock, (0, block)),
        VerifyError::DataBlock { offset, .. } => (Region::Data, (offset, block)),
        _ => panic!("byte {at}: {error}"),
    };
    assert_eq!((found, place.0), (region, place.1), "byte {at}: {error}");
}
