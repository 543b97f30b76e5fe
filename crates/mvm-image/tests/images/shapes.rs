//! Images of all shapes.

use crate::support::*;
use mvm_tree::{Attributes, Device, Kind};

#[test]
fn an_empty_tree() {
    for layers in [vec![], vec![vec![]]] {
        let built = build(&layers);
        check(&built);
        assert_eq!((built.summary.data_blocks, built.summary.size), (2, 4 * 4096));
    }
}

/// Two layers with every kind of node; the second removes and replaces parts of the first.
pub fn every_kind() -> Vec<Vec<Step>> {
    let caps = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0".as_slice();
    let acl = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\xe8\x03\0\0\x04\0\x04\0\xff\xff\xff\xff\x10\0\x04\0\xff\xff\xff\xff\x20\0\x04\0\xff\xff\xff\xff".as_slice();
    let unusual = with_xattrs(
        attributes(0o7777, u32::MAX - 1, 70_000, -1, 999_999_999),
        &[("security.capability", caps)],
    );
    let shared =
        |mode| with_xattrs(attributes(mode, 1, 2, 3, 4), &[("user.same", b"x"), ("trusted.same", b"")]);
    let lower = vec![
        Step::Node(b"".into(), attributes(0o1711, 5, 6, 7, 8), Kind::Directory),
        dir("bin"),
        Step::File(b"bin/tool".into(), unusual, vec![Piece::Noise(1, 100_000)]),
        Step::Link(b"bin/tool2".into(), b"bin/tool".into()),
        file("bin/empty", vec![]),
        file("bin/one", vec![Piece::Bytes(b"x".to_vec())]),
        file("bin/tail2048", vec![Piece::Noise(2, 2048)]),
        file("bin/tail2049", vec![Piece::Noise(3, 2049)]),
        file("bin/block", vec![Piece::Noise(4, 4096)]),
        file("bin/gone", vec![Piece::Noise(5, 50_000)]),
        file("bin/block+tail", vec![Piece::Noise(6, 4096 + 777)]),
        file("bin/replaced", vec![Piece::Noise(7, 30_000)]),
        Step::File(b"a1".into(), shared(0o600), vec![]),
        Step::Node(b"a2".into(), shared(0o700), Kind::Directory),
        Step::Node(b"a3".into(), shared(0o777), Kind::Symlink(b"a1".as_slice().into())),
        Step::File(
            b"acl".into(),
            with_xattrs(attributes(0o644, 0, 0, 0, 0), &[("system.posix_acl_access", acl)]),
            vec![],
        ),
        Step::Node(
            b"acldir".into(),
            with_xattrs(
                attributes(0o755, 0, 0, 0, 0),
                &[("system.posix_acl_default", acl), ("user.n", b"1")],
            ),
            Kind::Directory,
        ),
        device("null", 1, 3),
        device("far", 4095, 1_048_575),
        device("mid", 300, 70_000),
        Step::Node(b"disk".into(), plain(), Kind::BlockDevice(Device { major: 259, minor: 257 })),
        Step::Node(b"fifo".into(), plain(), Kind::Fifo),
        Step::Node(b"socket".into(), plain(), Kind::Socket),
        symlink("dangling", b"../../no/where"),
        symlink("long", &[b'y'; 4095]),
        symlink("longish", &[b'z'; 3000]),
        Step::Link(b"far2".into(), b"far".into()),
        Step::Link(b"dangling2".into(), b"dangling".into()),
        file(b"\xff\xfe\n\t\"\\".to_vec(), vec![Piece::Bytes(b"odd".to_vec())]),
        file("!before-dot", vec![]),
        file("...", vec![]),
        file("n".repeat(255), vec![]),
        file("holes", vec![Piece::Noise(8, 65536), Piece::Zeros(1 << 20), Piece::Noise(9, 5)]),
        file("hole-first", vec![Piece::Zeros(1 << 17), Piece::Noise(10, 65536)]),
        file("hole-only", vec![Piece::Zeros(1_000_001)]),
        Step::Link(b"holes2".into(), b"holes".into()),
    ];
    let upper = vec![
        Step::Whiteout(b"bin/gone".into()),
        file("bin/replaced", vec![Piece::Noise(11, 20_000)]),
        Step::Link(b"bin/tool3".into(), b"bin/tool".into()),
        file("a2/inside", vec![Piece::Noise(12, 6000)]),
    ];
    vec![lower, upper]
}

#[test]
fn every_kind_of_node() {
    let built = build(&every_kind());
    check(&built);
    // tool, tail2049, block, block+tail, replaced (once), inside, holes, hole-first; nothing of bin/gone.
    let live = 24 + 1 + 1 + 1 + 5 + 1 + (16 + 1) + 16;
    assert_eq!(built.summary.copied_blocks, live);
}

