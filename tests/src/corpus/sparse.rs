//! Files with holes: old GNU headers, and the three versions of PAX records (GNU tar manual, "Storing Sparse Files").

use super::tar::{BLOCK, Entry, GNU, Tar, field};
use super::{Case, Kind, Peer, Tree, hostile, oddity};

pub(super) fn cases() -> Vec<Case> {
    [legal(), refused(), refused_records()].into_iter().flatten().collect()
}

/// An old GNU header for a file of `size` bytes that stores these regions.
fn old(regions: &[(u64, u64)], size: u64) -> Entry {
    let stored: u64 = regions.iter().map(|(_, length)| length).sum();
    let data = vec![b'd'; stored.min(1 << 20) as usize];
    let mut entry =
        Entry::new(b'S', "f").magic(GNU).data(data).size(stored).octal(field::GNU_REAL_SIZE, size);
    for (index, (offset, length)) in regions.iter().take(4).enumerate() {
        let at = field::GNU_SPARSE.start + 24 * index;
        entry = entry.octal(at..at + 12, *offset).octal(at + 12..at + 24, *length);
    }
    entry
}

/// Further regions, in blocks of their own.
fn extension(regions: &[(u64, u64)], more: bool) -> Vec<u8> {
    let mut block = Vec::new();
    for (offset, length) in regions {
        block.extend(format!("{offset:011o}\0{length:011o}\0").bytes());
    }
    block.resize(BLOCK, 0);
    block[504] = u8::from(more);
    block
}

/// What a file holds that stores `d` in these regions.
fn content(regions: &[(u64, u64)], size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    for (offset, length) in regions {
        bytes[*offset as usize..][..*length as usize].fill(b'd');
    }
    bytes
}

/// An entry with the records of version 1.0, whose data begin with this map.
fn version_1(map: &str, data: &[u8], size: u64) -> Entry {
    let mut stored = map.as_bytes().to_vec();
    stored.resize(stored.len().next_multiple_of(BLOCK), 0);
    stored.extend(data);
    Entry::file("GNUSparseFile.0/f", stored)
        .pax("GNU.sparse.major", "1")
        .pax("GNU.sparse.minor", "0")
        .pax("GNU.sparse.name", "f")
        .pax("GNU.sparse.realsize", size.to_string())
}

const TWO: [(u64, u64); 2] = [(4096, 512), (16_384, 1000)];

