//! Blocks of an archive: checksums, ends, sizes, types.

use super::tar::{Entry, GNU, Tar, V7, field};
use super::{Case, Kind, Peer, Tree, hostile, oddity};

pub(super) fn cases() -> Vec<Case> {
    vec![
        oddity("plain", "what most layers look like", |i| {
            i.layer(
                Tar::new()
                    .dir("./")
                    .dir("./a")
                    .file("./a/b", "text")
                    .symlink("./a/c", "b")
                    .link("./d", "./a/b"),
            )
        })
        .accepted(|| Tree::new().dir("").dir("a").file("a/b", "text").symlink("a/c", "b").link("d", "a/b"))
        .bsdtar(Peer::Same),
        oddity("empty-archive", "a layer of two zero blocks", |i| i.layer(Tar::new())).accepted(Tree::new),
        oddity("no-bytes", "a layer of no bytes at all", |i| i.layer(Tar::new().open_end()))
            .accepted(Tree::new),
        oddity("no-end-mark", "some writers leave the two zero blocks out", |i| {
            i.layer(Tar::new().file("a", "x").open_end())
        })
        .accepted(|| Tree::new().file("a", "x"))
        .bsdtar(Peer::Same),
        oddity("one-zero-block", "half of the end mark, then nothing", |i| {
            i.layer(Tar::new().file("a", "x").raw([0; 512]).open_end())
        })
        .accepted(|| Tree::new().file("a", "x")),
        oddity("v7", "no magic, no owners' names, a directory by its slash", |i| {
            let old = |flag, path| Entry::new(flag, path).magic(V7);
            i.layer(Tar::new().with(old(0, "a/").mode(0o755)).with(old(0, "a/b").data("x")))
        })
        .accepted(|| Tree::new().dir("a").file("a/b", "x"))
        .bsdtar(Peer::Same),
        oddity("gnu-magic", "headers of old GNU tar", |i| {
            i.layer(Tar::new().with(Entry::file("a", "x").magic(GNU)))
        })
        .accepted(|| Tree::new().file("a", "x"))
        .bsdtar(Peer::Same),
        oddity("signed-checksum", "old writers sum signed bytes", |i| {
            i.layer(Tar::new().with(Entry::file("caf\u{e9}", "x").signed_checksum()))
        })
        .accepted(|| Tree::new().file("caf\u{e9}", "x"))
        .bsdtar(Peer::Same),
        hostile("checksum-off-by-one", "a header that somebody has changed", |i| {
            i.layer(Tar::new().file("a", "x").with(Entry::file("b", "y").checksum_off_by(1)))
        })
        .refused(Kind::Checksum, "entry 1"),
        hostile("parent-of-the-root", "2026-20613, 2021-21272: a path out of the tree", |i| {
            i.layer(Tar::new().file("../../../../../../tmp/mvm-corpus-canary/file", "changed"))
        })
        .refused(Kind::Parent, "../../tmp/mvm-corpus-canary/file")
        .umoci(Peer::Differs("it cuts the path off at the root and writes tmp/mvm-corpus-canary/file")),
        hostile("cut-in-header", "the stream ends inside a header", |i| {
            i.layer(Tar::new().file("a", "x").file("b", "").cut(100))
        })
        .refused(Kind::Truncated, "entry 1"),
        hostile("size-is-not-a-number", "a size field that isn't octal", |i| {
            i.layer(Tar::new().with(Entry::file("a", "x").put(field::SIZE, "0000000000z")))
        })
        .refused(Kind::Number, "entry 0"),
    ]
}
