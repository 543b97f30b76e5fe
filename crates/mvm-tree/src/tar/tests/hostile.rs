//! Archives that must be refused, and why.

use super::{refusal, why};
use crate::testing::{Archive, Block, pax_records, read, read_good};
use crate::{Breach, Budget, Devices, Escaped, Knob, ReadError, Refusal, UnpackPolicy};

fn escaped(text: &str) -> Escaped {
    Escaped::new(text.as_bytes())
}

#[test]
fn names_the_entry_and_its_place() {
    let mut archive = Archive::default();
    archive.file("good", "data").pax(&[("mtime", b"1")]).file("a/../etc/\x1b[31m", "");
    let got = refusal(&archive.end(), &UnpackPolicy::default());
    let value = escaped("a/../etc/\x1b[31m");
    let want = (1, 1024, r"a/../etc/\x1b[31m".to_owned(), Refusal::Parent { what: "path", value });
    assert_eq!(got, want);
    let error = read(&archive.end(), &UnpackPolicy::default()).1.expect_err("refused");
    assert_eq!(error.to_string(), r"read entry 1 at byte 1024, a/../etc/\x1b[31m");
}

/// What each stage fails with reaches the caller with its cause.
#[test]
fn passes_errors_on() {
    let (error, cause) = failing(Archive::default().file("a", "").end(), u64::MAX);
    assert_eq!((error.as_str(), cause.as_str()), ("store entry 0 at byte 0, a", "the disk is full"));
    let (error, cause) = failing(Archive::default().dir("a").end(), 700);
    assert_eq!((error.as_str(), cause.as_str()), ("read the archive at byte 700", "the blob is corrupt"));
    let mut broken = Archive::default();
    broken.payload(b"no header");
    assert_eq!(failing(broken.end(), u64::MAX).0, "read entry 0 at byte 0");
}

/// Reads from an input that fails after some bytes, into a sink that takes no files.
fn failing(archive: Vec<u8>, after: u64) -> (String, String) {
    struct Corrupt;
    impl std::io::Read for Corrupt {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the blob is corrupt"))
        }
    }
    use std::io::Read as _;
    let mut input = std::io::BufReader::new((&archive[..]).take(after).chain(Corrupt));
    let error = crate::read_layer(&mut input, &Budget::new(&UnpackPolicy::default()), &mut Full)
        .expect_err("a failure");
    let cause = std::error::Error::source(&error).expect("a cause").to_string();
    (error.to_string(), cause)
}

#[derive(Debug, thiserror::Error)]
#[error("the disk is full")]
struct DiskFull;

struct Full;

impl crate::LayerSink for Full {
    type Error = DiskFull;

    fn begin(&mut self, _: u64) -> Result<(), DiskFull> {
        Err(DiskFull)
    }

    fn data(&mut self, _: &[u8]) -> Result<(), DiskFull> {
        Err(DiskFull)
    }

    fn hole(&mut self, _: u64) -> Result<(), DiskFull> {
        Err(DiskFull)
    }

    fn end(&mut self) -> Result<crate::Content, DiskFull> {
        Err(DiskFull)
    }

    fn change(&mut self, _: crate::Change) -> Result<(), DiskFull> {
        Ok(())
    }
}

