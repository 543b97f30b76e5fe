//! What the dialects of tar say, and in how many ways.

use super::{put, why};
use crate::testing::{Archive, Block, content, pax_records, read, read_good};
use crate::{Attributes, Change, Device, Kind, LayerSummary, Refusal, Timestamp, UnpackPolicy, Xattr};

fn xattr(name: &str, value: &[u8]) -> Xattr {
    Xattr { name: name.as_bytes().into(), value: value.into() }
}

#[test]
fn reads_every_kind() {
    let mut archive = Archive::default();
    archive.dir("./").dir("dev/").file("dev/file", "hello").link(b'1', "dev/hard", "./dev/file");
    archive.link(b'2', "dev/soft", "../x//y").entry(b'6', "dev/pipe", b"").entry(
        b'7',
        "dev/contiguous",
        b"abc",
    );
    archive.block(Block::new(b'3', b"dev/null").device(1, 3));
    archive.file("dev/.wh.gone", "ignored").file("dev/.wh..wh..opq", "").file(".wh..wh.aufs", "x");
    archive.entry(0, "old", b"v7").entry(0, "old-dir/", b"");
    let (memory, result) = read(&archive.end(), &UnpackPolicy::default());

    let device = Device { major: 1, minor: 3 };
    let want = [
        put("", Kind::Directory),
        put("dev", Kind::Directory),
        put("dev/file", Kind::Regular(content(0, 5))),
        Change::Link { path: (*b"dev/hard").into(), target: (*b"dev/file").into() },
        put("dev/soft", Kind::Symlink((*b"../x//y").into())),
        put("dev/pipe", Kind::Fifo),
        put("dev/contiguous", Kind::Regular(content(1, 3))),
        put("dev/null", Kind::CharDevice(device)),
        Change::Whiteout { path: (*b"dev/gone").into() },
        Change::Opaque { path: (*b"dev").into() },
        put("old", Kind::Regular(content(2, 2))),
        put("old-dir", Kind::Directory),
    ];
    assert_eq!(memory.changes, want);
    assert_eq!(memory.files, [&b"hello"[..], b"abc", b"v7"]);
    let want = LayerSummary {
        entries: 13,
        whiteouts: 2,
        data_bytes: 10,
        apparent_bytes: 10,
        archive_bytes: archive.0.len() as u64 + 1024,
        trailing_bytes: 0,
        ignored_xattrs: 0,
    };
    assert_eq!(result.expect("a good archive"), want);
}

#[test]
fn reads_attributes() {
    let mut plain = Block::new(b'5', b"d");
    plain.octal(100, 8, 0o107_755).octal(108, 8, 1000).octal(116, 8, 0o7_777_777).octal(136, 12, 0o7777);
    let mut base256 = Block::new(b'5', b"d");
    base256.set(108, b"\x80\0\0\0\xff\xff\xff\xfe").set(136, &[0xff; 12]);
    let mut archive = Archive::default();
    archive.block(&plain).block(&base256);
    archive.pax(&[("uid", b"4000000000"), ("gid", b"7"), ("mtime", b"-1.5"), ("uname", b"root")]).dir("d");

    let at = |secs, nanos| Timestamp { secs, nanos };
    let attributes = |mode, uid, gid, mtime| Attributes { mode, uid, gid, mtime, xattrs: [].into() };
    let want = [
        attributes(0o7755, 1000, 0o7_777_777, at(0o7777, 0)),
        attributes(0o644, 0xffff_fffe, 0, at(-1, 0)),
        attributes(0o644, 4_000_000_000, 7, at(-2, 500_000_000)),
    ];
    let got = read_good(&archive.end()).changes.into_iter().map(|change| match change {
        Change::Put { attributes, .. } => attributes,
        other => panic!("{other:?}"),
    });
    assert_eq!(got.collect::<Vec<_>>(), want);
}

#[test]
fn reads_long_names() {
    let long = "d/".repeat(150) + "end";
    let mut prefixed = Block::new(b'0', b"name");
    prefixed.set(345, b"some/prefix");
    // In GNU's dialect these bytes are no prefix.
    let mut gnu = Block::new(b'0', &[b'n'; 100]);
    gnu.set(257, b"ustar  \0").set(345, b"123");
    let mut archive = Archive::default();
    archive.block(&prefixed).block(&gnu);
    archive.entry(b'L', "././@LongLink", format!("{long}\0").as_bytes());
    archive.entry(b'K', "././@LongLink", format!("../{long}\0").as_bytes()).link(b'2', "short", "short");
    archive.pax(&[("path", long.as_bytes()), ("linkpath", b"a/b")]).link(b'1', "short", "short");
    // An empty value takes the record back.
    archive.pax(&[("path", b"x"), ("path", b"")]).file("short", "");
    // Both kinds of long name may say the same.
    archive.pax(&[("path", b"same")]).entry(b'L', "././@LongLink", b"same\0").file("short", "");

    let want = [
        put("some/prefix/name", Kind::Regular(content(0, 0))),
        put(&"n".repeat(100), Kind::Regular(content(1, 0))),
        put(&long, Kind::Symlink(format!("../{long}").into_bytes().into())),
        Change::Link { path: long.as_bytes().into(), target: (*b"a/b").into() },
        put("short", Kind::Regular(content(2, 0))),
        put("same", Kind::Regular(content(3, 0))),
    ];
    assert_eq!(read_good(&archive.end()).changes, want);
}

