use super::*;
use crate::{BLOCK, GENERATION, verity};
use mvm_tree::{Attributes, Change, Content, Extent, Kind, LayerSink, Tail, Timestamp, Xattr};
use std::convert::Infallible;

#[derive(Debug, Default, PartialEq)]
struct Segment {
    data: Vec<u8>,
    tails: Vec<u8>,
    leaves: Vec<u8>,
    index: Vec<u8>,
}

/// Writes a segment with `fill`; checks that the leaves are those of the data and the counts are right.
fn segment<T>(
    fill: impl FnOnce(&mut SegmentWriter<&mut Vec<u8>>) -> Result<T, SegmentError>,
) -> Result<(T, Segment), SegmentError> {
    let mut segment = Segment::default();
    let Segment { data, tails, leaves, index } = &mut segment;
    let mut writer = SegmentWriter::new(data, tails, leaves, index)?;
    let result = fill(&mut writer)?;
    let summary = writer.finish()?;
    let mut leaves = Vec::new();
    verity::leaves(&segment.data, &mut leaves);
    assert_eq!(segment.leaves, leaves);
    assert_eq!((summary.blocks * 4096) as usize, segment.data.len());
    assert_eq!(summary.tail_bytes as usize, segment.tails.len());
    Ok((result, segment))
}

fn file(bytes: &[u8], split: usize) -> (Content, Segment) {
    segment(|writer| {
        writer.begin(bytes.len() as u64)?;
        for part in bytes.chunks(split) {
            writer.data(part)?;
        }
        writer.end()
    })
    .unwrap()
}

/// The bytes that a content's places stand for.
fn resolve(content: &Content, segment: &Segment) -> Vec<u8> {
    let mut bytes = vec![0; content.size.next_multiple_of(4096) as usize];
    for extent in &content.extents {
        let [to, from, len] =
            [extent.file_block, extent.segment_block, extent.count].map(|blocks| blocks as usize * BLOCK);
        bytes[to..to + len].copy_from_slice(&segment.data[from..from + len]);
    }
    assert!(bytes[content.size as usize..].iter().all(|byte| *byte == 0));
    bytes.truncate(content.size as usize);
    if let Some(tail) = content.tail {
        let start = bytes.len() - usize::from(tail.len);
        let from = tail.offset as usize;
        bytes[start..].copy_from_slice(&segment.tails[from..from + usize::from(tail.len)]);
    }
    bytes
}

/// Builds a file from pieces: how many bytes, and with what.
fn bytes(pieces: &[(usize, u8)]) -> Vec<u8> {
    pieces.iter().flat_map(|(count, byte)| std::iter::repeat_n(*byte, *count)).collect()
}

const UNIT: usize = HOLE_UNIT as usize * BLOCK;

#[test]
fn bytes_become_blocks_tails_and_holes() {
    let extent = |file_block, segment_block, count| Extent { file_block, segment_block, count };
    let tail = |len| Some(Tail { offset: 0, len });
    type Case<'a> = (&'a [(usize, u8)], &'a [Extent], Option<Tail>);
    let cases: [Case<'_>; 19] = [
        (&[], &[], None),
        (&[(1, 1)], &[], tail(1)),
        (&[(100, 0)], &[], tail(100)),
        (&[(2048, 1)], &[], tail(2048)),
        (&[(2049, 1)], &[extent(0, 0, 1)], None),
        (&[(2049, 0)], &[], None),
        (&[(4096, 1)], &[extent(0, 0, 1)], None),
        (&[(4096, 0)], &[], None),
        (&[(4096, 0), (100, 0)], &[], None),
        (&[(4096, 0), (100, 1)], &[extent(0, 0, 1)], tail(100)),
        (&[(4096, 1), (4096, 0)], &[extent(0, 0, 2)], None),
        (&[(8192, 1), (2000, 2)], &[extent(0, 0, 2)], tail(2000)),
        (&[(UNIT, 0), (UNIT, 1)], &[extent(16, 0, 16)], None),
        (&[(UNIT, 1), (UNIT, 0)], &[extent(0, 0, 16)], None),
        (&[(UNIT, 1), (UNIT, 0), (5, 1)], &[extent(0, 0, 16), extent(32, 16, 1)], None),
        (&[(UNIT, 1), (UNIT, 0), (5, 0)], &[extent(0, 0, 16)], None),
        (&[(UNIT, 1), (UNIT - 1, 0), (1, 1), (5, 0)], &[extent(0, 0, 32)], tail(5)),
        (&[(1, 1), (UNIT, 0), (UNIT, 0), (UNIT, 1)], &[extent(0, 0, 16), extent(32, 16, 17)], None),
        (&[(3 * UNIT, 0), (1, 1)], &[extent(48, 0, 1)], None),
    ];
    for (pieces, extents, tail) in cases {
        let bytes = bytes(pieces);
        let (content, segment) = file(&bytes, usize::MAX);
        let expected = Content { size: bytes.len() as u64, extents: extents.into(), tail };
        assert_eq!(content, expected, "{pieces:?}");
        assert_eq!(resolve(&content, &segment), bytes, "{pieces:?}");
    }
}

