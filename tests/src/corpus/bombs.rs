//! Much from little: streams that expand, trees that grow, headers without end.

use sha2::{Digest, Sha256};

use super::image::{TAR_GZIP, TAR_ZSTD};
use super::tar::{BLOCK, Entry, Tar, field, record};
use super::{Case, Image, Kind, Peer, Tree, compress, gzip, hostile, oddity, zstd};

const SLOW: Peer = Peer::NotAsked("it takes long, and much of the disk");

pub(super) fn cases() -> Vec<Case> {
    [streams(), trees(), headers(), attributes()].into_iter().flatten().collect()
}

/// Adds a layer that is one header, then as many times these bytes, each time as a gzip member.
fn repeated(i: &mut Image, before: &[u8], bytes: &[u8], count: usize) -> std::io::Result<()> {
    let member = gzip(bytes);
    let mut hash = Sha256::new_with_prefix(before);
    (0..count).for_each(|_| hash.update(bytes));
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    i.stored(&[gzip(before), member.repeat(count)].concat(), TAR_GZIP, &format!("sha256:{hex}"))
}

/// Members of 32 MiB of zeros that make more than a gibibyte, and more than a thousand times their own size.
const BOMB: usize = 36;

/// A diff ID that nobody compares, since the layer is refused before its end.
const NO_DIFF_ID: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

fn streams() -> Vec<Case> {
    vec![
        oddity("zeros-of-a-quarter-gigabyte", "an honest empty disk image, a thousand to one", |i| {
            let header = Entry::file("disk", "").size(256 << 20).bytes();
            repeated(i, &header, &vec![0; 16 << 20], 16)
        })
        .accepted(|| Tree::new().zeros("disk", 256 << 20))
        .umoci(SLOW),
        hostile("gzip-bomb", "2017-14992: zeros, more than a thousand to one past a gibibyte", |i| {
            let header = Entry::file("bomb", "").size(60 << 30).bytes();
            let member = gzip(&vec![0; 32 << 20]);
            i.stored(&[gzip(&header), member.repeat(BOMB)].concat(), TAR_GZIP, NO_DIFF_ID)
        })
        .refused(Kind::Bomb, "over 1000 to 1")
        .umoci(SLOW),
        hostile("zstd-bomb", "blocks that repeat one byte, thirty thousand to one", |i| {
            let header = Entry::file("bomb", "").size(60 << 30).bytes();
            let bomb = compress::zstd_repeated(128 << 10, 16 << 10);
            i.stored(&[zstd(&header)?, bomb].concat(), TAR_ZSTD, NO_DIFF_ID)
        })
        .refused(Kind::Bomb, "over 1000 to 1")
        .umoci(SLOW),
        hostile(
            "zeros-after-the-end",
            "what follows the mark of the end must be read, and is no reason to wait",
            |i| {
                let tar = Tar::new().file("a", "x").finish();
                let member = gzip(&vec![0; 32 << 20]);
                i.stored(&[gzip(&tar), member.repeat(BOMB)].concat(), TAR_GZIP, NO_DIFF_ID)
            },
        )
        .refused(Kind::Bomb, "over 1000 to 1")
        .umoci(SLOW),
        hostile("a-million-empty-members", "gzip members of no bytes, which cost and give nothing", |i| {
            let tar = Tar::new().file("a", "x").finish();
            i.stored(
                &[gzip(&tar), gzip(b"").repeat(1_000_000)].concat(),
                TAR_GZIP,
                &super::image::digest(&tar),
            )
        })
        .accepted(|| Tree::new().file("a", "x"))
        .umoci(SLOW),
        hostile("a-million-empty-frames", "the same with Zstandard frames to skip", |i| {
            let tar = Tar::new().file("a", "x").finish();
            let frames = compress::skippable(b"").repeat(1_000_000);
            i.stored(&[zstd(&tar)?, frames].concat(), TAR_ZSTD, &super::image::digest(&tar))
        })
        .accepted(|| Tree::new().file("a", "x"))
        .umoci(SLOW),
    ]
}