#[test]
fn refuses_paths() {
    let parent = |what, value| Refusal::Parent { what, value: escaped(value) };
    let nul = |what, value| Refusal::Nul { what, value: escaped(value) };
    let new = Archive::default;
    let long = "n/".repeat(2048);
    let over = |what, got, limit| {
        let knob = if what == "bytes of a name" { Knob::Name } else { Knob::Path };
        Refusal::Policy(Breach::OverLimit { knob, what, got, limit })
    };
    let cases: [(Vec<u8>, Refusal); 16] = [
        (new().file("../x", "").end(), parent("path", "../x")),
        (new().dir("/..").end(), parent("path", "/..")),
        (new().file("a/../.wh.x", "").end(), parent("path", "a/../.wh.x")),
        (new().link(b'1', "a", "../../etc/passwd").end(), parent("link target", "../../etc/passwd")),
        (new().pax(&[("path", b"a\0b")]).file("x", "").end(), nul("path", "a\0b")),
        (new().entry(b'L', "x", b"a\0b\0").file("x", "").end(), nul("path", "a\0b")),
        (new().entry(b'L', "x", b"\0").file("x", "").end(), nul("path", "")),
        (new().entry(b'K', "x", b"").file("x", "").end(), nul("link target", "")),
        (new().pax(&[("linkpath", b"a\0b")]).link(b'2', "x", "").end(), nul("link target", "a\0b")),
        (new().pax(&[("path", long.as_bytes())]).file("x", "").end(), over("bytes of a path", 4096, 4095)),
        (
            new().pax(&[("linkpath", long.as_bytes())]).link(b'2', "x", "").end(),
            over("bytes of a path", 4096, 4095),
        ),
        (new().pax(&[("path", &[b'n'; 256])]).file("x", "").end(), over("bytes of a name", 256, 255)),
        (new().link(b'2', "a", "").end(), Refusal::LinkTarget),
        (new().link(b'1', "a", "./").end(), Refusal::LinkTarget),
        // Also the layer in CVE-2021-29136.
        (new().link(b'2', ".", "/etc").end(), Refusal::Root),
        (new().file("", "x").end(), Refusal::Root),
    ];
    for (archive, want) in cases {
        assert_eq!(why(&archive), want);
    }
}

#[test]
fn refuses_whiteouts_of_no_file() {
    for (name, target) in [(".wh.", ""), ("a/.wh..", "."), ("a/.wh...", "..")] {
        assert_eq!(
            why(&Archive::default().file(name, "").end()),
            Refusal::Whiteout { target: escaped(target) }
        );
    }
    assert_eq!(why(&Archive::default().file("a/.wh.b/c", "").end()), Refusal::BeneathWhiteout);
    assert_eq!(why(&Archive::default().file(".wh.b/.wh..wh..opq", "").end()), Refusal::BeneathWhiteout);
}

#[test]
fn refuses_devices() {
    let device =
        |flag, major, minor| Archive::default().block(Block::new(flag, b"dev").device(major, minor)).end();
    let unusual = |kind, major, minor| Some(Refusal::Policy(Breach::Device { kind, major, minor }));
    let range = |field, value, limit| Some(Refusal::Range { field, value, limit });
    let cases: [(u8, u64, u64, Option<Refusal>, bool); 9] = [
        (b'3', 1, 3, None, false),
        (b'3', 10, 200, None, false),
        (b'3', 0, 0, Some(Refusal::OverlayWhiteout), true),
        (b'3', 1, 1, unusual("character", 1, 1), false),
        (b'4', 8, 0, unusual("block", 8, 0), false),
        (b'4', 1, 3, unusual("block", 1, 3), false),
        (b'4', 0, 0, unusual("block", 0, 0), false),
        (b'3', 4096, 0, range("major number", 4096, 4095), true),
        (b'4', 8, 1 << 20, range("minor number", 1 << 20, (1 << 20) - 1), true),
    ];
    let lenient = UnpackPolicy { devices: Devices::Any, ..UnpackPolicy::default() };
    for (flag, major, minor, want, even_lenient) in cases {
        let archive = device(flag, major, minor);
        match &want {
            Some(want) => assert_eq!(why(&archive), *want),
            None => assert_eq!(read_good(&archive).changes.len(), 1),
        }
        match want {
            Some(want) if even_lenient => assert_eq!(refusal(&archive, &lenient).3, want),
            _ => assert!(read(&archive, &lenient).1.is_ok(), "{major}:{minor}"),
        }
    }
}

#[test]
fn refuses_types() {
    for flag in [b'D', b'M', b'V', b'A', b'8', b'?', 0xff] {
        assert_eq!(why(&Archive::default().entry(flag, "x", b"").end()), Refusal::TypeFlag { flag });
        assert_eq!(why(&Archive::default().entry(flag, ".wh.x", b"").end()), Refusal::TypeFlag { flag });
    }
    let shown = Refusal::TypeFlag { flag: b'V' }.to_string();
    assert_eq!(shown, "entry type 86 is not supported: GNU volume label");
}

