//! Names and paths: long, empty, of odd bytes, in odd forms.

use super::tar::{Entry, GNU, Tar};
use super::{Case, Kind, Peer, Tree, hostile, oddity};

pub(super) fn cases() -> Vec<Case> {
    [forms(), bytes(), lengths(), refused()].into_iter().flatten().collect()
}

fn forms() -> Vec<Case> {
    vec![
        oddity("leading-dot-slash", "what `tar -C dir -c .` writes", |i| {
            i.layer(Tar::new().dir("./").dir("./a/").file("./a/b", "x"))
        })
        .accepted(|| Tree::new().dir("").dir("a").file("a/b", "x"))
        .bsdtar(Peer::Differs("it leaves the directory that it unpacks into as it is")),
        oddity("leading-slash", "absolute paths begin at the image's root", |i| {
            i.layer(Tar::new().dir("/a").file("/a/b", "x").file("//c", "y"))
        })
        .accepted(|| Tree::new().dir("a").file("a/b", "x").file("c", "y")),
        oddity("slashes-and-dots", "doubled slashes and single dots mean nothing", |i| {
            i.layer(Tar::new().dir(".//a/./").file("a//.///b", "x").file("./././c", "y"))
        })
        .accepted(|| Tree::new().dir("a").file("a/b", "x").file("c", "y")),
        oddity("slash-after-a-link", "a link's name with a slash at its end is the link's name", |i| {
            i.layer(Tar::new().dir("d").symlink("l/", "d"))
        })
        .accepted(|| Tree::new().dir("d").symlink("l", "d")),
        oddity("file-with-slash", "a slash makes a directory only of entries older than types", |i| {
            i.layer(Tar::new().file("a/", "x").file("b", "y"))
        })
        .accepted(|| Tree::new().file("a", "x").file("b", "y"))
        .bsdtar(Peer::Differs("it takes it for a directory; container engines don't")),
        hostile(
            "old-directory-with-a-size",
            "readers disagree on whether the size of such a directory counts",
            |i| {
                let hidden = Tar::new().file("hidden", "y").open_end().finish();
                i.layer(Tar::new().with(Entry::new(0, "a/").mode(0o755).data(hidden)).file("b", "x"))
            },
        )
        .accepted(|| Tree::new().dir("a").file("hidden", "y").file("b", "x"))
        .bsdtar(Peer::Same),
        oddity("empty-name-of-a-directory", "no name is the root's", |i| {
            i.layer(Tar::new().with(Entry::dir("").mode(0o711)).file("a", "x"))
        })
        .accepted(|| Tree::new().dir("").mode(0o711).file("a", "x")),
        oddity("dots-that-are-names", "three dots and dots among letters are names", |i| {
            i.layer(Tar::new().file("...", "1").file("a..", "2").file("..a", "3").file(".a", "4").dir("a..b"))
        })
        .accepted(|| {
            Tree::new().file("...", "1").file("a..", "2").file("..a", "3").file(".a", "4").dir("a..b")
        })
        .bsdtar(Peer::Same),
        oddity("ustar-prefix", "a path in two fields", |i| {
            let entry = Entry::file("b", "x").put(super::tar::field::PREFIX, "dir/a");
            i.layer(Tar::new().dir("dir").dir("dir/a").with(entry))
        })
        .accepted(|| Tree::new().dir("dir").dir("dir/a").file("dir/a/b", "x"))
        .bsdtar(Peer::Same),
        oddity("gnu-times-are-no-prefix", "old GNU headers have times where ustar has a prefix", |i| {
            let times = "13737770000\x0013737770000\0";
            let entry = Entry::file("b", "x").magic(GNU).put(super::tar::field::PREFIX, times);
            i.layer(Tar::new().with(entry))
        })
        .accepted(|| Tree::new().file("b", "x"))
        .bsdtar(Peer::Same),
        oddity("name-fills-its-field", "a name of 100 bytes without a NUL after it", |i| {
            i.layer(Tar::new().file("n".repeat(100), "x"))
        })
        .accepted(|| Tree::new().file("n".repeat(100), "x"))
        .bsdtar(Peer::Same),
    ]
}

