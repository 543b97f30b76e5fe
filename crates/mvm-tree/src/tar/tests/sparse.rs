//! Sparse files in the four ways that GNU tar writes them.

use super::{put, refusal, why};
use crate::testing::{Archive, Block, content, read_good};
use crate::{Breach, Kind, Knob, Refusal, SparseFault, UnpackPolicy};

/// What all the archives of one file hold: 512 bytes of `a` at 1024, 100 bytes of `b` at 4096, and a hole at the end.
const SIZE: u64 = 8192;
const REGIONS: [(u64, u64); 3] = [(1024, 512), (4096, 100), (8192, 0)];

fn data() -> Vec<u8> {
    [[b'a'; 512].as_slice(), &[b'b'; 100]].concat()
}

/// An old GNU sparse entry; regions that don't fit the header go to the blocks that follow.
fn old_gnu(size: u64, regions: &[(u64, u64)], data: &[u8]) -> Vec<u8> {
    let (first, rest) = regions.split_at(regions.len().min(4));
    let mut header = Block::new(b'S', b"sparse");
    header.set(257, b"ustar  \0").size(data.len()).octal(483, 12, size);
    let write = |block: &mut Block, at: usize, regions: &[(u64, u64)]| {
        for (n, (offset, len)) in regions.iter().enumerate() {
            block.octal(at + n * 24, 12, *offset).octal(at + n * 24 + 12, 12, *len);
        }
    };
    write(&mut header, 386, first);
    header.set(482, &[u8::from(!rest.is_empty())]);
    let mut archive = Archive::default();
    archive.block(&header);
    let mut chunks = rest.chunks(21).peekable();
    while let Some(chunk) = chunks.next() {
        let mut block = Block([0; 512]);
        write(&mut block, 0, chunk);
        block.set(504, &[u8::from(chunks.peek().is_some())]);
        archive.payload(&block.0);
    }
    archive.payload(data).file("next", "").end()
}

fn pax_0_0(size: &str, regions: &[(u64, u64)], data: &[u8]) -> Vec<u8> {
    let numbers: Vec<_> = regions.iter().map(|(offset, len)| [offset.to_string(), len.to_string()]).collect();
    let mut records = vec![("GNU.sparse.size", size.as_bytes()), ("GNU.sparse.numblocks", b"3")];
    for [offset, len] in &numbers {
        records.push(("GNU.sparse.offset", offset.as_bytes()));
        records.push(("GNU.sparse.numbytes", len.as_bytes()));
    }
    Archive::default().pax(&records).entry(b'0', "sparse", data).file("next", "").end()
}

fn pax_0_1(size: &str, map: &str, data: &[u8]) -> Vec<u8> {
    let mut archive = Archive::default();
    archive.pax(&[
        ("GNU.sparse.size", size.as_bytes()),
        ("GNU.sparse.numblocks", b"3"),
        ("GNU.sparse.name", b"./sparse"),
        ("GNU.sparse.map", map.as_bytes()),
    ]);
    archive.entry(b'0', "./GNUSparseFile.1/sparse", data).file("next", "").end()
}

fn pax_1_0(size: &str, version: [&str; 2], map: &str, data: &[u8]) -> Vec<u8> {
    let mut archive = Archive::default();
    archive.pax(&[
        ("GNU.sparse.major", version[0].as_bytes()),
        ("GNU.sparse.minor", version[1].as_bytes()),
        ("GNU.sparse.name", b"sparse"),
        ("GNU.sparse.realsize", size.as_bytes()),
    ]);
    let mut payload = map.as_bytes().to_vec();
    payload.resize(map.len().next_multiple_of(512), 0);
    payload.extend_from_slice(data);
    archive.entry(b'0', "./GNUSparseFile.1/sparse", &payload).file("next", "").end()
}

#[test]
fn reads_every_version() {
    let archives = [
        old_gnu(SIZE, &REGIONS, &data()),
        pax_0_0("8192", &REGIONS, &data()),
        pax_0_1("8192", "1024,512,4096,100,8192,0", &data()),
        pax_1_0("8192", ["1", "0"], "3\n1024\n512\n4096\n100\n8192\n0\n", &data()),
    ];
    for archive in archives {
        let memory = read_good(&archive);
        let want =
            [put("sparse", Kind::Regular(content(0, SIZE))), put("next", Kind::Regular(content(1, 0)))];
        assert_eq!(memory.changes, want);
        assert_eq!(memory.holes[0], [(0, 1024), (1536, 2560), (4196, 3996)]);
        let mut file = vec![0; SIZE as usize];
        file[1024..1536].fill(b'a');
        file[4096..4196].fill(b'b');
        assert_eq!(memory.files[0], file);
    }
}

#[test]
fn reads_maps_of_many_blocks() {
    let regions: Vec<(u64, u64)> = (0..100).map(|n| (n * 8192, 512)).collect();
    let data = vec![b'x'; 100 * 512];
    let map: String = regions.iter().map(|(offset, len)| format!("{offset}\n{len}\n")).collect();
    let size = 99 * 8192 + 512;
    let archives = [
        old_gnu(size, &regions, &data),
        pax_1_0(&size.to_string(), ["1", "0"], &format!("100\n{map}"), &data),
    ];
    for archive in archives {
        let memory = read_good(&archive);
        assert_eq!((memory.files[0].len() as u64, memory.holes[0].len()), (size, 99));
        assert_eq!(memory.changes.len(), 2);
    }
}

