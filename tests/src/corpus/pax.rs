//! Extended headers of PAX and GNU: sizes that disagree, records that lie, headers that clash.

use super::tar::{Entry, GNU, Tar, field};
use super::{Case, Kind, Peer, Tree, hostile, oddity};

pub(super) fn cases() -> Vec<Case> {
    [legal(), globals(), gnu(), sizes(), records(), refused()].into_iter().flatten().collect()
}

fn legal() -> Vec<Case> {
    vec![
        oddity("path-over-name", "the record counts, the header's name doesn't", |i| {
            i.layer(Tar::new().with(Entry::file("header", "x").pax("path", "record")))
        })
        .accepted(|| Tree::new().file("record", "x"))
        .bsdtar(Peer::Same),
        oddity("path-given-twice", "the last value counts", |i| {
            i.layer(Tar::new().with(Entry::file("header", "x").pax("path", "first").pax("path", "last")))
        })
        .accepted(|| Tree::new().file("last", "x"))
        .bsdtar(Peer::Same),
        oddity("path-taken-back", "an empty value takes a record back", |i| {
            i.layer(Tar::new().with(Entry::file("header", "x").pax("path", "first").pax("path", "")))
        })
        .accepted(|| Tree::new().file("header", "x")),
        oddity("path-with-line-feed", "a record ends where its length says", |i| {
            i.layer(Tar::new().with(Entry::file("x", "1").pax("path", "a\n12 path=b\nc")))
        })
        .accepted(|| Tree::new().file("a\n12 path=b\nc", "1"))
        .bsdtar(Peer::Same),
        oddity("unknown-keys", "records of vendors and of standards to come", |i| {
            let entry =
                Entry::file("f", "x").pax("comment", "words").pax("VENDOR.key", "v").pax("realtime.x", "y");
            i.layer(
                Tar::new().with(entry.pax("SCHILY.dev", "1").pax("SCHILY.ino", "2").pax("SCHILY.nlink", "3")),
            )
        })
        .accepted(|| Tree::new().file("f", "x"))
        .bsdtar(Peer::Same),
        oddity("no-records", "an extended header of no bytes", |i| {
            i.layer(Tar::new().raw(Entry::new(b'x', "empty").bytes()).file("f", "x"))
        })
        .accepted(|| Tree::new().file("f", "x")),
        oddity("binary-charset", "bytes announced as such", |i| {
            i.layer(Tar::new().with(Entry::file("x", "1").pax("hdrcharset", "BINARY").pax("path", b"\xff")))
        })
        .accepted(|| Tree::new().file(b"\xff", "1"))
        .bsdtar(Peer::Same),
        oddity("all-of-an-entry", "header and records agree on nothing", |i| {
            let entry = Entry::file("header", "text").owner(1, 2).mtime(3).size(0);
            let entry =
                entry.pax("size", "4").pax("path", "d/f").pax("uid", "5").pax("gid", "6").pax("mtime", "7.5");
            i.layer(Tar::new().dir("d").with(entry).file("g", "x"))
        })
        .accepted(|| {
            Tree::new().dir("d").file("d/f", "text").owner(5, 6).mtime(7, 500_000_000).file("g", "x")
        })
        .bsdtar(Peer::Same),
        oddity("links-by-record", "targets past a hundred bytes", |i| {
            let long = "t".repeat(300);
            i.layer(
                Tar::new()
                    .symlink("s", &long)
                    .with(Entry::file("n".repeat(200), "x"))
                    .link("h", "n".repeat(200)),
            )
        })
        .accepted(|| {
            Tree::new().symlink("s", "t".repeat(300)).file("n".repeat(200), "x").link("h", "n".repeat(200))
        })
        .bsdtar(Peer::Same),
    ]
}

fn globals() -> Vec<Case> {
    const GLOBAL: Peer = Peer::Differs(
        "it takes a global header for an entry of a type that it doesn't know; containerd passes over it",
    );
    vec![
        oddity("comment-of-git-archive", "a global header with a commit", |i| {
            i.layer(Tar::new().with(Entry::global(&[("comment", b"0123456789abcdef")])).file("f", "x"))
        })
        .accepted(|| Tree::new().file("f", "x"))
        .umoci(GLOBAL),
        oddity("global-at-the-end", "nothing follows for it to speak of", |i| {
            i.layer(Tar::new().file("f", "x").with(Entry::global(&[("comment", b"end")])))
        })
        .accepted(|| Tree::new().file("f", "x"))
        .umoci(GLOBAL),
        oddity(
            "global-owner-and-time",
            "POSIX has it speak of all entries that follow; container engines don't",
            |i| {
                let global = Entry::global(&[("uid", b"7"), ("mtime", b"9.5")]);
                i.layer(
                    Tar::new()
                        .file("a", "x")
                        .with(global)
                        .file("b", "x")
                        .with(Entry::file("c", "x").pax("uid", "8")),
                )
            },
        )
        .accepted(|| Tree::new().file("a", "x").file("b", "x").file("c", "x").owner(8, 0))
        .umoci(GLOBAL),
        hostile("global-path", "one name for all entries that follow", |i| {
            i.layer(Tar::new().with(Entry::global(&[("path", b"a")])).file("b", "x"))
        })
        .refused(Kind::PaxGlobal, "path"),
        hostile("global-size", "one size for all entries that follow hides what they are", |i| {
            i.layer(Tar::new().with(Entry::global(&[("size", b"1024")])).file("b", "x").file("c", "y"))
        })
        .refused(Kind::PaxGlobal, "size"),
    ]
}