#[test]
fn refuses_headers() {
    let mut broken = Block::new(b'0', b"x").done();
    broken[0] = b'y';
    let digits = std::str::from_utf8(&broken[148..154]).expect("digits");
    let expected = i64::from_str_radix(digits, 8).expect("a sum");
    assert_eq!(why(&broken), Refusal::Checksum { expected, got: expected + 1 });

    let field = |at: usize, bytes: &[u8]| Block::new(b'5', b"x").set(at, bytes).done().to_vec();
    let number = |field, bytes: &[u8]| Refusal::Number { field, value: Escaped::new(bytes) };
    let range = |field, value, limit| Refusal::Range { field, value, limit };
    let u32_max = u64::from(u32::MAX);
    let cases: [(Vec<u8>, Refusal); 10] = [
        (field(100, b"0000 9\0\0"), number("mode", b"0000 9\0\0")),
        (field(108, b"\xff\xff\xff\xff\xff\xff\xff\xff"), range("uid", -1, u32_max - 1)),
        (field(108, b"\x80\0\0\0\xff\xff\xff\xff"), range("uid", u32_max as i64, u32_max - 1)),
        (field(116, b"\x80\0\0\x01\0\0\0\0"), range("gid", 1 << 32, u32_max - 1)),
        (field(124, b"-1\0"), number("size", b"-1\x0000000000\0")),
        (field(124, &[0xff; 12]), range("size", -1, i64::MAX as u64)),
        (field(124, b"\x80\0\0\0\x80\0\0\0\0\0\0\0"), number("size", b"\x80\0\0\0\x80\0\0\0\0\0\0\0")),
        (field(136, b"now"), number("mtime", b"now00000000\0")),
        (Block::new(b'3', b"x").set(329, &[0xff; 8]).done().to_vec(), range("devmajor", -1, u32_max)),
        (vec![b'x'; 512], number("checksum", b"xxxxxxxx")),
    ];
    for (archive, want) in cases {
        assert_eq!(why(&archive), want);
    }
}

