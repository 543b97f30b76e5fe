//! Trees whose files name places of their own choosing in segments: very large ones, shared ones and impossible ones.

use crate::support::{self, Mount, plain};
use mvm_image::BLOCK;
use mvm_image::erofs::{AssembleError, ImageOutput, ImageSummary, Reader, Segments, assemble};
use mvm_image::verity::leaf;
use mvm_tree::{Change, Content, Extent, Kind, Merge, Tail, Tree};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

fn content(size: u64, extents: &[(u64, u64, u64)], tail: Option<(u64, u16)>) -> Content {
    let extent = |(file_block, segment_block, count): &_| Extent {
        file_block: *file_block,
        segment_block: *segment_block,
        count: *count,
    };
    let tail = tail.map(|(offset, len)| Tail { offset, len });
    Content { size, extents: extents.iter().map(extent).collect(), tail }
}

/// A tree of one layer with a file `f0`, `f1`, … for each content.
fn tree(contents: &[Content]) -> Tree {
    let mut merge = Merge::new(&support::boundless());
    merge.begin_layer();
    for (number, content) in contents.iter().enumerate() {
        let (path, kind) = (format!("f{number}").into_bytes().into(), Kind::Regular(content.clone()));
        merge.apply(Change::Put { path, attributes: plain(), kind }).expect("the tree is small");
    }
    merge.finish()
}

/// Segments of zero blocks and of tails of `t`.
struct Zeros([u8; 32]);

impl Segments for Zeros {
    fn tail(&mut self, _: u32, tail: Tail, into: &mut Vec<u8>) -> io::Result<()> {
        into.resize(into.len() + usize::from(tail.len), b't');
        Ok(())
    }

    fn leaves(&mut self, _: u32, _: u64, count: u64, into: &mut Vec<u8>) -> io::Result<()> {
        (0..count).for_each(|_| into.extend_from_slice(&self.0));
        Ok(())
    }
}

/// Records copies and leaves holes in their place.
struct Holes<'f> {
    image: &'f File,
    copies: Vec<(u32, u64, u64, u64)>,
}

impl ImageOutput for Holes<'_> {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.image.write_all_at(bytes, offset)
    }

    fn copy_blocks(&mut self, segment: u32, block: u64, count: u64, to: u64) -> io::Result<()> {
        self.copies.push((segment, block, count, to));
        Ok(())
    }
}

type Copies = Vec<(u32, u64, u64, u64)>;

fn image(contents: &[Content]) -> Result<(tempfile::NamedTempFile, ImageSummary, Copies), AssembleError> {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let mut output = Holes { image: file.as_file(), copies: Vec::new() };
    let summary = assemble(&tree(contents), &mut Zeros(leaf(&[0; BLOCK])), &mut output)?;
    let copies = output.copies;
    Ok((file, summary, copies))
}

#[test]
fn a_file_of_5_gib_in_one_piece() {
    let blocks = 5 << 18;
    let contents = [content(blocks * 4096 + 3, &[(0, 7, blocks)], Some((0, 3)))];
    let (file, summary, copies) = image(&contents).unwrap();
    assert_eq!(copies, [(0, 7, blocks, 1)]);
    assert_eq!(summary.data_blocks, blocks + 2);
    support::must("fsck.erofs", &[file.path().to_str().unwrap()]);
    let marks = [0, (4 << 30) - 1, 4 << 30, blocks * 4096 - 1];
    for at in marks {
        file.as_file().write_all_at(b"m", 4096 + at).unwrap();
    }
    let reader = Reader::open(file.as_file()).unwrap();
    let inode = reader.lookup(b"f0").unwrap().unwrap();
    for at in marks {
        assert_eq!(reader.piece(&inode, at).unwrap().place, Some(4096 + at));
    }
    let Some(mount) = Mount::new(file.path()) else { return };
    let mounted = File::open(mount.path().join("f0")).unwrap();
    assert_eq!(mounted.metadata().unwrap().len(), contents[0].size);
    for at in marks {
        let mut byte = [0];
        mounted.read_exact_at(&mut byte, at).unwrap();
        assert_eq!(byte, *b"m", "byte {at}");
    }
    let mut end = [0; 4];
    mounted.read_exact_at(&mut end, blocks * 4096 - 1).unwrap();
    assert_eq!(end, *b"mttt");
}