#[test]
fn reads_files_that_are_all_hole() {
    let archives = [old_gnu(1 << 20, &[(1 << 20, 0)], b""), pax_0_1("1048576", "", b"")];
    for archive in archives {
        assert_eq!(read_good(&archive).holes[0], [(0, 1 << 20)]);
    }
}

#[test]
fn refuses_maps_that_lie() {
    use SparseFault::{Kind, Long, Number, Order, Size, Unaligned, Version};
    let v01 = |map: &str| pax_0_1("8192", map, &data());
    let v10 = |map: &str| pax_1_0("8192", ["1", "0"], map, &data());
    let of_kind = |flag, name| {
        let records: [(&str, &[u8]); 2] = [("GNU.sparse.map", b"0,0"), ("GNU.sparse.size", b"0")];
        Archive::default().pax(&records).entry(flag, name, b"").end()
    };
    let mut old = Block::new(b'S', b"sparse");
    let many = "1,0,".repeat((1 << 17) + 1);
    let cases: [(Vec<u8>, SparseFault); 25] = [
        (old_gnu(SIZE, &[(0, 512), (511, 100)], &data()), Order),
        (old_gnu(SIZE, &[(4096, 512), (0, 100)], &data()), Order),
        (old_gnu(4195, &REGIONS[..2], &data()), Order),
        (old_gnu(SIZE, &[(0, 512), (0o77777777777, 0o77777777777)], &data()), Order),
        (old_gnu(SIZE, &REGIONS[..1], &data()), Size),
        (old_gnu(SIZE, &[(0, 100), (4096, 512)], &data()), Unaligned),
        (Archive::default().block(old.octal(483, 12, 0)).end(), Version),
        (v01("1024,512,4096,100,8192"), Number),
        (v01("1024,512,4096,-100"), Number),
        (v01("1024,512,4096,"), Number),
        (v01("1024,512"), Size),
        (v01("18446744073709551615,512,4096,100"), Order),
        (v01("0,18446744073709551615,4096,100"), Order),
        (pax_1_0("8192", ["1", "0"], "3\n", b""), Number),
        (v10("18446744073709551615\n"), Long),
        (v10("1\n\n5\n"), Number),
        (v10("000000000000000000000001\n"), Number),
        (v10("2\n1024\n512\n4096\n101\n"), Size),
        (pax_1_0("8192", ["1", "1"], "0\n", b""), Version),
        (pax_1_0("8192", ["2", "0"], "0\n", b""), Version),
        (pax_1_0("8192", ["1", "x"], "0\n", b""), Number),
        (of_kind(b'5', "d"), Kind),
        (of_kind(b'1', "d"), Kind),
        (of_kind(b'S', "s"), Kind),
        (pax_0_0("8192", &[(0, 0); 0], &data()), Size),
    ];
    for (n, (archive, reason)) in cases.into_iter().enumerate() {
        assert_eq!(why(&archive), Refusal::Sparse { reason }, "case {n}");
    }
    assert_eq!(why(&v01(&many)), Refusal::Sparse { reason: Long });
    // The two records of version 0.0 come in turn.
    let records: [(&str, &[u8]); 2] = [("GNU.sparse.offset", b"0"), ("GNU.sparse.offset", b"0")];
    let archive = Archive::default().pax(&records).file("f", "").end();
    assert_eq!(why(&archive), Refusal::Sparse { reason: Order });
}

#[test]
fn bounds_maps() {
    // A chain of empty blocks, and one without end.
    let mut header = Block::new(b'S', b"sparse");
    header.set(257, b"ustar  \0").set(482, &[1]);
    let mut empty = Block([0; 512]);
    empty.set(504, &[1]);
    let archive = Archive::default().block(&header).payload(&empty.0).payload(&empty.0).end();
    assert_eq!(why(&archive), Refusal::Sparse { reason: SparseFault::Order });
    let regions = vec![(0, 0); (1 << 17) + 200];
    assert_eq!(why(&old_gnu(0, &regions, b"")), Refusal::Sparse { reason: SparseFault::Long });
    // Length with holes is what counts.
    let archive = old_gnu(0o77777777777, &[(0o77777777777, 0)], b"");
    let limits = UnpackPolicy { apparent_bytes: 1 << 30, ..UnpackPolicy::default() };
    let got = refusal(&archive, &limits).3;
    let (what, limit) = ("bytes of files, with holes", 1 << 30);
    let (knob, got_bytes) = (Knob::Apparent, 0o77777777777);
    assert_eq!(got, Refusal::Policy(Breach::OverLimit { knob, what, got: got_bytes, limit }));
    // Half a region.
    let mut header = Block::new(b'S', b"sparse");
    header.set(257, b"ustar  \0").octal(386, 12, 512);
    assert!(matches!(
        why(&Archive::default().block(&header).end()),
        Refusal::Number { field: "sparse map", .. }
    ));
}