fn bytes() -> Vec<Case> {
    vec![
        oddity("not-utf-8", "names are bytes", |i| {
            i.layer(Tar::new().file(b"\xff\xfe", "1").file(b"caf\xe9", "2").file(b"\xc3\x28", "3"))
        })
        .accepted(|| Tree::new().file(b"\xff\xfe", "1").file(b"caf\xe9", "2").file(b"\xc3\x28", "3"))
        .bsdtar(Peer::Same),
        oddity("not-utf-8-in-pax", "whatever the standard says, tools put bytes into PAX paths", |i| {
            i.layer(Tar::new().with(Entry::file("x", "1").pax("path", b"\xff\xfe")))
        })
        .accepted(|| Tree::new().file(b"\xff\xfe", "1")),
        oddity("line-feed", "a name of two lines", |i| i.layer(Tar::new().file("a\nb", "x")))
            .accepted(|| Tree::new().file("a\nb", "x"))
            .bsdtar(Peer::Same),
        oddity("terminal-escapes", "a name that would colour or title a terminal", |i| {
            i.layer(Tar::new().file("\x1b[31mred\x1b[0m", "x").file("\x1b]0;title\x07", "y"))
        })
        .accepted(|| Tree::new().file("\x1b[31mred\x1b[0m", "x").file("\x1b]0;title\x07", "y"))
        .bsdtar(Peer::Same),
        oddity("every-byte", "all bytes but NUL and slash", |i| {
            let names: Vec<u8> = (1..=255u8).filter(|byte| *byte != b'/').collect();
            i.layer(Tar::new().all(names.iter().filter(|b| **b != b'.').map(|b| Entry::file([*b], [*b]))))
        })
        .accepted(|| {
            let names = (1..=255u8).filter(|byte| !b"/.".contains(byte));
            names.fold(Tree::new(), |tree, byte| tree.file([byte], [byte]))
        }),
        oddity("backslashes", "a backslash separates nothing", |i| {
            i.layer(Tar::new().file("a\\b", "1").file("..\\..\\c", "2").file("C:\\d", "3").file("C:e", "4"))
        })
        .accepted(|| {
            Tree::new().file("a\\b", "1").file("..\\..\\c", "2").file("C:\\d", "3").file("C:e", "4")
        }),
        oddity("case-collides", "names that one other system can't tell apart", |i| {
            i.layer(Tar::new().file("README", "1").file("readme", "2").dir("Dir").dir("dir"))
        })
        .accepted(|| Tree::new().file("README", "1").file("readme", "2").dir("Dir").dir("dir"))
        .bsdtar(Peer::Same),
        oddity("composed-and-decomposed", "names that look the same", |i| {
            i.layer(Tar::new().file("caf\u{e9}", "1").file("cafe\u{301}", "2"))
        })
        .accepted(|| Tree::new().file("caf\u{e9}", "1").file("cafe\u{301}", "2"))
        .bsdtar(Peer::Same),
        oddity("invisible-and-reversed", "marks that hide or reverse what is shown", |i| {
            i.layer(Tar::new().file("a\u{202e}txt.exe", "1").file("a\u{200b}b", "2").file("\u{feff}", "3"))
        })
        .accepted(|| Tree::new().file("a\u{202e}txt.exe", "1").file("a\u{200b}b", "2").file("\u{feff}", "3"))
        .bsdtar(Peer::Same),
        oddity("names-of-options", "names that programs take for options or patterns", |i| {
            i.layer(
                Tar::new()
                    .file("-rf", "1")
                    .file("--", "2")
                    .file("*", "3")
                    .file(" ", "4")
                    .file("~", "5")
                    .file("$(x)", "6"),
            )
        })
        .accepted(|| {
            let tree = Tree::new().file("-rf", "1").file("--", "2").file("*", "3");
            tree.file(" ", "4").file("~", "5").file("$(x)", "6")
        })
        .bsdtar(Peer::Same),
        oddity("percent-and-full-width", "what only looks like a path out of the tree", |i| {
            i.layer(
                Tar::new()
                    .file("%2e%2e%2fa", "1")
                    .file("\u{ff0e}\u{ff0e}\u{2215}a", "2")
                    .file("lost+found", "3"),
            )
        })
        .accepted(|| {
            Tree::new().file("%2e%2e%2fa", "1").file("\u{ff0e}\u{ff0e}\u{2215}a", "2").file("lost+found", "3")
        })
        .bsdtar(Peer::Same),
    ]
}

/// A path of names of 200 bytes, `length` bytes long in all.
fn long_path(length: usize) -> String {
    let mut path = String::new();
    while path.len() + 202 < length {
        path += &"n".repeat(200);
        path.push('/');
    }
    let rest = length - path.len();
    path + &"f".repeat(rest)
}

