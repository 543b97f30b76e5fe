//! Archives, layers, segments and images.

use std::collections::HashMap;

use mvm_ref::LayerCompression;

use super::archive::{Archive, Header};
use crate::image::Segment;
use crate::{changes, erofs, image, layers};

/// Archives in each dialect.
pub fn tars() -> Vec<Vec<u8>> {
    let mut all = vec![
        Archive::default().end(),
        Archive::default().entry(b'5', "./", "").entry(b'0', "a", "data").link(b'1', "b", "a").end(),
        Archive::default()
            .link(b'2', "l", "../x")
            .entry(b'0', "d/.wh.x", "")
            .entry(b'0', "d/.wh..wh..opq", "")
            .end(),
        Archive::default()
            .entry(b'6', "fifo", "")
            .add(Header::new(b'3', b"null").octal(329, 8, 1).octal(337, 8, 3), b"")
            .end(),
        Archive::default()
            .entry(b'L', "././@LongLink", "long/name\0")
            .entry(b'K', "././@LongLink", "t\0")
            .link(b'2', "x", "y")
            .end(),
        Archive::default()
            .add(Header::new(b'0', b"n").put(345, b"prefix"), b"x")
            .entry(b'7', "c", "y")
            .entry(0, "v7/", "")
            .end(),
    ];
    all.push(
        Archive::default()
            .pax(b'g', &[("mtime", b"1.5"), ("comment", b"c")])
            .pax(
                b'x',
                &[
                    ("path", b"p/\xff"),
                    ("linkpath", b"t"),
                    ("size", b"4"),
                    ("uid", b"4294967294"),
                    ("gid", b"70000"),
                    ("mtime", b"-1.25"),
                    ("SCHILY.xattr.user.a", b"\0v"),
                    ("LIBARCHIVE.xattr.user.b", b"dg"),
                    (
                        "SCHILY.xattr.security.capability",
                        &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                    ),
                ],
            )
            .entry(b'0', "p", "data")
            .end(),
    );
    // Numbers in base 256: a large owner, a time before 1970.
    let mut large = Header::new(b'0', b"base256");
    large.put(108, &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xfe]).put(136, &[0xff; 12]).put(257, b"ustar  \0");
    all.push(Archive::default().add(&large, b"z").end());
    all.extend(sparse());
    // What follows the end, and no end at all.
    all.push([Archive::default().entry(b'0', "a", "").end(), b"trailing".to_vec()].concat());
    let mut cut = Archive::default().entry(b'0', "a", "").end();
    cut.truncate(512);
    all.push(cut);
    all
}

/// A sparse file in each of the four ways of GNU tar.
fn sparse() -> Vec<Vec<u8>> {
    let data = [[b'a'; 512].as_slice(), &[b'b'; 100]].concat();
    let mut old = Header::new(b'S', b"sparse");
    old.put(257, b"ustar  \0")
        .octal(483, 12, 8192)
        .octal(386, 12, 1024)
        .octal(398, 12, 512)
        .octal(410, 12, 4096);
    old.octal(422, 12, 100).octal(434, 12, 8192).octal(446, 12, 0);
    let mut many = old.clone();
    many.octal(124, 12, data.len() as u64);
    many.octal(434, 12, 5000).octal(458, 12, 6000).octal(470, 12, 0).put(482, &[1]);
    let mut more = [0; 512];
    more[..12].copy_from_slice(b"00000020000\0");
    more[12..24].copy_from_slice(b"00000000000\0");
    let mut extended = Archive::default();
    extended.add(&many, b"").block(&more).block(&data);
    let map = b"3\n1024\n512\n4096\n100\n8192\n0\n";
    let mut payload = map.to_vec();
    payload.resize(512, 0);
    payload.extend_from_slice(&data);
    let pax = |records: &[(&str, &[u8])], payload: &[u8]| {
        Archive::default()
            .pax(b'x', records)
            .add(&Header::new(b'0', b"./GNUSparseFile.1/sparse"), payload)
            .end()
    };
    vec![
        Archive::default().add(&old, &data).end(),
        extended.end(),
        pax(
            &[
                ("GNU.sparse.size", b"8192"),
                ("GNU.sparse.numblocks", b"2"),
                ("GNU.sparse.offset", b"1024"),
                ("GNU.sparse.numbytes", b"512"),
                ("GNU.sparse.offset", b"4096"),
                ("GNU.sparse.numbytes", b"100"),
            ],
            &data,
        ),
        pax(
            &[
                ("GNU.sparse.size", b"8192"),
                ("GNU.sparse.numblocks", b"3"),
                ("GNU.sparse.name", b"sparse"),
                ("GNU.sparse.map", b"1024,512,4096,100,8192,0"),
            ],
            &data,
        ),
        pax(
            &[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.name", b"sparse"),
                ("GNU.sparse.realsize", b"8192"),
            ],
            &payload,
        ),
    ]
}