fn legal() -> Vec<Case> {
    const OLD: Peer = Peer::Differs("it knows no old GNU sparse files; tar writes them");
    const MANY: [(u64, u64); 30] = {
        let mut regions = [(0, 512); 30];
        let mut index = 0;
        while index < 30 {
            regions[index].0 = index as u64 * 8192;
            index += 1;
        }
        regions
    };
    vec![
        oddity("old-gnu", "what `tar -S` writes", |i| {
            i.layer(Tar::new().with(old(&[(4096, 512), (16_384, 1000), (20_000, 0)], 20_000)).file("g", "x"))
        })
        .accepted(|| Tree::new().file("f", content(&TWO, 20_000)).file("g", "x"))
        .umoci(OLD)
        .bsdtar(Peer::Same),
        oddity("old-gnu-with-extensions", "more regions than the header has room for", |i| {
            let first = old(&MANY[..4], 300_000).put(field::GNU_EXTENDED..field::GNU_EXTENDED + 1, [1]);
            let stored = MANY.iter().map(|(_, length)| length).sum();
            let header = first.data(b"").size(stored).bytes();
            let tar =
                Tar::new().raw(header).raw(extension(&MANY[4..25], true)).raw(extension(&MANY[25..], false));
            i.layer(tar.raw(vec![b'd'; stored as usize]).file("g", "x"))
        })
        .accepted(|| Tree::new().file("f", content(&MANY, 300_000)).file("g", "x"))
        .umoci(OLD)
        .bsdtar(Peer::Same),
        oddity("old-gnu-all-hole", "nothing is stored", |i| {
            i.layer(Tar::new().with(old(&[(1_000_000, 0)], 1_000_000)).file("g", "x"))
        })
        .accepted(|| Tree::new().zeros("f", 1_000_000).file("g", "x"))
        .umoci(OLD)
        .bsdtar(Peer::Same),
        oddity("version-0-0", "offsets and sizes as records in turn", |i| {
            let mut entry = Entry::file("f", vec![b'd'; 1512]).pax("GNU.sparse.size", "20000");
            entry = entry.pax("GNU.sparse.numblocks", "2");
            for (offset, length) in TWO {
                entry = entry
                    .pax("GNU.sparse.offset", offset.to_string())
                    .pax("GNU.sparse.numbytes", length.to_string());
            }
            i.layer(Tar::new().with(entry).file("g", "x"))
        })
        .accepted(|| Tree::new().file("f", content(&TWO, 20_000)).file("g", "x"))
        .bsdtar(Peer::Same),
        oddity("version-0-1", "all numbers in one record", |i| {
            let entry = Entry::file("GNUSparseFile.0/f", vec![b'd'; 1512])
                .pax("GNU.sparse.size", "20000")
                .pax("GNU.sparse.numblocks", "2")
                .pax("GNU.sparse.name", "f")
                .pax("GNU.sparse.map", "4096,512,16384,1000");
            i.layer(Tar::new().with(entry).file("g", "x"))
        })
        .accepted(|| Tree::new().file("f", content(&TWO, 20_000)).file("g", "x"))
        .bsdtar(Peer::Same),
        oddity("version-1-0", "the map before the data", |i| {
            let map = "2\n4096\n512\n16384\n1000\n";
            i.layer(Tar::new().with(version_1(map, &[b'd'; 1512], 20_000)).file("g", "x"))
        })
        .accepted(|| Tree::new().file("f", content(&TWO, 20_000)).file("g", "x"))
        .bsdtar(Peer::Same),
        oddity("version-1-0-all-hole", "a map of no regions", |i| {
            i.layer(Tar::new().with(version_1("0\n", b"", 5000)).file("g", "x"))
        })
        .accepted(|| Tree::new().zeros("f", 5000).file("g", "x")),
        oddity("no-holes", "one region that is the whole file", |i| {
            i.layer(Tar::new().with(old(&[(0, 700)], 700)).file("g", "x"))
        })
        .accepted(|| Tree::new().file("f", [b'd'; 700]).file("g", "x"))
        .umoci(OLD)
        .bsdtar(Peer::Same),
        oddity("empty-file", "a sparse file of no bytes", |i| {
            i.layer(Tar::new().with(old(&[(0, 0)], 0)).file("g", "x"))
        })
        .accepted(|| Tree::new().file("f", "").file("g", "x"))
        .umoci(OLD),
        oddity("over-four-gigabytes", "a size of more than 32 bits, nearly all of it a hole", |i| {
            i.layer(Tar::new().with(old(&[(5_000_000_000, 0)], 5_000_000_000)))
        })
        .accepted(|| Tree::new().zeros("f", 5_000_000_000))
        .umoci(Peer::NotAsked("reading it back takes seconds")),
    ]
}

