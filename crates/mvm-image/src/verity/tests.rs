use super::*;
use crate::BLOCK;
use mvm_ref::Digest;
use std::io;

/// Builds data and its tree in memory; block `n` is filled with the low byte of `n` plus one.
fn image(data_blocks: u64) -> (Vec<u8>, Expected) {
    let mut file: Vec<u8> = (0..data_blocks)
        .flat_map(|block| std::iter::repeat_n((block as u8).wrapping_add(1), BLOCK))
        .collect();
    let data = file.clone();
    let (root_hash, geometry) =
        hash_data(data.as_slice(), data_blocks, &mut |offset, bytes| write(&mut file, offset, bytes))
            .unwrap();
    assert_eq!(file.len() as u64, geometry.size());
    (file, Expected { root_hash, data_blocks })
}

fn write(file: &mut Vec<u8>, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let end = offset as usize + bytes.len();
    file.resize(file.len().max(end), 0);
    file[offset as usize..end].copy_from_slice(bytes);
    Ok(())
}

#[test]
fn salt_and_uuid_are_derived_as_documented() {
    assert_eq!(SALT, *Digest::of(b"mvm image format 1: dm-verity salt").as_bytes());
    assert_eq!(UUID, Digest::of(b"mvm image format 1: dm-verity uuid").as_bytes()[..16]);
}

#[test]
fn a_leaf_is_the_hash_of_salt_and_block() {
    let blocks: Vec<u8> = (0..5 * BLOCK).map(|at| (at * 7 / 3) as u8).collect();
    let expected: Vec<u8> = blocks
        .chunks(BLOCK)
        .flat_map(|block| *Digest::of(&[SALT.as_slice(), block].concat()).as_bytes())
        .collect();
    let mut got = Vec::new();
    leaves(&blocks, &mut got);
    assert_eq!(got, expected);
    assert_eq!(leaf(blocks.first_chunk().unwrap()), expected[..32]);
}

#[test]
fn levels_lie_top_first() {
    let level = |start, blocks, entries| Level { start, blocks, entries };
    let cases = [
        (1, vec![], 2),
        (2, vec![level(3, 1, 2)], 4),
        (128, vec![level(129, 1, 128)], 130),
        (129, vec![level(131, 2, 129), level(130, 1, 2)], 133),
        (16385, vec![level(16389, 129, 16385), level(16387, 2, 129), level(16386, 1, 2)], 16518),
    ];
    for (data_blocks, levels, total_blocks) in cases {
        assert_eq!(Geometry::new(data_blocks), Geometry { data_blocks, levels, total_blocks });
    }
}

#[test]
fn a_built_tree_verifies() {
    for data_blocks in [1, 2, 127, 128, 129, 255, 256, 257, 16384, 16385] {
        let (file, expected) = image(data_blocks);
        verify(&file, &expected).unwrap();
    }
}

#[test]
fn every_flipped_byte_is_found_where_it_is() {
    let (mut file, expected) = image(130);
    let geometry = Geometry::new(130);
    let superblock = geometry.hash_start() as usize..geometry.hash_start() as usize + BLOCK;
    for block in [0, 1, 128, 129, 130, 131, 132, 133] {
        for at in (block * BLOCK..(block + 1) * BLOCK).step_by(if block == 130 { 1 } else { 97 }) {
            file[at] ^= 0x10;
            let error = verify(&file, &expected).unwrap_err();
            file[at] ^= 0x10;
            let offset = (block * BLOCK) as u64;
            match error {
                VerifyError::Superblock { offset } => {
                    assert!(superblock.contains(&at) && offset == at as u64);
                }
                VerifyError::HashBlock { level, block: number, offset: found } => {
                    let start = geometry.levels[level].start;
                    assert_eq!((start + number, found), (block as u64, offset));
                    assert!(at >= superblock.end);
                }
                VerifyError::DataBlock { block: number, offset: found } => {
                    assert_eq!((number, found), (block as u64, offset));
                    assert!(at < superblock.start);
                }
                other => panic!("byte {at}: {other}"),
            }
        }
    }
    verify(&file, &expected).unwrap();
}

#[test]
fn every_single_byte_of_a_small_image_counts() {
    let (mut file, expected) = image(3);
    for at in 0..file.len() {
        file[at] ^= 1;
        assert!(verify(&file, &expected).is_err(), "byte {at}");
        file[at] ^= 1;
    }
}

#[test]
fn the_first_of_several_bad_blocks_is_named() {
    let (mut file, expected) = image(3000);
    for block in [2999, 700, 2000] {
        file[block * BLOCK + 5] ^= 1;
    }
    let error = verify(&file, &expected).unwrap_err();
    assert_eq!(error.to_string(), "data block 700 (byte 2867200) is corrupted");
}

#[test]
fn length_and_root_are_compared() {
    let (mut file, expected) = image(3);
    let wrong = Expected { root_hash: Digest::of(b""), ..expected };
    let error = verify(&file, &wrong).unwrap_err();
    assert_eq!(error.to_string(), "verity hash block 0 of level 0 (byte 16384) is corrupted");
    file.push(0);
    let error = verify(&file, &expected).unwrap_err();
    assert_eq!(error.to_string(), "the image has 20481 bytes, expected 20480");
    file.truncate(20479);
    let error = verify(&file, &expected).unwrap_err();
    assert_eq!(error.to_string(), "the image has 20479 bytes, expected 20480");
    let error = verify(&file, &Expected { data_blocks: 0, ..expected }).unwrap_err();
    assert_eq!(error.to_string(), "an image can't have 0 data blocks");
}

#[test]
fn a_tree_takes_exactly_its_leaves() {
    let mut sink = |_: u64, _: &[u8]| Ok(());
    let mut tree = TreeBuilder::new(2);
    tree.push(&[0; 32], &mut sink).unwrap();
    let error = tree.finish(&mut sink).unwrap_err();
    assert_eq!(error.to_string(), "expected the digests of 2 data blocks, got 1");
    let mut tree = TreeBuilder::new(2);
    let error = tree.push(&[0; 96], &mut sink).unwrap_err();
    assert_eq!(error.to_string(), "expected the digests of 2 data blocks, got 3");
}