fn trees() -> Vec<Case> {
    vec![
        hostile("a-hundred-thousand-directories", "empty directories, side by side", |i| {
            i.gzip(Tar::new().all((0..100_000).map(|n| Entry::dir(format!("d{n}")))))
        })
        .accepted(|| (0..100_000).fold(Tree::new(), |tree, n| tree.dir(format!("d{n}"))))
        .umoci(SLOW),
        hostile(
            "entries-without-end",
            "very many entries of one name, against a limit that is met in time",
            |i| {
                let entry = Entry::new(b'6', "p").bytes();
                repeated(i, &entry, &entry.repeat(20_000), 5)
            },
        )
        .refused(Kind::OverLimit, "entries: 100001, at most 100000")
        .arguments(&["--unpack", "entries=100000"])
        .umoci(SLOW),
        hostile("ten-thousand-hard-links", "names of one file", |i| {
            let links = (0..10_000).map(|n| Entry::link(format!("l{n}"), "f"));
            i.gzip(Tar::new().file("f", "x").all(links))
        })
        .accepted(|| Tree::new().file("f", "x").links("f", (0..10_000).map(|n| format!("l{n}"))))
        .umoci(SLOW),
        hostile("seventy-thousand-hard-links", "more names of one file than 16 bits count", |i| {
            let links = (0..70_000).map(|n| Entry::link(format!("d/l{n}"), "f"));
            i.gzip(Tar::new().file("f", "x").with(Entry::dir("d")).all(links))
        })
        .accepted(|| Tree::new().file("f", "x").dir("d").links("f", (0..70_000).map(|n| format!("d/l{n}"))))
        .umoci(SLOW),
        hostile("files-of-ten-exabytes", "files whose sizes overflow when they are added up", |i| {
            let file = |name| Entry::file(name, "").size((1 << 63) - 512);
            i.layer(Tar::new().with(file("a")).with(file("b")))
        })
        .refused(Kind::OverLimit, ", a: bytes of file data"),
        hostile("over-64-gib", "a file of one byte more than is unpacked", |i| {
            i.layer(Tar::new().with(Entry::file("a", "x").size((64 << 30) + 1)))
        })
        .refused(Kind::OverLimit, ", a: bytes of file data: 68719476737, at most 68719476736"),
        hostile("over-128-gib-of-holes", "two files without data, too large together", |i| {
            let file = |name: &str| {
                let size = 65 << 30;
                let at = field::GNU_SPARSE.start;
                let entry = Entry::new(b'S', name).magic(super::tar::GNU).octal(field::GNU_REAL_SIZE, size);
                entry.octal(at..at + 12, size).octal(at + 12..at + 24, 0)
            };
            i.layer(Tar::new().with(file("a")).with(file("b")))
        })
        .refused(Kind::OverLimit, ", b: bytes of files, with holes: 139586437120, at most 137438953472"),
        oddity("five-hundred-and-twelve-layers", "as many as are allowed", |i| {
            (0..512).try_for_each(|n| i.layer(Tar::new().file(format!("f{n}"), "x")))
        })
        .accepted(|| (0..512).fold(Tree::new(), |tree, n| tree.file(format!("f{n}"), "x")))
        .umoci(SLOW),
        hostile("five-hundred-and-thirteen-layers", "one more", |i| {
            (0..513).try_for_each(|n| i.layer(Tar::new().file(format!("f{n}"), "x")))
        })
        .refused(Kind::Layers, "513")
        .umoci(Peer::NotAsked("it has no limit")),
        oddity("a-hundred-layers", "krunvm#16: an image of the Nix project has nearly as many", |i| {
            (0..100).try_for_each(|n| i.layer(Tar::new().dir("d").file(format!("d/f{n}"), n.to_string())))
        })
        .accepted(|| {
            (0..100).fold(Tree::new().dir("d"), |tree, n| tree.file(format!("d/f{n}"), n.to_string()))
        }),
        oddity("one-layer-a-hundred-times", "the same layer listed again and again", |i| {
            (0..100).try_for_each(|_| i.layer(Tar::new().dir("d").file("d/f", "x")))
        })
        .accepted(|| Tree::new().dir("d").file("d/f", "x")),
        oddity("image-of-one-file", "ignite#402: an image of a few KiB", |i| {
            i.layer(Tar::new().file("hello", "x"))
        })
        .accepted(|| Tree::new().file("hello", "x")),
    ]
}

fn headers() -> Vec<Case> {
    vec![
        hostile(
            "global-headers-without-entries",
            "a hundred thousand headers that each cost and make nothing",
            |i| {
                let header = Entry::global(&[("comment", &[b'c'; 400])]).bytes();
                repeated(i, b"", &header.repeat(1000), 100)
            },
        )
        .accepted(Tree::new)
        .umoci(SLOW),
        hostile("attributes-in-global-headers", "each header adds to what every entry carries", |i| {
            let mut tar = Tar::new();
            for n in 0..2000 {
                tar.push(Entry::global(&[(&format!("SCHILY.xattr.user.{n:05}"), &[b'v'; 100])]));
                tar.push(Entry::file(format!("f{n}"), ""));
            }
            i.gzip(tar)
        })
        .accepted(|| (0..2000).fold(Tree::new(), |tree, n| tree.file(format!("f{n}"), "")))
        .umoci(SLOW),
        hostile("records-of-a-megabyte-each", "a thousand entries with as many records as fit", |i| {
            let records = record("comment", b"c").repeat(60_000);
            let entry = Entry::file("f", "").raw_pax(&records).bytes();
            repeated(i, b"", &entry, 100)
        })
        .accepted(|| Tree::new().file("f", ""))
        .umoci(SLOW),
        hostile("checksum-in-every-block", "zeros, then headers, then zeros", |i| {
            let mut bytes = Vec::new();
            for n in 0..1000 {
                bytes.extend(Entry::file(format!("f{n}"), "").bytes());
                bytes.extend([0; BLOCK]);
            }
            i.bytes(bytes)
        })
        .refused(Kind::LoneZeroBlock, "entry 1"),
    ]
}

fn attributes() -> Vec<Case> {
    vec![
        hostile(
            "attributes-without-end",
            "entries that are all attributes, which an image keeps in memory",
            |i| {
                let mut tar = Tar::new();
                for n in 0..700u32 {
                    let mut value = vec![b'v'; 60_000];
                    value[..4].copy_from_slice(&n.to_le_bytes());
                    tar.push(Entry::file(format!("f{n}"), "").xattr("user.flood", value));
                }
                i.gzip(tar)
            },
        )
        .refused(Kind::OverLimit, "bytes of names and attributes")
        .arguments(&["--unpack", "metadata=32MiB"])
        .umoci(SLOW),
        hostile("targets-without-end", "links with the longest targets there are", |i| {
            let mut tar = Tar::new();
            for n in 0..10_000u32 {
                tar.push(Entry::symlink(format!("l{n}"), format!("{n:04000}")));
            }
            i.gzip(tar)
        })
        .refused(Kind::OverLimit, "bytes of names and attributes")
        .arguments(&["--unpack", "metadata=32MiB"])
        .umoci(SLOW),
    ]
}