#[test]
fn equal_layers_give_equal_bytes() {
    let layers = every_kind();
    let first = std::fs::read(&build(&layers).image).unwrap();
    for split in [1000, 4096, 65_537] {
        let again = build_split(&layers, split).unwrap();
        assert!(std::fs::read(&again.image).unwrap() == first, "split {split}");
    }
    // A layer that changes nothing changes nothing.
    let mut padded = layers.clone();
    padded.push(vec![]);
    assert!(std::fs::read(&build(&padded).image).unwrap() == first);
}

#[test]
fn veritysetup_makes_the_same_tree() {
    for layers in [vec![], every_kind(), vec![vec![file("big", vec![Piece::Noise(1, 70_000_000)])]]] {
        let built = build(&layers);
        let copy = built.dir.path().join("copy");
        std::fs::copy(&built.image, &copy).unwrap();
        let file = std::fs::File::options().write(true).open(&copy).unwrap();
        file.set_len(built.summary.hash_start).unwrap();
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let uuid = hex(&mvm_image::verity::UUID);
        let uuid = [&uuid[..8], &uuid[8..12], &uuid[12..16], &uuid[16..20], &uuid[20..]].join("-");
        let (copy, salt) = (copy.to_str().unwrap(), hex(&mvm_image::verity::SALT));
        let offset = built.summary.hash_start.to_string();
        let args = ["format", copy, copy, "--salt", &salt, "--uuid", &uuid, "--hash-offset", &offset];
        let Some(output) = run("veritysetup", &args) else { return };
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(&built.summary.root_hash.hex()), "{text}");
        assert!(std::fs::read(copy).unwrap() == std::fs::read(&built.image).unwrap());
    }
}

#[test]
fn a_directory_of_200_000_entries() {
    let mut layer = vec![dir("d")];
    layer.extend((0..200_000).map(|number| Step::File(format!("d/file-{number}").into(), plain(), vec![])));
    let built = build(&[layer]);
    check(&built);
}

#[test]
fn a_sparse_file_of_over_5_gib() {
    let mut bytes = vec![];
    for seed in 0..20 {
        bytes.push(Piece::Noise(seed, 3_000_000));
        bytes.push(Piece::Zeros((1 << 28) + 4096 * seed));
    }
    bytes.push(Piece::Noise(99, 123));
    let layer = vec![file("before", vec![Piece::Noise(5, 9000)]), file("sparse", bytes), file("z", vec![])];
    let built = build(&[layer]);
    check(&built);
    assert!(built.summary.size < 70_000_000);
}

#[test]
fn directories_and_attributes_of_all_lengths() {
    let mut layer = Vec::new();
    // Last directory blocks around the inline limit and around a whole block.
    for count in (0..40).chain(80..100).chain(125..145) {
        layer.push(dir(&format!("d{count}")));
        layer.extend(
            (0..count).map(|number| Step::File(format!("d{count}/{number:020}").into(), plain(), vec![])),
        );
    }
    let many: Vec<(String, Vec<u8>)> =
        (0..300).map(|number| (format!("user.{number}"), vec![7; 100])).collect();
    let many: Vec<(&str, &[u8])> =
        many.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
    for (number, len) in
        [0, 1, 3, 4, 900, 1800, 1990, 2000, 3000, 4000, 5000, 9000, 60_000].into_iter().enumerate()
    {
        let value = noise(number as u64, len);
        let xattrs = with_xattrs(plain(), &[("user.v", &value)]);
        for tail in [0, 1, 100, 2000, 2048] {
            let path = format!("x{number}-{tail}");
            let bytes = vec![Piece::Noise(tail, 4096 + tail)];
            layer.push(Step::File(path.clone().into(), unique(&xattrs, tail), bytes));
            let target = vec![b's'; tail as usize + 1];
            layer.push(Step::Node(
                format!("{path}s").into(),
                unique(&xattrs, tail + 1),
                Kind::Symlink(target.into()),
            ));
            layer.push(Step::Node(format!("{path}d").into(), unique(&xattrs, tail + 2), Kind::Directory));
            layer.push(file(format!("{path}d/child"), vec![]));
        }
        let holes = vec![Piece::Noise(1, 65536), Piece::Zeros(65536)];
        layer.push(Step::File(format!("x{number}h").into(), xattrs, holes));
    }
    layer.push(Step::File(b"many1".into(), with_xattrs(plain(), &many), vec![]));
    layer.push(Step::File(b"many2".into(), with_xattrs(plain(), &many), vec![]));
    check(&build(&[layer]));
}

fn unique(attributes: &Attributes, number: u64) -> Attributes {
    let mut xattrs = attributes.xattrs.to_vec();
    if number.is_multiple_of(2) {
        xattrs[0].name = format!("user.v{number}").into_bytes().into();
    }
    Attributes { xattrs: xattrs.into(), ..attributes.clone() }
}

#[test]
fn random_trees() {
    for seed in 1..=24 {
        let layers = random_layers(seed);
        let built = build(&layers);
        check(&built);
        assert!(build_split(&layers, 777).unwrap().summary == built.summary);
    }
}

