//! Owners and groups: large, negative, by name.

use super::tar::{Entry, Tar, field};
use super::{Case, Kind, Peer, Tree, hostile, oddity};

pub(super) fn cases() -> Vec<Case> {
    [legal(), refused()].into_iter().flatten().collect()
}

fn legal() -> Vec<Case> {
    vec![
        oddity("over-21-bits", "ids past seven octal digits, in base-256", |i| {
            i.layer(
                Tar::new()
                    .with(Entry::file("a", "x").owner(2_097_151, 2_097_152))
                    .with(Entry::file("b", "x").owner(2_097_153, 65_536))
                    .with(Entry::dir("d").owner(100_000_000, 231_072)),
            )
        })
        .accepted(|| {
            Tree::new()
                .file("a", "x")
                .owner(2_097_151, 2_097_152)
                .file("b", "x")
                .owner(2_097_153, 65_536)
                .dir("d")
                .owner(100_000_000, 231_072)
        })
        .bsdtar(Peer::Same),
        oddity("over-21-bits-in-pax", "the same as decimal records", |i| {
            let entry = Entry::file("a", "x").owner(1, 2).pax("uid", "3000000000").pax("gid", "2147483648");
            i.layer(Tar::new().with(entry))
        })
        .accepted(|| Tree::new().file("a", "x").owner(3_000_000_000, 2_147_483_648)),
        oddity("largest-ids", "one less than the number that means none", |i| {
            i.layer(Tar::new().with(Entry::file("a", "x").owner(4_294_967_294, 4_294_967_294)))
        })
        .accepted(|| Tree::new().file("a", "x").owner(4_294_967_294, 4_294_967_294)),
        oddity("nobody", "65534 and 65535 are ids like any other", |i| {
            i.layer(
                Tar::new()
                    .with(Entry::file("a", "x").owner(65_534, 65_535))
                    .with(Entry::dir("d").owner(65_535, 65_534)),
            )
        })
        .accepted(|| Tree::new().file("a", "x").owner(65_534, 65_535).dir("d").owner(65_535, 65_534))
        .bsdtar(Peer::Same),
        oddity("names-of-owners", "names count for nothing, the image's accounts are not the host's", |i| {
            let entry = Entry::file("a", "x").owner(5, 6).put(265..297, "root").put(297..329, "daemon");
            i.layer(Tar::new().with(entry.pax("uname", "bin").pax("gname", "sys")))
        })
        .accepted(|| Tree::new().file("a", "x").owner(5, 6))
        .bsdtar(Peer::Same),
        oddity("empty-pax-ids", "an empty record takes itself back", |i| {
            let entry = Entry::file("a", "x").owner(5, 6).pax("uid", "9").pax("uid", "").pax("gid", "");
            i.layer(Tar::new().with(entry))
        })
        .accepted(|| Tree::new().file("a", "x").owner(5, 6)),
        oddity("owners-of-everything", "links, pipes and devices have owners too", |i| {
            i.layer(
                Tar::new()
                    .with(Entry::symlink("l", "x").owner(1, 2))
                    .with(Entry::new(b'6', "p").owner(3, 4))
                    .with(Entry::device(b'3', "n", 1, 3).owner(5, 6)),
            )
        })
        .accepted(|| {
            Tree::new().symlink("l", "x").owner(1, 2).fifo("p").owner(3, 4).character("n", 1, 3).owner(5, 6)
        })
        .bsdtar(Peer::Same),
        oddity("other-digits", "leading spaces, missing NULs, a NUL before the end", |i| {
            let entry = Entry::file("a", "x").put(field::UID, "   1750 ").put(field::GID, "00001750");
            i.layer(Tar::new().with(entry).with(Entry::file("b", "y").put(field::UID, b"12\0junk")))
        })
        .accepted(|| Tree::new().file("a", "x").owner(0o1750, 0o1750).file("b", "y").owner(0o12, 0)),
    ]
}

fn refused() -> Vec<Case> {
    vec![
        hostile("minus-one", "the number that means `leave it` to chown", |i| {
            i.layer(Tar::new().with(Entry::file("a", "x").owner(4_294_967_295, 0)))
        })
        .refused(Kind::Range, "a: uid is 4294967295")
        .umoci(Peer::Differs("it leaves the owner as it is, which is the unpacker")),
        hostile("minus-one-in-base-256", "the same as a negative number", |i| {
            i.layer(Tar::new().with(Entry::file("a", "x").base256(field::GID, -1)))
        })
        .refused(Kind::Range, "a: gid is -1")
        .umoci(Peer::Differs("it leaves the group as it is")),
        hostile("over-32-bits", "2^32 would become root", |i| {
            i.layer(Tar::new().with(Entry::file("a", "x").owner(1 << 32, 0)))
        })
        .refused(Kind::Range, "a: uid is 4294967296")
        .umoci(Peer::Differs("it cuts the number off, and root owns the file")),
        hostile("over-32-bits-in-pax", "the same as a record", |i| {
            i.layer(Tar::new().with(Entry::file("a", "x").pax("uid", "4294967296")))
        })
        .refused(Kind::PaxValue, "uid")
        .umoci(Peer::Differs("it cuts the number off, and root owns the file")),
        hostile("minus-one-in-pax", "a negative id", |i| {
            i.layer(Tar::new().with(Entry::file("a", "x").pax("gid", "-1")))
        })
        .refused(Kind::PaxValue, "gid")
        .umoci(Peer::Differs("it leaves the group as it is")),
        hostile("not-a-number-in-pax", "a name where a number belongs", |i| {
            i.layer(Tar::new().with(Entry::file("a", "x").pax("uid", "root")))
        })
        .refused(Kind::PaxValue, "uid"),
        hostile("not-a-number", "a name where octal digits belong", |i| {
            i.layer(Tar::new().with(Entry::file("a", "x").put(field::UID, "root")))
        })
        .refused(Kind::Number, "a: header field uid"),
        hostile("eight-is-no-octal-digit", "decimal digits in an octal field", |i| {
            i.layer(Tar::new().with(Entry::file("a", "x").put(field::UID, "0001980")))
        })
        .refused(Kind::Number, "a: header field uid"),
        hostile("base-256-over-64-bits", "a number that overflows", |i| {
            i.layer(Tar::new().with(
                Entry::file("a", "x").put(field::MTIME, b"\xa0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
            ))
        })
        .refused(Kind::Number, "a: header field mtime"),
    ]
}
