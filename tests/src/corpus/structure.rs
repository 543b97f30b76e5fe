//! Blocks of an archive: checksums, ends, sizes, types.

use super::tar::{BLOCK, Entry, GNU, Tar, V7, field};
use super::{Case, Kind, Peer, Tree, hostile, oddity};

pub(super) fn cases() -> Vec<Case> {
    [legal(), ends(), sizes(), refused(), cut(), types()].into_iter().flatten().collect()
}

fn legal() -> Vec<Case> {
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
        .bsdtar(Peer::Differs("it leaves the directory that it unpacks into as it is")),
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
        oddity("contiguous-file", "a type of file that only one system ever had", |i| {
            i.layer(Tar::new().with(Entry::new(b'7', "a").data("x")))
        })
        .accepted(|| Tree::new().file("a", "x"))
        .umoci(Peer::Differs("it knows no such type; POSIX says to take it for a file"))
        .bsdtar(Peer::Same),
        oddity("zero-as-type", "a NUL is an old regular file", |i| {
            i.layer(Tar::new().with(Entry::new(0, "a").data("x")))
        })
        .accepted(|| Tree::new().file("a", "x"))
        .bsdtar(Peer::Same),
        oddity("no-bytes-in-a-file", "files without content", |i| {
            i.layer(Tar::new().file("a", "").file("b", "").link("c", "a"))
        })
        .accepted(|| Tree::new().file("a", "").file("b", "").link("c", "a"))
        .bsdtar(Peer::Same),
        oddity("sizes-around-blocks", "files that end at, before and after a block's end", |i| {
            let sizes = [1, 511, 512, 513, 4095, 4096, 4097, 8192, 65_535, 1 << 20];
            i.layer(Tar::new().all(sizes.map(|size| Entry::file(format!("f{size}"), vec![b'x'; size]))))
        })
        .accepted(|| {
            let sizes = [1, 511, 512, 513, 4095, 4096, 4097, 8192, 65_535, 1 << 20];
            sizes.into_iter().fold(Tree::new(), |tree, size| tree.file(format!("f{size}"), vec![b'x'; size]))
        })
        .bsdtar(Peer::Same),
        oddity(
            "star",
            "star's headers end with a magic of their own, and have times in the prefix's last bytes",
            |i| {
                let entry = Entry::file("b", "x").put(field::PREFIX, "d").put(476..488, "13737770000 ");
                i.layer(Tar::new().dir("d").with(entry.put(488..500, "13737770000 ").put(508..512, "tar\0")))
            },
        )
        .accepted(|| Tree::new().dir("d").file("d/b", "x")),
        oddity("solaris-extended-header", "an X is an older x", |i| {
            let header = Entry::new(b'X', "h").data(super::tar::record("path", b"record"));
            i.layer(Tar::new().with(header).file("header", "x"))
        })
        .accepted(|| Tree::new().file("record", "x"))
        .umoci(Peer::Differs(
            "it takes the header for an entry of an unknown type; tar and libarchive read it",
        )),
        oddity("garbage-in-padding", "what follows a file's end in its last block is nobody's", |i| {
            let mut bytes = Entry::file("a", "x").bytes();
            bytes[BLOCK + 1..].fill(b'?');
            i.layer(Tar::new().raw(bytes).file("b", "y"))
        })
        .accepted(|| Tree::new().file("a", "x").file("b", "y"))
        .bsdtar(Peer::Same),
    ]
}