#[test]
fn refuses_archives_that_end_early() {
    let mut archive = Archive::default();
    archive.pax(&[("path", b"name")]).file("x", &"data".repeat(300)).dir("d");
    let whole = archive.0.len();
    // Padding may be missing.
    let is_boundary = |len: usize| len == 0 || len == whole || (2736..=3072).contains(&len);
    for len in (0..=whole).step_by(64).chain([1, 511, 513, 1023, 1537, whole - 1]) {
        let result = read(&archive.0[..len], &UnpackPolicy::default()).1;
        match result {
            Ok(_) => assert!(is_boundary(len), "{len}"),
            Err(ReadError::Refused { source: Refusal::Truncated { .. }, .. }) => {
                assert!(!is_boundary(len), "{len}");
            }
            Err(ReadError::Refused { source: Refusal::HeaderDangling, .. }) => {
                assert!((525..=1024).contains(&len), "{len}");
            }
            other => panic!("{len}: {other:?}"),
        }
    }
    let mut dangling = Archive::default();
    assert_eq!(why(&dangling.pax(&[("uid", b"1")]).end()), Refusal::HeaderDangling);
    let mut lone = Archive::default();
    lone.dir("a").payload(&[0; 512]).dir("b");
    assert_eq!(why(&lone.end()), Refusal::LoneZeroBlock);
    assert_eq!(why(&[0; 700]), Refusal::Truncated { missing: 324 });
    // A size near the largest number needs no memory.
    let huge = Block::new(b'0', b"x").set(124, b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff").done();
    let limits =
        UnpackPolicy { unpacked_bytes: u64::MAX, apparent_bytes: u64::MAX, ..UnpackPolicy::default() };
    assert_eq!(refusal(&huge, &limits).3, Refusal::Truncated { missing: i64::MAX as u64 });
}

#[test]
fn refuses_extended_headers() {
    let pax = |payload: &[u8]| Archive::default().entry(b'x', "x", payload).file("f", "").end();
    let at = |at| Refusal::PaxRecord { at };
    let value = |key, value: &str| Refusal::PaxValue { key: escaped(key), value: escaped(value) };
    let record = |key: &str, value: &str| pax(&pax_records(&[(key, value.as_bytes())]));
    let twice = |flag: u8, data: &[u8]| {
        Archive::default().entry(flag, "x", data).entry(flag, "x", data).file("f", "").end()
    };
    let repeated = |flag| Refusal::HeaderRepeated { flag };
    let names = Refusal::NamesDiffer { pax: escaped("a"), gnu: escaped("b") };
    let size = (1 << 20) + 1;
    let cases: [(Vec<u8>, Refusal); 24] = [
        (pax(b"6 a=b\n6 a=b\nx"), at(12)),
        (pax(b"7 a=b\n"), at(0)),
        (pax(b"5 a=b\n"), at(0)),
        (pax(b"6 a=bc"), at(0)),
        (pax(b"5 =b\n"), at(0)),
        (pax(b"5 ab\n"), at(0)),
        (pax(b"0 a=b\n"), at(0)),
        (pax(b"-6 a=b\n"), at(0)),
        (pax(b" 7 a=b\n"), at(0)),
        (pax(b"99999999999999999999999 a=b\n"), at(0)),
        (pax(b"18446744073709551615 a=b\n"), at(0)),
        (pax(b"6 a=b\n\0\0"), at(6)),
        (pax(b"7 a\0=b\n"), at(0)),
        (record("size", "-1"), value("size", "-1")),
        (record("size", "9223372036854775808"), value("size", "9223372036854775808")),
        (record("uid", "4294967296"), value("uid", "4294967296")),
        (record("gid", "0x1"), value("gid", "0x1")),
        (record("mtime", "yesterday"), value("mtime", "yesterday")),
        (twice(b'x', b"6 a=b\n"), repeated('x')),
        (twice(b'L', b"a\0"), repeated('L')),
        (twice(b'K', b"a\0"), repeated('K')),
        (Archive::default().pax(&[("path", b"a")]).entry(b'L', "x", b"b").file("f", "").end(), names),
        (
            Archive::default().entry(b'x', "x", &vec![0; size]).end(),
            Refusal::HeaderLong { flag: 'x', got: size as u64, limit: 1 << 20 },
        ),
        (
            Archive::default().entry(b'L', "x", &vec![b'a'; size]).end(),
            Refusal::HeaderLong { flag: 'L', got: size as u64, limit: 1 << 20 },
        ),
    ];
    for (archive, want) in cases {
        assert_eq!(why(&archive), want);
    }
}

/// Who doesn't know the record takes what is stored for all of the file.
#[test]
fn refuses_sparse_files_of_solaris() {
    let archive = Archive::default().pax(&[("SUN.holesdata", b" 0 512 4096")]).file("f", "data").end();
    assert_eq!(why(&archive), Refusal::Sparse { reason: crate::SparseFault::Version });
}

#[test]
fn refuses_xattrs() {
    let xattr = |name: &str, value: &[u8]| {
        Archive::default().pax(&[(&format!("SCHILY.xattr.{name}"), value)]).file("f", "").end()
    };
    for name in ["trusted.overlay.opaque", "trusted.overlay.redirect", "user.overlay.metacopy"] {
        assert_eq!(why(&xattr(name, b"y")), Refusal::OverlayXattr { name: escaped(name) });
    }
    assert_eq!(why(&xattr("", b"y")), Refusal::XattrName { got: 0 });
    assert_eq!(why(&xattr(&"user.".repeat(52), b"y")), Refusal::XattrName { got: 260 });
    let over = |got| {
        let (knob, what, limit) = (Knob::Xattrs, "bytes of extended attributes", 65_536);
        Refusal::Policy(Breach::OverLimit { knob, what, got, limit })
    };
    let want = over(65_537);
    assert_eq!(why(&xattr("user.x", &[0; 65_531])), want);
    assert_eq!(read_good(&xattr("user.x", &[0; 65_530])).changes.len(), 1);
    let libarchive = |value: &[u8]| {
        let records = [("SCHILY.xattr.user.a", &b"x"[..]), ("LIBARCHIVE.xattr.user.a", value)];
        Archive::default().pax(&records).file("f", "").end()
    };
    assert_eq!(read_good(&libarchive(b"eA")).changes.len(), 1);
    assert_eq!(why(&libarchive(b"eQ")), Refusal::XattrsDiffer { name: escaped("user.a") });
    let invalid = Refusal::PaxValue { key: escaped("LIBARCHIVE.xattr.user.a"), value: escaped("e A") };
    assert_eq!(why(&libarchive(b"e A")), invalid);
    let hidden =
        Archive::default().pax(&[("LIBARCHIVE.xattr.trusted%2eoverlay.opaque", b"eQ")]).file("f", "").end();
    assert_eq!(why(&hidden), Refusal::OverlayXattr { name: escaped("trusted.overlay.opaque") });
    let nul = Archive::default().pax(&[("LIBARCHIVE.xattr.user.a%00", b"eQ")]).file("f", "").end();
    assert!(matches!(why(&nul), Refusal::Nul { .. }));
    // Both forms count together.
    let records: [(&str, &[u8]); 2] =
        [("SCHILY.xattr.user.a", &[0; 40_000]), ("LIBARCHIVE.xattr.user.b", &[b'A'; 40_000])];
    let want = over(70_012);
    assert_eq!(why(&Archive::default().pax(&records).file("f", "").end()), want);
}

#[test]
fn keeps_to_its_limits() {
    let mut archive = Archive::default();
    archive.file("a", &"x".repeat(1000)).file("b", &"x".repeat(1000)).file("c", "");
    let archive = archive.end();
    let over = |what, got, limit| {
        let knob = match what {
            "entries" => Knob::Entries,
            "bytes of file data" => Knob::Unpacked,
            "bytes of files, with holes" => Knob::Apparent,
            _ => Knob::Metadata,
        };
        Refusal::Policy(Breach::OverLimit { knob, what, got, limit })
    };
    let all = UnpackPolicy::default;
    let cases: [(UnpackPolicy, u64, Refusal); 5] = [
        (UnpackPolicy { entries: 2, ..all() }, 2, over("entries", 3, 2)),
        (UnpackPolicy { unpacked_bytes: 1999, ..all() }, 1, over("bytes of file data", 2000, 1999)),
        (UnpackPolicy { apparent_bytes: 1999, ..all() }, 1, over("bytes of files, with holes", 2000, 1999)),
        (UnpackPolicy { metadata_bytes: 2, ..all() }, 2, over("bytes of names and attributes", 3, 2)),
        (
            UnpackPolicy { metadata_bytes: 2, unpacked_bytes: 1000, ..all() },
            1,
            over("bytes of file data", 2000, 1000),
        ),
    ];
    for (limits, index, want) in cases {
        let got = refusal(&archive, &limits);
        assert_eq!((got.0, got.3), (index, want));
    }
    let exact =
        UnpackPolicy { entries: 3, unpacked_bytes: 2000, apparent_bytes: 2000, metadata_bytes: 3, ..all() };
    assert!(read(&archive, &exact).1.is_ok());
    let globals = Archive::default().entry(b'g', "g", b"").entry(b'g', "g", b"").end();
    assert_eq!(refusal(&globals, &UnpackPolicy { entries: 1, ..all() }).3, over("entries", 2, 1));
}

/// Bytes of good archives, changed at random: nothing panics, whatever the pieces.
#[test]
fn survives_changed_bytes() {
    let mut archive = Archive::default();
    archive
        .pax(&[("path", b"some/name"), ("SCHILY.xattr.user.a", b"v"), ("mtime", b"1.5")])
        .file("x", "data");
    archive.entry(b'L', "x", b"long\0").link(b'1', "h", "some/name").dir("d").file("d/.wh.a", "");
    archive.block(Block::new(b'3', b"null").device(1, 3));
    let good = archive.end();
    // A linear congruential generator (Knuth, MMIX), so that every run is the same.
    let mut state = 1u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..3000 {
        let mut bytes = good.clone();
        for _ in 0..=random(3) {
            let at = random(bytes.len());
            bytes[at] = random(256) as u8;
            // Most changes would stop at the checksum.
            let header = at / 512 * 512;
            let mut block = Block([0; 512]);
            block.0.copy_from_slice(&bytes[header..header + 512]);
            if block.0[257..262] == *b"ustar" {
                bytes[header..header + 512].copy_from_slice(&block.done());
            }
        }
        bytes.truncate(bytes.len() - random(600));
        let (memory, result) = read(&bytes, &UnpackPolicy::default());
        let mut merge = crate::Merge::new(&UnpackPolicy::default());
        merge.begin_layer();
        if result.is_ok() && memory.changes.into_iter().try_for_each(|change| merge.apply(change)).is_ok() {
            assert!(merge.finish().len() < 20);
        }
    }
}