fn refused() -> Vec<Case> {
    let map = |name, why, regions: &'static [(u64, u64)], size| {
        hostile(name, why, move |i| i.layer(Tar::new().with(old(regions, size)))).refused(Kind::Sparse, ", f")
    };
    vec![
        map("overlapping", "a region inside the one before", &[(0, 1024), (512, 512)], 4096),
        map("out-of-order", "a region before the one before", &[(2048, 512), (0, 512)], 4096),
        map("past-the-end", "a region that reaches past the file", &[(0, 512), (3584, 1024)], 4096),
        map("end-overflows", "an end past 64 bits", &[(0, 512), (9_223_372_036_854_775_807, 1024)], 4096),
        map(
            "unaligned",
            "readers disagree on where the data of the next region begin",
            &[(0, 100), (4096, 100)],
            8192,
        ),
        hostile("less-stored-than-mapped", "regions add up to more than there is", |i| {
            i.layer(Tar::new().with(old(&[(0, 1024)], 4096).data([b'd'; 512])))
        })
        .refused(Kind::Sparse, ", f"),
        hostile("more-stored-than-mapped", "data that no region has", |i| {
            i.layer(Tar::new().with(old(&[(0, 512)], 4096).data([b'd'; 1024])))
        })
        .refused(Kind::Sparse, ", f"),
        hostile("negative-offset", "a region before the file", |i| {
            let at = field::GNU_SPARSE.start;
            i.layer(Tar::new().with(old(&[(0, 512)], 4096).base256(at..at + 12, -512)))
        })
        .refused(Kind::Number, ", f"),
        hostile("size-of-sixteen-exabytes", "a hole past all limits", |i| {
            i.layer(Tar::new().with(old(&[(0, 512)], 1 << 62)))
        })
        .refused(Kind::OverLimit, "bytes of files, with holes"),
        hostile("endless-extensions", "2025-58183, 2026-32288: one block of regions after the other", |i| {
            let header = old(&[], 4096).put(field::GNU_EXTENDED..field::GNU_EXTENDED + 1, [1]).bytes();
            let block = extension(&[(0, 0); 21], true);
            let mut bytes = Vec::with_capacity(64 << 20);
            (0..120_000).for_each(|_| bytes.extend_from_slice(&block));
            i.gzip(Tar::new().raw(header).raw(bytes))
        })
        .refused(Kind::Sparse, ", f"),
        hostile("empty-extensions", "blocks without regions, each followed by another", |i| {
            let header = old(&[], 4096).put(field::GNU_EXTENDED..field::GNU_EXTENDED + 1, [1]).bytes();
            i.layer(Tar::new().raw(header).raw(extension(&[], true).repeat(1000)))
        })
        .refused(Kind::Sparse, ", f"),
        hostile("extension-cut-off", "the archive ends where a block of regions should be", |i| {
            let header = old(&[(0, 512)], 4096)
                .put(field::GNU_EXTENDED..field::GNU_EXTENDED + 1, [1])
                .data(b"")
                .bytes();
            i.layer(Tar::new().raw(header).open_end())
        })
        .refused(Kind::Truncated, ", f"),
    ]
}

fn refused_records() -> Vec<Case> {
    let one = |name, why, map: &'static str| {
        hostile(name, why, move |i| i.layer(Tar::new().with(version_1(map, &[b'd'; 512], 4096))))
            .refused(Kind::Sparse, ", f:")
    };
    let record = |name, why, map: &'static str| {
        hostile(name, why, move |i| {
            let entry =
                Entry::file("f", [b'd'; 512]).pax("GNU.sparse.size", "4096").pax("GNU.sparse.map", map);
            i.layer(Tar::new().with(entry))
        })
        .refused(Kind::Sparse, "entry 0")
    };
    vec![
        one("more-regions-than-the-map-has", "a count that the numbers don't bear out", "9\n0\n512\n"),
        one("billions-of-regions", "memory for as many as the map says", "99999999999\n0\n512\n"),
        one("map-of-letters", "no numbers", "one\n0\n512\n"),
        one(
            "number-without-end",
            "digits for the rest of the block",
            "1111111111111111111111111111111111111111111111",
        ),
        record("odd-numbers", "an offset without its size", "0,512,1024"),
        record("map-with-letters", "no numbers in the record", "0,x"),
        hostile("records-of-a-directory", "only files have holes", |i| {
            i.layer(
                Tar::new()
                    .with(Entry::dir("f").pax("GNU.sparse.size", "4096").pax("GNU.sparse.map", "0,512")),
            )
        })
        .refused(Kind::Sparse, ", f"),
        hostile("version-to-come", "a version that nobody knows", |i| {
            i.layer(
                Tar::new()
                    .with(Entry::file("f", "x").pax("GNU.sparse.major", "2").pax("GNU.sparse.minor", "0")),
            )
        })
        .refused(Kind::Sparse, ", f")
        .umoci(Peer::Differs("it takes it for a file without holes")),
        hostile("a-hundred-thousand-records", "regions as records, as many as fit into a megabyte", |i| {
            let mut entry = Entry::file("f", "").pax("GNU.sparse.size", "99999999");
            for n in 0..15_000u32 {
                entry = entry.pax("GNU.sparse.offset", (n * 2).to_string()).pax("GNU.sparse.numbytes", "1");
            }
            i.layer(Tar::new().with(entry))
        })
        .refused(Kind::Sparse, ", f"),
    ]
}