#[test]
fn keeps_names_that_are_no_utf8() {
    let mut archive = Archive::default();
    archive
        .block(&Block::new(b'5', b"\xff\xfe\n"))
        .pax(&[("path", b"a/\xc3\x28"), ("hdrcharset", b"BINARY")]);
    archive.dir("x");
    let paths =
        read_good(&archive.end()).changes.iter().map(|change| change.path().to_vec()).collect::<Vec<_>>();
    assert_eq!(paths, [&b"\xff\xfe\n"[..], b"a/\xc3\x28"]);
}

#[test]
fn reads_xattrs() {
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let mut archive = Archive::default();
    archive.pax(&[
        ("SCHILY.xattr.user.b", b"first"),
        ("SCHILY.xattr.security.capability", capability),
        ("SCHILY.xattr.user.a", b"first"),
        ("SCHILY.xattr.user.a", b""),
        ("SCHILY.xattr.user.b", b"a=b\nc\0"),
        ("SCHILY.xattr.com.apple.provenance", b"x"),
        ("SCHILY.xattr.system.posix_acl_access", b"acl"),
        ("SCHILY.xattr.user.", b"no name"),
        ("SCHILY.acl.access", b"user::rw-,user:lp:--x,group::r--"),
        ("RHT.security.selinux", b"system_u:object_r:bin_t:s0"),
    ]);
    archive.file("f", "").file("g", "");
    let (memory, result) = read(&archive.end(), &UnpackPolicy::default());
    let xattrs = [
        xattr("security.capability", capability),
        xattr("system.posix_acl_access", b"acl"),
        xattr("user.a", b""),
        xattr("user.b", b"a=b\nc\0"),
    ];
    let attributes = Attributes { mode: 0o644, xattrs: xattrs.into(), ..Attributes::default() };
    let first = Change::Put { path: (*b"f").into(), attributes, kind: Kind::Regular(content(0, 0)) };
    assert_eq!(memory.changes, [first, put("g", Kind::Regular(content(1, 0)))]);
    assert_eq!(result.expect("a good archive").ignored_xattrs, 2);
}

#[test]
fn joins_both_forms_of_xattrs() {
    let mut archive = Archive::default();
    archive.pax(&[
        ("LIBARCHIVE.xattr.user.c%3d", b"eA"),
        ("LIBARCHIVE.xattr.user.a", b"MQ=="),
        ("SCHILY.xattr.user.b", b"2"),
        ("SCHILY.xattr.user.a", b"1"),
        ("LIBARCHIVE.xattr.com.apple.provenance", b""),
    ]);
    let (memory, result) = read(&archive.file("f", "").end(), &UnpackPolicy::default());
    let xattrs = [xattr("user.a", b"1"), xattr("user.b", b"2"), xattr("user.c=", b"x")];
    let attributes = Attributes { mode: 0o644, xattrs: xattrs.into(), ..Attributes::default() };
    assert_eq!(
        memory.changes,
        [Change::Put { path: (*b"f").into(), attributes, kind: Kind::Regular(content(0, 0)) }]
    );
    assert_eq!(result.expect("a good archive").ignored_xattrs, 1);
}

#[test]
fn reads_prefixes_of_each_dialect() {
    let ustar = Block::new(b'5', b"name").set(345, &[b'p'; 155]).clone();
    let star = Block::new(b'5', b"name").set(345, &[b'p'; 131]).set(476, b"00000000001 00000000002 ").clone();
    let star = star.clone().set(508, b"tar\0").clone();
    let gnu = |at345: &[u8]| Block::new(b'5', b"name").set(257, b"ustar  \0").set(345, at345).clone();
    let long = |count: usize| format!("{}/name", "p".repeat(count)).into_bytes();
    let cases: [(Block, Vec<u8>); 6] = [
        (ustar, long(155)),
        (star, long(131)),
        (gnu(b"00000000001\x0000000000002\x00"), b"name".to_vec()),
        // Go before 1.8.
        (gnu(b"usr/share/doc/perl\0"), b"usr/share/doc/perl/name".to_vec()),
        (gnu("usr/sh\u{e4}re\0".as_bytes()), b"name".to_vec()),
        (Block::new(b'5', b"name").set(257, &[0; 8]).set(345, b"ignored").clone(), b"name".to_vec()),
    ];
    for (block, path) in cases {
        assert_eq!(read_good(&block.done()).changes, [put_bytes(&path)]);
    }
}

