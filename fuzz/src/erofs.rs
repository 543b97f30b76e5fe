//! The reader of images on damaged ones: within bounds, and the same each time.

use std::io::Read as _;
use std::sync::LazyLock;

use mvm_image::BLOCK;
use mvm_image::erofs::{FileInode, InodeKind, ReadError, Reader};

use crate::{changes, image};

/// Most names that are looked at.
const NAMES: usize = 2000;

/// Most bytes of one file that are read.
const BYTES: u64 = 256 << 10;

/// Inputs for [`changes::layers`] whose images are damaged here.
pub const RECIPES: [&[u8]; 4] = [
    b"",
    // A directory, files with and without tails and holes, a symbolic link, a hard link, devices.
    &[
        6, 0, 0x85, 1, 255, 1, 1, 1, 2, 1, 0, 1, 2, 2, 2, 5, 0x81, 2, 0xff, 1, 2, 3, 3, 1, 8, 200, 4, 9, 2,
        4, 5, 0, 10, 0, 8, 15, 4, 3, 1, 1, 0,
    ],
    // A directory of several blocks.
    &[1, 0, 150, 40, 9, 4, 0, 4],
    // Shared attributes, a long target, names of every kind.
    &[
        2, 0x83, 5, 6, 7, 8, 0x90, 3, 0xff, 4, 5, 6, 1, 4, 3, 2, 0x82, 9, 10, 11, 0x91, 3, 0xff, 4, 5, 6, 1,
        5, 3, 9, 4, 0, 4, 0,
    ],
];

/// The images that inputs start from.
static BASES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let image =
        |recipe: &&[u8]| image::build(&changes::layers(recipe), &changes::limits()).map(|built| built.bytes);
    RECIPES.iter().filter_map(image).collect()
});

/// Reads an image. The first byte chooses what the rest is: 255 says an image as it is, others an image of ours with
/// changes: a place (three bytes, little-endian, modulo its length), a count and as many bytes, again and again.
///
/// Whatever there is is read as it is and with the right checksum.
pub fn body(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let mut image = match kind {
        255 => rest.to_vec(),
        kind => damaged(&BASES[usize::from(*kind) % BASES.len()], rest),
    };
    let first = look(&image);
    assert_eq!(look(&image), first, "the same image, another reading");
    if first.is_none() && image.len() >= BLOCK {
        repair(&mut image);
        assert_eq!(look(&image), look(&image), "the same image, another reading");
    }
}

/// Applies changes to an image.
pub fn damaged(base: &[u8], mut changes: &[u8]) -> Vec<u8> {
    let mut image = base.to_vec();
    while let Some(([low, middle, high, count], rest)) = changes.split_first_chunk::<4>() {
        let bytes = &rest[..rest.len().min(usize::from(*count))];
        let place = u32::from_le_bytes([*low, *middle, *high, 0]) as usize % image.len();
        let end = image.len().min(place + bytes.len());
        image[place..end].copy_from_slice(&bytes[..end - place]);
        changes = &rest[bytes.len()..];
    }
    image
}

/// Puts the right checksum into a superblock.
fn repair(image: &mut [u8]) {
    const CHECKSUM: std::ops::Range<usize> = 1028..1032;
    image[CHECKSUM].fill(0);
    let sum = crc(&image[1024..BLOCK]);
    image[CHECKSUM].copy_from_slice(&sum.to_le_bytes());
}

/// CRC-32C as EROFS has it: started with all ones and not inverted at the end.
fn crc(bytes: &[u8]) -> u32 {
    let step = |sum: u32, byte: &u8| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg()))
    };
    bytes.iter().fold(!0, step)
}

/// What was read of an image: names, inodes, and the first bytes of files; nothing if it does not open.
type Seen = Vec<(Vec<u8>, String, Vec<u8>)>;

fn look(image: &[u8]) -> Option<(Seen, Option<String>)> {
    let reader = Reader::open(image).ok()?;
    let mut seen = Vec::new();
    for item in reader.walk().take(NAMES) {
        match item.and_then(|(path, inode)| Ok((path, read(&reader, &inode)?, inode))) {
            Ok((path, bytes, inode)) => {
                for name in path.split(|byte| *byte == b'/').filter(|_| !path.is_empty()) {
                    assert!(!name.is_empty() && name != b"." && name != b".." && !name.contains(&0));
                }
                seen.push((path, format!("{inode:?}"), bytes));
            }
            Err(error) => return Some((seen, Some(error.to_string()))),
        }
    }
    Some((seen, None))
}

fn read(reader: &Reader<&[u8]>, inode: &FileInode) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    match inode.kind() {
        InodeKind::Regular => {
            let mut at = 0;
            // A file of holes may be huge; only so many of its pieces are looked at.
            for _ in 0..64 {
                if at >= inode.size() {
                    break;
                }
                let piece = reader.piece(inode, at)?;
                assert!(piece.len > 0 && piece.len <= inode.size() - at, "{piece:?} at {at}");
                let end = reader.blocks() * BLOCK as u64;
                assert!(piece.place.is_none_or(|place| place + piece.len <= end), "{piece:?} after {end}");
                at += piece.len;
            }
            let result = reader.data(inode).take(BYTES).read_to_end(&mut bytes);
            let expected = inode.size().min(BYTES);
            assert!(result.is_err() || bytes.len() as u64 == expected, "{} of {expected} bytes", bytes.len());
        }
        InodeKind::Symlink(target) => assert!(!target.is_empty() && target.len() as u64 == inode.size()),
        _ => {}
    }
    Ok(bytes)
}