#[test]
fn how_bytes_arrive_means_nothing() {
    let contents = [
        bytes(&[(5000, 1), (3 * UNIT, 0), (70_000, 2), (UNIT, 0), (9, 3)]),
        bytes(&[(100, 0), (2 * UNIT, 7), (3000, 0)]),
        bytes(&[(UNIT + 1, 0), (UNIT, 0)]),
        (0..300_000u32).map(|at| (at / 3 % 251) as u8).collect(),
    ];
    for bytes in contents {
        let whole = file(&bytes, usize::MAX);
        assert_eq!(resolve(&whole.0, &whole.1), bytes);
        for split in [1, 3, 511, 4095, 4096, 4097, 65536, 100_000] {
            assert_eq!(file(&bytes, split), whole, "split {split}");
        }
        // Runs of zero bytes, announced as such, cut at odd places.
        let announced = segment(|writer| {
            writer.begin(bytes.len() as u64)?;
            for part in bytes.chunk_by(|a, b| (*a == 0) == (*b == 0)) {
                if part[0] != 0 {
                    writer.data(part)?;
                } else {
                    let third = part.len() as u64 / 3;
                    writer.hole(third)?;
                    writer.hole(part.len() as u64 - third)?;
                }
            }
            writer.end()
        });
        assert_eq!(announced.unwrap(), whole);
    }
}

#[test]
fn an_enormous_hole_costs_nothing() {
    let size = 1u64 << 50;
    let (content, segment) = segment(|writer| {
        writer.begin(size + 1)?;
        writer.hole(size / 2)?;
        writer.data(b"x")?;
        writer.hole(size / 2)?;
        writer.end()
    })
    .unwrap();
    let extents = [Extent { file_block: size / 2 / 4096, segment_block: 0, count: 16 }];
    assert_eq!(content, Content { size: size + 1, extents: extents.into(), tail: None });
    assert_eq!(segment.data, bytes(&[(1, b'x'), (UNIT - 1, 0)]));
}

#[test]
fn content_must_fit_its_file() {
    let put = || Change::Whiteout { path: b"x".as_slice().into() };
    type Fill = fn(&mut SegmentWriter<&mut Vec<u8>>, Change) -> Result<(), SegmentError>;
    let cases: [(&str, Fill); 6] = [
        ("a file of 2 bytes got 3 bytes of content before entry 0", |writer, _| {
            writer.begin(2)?;
            writer.data(b"abc")
        }),
        ("a file of 2 bytes got 1 bytes of content before entry 0", |writer, _| {
            writer.begin(2)?;
            writer.hole(1)?;
            writer.end().map(drop)
        }),
        ("a file of 0 bytes got 18446744073709551615 bytes of content before entry 0", |writer, _| {
            writer.begin(0)?;
            writer.hole(u64::MAX)
        }),
        ("file content without a file before entry 1", |writer, change| {
            writer.change(change)?;
            writer.data(b"")
        }),
        ("a file was not ended before entry 0", |writer, _| {
            writer.begin(0)?;
            writer.begin(0)
        }),
        ("a file was not ended before entry 0", |writer, change| {
            writer.begin(0)?;
            writer.change(change)
        }),
    ];
    for (message, fill) in cases {
        assert_eq!(segment(|writer| fill(writer, put())).unwrap_err().to_string(), message);
    }
}