#[test]
fn takes_the_extended_header_of_solaris() {
    let records = pax_records(&[("path", b"long"), ("SUN.devmajor", b"1")]);
    let memory = read_good(&Archive::default().entry(b'X', "x", &records).dir("d").end());
    assert_eq!(memory.changes, [put_bytes(b"long")]);
}

#[test]
fn takes_nothing_from_global_headers() {
    let mut archive = Archive::default();
    let records: [(&str, &[u8]); 5] =
        [("comment", b"x"), ("uid", b"5"), ("gid", b"6"), ("mtime", b"7"), ("SCHILY.xattr.user.a", b"b")];
    archive.entry(b'g', "pax_global_header", &pax_records(&records));
    archive.dir("a").pax(&[("uid", b"7")]).dir("b");
    let attributes = Attributes { mode: 0o644, ..Attributes::default() };
    let put = |path: &[u8], uid| {
        let attributes = Attributes { uid, ..attributes.clone() };
        Change::Put { path: path.into(), attributes, kind: Kind::Directory }
    };
    assert_eq!(read_good(&archive.end()).changes, [put(b"a", 0), put(b"b", 7)]);

    for key in ["path", "linkpath", "size", "GNU.sparse.major"] {
        let mut archive = Archive::default();
        archive.entry(b'g', "pax_global_header", &pax_records(&[(key, b"1")])).file("f", "");
        let want = Refusal::PaxGlobal { key: crate::Escaped::new(key.as_bytes()) };
        assert_eq!(why(&archive.end()), want);
    }
}

/// The archive in CVE-2025-62518: by its header the file is empty and another archive's entry follows.
#[test]
fn takes_the_size_of_pax() {
    let mut inner = Archive::default();
    inner.file("smuggled", "x");
    let mut archive = Archive::default();
    archive.pax(&[("size", inner.0.len().to_string().as_bytes())]).file("outer", "");
    archive.payload(&inner.0).file("next", "");
    let memory = read_good(&archive.end());
    let want = [
        put("outer", Kind::Regular(content(0, inner.0.len() as u64))),
        put("next", Kind::Regular(content(1, 0))),
    ];
    assert_eq!(memory.changes, want);
    assert_eq!(memory.files[0], inner.0);
}

#[test]
fn takes_sizes_of_what_has_no_data_for_nothing() {
    let mut archive = Archive::default();
    for (flag, name) in [(b'5', "d"), (b'2', "l"), (b'1', "h"), (b'6', "p"), (0, "old/")] {
        archive.block(Block::new(flag, name.as_bytes()).link(b"d").size(4096));
    }
    archive.block(Block::new(b'3', b"null").device(1, 3).size(512));
    assert_eq!(read_good(&archive.end()).changes.len(), 6);
}

#[test]
fn accepts_checksums_over_signed_bytes() {
    let mut block = Block::new(b'5', b"\xe9t\xe9").done();
    block[148..156].fill(b' ');
    let sum: i64 = block.iter().map(|b| i64::from(*b as i8)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert_eq!(read_good(&block).changes, [put_bytes(b"\xe9t\xe9")]);
}

fn put_bytes(path: &[u8]) -> Change {
    let attributes = Attributes { mode: 0o644, ..Attributes::default() };
    Change::Put { path: path.into(), attributes, kind: Kind::Directory }
}

#[test]
fn reads_to_the_end_of_the_input() {
    let mut archive = Archive::default();
    archive.dir("a");
    let good = archive.0.clone();
    let zeros = [0; 4096];
    let unpadded = Archive::default().dir("a").file(".wh.x", "data").0[..1028].to_vec();
    let cases: [(&str, Vec<u8>, u64); 7] = [
        ("no padding", unpadded, 0),
        ("no mark", good.clone(), 0),
        ("half a mark", [&good[..], &zeros[..512]].concat(), 0),
        ("a mark", [&good[..], &zeros[..1024]].concat(), 0),
        ("padding", [&good[..], &zeros[..]].concat(), 3072),
        ("another archive", [&good[..], &zeros[..1024], &good[..]].concat(), 512),
        ("odd bytes", [&good[..], &zeros[..1024], b"x"].concat(), 1),
    ];
    for (name, bytes, trailing) in cases {
        let (memory, result) = read(&bytes, &UnpackPolicy::default());
        assert_eq!(memory.changes[0], put_bytes(b"a"), "{name}");
        let summary = result.expect(name);
        assert_eq!((summary.trailing_bytes, summary.archive_bytes), (trailing, bytes.len() as u64), "{name}");
    }
    let (memory, result) = read(b"", &UnpackPolicy::default());
    assert_eq!((memory.changes, result.expect("nothing")), (vec![], LayerSummary::default()));
}