fn random_layers(seed: u64) -> Vec<Vec<Step>> {
    let mut random = Random(seed.wrapping_mul(0x1234_5678_9abc_def1));
    let mut dirs = vec![String::new()];
    let mut files: Vec<String> = vec![];
    let mut layers = vec![];
    for layer in 0..1 + random.below(3) {
        let mut steps = vec![];
        for number in 0..random.below(300) {
            let parent = dirs[random.below(dirs.len() as u64) as usize].clone();
            let path = format!("{parent}/{layer}-{number}-{}", "n".repeat(random.below(60) as usize));
            let path = path.trim_start_matches('/').to_owned();
            let value = vec![b'v'; random.below(2000) as usize];
            let names: [&[(&str, &[u8])]; 4] =
                [&[], &[], &[("user.a", b"1")], &[("user.a", b"2"), ("trusted.long", &value)]];
            let attributes = attributes(
                random.below(0o10000) as u16,
                random.next() as u32 >> random.below(32),
                random.below(70_000) as u32,
                random.next() as i64 >> 30,
                random.below(1_000_000_000) as u32,
            );
            let attributes = with_xattrs(attributes, names[random.below(4) as usize]);
            match random.below(9) {
                0 | 1 => {
                    steps.push(Step::Node(path.clone().into(), attributes, Kind::Directory));
                    dirs.push(path);
                }
                2 => {
                    let bits = 1 + random.below(12);
                    let target = vec![b't'; 1 + random.below((1 << bits) - 1) as usize].into();
                    steps.push(Step::Node(path.into(), attributes, Kind::Symlink(target)));
                }
                3 if !files.is_empty() => {
                    let target = files[random.below(files.len() as u64) as usize].clone();
                    steps.push(Step::Link(path.into(), target.into()));
                }
                4 if layer > 0 && !files.is_empty() => {
                    let victim = files.swap_remove(random.below(files.len() as u64) as usize);
                    steps.push(Step::Whiteout(victim.into()));
                }
                _ => {
                    let bytes = (0..random.below(4))
                        .map(|_| {
                            let bits = 1 + random.below(18);
                            let len = random.below(1 << bits);
                            if random.below(3) == 0 {
                                Piece::Zeros(len)
                            } else {
                                Piece::Noise(random.next(), len)
                            }
                        })
                        .collect();
                    steps.push(Step::File(path.clone().into(), attributes, bytes));
                    files.push(path);
                }
            }
        }
        layers.push(steps);
    }
    layers
}

#[test]
fn what_an_image_cannot_hold_is_refused_by_name() {
    let big = vec![1; 65_536];
    let huge = vec![1; 65_535];
    let all: Vec<(String, &[u8])> =
        (0..5).map(|number| (format!("user.{number}"), huge.as_slice())).collect();
    let all: Vec<(&str, &[u8])> = all.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let named = |xattrs: &[(&str, &[u8])]| Step::File(b"d/f".into(), with_xattrs(plain(), xattrs), vec![]);
    let cases = [
        (
            named(&[("btrfs.x", b"")]),
            "extended attribute \"btrfs.x\" of \"d/f\" can't be stored; possible are user., trusted., security. and POSIX ACLs",
        ),
        (
            named(&[("user.", b"")]),
            "extended attribute \"user.\" of \"d/f\" can't be stored; possible are user., trusted., security. and POSIX ACLs",
        ),
        (
            named(&[("system.posix_acl_accessx", b"")]),
            "extended attribute \"system.posix_acl_accessx\" of \"d/f\" can't be stored; possible are user., trusted., security. and POSIX ACLs",
        ),
        (
            named(&[("user.b", &big)]),
            "extended attribute \"user.b\" of \"d/f\" has 65536 bytes, at most 65535 are possible",
        ),
        (named(&all), "the extended attributes of \"d/f\" take 327712 bytes, at most 262148 are possible"),
        (
            device("d/dev", 4096, 0),
            "device \"d/dev\" has number 4096:0, the largest possible is 4095:1048575",
        ),
        (
            symlink("d/l", &[b'x'; 4096]),
            "symbolic link \"d/l\" has a target of 4096 bytes, possible are 1 to 4095",
        ),
        (
            file("d/s", vec![Piece::Bytes(vec![1]), Piece::Zeros(1 << 62)]),
            "\"d/s\" of 4611686018427387905 bytes needs a block map of 70368744177665 entries, at most 67108864 are possible",
        ),
    ];
    for (step, message) in cases {
        let error = build_split(&[vec![dir("d"), step]], usize::MAX).err().unwrap();
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn every_flipped_byte_of_a_tiny_image_is_found() {
    let built = build(&[vec![file("f", vec![Piece::Noise(1, 5000)])]]);
    let mut bytes = std::fs::read(&built.image).unwrap();
    let (root_hash, data_blocks) = (built.summary.root_hash, built.summary.data_blocks);
    let expected = mvm_image::verity::Expected { root_hash, data_blocks };
    mvm_image::verity::verify(&bytes, &expected).unwrap();
    for at in 0..bytes.len() {
        bytes[at] ^= 0x40;
        assert!(mvm_image::verity::verify(&bytes, &expected).is_err(), "byte {at}");
        bytes[at] ^= 0x40;
    }
}