/// Archives of several layers.
pub fn layers() -> Vec<Vec<u8>> {
    let base = Archive::default().entry(b'5', "d", "").entry(b'0', "d/a", "1").link(b'2', "l", "d").end();
    let upper =
        Archive::default().entry(b'0', "d/.wh.a", "").entry(b'0', "l/b", "2").link(b'1', "h", "d/b").end();
    let replaced =
        Archive::default().entry(b'0', "d", "").entry(b'5', "l", "").entry(b'0', "l/.wh..wh..opq", "").end();
    let dangling =
        Archive::default().link(b'2', "x", "y/../z").entry(b'0', "x/f", "").link(b'1', "k", "x").end();
    let join = |parts: &[&[u8]]| parts.join(layers::SEPARATOR);
    vec![
        join(&[&base]),
        join(&[&base, &upper]),
        join(&[&base, &upper, &replaced]),
        join(&[&dangling, &base, &base]),
    ]
}

/// Opcodes of random trees.
pub fn changes() -> Vec<Vec<u8>> {
    erofs::RECIPES.iter().map(|recipe| recipe.to_vec()).collect()
}

/// Images of ours, with and without changes, and the first blocks of one.
pub fn erofs() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = (0..erofs::RECIPES.len() as u8).map(|number| vec![number]).collect();
    // The root's size, the superblock's number of blocks.
    all.push(vec![1, 0x08, 0x10, 0, 1, 0xff]);
    all.push(vec![2, 0x24, 0x04, 0, 2, 0xff, 0xff]);
    if let Some(built) = image::build(&changes::layers(b""), &changes::limits()) {
        let length = built.summary.hash_start as usize;
        all.push([&[255], &built.bytes[..length]].concat());
    }
    all
}

/// Changes of an image that is verified afterwards.
pub fn verity() -> Vec<Vec<u8>> {
    vec![vec![0], vec![1], vec![129], vec![0, 0, 0, 0, 1, 1], vec![0, 0, 0x20, 0, 2, 1, 2]]
}

/// Indexes of segments.
pub fn index() -> Vec<Vec<u8>> {
    let write = |layer: &Vec<image::Step>| Segment::write(layer, 0, &mut HashMap::new()).index;
    erofs::RECIPES.iter().flat_map(|recipe| changes::layers(recipe)).map(|layer| write(&layer)).collect()
}

/// Compressed streams; the first byte says how.
pub fn inflate() -> Vec<Vec<u8>> {
    // Two members and padding; a stored block; two frames, the second one skippable. Made by gzip(1) and zstd(1).
    let gzip: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\x4b\x4c\x4a\x4e\x49\x4d\x4b\xcf\xc8\xcc\xca\xce\xc9\xcd\xcb\x2f\x28\x2c\x2a\x2e\x29\x2d\x2b\xaf\xa8\xac\x02\x00\xbd\x50\x27\x4c\x1a\x00\x00\x00";
    let stored: &[u8] =
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x01\x01\x00\xfe\xff\x61\x43\xbe\xb7\xe8\x01\x00\x00\x00";
    let zstd: &[u8] = b"\x28\xb5\x2f\xfd\x24\x03\x19\x00\x00\x61\x62\x63\x0f\xc4\x3d\x3b";
    let raw: &[u8] = b"\x28\xb5\x2f\xfd\x20\x03\x19\x00\x00\x61\x62\x63";
    let skippable: &[u8] = b"\x50\x2a\x4d\x18\x02\x00\x00\x00xx";
    let with = |compression: LayerCompression, parts: &[&[u8]]| {
        let shape = match compression {
            LayerCompression::Gzip => 0,
            LayerCompression::Zstd => 31,
            LayerCompression::None => 2,
        };
        [&[shape], parts.concat().as_slice()].concat()
    };
    vec![
        with(LayerCompression::Gzip, &[gzip]),
        with(LayerCompression::Gzip, &[gzip, gzip, &[0; 16]]),
        with(LayerCompression::Gzip, &[stored, gzip]),
        with(LayerCompression::Gzip, &[&gzip[..30]]),
        with(LayerCompression::Zstd, &[raw]),
        with(LayerCompression::Zstd, &[zstd]),
        with(LayerCompression::Zstd, &[raw, skippable, raw]),
        with(LayerCompression::None, &[b"plain"]),
    ]
}