fn gnu() -> Vec<Case> {
    let long = || "n".repeat(180);
    let name = move || [long().as_bytes(), b"\0"].concat();
    vec![
        oddity("long-name", "what GNU tar writes for more than a hundred bytes", move |i| {
            i.layer(Tar::new().with(Entry::file("short", "x").magic(GNU).extended(b'L', name())))
        })
        .accepted(move || Tree::new().file(long(), "x"))
        .bsdtar(Peer::Same),
        oddity("long-name-without-nul", "some writers leave the NUL out", move |i| {
            i.layer(Tar::new().with(Entry::file("short", "x").magic(GNU).extended(b'L', long())))
        })
        .accepted(move || Tree::new().file(long(), "x")),
        oddity("long-target", "of a symbolic and of a hard link", move |i| {
            i.layer(
                Tar::new()
                    .with(Entry::symlink("s", "short").magic(GNU).extended(b'K', name()))
                    .with(Entry::file("short", "x").magic(GNU).extended(b'L', name()))
                    .with(Entry::link("h", "short").magic(GNU).extended(b'K', name())),
            )
        })
        .accepted(move || Tree::new().symlink("s", long()).file(long(), "x").link("h", long()))
        .bsdtar(Peer::Same),
        oddity("long-name-and-target", "both for one entry, the target first", move |i| {
            let entry = Entry::symlink("a", "b").magic(GNU).extended(b'K', name()).extended(b'L', name());
            i.layer(Tar::new().with(entry))
        })
        .accepted(move || Tree::new().symlink(long(), long()))
        .bsdtar(Peer::Same),
        oddity("both-say-the-same", "a GNU name and a PAX path that agree", move |i| {
            i.layer(Tar::new().with(Entry::file("short", "x").extended(b'L', name()).pax("path", long())))
        })
        .accepted(move || Tree::new().file(long(), "x")),
        hostile("names-clash", "readers disagree on which of two names counts", |i| {
            i.layer(Tar::new().with(Entry::file("short", "x").extended(b'L', b"gnu\0").pax("path", "pax")))
        })
        .refused(Kind::NamesDiffer, "pax by PAX, gnu by GNU")
        .umoci(Peer::Differs("it takes the GNU name, others take the PAX path")),
        hostile("long-name-twice", "readers disagree on which counts", |i| {
            i.layer(Tar::new().with(Entry::file("short", "x").extended(b'L', b"a\0").extended(b'L', b"b\0")))
        })
        .refused(Kind::HeaderRepeated, "type L")
        .umoci(Peer::Differs("it takes the last one")),
        hostile("empty-long-name", "a long name of nothing", |i| {
            i.layer(Tar::new().with(Entry::file("short", "x").extended(b'L', b"\0")))
        })
        .refused(Kind::Nul, "entry 0")
        .umoci(Peer::Differs("it takes the header's name")),
        hostile("long-name-out-of-the-tree", "a check of the header's name alone would let it pass", |i| {
            i.layer(
                Tar::new()
                    .with(Entry::file("fine", "x").extended(b'L', b"../../../tmp/mvm-corpus-canary/file\0")),
            )
        })
        .refused(Kind::Parent, "../../../tmp/mvm-corpus-canary/file")
        .umoci(Peer::Differs("it cuts the path off at the root")),
        hostile("dangling-long-name", "the archive ends before the entry", |i| {
            let header = Entry::new(b'L', "././@LongLink").magic(GNU).data(b"name\0");
            i.layer(Tar::new().file("a", "x").raw(header.bytes()))
        })
        .refused(Kind::HeaderDangling, "entry 1")
        .umoci(Peer::Differs("it drops the header without a word")),
    ]
}

