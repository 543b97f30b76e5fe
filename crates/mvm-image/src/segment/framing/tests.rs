use super::*;
use crate::segment::SegmentWriter;
use mvm_ref::Digest;
use mvm_tree::{Budget, Devices, UnpackPolicy, read_layer};
use std::io::BufReader;

/// A segment in memory.
#[derive(Debug, Default, PartialEq)]
struct Segment {
    data: Vec<u8>,
    tails: Vec<u8>,
    leaves: Vec<u8>,
    index: Vec<u8>,
    framing: Vec<u8>,
}

/// Reads an archive through a buffer of `buffer` bytes.
fn store(archive: &[u8], buffer: usize) -> Segment {
    let mut segment = Segment::default();
    let Segment { data, tails, leaves, index, framing } = &mut segment;
    let mut writer = SegmentWriter::new(data, tails, leaves, index).unwrap().with_framing(framing);
    let mut input = BufReader::with_capacity(buffer, archive);
    let policy = UnpackPolicy { devices: Devices::Any, ..UnpackPolicy::default() };
    read_layer(&mut input, &Budget::new(&policy), &mut writer).unwrap();
    writer.finish().unwrap();
    segment
}

fn back(segment: &Segment, length: usize) -> Result<Vec<u8>, RebuildError> {
    // The blocks don't begin the file, as in the store.
    let data = [&[9; 4096], segment.data.as_slice()].concat();
    let places = Places { data, data_start: 4096, tails: segment.tails.as_slice() };
    let mut archive = Vec::new();
    rebuild(segment.framing.as_slice(), segment.index.as_slice(), &places, length as u64, &mut archive)?;
    Ok(archive)
}

fn round_trip(archive: &[u8]) -> Segment {
    let segment = store(archive, 64 << 10);
    let again = back(&segment, archive.len()).unwrap();
    assert_eq!(Digest::of(&again), Digest::of(archive));
    segment
}

/// Numbers that are the same in each run (xorshift64*).
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.below(256) as u8).collect()
    }

    /// Bytes of which long runs are zero.
    fn content(&mut self) -> Vec<u8> {
        let mut content = Vec::new();
        for _ in 0..self.below(5) {
            let len = [1, 511, 512, 2048, 4096, 70_000, self.below(9000)][self.below(7) as usize] as usize;
            match self.below(2) {
                0 => content.resize(content.len() + len, 0),
                _ => content.extend(self.bytes(len)),
            }
        }
        content
    }
}