fn changes() -> Vec<Change> {
    let attributes = Attributes {
        mode: 0o4755,
        uid: 1,
        gid: u32::MAX,
        mtime: Timestamp { secs: -1, nanos: 999_999_999 },
        xattrs: [Xattr { name: b"user.a".as_slice().into(), value: b"\0\xff".as_slice().into() }].into(),
    };
    let extents = [Extent { file_block: 0, segment_block: 3, count: 2 }];
    let content = Content { size: 8193, extents: extents.into(), tail: Some(Tail { offset: 9, len: 1 }) };
    vec![
        Change::Put { path: b"".as_slice().into(), attributes: attributes.clone(), kind: Kind::Directory },
        Change::Put { path: b"\xff/b".as_slice().into(), attributes, kind: Kind::Regular(content) },
        Change::Link { path: b"c".as_slice().into(), target: b"\xff/b".as_slice().into() },
        Change::Opaque { path: b"d".as_slice().into() },
        Change::Whiteout { path: b"e".as_slice().into() },
    ]
}

fn index() -> Vec<u8> {
    let (_, segment) =
        segment(|writer| changes().into_iter().try_for_each(|change| writer.change(change))).unwrap();
    segment.index
}

fn read(bytes: &[u8]) -> Result<(Vec<Change>, SegmentSummary), ReadIndexError<Infallible>> {
    let mut changes = Vec::new();
    let summary = read_index(bytes, |change| {
        changes.push(change);
        Ok(())
    })?;
    Ok((changes, summary))
}

#[test]
fn an_index_reads_back() {
    let summary = SegmentSummary { blocks: 0, tail_bytes: 0, entries: 5 };
    assert_eq!(read(&index()).unwrap(), (changes(), summary));
}

#[test]
fn a_damaged_index_is_refused() {
    let good = index();
    for len in 0..good.len() {
        assert!(matches!(read(&good[..len]), Err(ReadIndexError::Read { .. })), "cut at {len}");
    }
    let edit = |at: usize, bytes: &[u8]| {
        let mut index = good.clone();
        index[at..at + bytes.len()].copy_from_slice(bytes);
        index
    };
    let end = good.len();
    let cases = [
        (edit(0, b"x"), "not a segment index"),
        (edit(8, &[2]), "the segment index has generation 2, expected 1"),
        (
            edit(12, &[0xff; 4]),
            "segment index entry 0 (byte 12) claims 4294967295 bytes, at most 16777216 are possible",
        ),
        (edit(16, &[9]), "cannot decode segment index entry 0 (byte 16)"),
        (edit(end - 8, &[4]), "the segment index has 5 entries, its end says 4"),
        (
            [good.as_slice(), b"\0"].concat(),
            &*format!("bytes follow the end of the segment index at byte {end}"),
        ),
    ];
    for (bytes, message) in &cases {
        assert_eq!(read(bytes).unwrap_err().to_string(), *message);
    }
    assert_eq!(GENERATION, 1);
}

#[test]
fn a_long_claim_without_bytes_allocates_little() {
    let mut bytes = index()[..12].to_vec();
    bytes.extend_from_slice(&(RECORD_MAX as u32).to_le_bytes());
    bytes.extend_from_slice(&[0; 100]);
    assert!(matches!(read(&bytes), Err(ReadIndexError::Read { entries: 0, offset: 16, .. })));
}

#[test]
fn a_receiver_can_refuse() {
    let result = read_index(index().as_slice(), |_| Err(std::io::Error::other("no")));
    assert!(matches!(result, Err(ReadIndexError::Refused(_))));
}