fn ends() -> Vec<Case> {
    vec![
        oddity("padded-to-a-record", "tar fills its last record of 10,240 bytes", |i| {
            i.layer(Tar::new().file("a", "x").raw(vec![0; 9216]).open_end())
        })
        .accepted(|| Tree::new().file("a", "x"))
        .bsdtar(Peer::Same),
        oddity("garbage-after-the-end", "what follows the mark of the end is no part of the archive", |i| {
            i.layer(Tar::new().file("a", "x").raw([0; 2 * BLOCK]).raw([b'?'; 1000]).open_end())
        })
        .accepted(|| Tree::new().file("a", "x"))
        .bsdtar(Peer::Same),
        oddity("two-archives", "readers stop at the end of the first", |i| {
            i.layer(Tar::new().file("a", "x").raw([0; 2 * BLOCK]).file("b", "y"))
        })
        .accepted(|| Tree::new().file("a", "x"))
        .bsdtar(Peer::Same),
        hostile("one-zero-block-inside", "readers disagree on whether the archive ends there", |i| {
            i.layer(Tar::new().file("a", "x").raw([0; BLOCK]).file("b", "y"))
        })
        .refused(Kind::LoneZeroBlock, "entry 1"),
        hostile("garbage-before-the-end", "text where a header should be", |i| {
            i.layer(Tar::new().file("a", "x").raw([b'?'; BLOCK]))
        })
        .refused(Kind::Number, "entry 1"),
    ]
}

fn sizes() -> Vec<Case> {
    vec![
        oddity("directory-with-a-size", "old tars gave directories the room they might take", |i| {
            i.layer(Tar::new().with(Entry::dir("d").size(1 << 20)).file("d/f", "x"))
        })
        .accepted(|| Tree::new().dir("d").file("d/f", "x"))
        .bsdtar(Peer::Same),
        oddity("links-with-a-size", "the size of a target or of a file, without data", |i| {
            i.layer(Tar::new().with(Entry::symlink("s", "target").size(6)).file("f", "x"))
        })
        .accepted(|| Tree::new().symlink("s", "target").file("f", "x"))
        .bsdtar(Peer::Same),
        oddity("pipe-with-a-size", "nothing in a pipe is archived", |i| {
            i.layer(Tar::new().with(Entry::new(b'6', "p").size(512)).file("f", "x"))
        })
        .accepted(|| Tree::new().fifo("p").file("f", "x")),
        hostile("size-past-the-end", "a file of which there is one byte", |i| {
            i.layer(Tar::new().with(Entry::file("a", "x").size(1 << 30)))
        })
        .refused(Kind::Truncated, ", a"),
    ]
}

fn refused() -> Vec<Case> {
    vec![
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

fn cut() -> Vec<Case> {
    vec![
        hostile("cut-in-data", "the archive ends inside a file", |i| {
            i.layer(Tar::new().file("a", "x").file("b", vec![b'y'; 2000]).cut(1000))
        })
        .refused(Kind::Truncated, "entry 1"),
        hostile("cut-after-a-header", "the archive ends before a file's first byte", |i| {
            i.layer(Tar::new().file("a", "x").file("b", vec![b'y'; 512]).cut(512))
        })
        .refused(Kind::Truncated, "entry 1"),
        oddity("cut-in-padding", "the last file is whole, its last block isn't", |i| {
            i.layer(Tar::new().file("a", "x").cut(100))
        })
        .accepted(|| Tree::new().file("a", "x")),
        hostile("cut-in-the-end", "one and a half zero blocks", |i| {
            i.layer(Tar::new().file("a", "x").raw([0; 700]).open_end())
        })
        .refused(Kind::Truncated, "entry 1"),
        hostile("one-byte", "a layer of a single byte", |i| i.bytes(vec![b'a']))
            .refused(Kind::Truncated, "entry 0"),
    ]
}

fn types() -> Vec<Case> {
    let unknown = |name, why, flag| {
        hostile(name, why, move |i| i.layer(Tar::new().with(Entry::new(flag, "a").data("x")).file("b", "y")))
            .refused(Kind::TypeFlag, ", a")
    };
    vec![
        unknown("volume-label", "an archive of several volumes", b'V'),
        unknown("continued-file", "the rest of a file in another volume", b'M'),
        unknown("directory-dump", "incremental backups of GNU tar", b'D'),
        unknown("access-control-list", "attributes of Solaris", b'A'),
        unknown("inode-only", "backups of star", b'I'),
        unknown("unknown-type", "a type that nobody knows", b'~'),
        unknown("type-of-eight", "the digit after the last type", b'8'),
    ]
}