fn header(flag: u8, name: &str, size: usize) -> [u8; 512] {
    let mut block = [0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..108].copy_from_slice(b"0000644\0");
    block[108..116].copy_from_slice(b"0001750\0");
    block[116..124].copy_from_slice(b"0001750\0");
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[136..148].copy_from_slice(b"14412345670\0");
    block[148..156].fill(b' ');
    block[156] = flag;
    if flag == b'1' || flag == b'2' {
        block[157..163].copy_from_slice(b"target");
    }
    block[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// Appends an entry with what it has, and padding that is zero or not.
fn entry(archive: &mut Vec<u8>, flag: u8, name: &str, content: &[u8], padding: u8) {
    archive.extend_from_slice(&header(flag, name, content.len()));
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(512), padding);
}

fn record(key: &str, value: &str) -> String {
    let body = key.len() + value.len() + 3;
    let len = (body..).find(|len| *len == body + len.to_string().len()).unwrap();
    format!("{len} {key}={value}\n")
}

/// Appends a sparse file of PAX version 1.0: its map is in the archive, before its data.
fn sparse(archive: &mut Vec<u8>, rng: &mut Rng, name: &str) {
    let mut map: Vec<(u64, u64)> = Vec::new();
    let mut end = 0;
    for _ in 0..rng.below(6) {
        let (offset, len) = (end + rng.below(40) * 512, (1 + rng.below(30)) * 512);
        map.push((offset, len));
        end = offset + len;
    }
    let size = end + rng.below(100_000);
    let mut lines = format!("{}\n", map.len());
    map.iter().for_each(|(offset, len)| lines.push_str(&format!("{offset}\n{len}\n")));
    let mut content = lines.into_bytes();
    content.resize(content.len().next_multiple_of(512), 0);
    for (_, len) in &map {
        content.extend(rng.bytes(*len as usize));
    }
    let records = [
        ("GNU.sparse.major", "1".to_owned()),
        ("GNU.sparse.minor", "0".to_owned()),
        ("GNU.sparse.name", name.to_owned()),
        ("GNU.sparse.realsize", size.to_string()),
    ];
    let records: String = records.iter().map(|(key, value)| record(key, value)).collect();
    entry(archive, b'x', "PaxHeaders/s", records.as_bytes(), 0);
    entry(archive, b'0', "GNUSparseFile.0/s", &content, 0);
}

fn random_archive(rng: &mut Rng) -> Vec<u8> {
    let mut archive = Vec::new();
    for number in 0..rng.below(30) {
        let padding = if rng.below(8) == 0 { 0xa5 } else { 0 };
        let name = format!("directory-{}/name-{number}", rng.below(4));
        match rng.below(10) {
            0 => entry(&mut archive, b'5', &name, b"", 0),
            1 => entry(&mut archive, b'2', &name, b"", 0),
            2 => entry(&mut archive, b'1', &name, b"", 0),
            // Neither a whiteout nor a tool's own file is delivered: what they hold is framing.
            3 => entry(&mut archive, b'0', &format!(".wh.{number}"), &rng.content(), padding),
            4 => sparse(&mut archive, rng, &name),
            5 => {
                let mtime = format!("{}.{:09}", rng.below(1 << 31), rng.below(1_000_000_000));
                entry(&mut archive, b'x', "PaxHeaders/x", record("mtime", &mtime).as_bytes(), padding);
                entry(&mut archive, b'0', &name, &rng.content(), padding);
            }
            6 => {
                let long = "long/".repeat(40) + &name;
                entry(&mut archive, b'L', "././@LongLink", long.as_bytes(), 0);
                entry(&mut archive, b'0', "long", &rng.content(), padding);
            }
            _ => entry(&mut archive, b'0', &name, &rng.content(), padding),
        }
    }
    match rng.below(4) {
        0 => {}
        1 => archive.resize(archive.len() + 1024, 0),
        2 => archive.resize(archive.len() + 10_240, 0),
        _ => {
            archive.resize(archive.len() + 1024, 0);
            let len = rng.below(3000) as usize;
            archive.extend(rng.bytes(len));
        }
    }
    archive
}

#[test]
fn archives_come_back_byte_for_byte() {
    for seed in 1..100 {
        let mut rng = Rng(seed * 0x9e37_79b9);
        let archive = random_archive(&mut rng);
        let segment = store(&archive, 64 << 10);
        let again = back(&segment, archive.len()).unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
        assert_eq!(Digest::of(&again), Digest::of(&archive), "seed {seed}");
        for buffer in [1, 511, 513] {
            assert!(store(&archive, buffer) == segment, "seed {seed} in pieces of {buffer}");
        }
    }
}

#[test]
fn archives_of_nothing_come_back() {
    for archive in [&[][..], &[0; 512], &[0; 1024], &[0; 10_240], &[0; 1025]] {
        let segment = round_trip(archive);
        assert!(segment.framing.len() < 30, "{} bytes", segment.framing.len());
    }
}

#[test]
fn headers_that_differ_little_take_little() {
    let mut archive = Vec::new();
    for number in 0..1000 {
        entry(&mut archive, b'0', &format!("usr/share/doc/package/file-{number:04}"), b"text", 0);
    }
    let segment = round_trip(&archive);
    assert!(segment.framing.len() < 1000 * 56, "{} bytes", segment.framing.len());
}

fn sample() -> (Vec<u8>, Segment) {
    let mut archive = Vec::new();
    entry(&mut archive, b'0', "a", b"some text", 0);
    entry(&mut archive, b'0', "b", &[7; 5000], 0xff);
    archive.resize(archive.len() + 1024, 0);
    let segment = store(&archive, 64 << 10);
    (archive, segment)
}

/// The format, byte by byte.
#[test]
fn a_framing_has_this_form() {
    let (archive, segment) = sample();
    let (first, second) = (header(b'0', "a", 9), header(b'0', "b", 5000));
    let block = |block: [u8; 512], before: [u8; 512]| {
        let mut mask = 0u64;
        let mut words = Vec::new();
        for at in 0..64 {
            let difference: Vec<u8> = (at * 8..at * 8 + 8).map(|at| block[at] ^ before[at]).collect();
            if difference != [0; 8] {
                mask |= 1 << at;
                words.extend(difference);
            }
        }
        [&[11][..], &mask.to_le_bytes(), &words].concat()
    };
    let expected = [
        &b"mvmframe\x01\0\0\0"[..],
        &block(first, [0; 512]),
        &[3, 9],
        &[1, 0xf7, 0x03],
        &block(second, first),
        &[3, 0x88, 0x27],
        &[2, 120],
        &[0xff; 120],
        &[1, 0x80, 0x08],
        &[0],
        &(archive.len() as u64).to_le_bytes(),
    ]
    .concat();
    assert_eq!(segment.framing, expected);
}

#[test]
fn a_damaged_framing_is_refused() {
    let (archive, segment) = sample();
    let with = |framing: &[u8]| Segment { framing: framing.to_vec(), ..store(&archive, 4096) };
    for len in 0..segment.framing.len() {
        let error = back(&with(&segment.framing[..len]), archive.len()).unwrap_err();
        assert!(matches!(error, RebuildError::Framing { .. }), "cut at {len}: {error:?}");
    }
    let start = segment.framing[..12].to_vec();
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    let damage = |what: &str| format!("the layer's framing is damaged at byte {what}");
    let cases: Vec<(Vec<u8>, String)> = vec![
        (b"mvmindex\x01\0\0\0".to_vec(), "not a layer's framing".into()),
        (b"mvmframe\x02\0\0\0".to_vec(), "the layer's framing has version 2, expected 1".into()),
        ([&start[..], &[5]].concat(), damage("13: no such record")),
        ([&start[..], &[16]].concat(), damage("13: no such record")),
        ([&start[..], &[2, 0x80, 0x04]].concat(), damage("15: bytes that are more than a block")),
        ([&start[..], &[1], &huge[..9], &[0x02]].concat(), damage("23: a length over 64 bits")),
        ([&start[..], &[1], &huge[..9], &[0x81]].concat(), damage("23: a length over 64 bits")),
        (
            [&start[..], &[1], &huge].concat(),
            format!("the layer comes out with {} bytes or more, {} were stored", u64::MAX, archive.len()),
        ),
        ([&start[..], &[3, 10]].concat(), damage("14: a file is too long")),
        ([&start[..], &[4, 10]].concat(), damage("14: a file is too long")),
        ([&start[..], &[0], &[0; 8]].concat(), damage("21: a file is missing")),
        ([&start[..], &[3, 9, 3, 0x88, 0x27, 3, 1]].concat(), damage("19: no file is left")),
        (
            [&start[..], &[3, 9, 3, 0x88, 0x27, 0], &5009_u64.to_le_bytes()].concat(),
            format!("the layer comes out with 5009 bytes or more, {} were stored", archive.len()),
        ),
        (
            [&segment.framing[..], &[0]].concat(),
            damage(&format!("{}: something follows its end", segment.framing.len())),
        ),
    ];
    for (framing, message) in cases {
        assert_eq!(back(&with(&framing), archive.len()).unwrap_err().to_string(), message);
    }
}

#[test]
fn data_that_is_missing_is_an_error() {
    let (archive, segment) = sample();
    for segment in [
        Segment { data: segment.data[..4095].to_vec(), ..store(&archive, 4096) },
        Segment { tails: segment.tails[..5].to_vec(), ..store(&archive, 4096) },
    ] {
        let error = back(&segment, archive.len()).unwrap_err();
        assert!(matches!(error, RebuildError::Data(_)), "{error:?}");
    }
    let cut = Segment { index: segment.index[..20].to_vec(), ..segment };
    assert!(matches!(back(&cut, archive.len()).unwrap_err(), RebuildError::Index(_)));
}
