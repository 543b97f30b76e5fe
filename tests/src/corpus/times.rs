//! Times: before 1970, far from now, in pieces of a second.

use super::tar::{Entry, Tar, field};
use super::{Case, Kind, Peer, Tree, hostile, oddity};

pub(super) fn cases() -> Vec<Case> {
    const RANGE: Peer = Peer::Differs("the host's file system stores 34 bits of seconds");
    let pax = |name, why, text: &'static str, seconds, nanoseconds| {
        oddity(name, why, move |i| i.layer(Tar::new().with(Entry::file("f", "x").pax("mtime", text))))
            .accepted(move || Tree::new().file("f", "x").mtime(seconds, nanoseconds))
    };
    vec![
        pax("nanoseconds", "what Docker's layers have", "1700000000.123456789", 1_700_000_000, 123_456_789)
            .bsdtar(Peer::Same),
        pax("tenths", "fewer digits", "1700000000.5", 1_700_000_000, 500_000_000),
        pax(
            "picoseconds",
            "more digits than a file system has",
            "1700000000.123456789999",
            1_700_000_000,
            123_456_789,
        ),
        pax("no-digits-after-the-point", "a point at the end", "1700000000.", 1_700_000_000, 0),
        pax("before-1970", "a whole second before", "-1", -1, 0),
        pax("a-quarter-before-1970", "fractions count backwards", "-1.25", -2, 750_000_000),
        pax("a-nanosecond-before-1970", "minus zero seconds", "-0.000000001", -1, 999_999_999),
        pax("year-2200", "past 2^32 seconds", "7258118400", 7_258_118_400, 0),
        pax("year-3000", "past what ext4 stores", "32503680000", 32_503_680_000, 0).umoci(RANGE),
        oddity("in-the-header", "base-256 and all eleven octal digits", |i| {
            i.layer(
                Tar::new()
                    .with(Entry::file("a", "x").mtime(-100))
                    .with(Entry::file("b", "x").mtime(8_589_934_591))
                    .with(Entry::file("c", "x").mtime(0)),
            )
        })
        .accepted(|| {
            Tree::new()
                .file("a", "x")
                .mtime(-100, 0)
                .file("b", "x")
                .mtime(8_589_934_591, 0)
                .file("c", "x")
                .mtime(0, 0)
        }),
        oddity("past-eleven-octal-digits", "base-256 where digits have no room", |i| {
            i.layer(Tar::new().with(Entry::file("a", "x").mtime(1 << 40)))
        })
        .accepted(|| Tree::new().file("a", "x").mtime(1 << 40, 0))
        .umoci(RANGE),
        oddity("times-of-everything", "directories keep theirs after their children are written", |i| {
            i.layer(
                Tar::new()
                    .with(Entry::dir("d").mtime(11))
                    .with(Entry::file("d/f", "x").mtime(12))
                    .with(Entry::symlink("d/l", "f").mtime(13))
                    .with(Entry::new(b'6', "d/p").mtime(14)),
            )
        })
        .accepted(|| {
            let tree = Tree::new().dir("d").mtime(11, 0).file("d/f", "x").mtime(12, 0);
            tree.symlink("d/l", "f").mtime(13, 0).fifo("d/p").mtime(14, 0)
        })
        .bsdtar(Peer::Same),
        oddity("other-times-are-ignored", "an image has one time an entry", |i| {
            let entry = Entry::file("f", "x")
                .pax("atime", "5.5")
                .pax("ctime", "-6")
                .pax("LIBARCHIVE.creationtime", "7");
            i.layer(Tar::new().with(entry))
        })
        .accepted(|| Tree::new().file("f", "x")),
        hostile("not-a-time", "letters", |i| {
            i.layer(Tar::new().with(Entry::file("f", "x").pax("mtime", "now")))
        })
        .refused(Kind::PaxValue, "mtime"),
        hostile("two-points", "a time with two fractions", |i| {
            i.layer(Tar::new().with(Entry::file("f", "x").pax("mtime", "1.2.3")))
        })
        .refused(Kind::PaxValue, "mtime"),
        hostile("over-64-bits", "a time past all calendars", |i| {
            i.layer(Tar::new().with(Entry::file("f", "x").pax("mtime", "9223372036854775808")))
        })
        .refused(Kind::PaxValue, "mtime"),
        hostile("a-megabyte-of-digits", "a number that takes long to read", |i| {
            i.layer(Tar::new().with(Entry::file("f", "x").pax("mtime", "9".repeat(900_000))))
        })
        .refused(Kind::PaxValue, "mtime"),
        hostile("header-time-is-no-number", "letters in the field", |i| {
            i.layer(Tar::new().with(Entry::file("f", "x").put(field::MTIME, "yesterday")))
        })
        .refused(Kind::Number, "header field mtime"),
    ]
}