fn sizes() -> Vec<Case> {
    let hidden = || Tar::new().file("hidden", "y").open_end().finish();
    vec![
        hostile(
            "size-hides-entries",
            "2025-62518: the record says 1,024 bytes, the header none; both must not be read",
            move |i| {
                let entry = Entry::file("f", hidden()).size(0).pax("size", "1024");
                i.layer(Tar::new().with(entry).file("g", "x"))
            },
        )
        .accepted(move || Tree::new().file("f", hidden()).file("g", "x"))
        .bsdtar(Peer::Same),
        hostile("size-shows-entries", "2026-33055: the header says 1,024 bytes, the record none", move |i| {
            let entry = Entry::file("f", "").pax("size", "0").size(1024);
            i.layer(Tar::new().with(entry).raw(hidden()).file("g", "x"))
        })
        .accepted(|| Tree::new().file("f", "").file("hidden", "y").file("g", "x"))
        .bsdtar(Peer::Same),
        hostile("size-past-the-end", "a size of which there is little", |i| {
            i.layer(Tar::new().with(Entry::file("f", "x").pax("size", "100000")))
        })
        .refused(Kind::Truncated, "f"),
        hostile("size-of-eight-exabytes", "more than any limit", |i| {
            i.layer(Tar::new().with(Entry::file("f", "x").pax("size", "9223372036854775807")))
        })
        .refused(Kind::OverLimit, "f"),
        hostile("size-over-63-bits", "a size that becomes negative", |i| {
            i.layer(Tar::new().with(Entry::file("f", "x").pax("size", "18446744073709551615")))
        })
        .refused(Kind::PaxValue, "size"),
        hostile("size-minus-one", "a negative size", |i| {
            i.layer(Tar::new().with(Entry::file("f", "x").pax("size", "-1")))
        })
        .refused(Kind::PaxValue, "size"),
        hostile(
            "header-size-minus-one",
            "2026-59874: negative in base-256, a loop for who adds it up",
            |i| i.layer(Tar::new().with(Entry::file("f", "x").base256(field::SIZE, -512))),
        )
        .refused(Kind::Range, "f: size is -512"),
        hostile("header-size-over-64-bits", "a base-256 number that overflows", |i| {
            i.layer(Tar::new().with(Entry::file("f", "x").put(field::SIZE, [0xbf; 12])))
        })
        .refused(Kind::Number, "f: header field size"),
    ]
}

fn records() -> Vec<Case> {
    let raw = |name, why, bytes: &'static [u8]| {
        hostile(name, why, move |i| i.layer(Tar::new().with(Entry::file("f", "x").raw_pax(bytes))))
            .refused(Kind::PaxRecord, "entry 0")
    };
    vec![
        raw("record-too-long", "a length past the header's end", b"99 path=a\n"),
        raw("record-too-short", "a length that ends inside the record", b"8 path=abc\n"),
        raw("record-of-no-bytes", "length zero, a loop for who adds it up", b"0 path=a\n"),
        raw("record-of-minus-one", "a negative length", b"-1 path=a\n"),
        raw("record-without-number", "no length", b"path=a\n"),
        raw("record-without-equals", "no value", b"8 patha\n"),
        raw("record-without-key", "no key", b"5 =a\n"),
        raw("record-without-line-feed", "another byte at its end", b"10 path=ax"),
        raw("record-length-over-64-bits", "a length that overflows", b"99999999999999999999 path=a\n"),
        raw("record-in-hexadecimal", "a length in other digits", b"0xa path=a\n"),
        raw("nul-in-a-key", "a key that ends in the middle for some", b"12 pa\0th=ab\n"),
    ]
}

fn refused() -> Vec<Case> {
    vec![
        hostile("header-twice", "two extended headers for one entry", |i| {
            let header = |path: &str| Entry::new(b'x', "h").data(super::tar::record("path", path.as_bytes()));
            i.layer(Tar::new().with(header("a")).with(header("b")).file("c", "x"))
        })
        .refused(Kind::HeaderRepeated, "type x")
        .umoci(Peer::Differs("it takes the last one")),
        hostile("dangling", "the archive ends before the entry", |i| {
            let header = Entry::new(b'x', "h").data(super::tar::record("path", b"a"));
            i.layer(Tar::new().file("f", "x").with(header))
        })
        .refused(Kind::HeaderDangling, "entry 1")
        .umoci(Peer::Differs("it drops the header without a word")),
        hostile("cut-in-a-record", "the archive ends inside the extended header", |i| {
            let header = Entry::new(b'x', "h").data(super::tar::record("path", "a".repeat(700).as_bytes()));
            i.layer(Tar::new().file("f", "x").with(header).cut(512))
        })
        .refused(Kind::Truncated, "entry 1"),
        hostile("header-of-a-gigabyte", "2022-2879: memory for as much as the header says", |i| {
            i.layer(Tar::new().raw(Entry::new(b'x', "h").size(1 << 30).bytes()).file("f", "x"))
        })
        .refused(Kind::HeaderLong, "1073741824 bytes"),
        hostile("long-name-of-a-gigabyte", "the same for GNU's long name", |i| {
            i.layer(
                Tar::new()
                    .raw(Entry::new(b'L', "././@LongLink").magic(GNU).size(1 << 30).bytes())
                    .file("f", "x"),
            )
        })
        .refused(Kind::HeaderLong, "1073741824 bytes"),
        hostile("negative-header", "an extended header of less than no bytes", |i| {
            i.layer(Tar::new().raw(Entry::new(b'x', "h").base256(field::SIZE, -1).bytes()).file("f", "x"))
        })
        .refused(Kind::Range, "entry 0"),
        hostile("path-out-of-the-tree", "a check of the header's name alone would let it pass", |i| {
            i.layer(
                Tar::new().with(Entry::file("fine", "x").pax("path", "../../../tmp/mvm-corpus-canary/file")),
            )
        })
        .refused(Kind::Parent, "../../../tmp/mvm-corpus-canary/file")
        .umoci(Peer::Differs("it cuts the path off at the root")),
    ]
}