#[test]
fn each_live_block_is_copied_once_in_order() {
    let contents = [
        content(8192, &[(0, 10, 2)], None),
        content(16384, &[(0, 9, 4)], None),
        content(4096, &[(0, 0, 1)], None),
        content(4096, &[(0, 12, 1)], None),
        content(8192, &[(0, 13, 1), (1, 3, 1)], None),
        content(12288, &[(1, 30, 1)], None),
    ];
    let (file, summary, copies) = image(&contents).unwrap();
    assert_eq!(copies, [(0, 0, 1, 1), (0, 3, 1, 2), (0, 9, 5, 3), (0, 30, 1, 8)]);
    assert_eq!(summary.copied_blocks, 8);
    support::must("fsck.erofs", &[file.path().to_str().unwrap()]);
    let reader = Reader::open(file.as_file()).unwrap();
    let places = |name: &str| {
        let inode = reader.lookup(name.as_bytes()).unwrap().unwrap();
        (0..inode.size() / 4096)
            .map(|block| reader.piece(&inode, block * 4096).unwrap().place.map(|place| place / 4096))
            .collect::<Vec<_>>()
    };
    assert_eq!(places("f0"), [Some(4), Some(5)]);
    assert_eq!(places("f1"), [Some(3), Some(4), Some(5), Some(6)]);
    assert_eq!(places("f2"), [Some(1)]);
    assert_eq!(places("f3"), [Some(6)]);
    assert_eq!(places("f4"), [Some(7), Some(2)]);
    assert_eq!(places("f5"), [None, Some(8), None]);
}

#[test]
fn impossible_places_are_refused() {
    let extent =
        |size, block| format!("\"f0\" of {size} bytes has an impossible extent at file block {block}");
    let tail = |size, len| {
        format!("\"f0\" of {size} bytes has a tail of {len} bytes that does not continue its blocks")
    };
    let max = u64::MAX;
    let cases = [
        (content(4096, &[(0, 0, 2)], None), extent(4096, 0)),
        (content(0, &[(0, 0, 1)], None), extent(0, 0)),
        (content(8192, &[(0, 0, 0)], None), extent(8192, 0)),
        (content(8192, &[(1, 0, 1), (0, 1, 1)], None), extent(8192, 0)),
        (content(8192, &[(0, 0, 2), (1, 5, 1)], None), extent(8192, 1)),
        (content(8192, &[(max, 0, 1)], None), extent(8192, max)),
        (content(8192, &[(0, max, 1)], None), extent(8192, 0)),
        (content(max, &[(0, 0, max)], None), extent(max, 0)),
        (content(100, &[], Some((0, 99))), tail(100, 99)),
        (content(4096, &[], Some((0, 4096))), tail(4096, 4096)),
        (content(4096, &[(0, 0, 1)], Some((0, 0))), tail(4096, 0)),
        (content(3000, &[], Some((0, 3000))), tail(3000, 3000)),
        (content(5000, &[], Some((0, 904))), tail(5000, 904)),
        (content(9000, &[(0, 0, 1)], Some((0, 808))), tail(9000, 808)),
        (
            content(1 << 44, &[(0, 0, 1 << 32)], None),
            "the image needs 4294967297 blocks of 4096 bytes, at most 4294967294 are possible".to_owned(),
        ),
    ];
    for (content, message) in cases {
        assert_eq!(image(std::slice::from_ref(&content)).unwrap_err().to_string(), message, "{content:?}");
    }
}

/// Gives less than it is asked for.
struct Short;

impl Segments for Short {
    fn tail(&mut self, _: u32, _: Tail, _: &mut Vec<u8>) -> io::Result<()> {
        Ok(())
    }

    fn leaves(&mut self, _: u32, _: u64, _: u64, into: &mut Vec<u8>) -> io::Result<()> {
        into.push(0);
        Ok(())
    }
}

#[test]
fn short_segments_are_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut output = Holes { image: file.as_file(), copies: Vec::new() };
    let cases = [
        (content(4096, &[(0, 9, 1)], None), "cannot read the digests of 1 blocks from block 9 of segment 0"),
        (content(5, &[], Some((77, 5))), "cannot read the tail of \"f0\" from byte 77 of segment 0's tails"),
    ];
    for (content, message) in cases {
        let error = assemble(&tree(&[content]), &mut Short, &mut output).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}