fn lengths() -> Vec<Case> {
    vec![
        oddity("name-of-255-bytes", "the longest name that Linux has", |i| {
            i.layer(Tar::new().file("n".repeat(255), "x").dir("m".repeat(255)))
        })
        .accepted(|| Tree::new().file("n".repeat(255), "x").dir("m".repeat(255)))
        .bsdtar(Peer::Same),
        hostile("name-of-256-bytes", "one byte more", |i| i.layer(Tar::new().file("n".repeat(256), "x")))
            .refused(Kind::OverLimit, "bytes of a name: 256, at most 255"),
        hostile("parent-of-256-bytes", "one byte more, in a parent", |i| {
            i.layer(Tar::new().file("n".repeat(256) + "/a", "x"))
        })
        .refused(Kind::OverLimit, "bytes of a name: 256, at most 255"),
        oddity("path-of-4095-bytes", "the longest path that Linux takes", |i| {
            i.layer(Tar::new().file(long_path(4095), "x"))
        })
        .accepted(|| {
            let path = long_path(4095);
            let parents =
                path.match_indices('/').fold(Tree::new(), |tree, (at, _)| tree.implied(&path[..at]));
            parents.file(&path, "x")
        })
        .umoci(Peer::NotAsked("below its directory the path is too long for the host")),
        hostile("path-of-4096-bytes", "one byte more", |i| i.layer(Tar::new().file(long_path(4096), "x")))
            .refused(Kind::OverLimit, "bytes of a path: 4096, at most 4095"),
        hostile("path-of-100000-bytes", "very many more", |i| {
            i.layer(Tar::new().file("a/".repeat(50_000), "x"))
        })
        .refused(Kind::OverLimit, "bytes of a path: 100000, at most 4095")
        .umoci(Peer::NotAsked("the host refuses the path")),
        oddity("two-thousand-directories-deep", "2024-28863: each in the one before", |i| {
            let path = "d/".repeat(2000);
            i.layer(Tar::new().all((1..=2000).map(|depth| Entry::dir(&path[..2 * depth]))))
        })
        .accepted(|| {
            let path = "d/".repeat(2000);
            (1..=2000).fold(Tree::new(), |tree, depth| tree.dir(&path[..2 * depth - 1]))
        })
        .umoci(Peer::NotAsked("below its directory the path is too long for the host")),
        hostile("deeper-through-a-link", "each entry is short, links make the path long", |i| {
            let half = "d/".repeat(1500);
            let deep = half.trim_end_matches('/');
            i.layer(Tar::new().dir(deep).symlink("l", deep).file(format!("l/{half}f"), "x"))
        })
        .refused(Kind::PathTooLong, "l/d/d/d"),
    ]
}

fn refused() -> Vec<Case> {
    vec![
        hostile("dot-dot-in-the-middle", "2007-4559: a path that goes up and down again", |i| {
            i.layer(Tar::new().dir("a").file("a/../b", "x"))
        })
        .refused(Kind::Parent, "a/../b")
        .umoci(Peer::Differs(
            "it resolves `..` by name; no tool writes it, and readers disagree on links before it",
        )),
        hostile("dot-dot-at-the-end", "an entry that is its own parent", |i| {
            i.layer(Tar::new().dir("a/b/.."))
        })
        .refused(Kind::Parent, "a/b/..")
        .umoci(Peer::Differs("it takes it for a")),
        hostile("dot-dot-alone", "the parent of the root", |i| i.layer(Tar::new().dir("..")))
            .refused(Kind::Parent, "entry 0")
            .umoci(Peer::Differs("it takes it for the root")),
        hostile("slash-dot-dot", "an absolute path out of the root", |i| {
            i.layer(Tar::new().file("/../x", "x"))
        })
        .refused(Kind::Parent, "/../x")
        .umoci(Peer::Differs("it takes it for x")),
        hostile(
            "nul-in-a-pax-path",
            "2026-59875: readers cut the name at the NUL, checkers see all of it",
            |i| i.layer(Tar::new().with(Entry::file("x", "1").pax("path", b"a\0/../../b"))),
        )
        .refused(Kind::Nul, "entry 0"),
        hostile("nul-in-a-gnu-name", "the same in GNU's long name", |i| {
            i.layer(Tar::new().with(Entry::file("x", "1").magic(GNU).extended(b'L', b"a\0b\0")))
        })
        .refused(Kind::Nul, "entry 0")
        .umoci(Peer::Differs("it cuts the name at the NUL")),
        hostile("nul-in-a-link-target", "the same in a target", |i| {
            i.layer(Tar::new().with(Entry::symlink("x", "y").pax("linkpath", b"a\0b")))
        })
        .refused(Kind::Nul, "x"),
        hostile("empty-name-of-a-file", "a file without a name", |i| i.layer(Tar::new().file("", "x")))
            .refused(Kind::Root, "entry 0"),
    ]
}
