//! Symbolic and hard links: out of the tree, in circles, to nothing, through each other.

use super::tar::{Entry, Tar};
use super::{Case, Kind, Peer, Tree, hostile, oddity};

pub(super) fn cases() -> Vec<Case> {
    [
        escapes(),
        in_the_place_of_links(),
        roots(),
        loops(),
        hard_links(),
        symbolic_links(),
        legal(),
        legal_hard_links(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A tree into which the canary's path has been made, as a directory.
fn with_canary(tree: Tree) -> Tree {
    tree.implied("tmp").implied("tmp/mvm-corpus-canary")
}

fn escapes() -> Vec<Case> {
    vec![
        hostile("write-through-absolute-link", "2014-6407, 2014-9356: a link, then a file through it", |i| {
            i.layer(Tar::new().symlink("x", "/tmp/mvm-corpus-canary").file("x/file", "changed"))
        })
        .accepted(|| {
            with_canary(Tree::new())
                .symlink("x", "/tmp/mvm-corpus-canary")
                .file("tmp/mvm-corpus-canary/file", "changed")
        }),
        hostile("write-through-relative-link", "a link with more `..` than there are directories", |i| {
            i.layer(
                Tar::new()
                    .dir("a")
                    .symlink("a/x", "../../../../../../../../tmp/mvm-corpus-canary")
                    .file("a/x/file", "changed"),
            )
        })
        .accepted(|| {
            with_canary(Tree::new().dir("a"))
                .symlink("a/x", "../../../../../../../../tmp/mvm-corpus-canary")
                .file("tmp/mvm-corpus-canary/file", "changed")
        }),
        hostile("write-through-link-of-lower-layer", "the link in one layer, the file in the next", |i| {
            i.layer(Tar::new().symlink("x", "/tmp/mvm-corpus-canary"))?;
            i.layer(Tar::new().file("x/file", "changed"))
        })
        .accepted(|| {
            with_canary(Tree::new())
                .symlink("x", "/tmp/mvm-corpus-canary")
                .file("tmp/mvm-corpus-canary/file", "changed")
        }),
        hostile(
            "write-through-chained-links",
            "2020-27833, 2020-29529: each link is harmless, all of them are not",
            |i| {
                i.layer(
                    Tar::new()
                        .dir("a")
                        .symlink("a/up", "..")
                        .symlink("b", "a/up/..")
                        .symlink("c", "b/../../../../tmp/mvm-corpus-canary")
                        .file("c/file", "changed"),
                )
            },
        )
        .accepted(|| {
            with_canary(Tree::new().dir("a"))
                .symlink("a/up", "..")
                .symlink("b", "a/up/..")
                .symlink("c", "b/../../../../tmp/mvm-corpus-canary")
                .file("tmp/mvm-corpus-canary/file", "changed")
        }),
        hostile("write-through-proc", "a link to the unpacker's own root", |i| {
            i.layer(Tar::new().symlink("x", "/proc/self/root/tmp").file("x/file", "changed"))
        })
        .accepted(|| {
            Tree::new()
                .implied("proc")
                .implied("proc/self")
                .implied("proc/self/root")
                .implied("proc/self/root/tmp")
                .symlink("x", "/proc/self/root/tmp")
                .file("proc/self/root/tmp/file", "changed")
        }),
        hostile("link-pair", "2025-59825: a directory replaced by a link between two files in it", |i| {
            i.layer(
                Tar::new()
                    .dir("d")
                    .file("d/a", "a")
                    .symlink("d", "/tmp/mvm-corpus-canary")
                    .file("d/file", "changed"),
            )
        })
        .accepted(|| {
            with_canary(Tree::new())
                .symlink("d", "/tmp/mvm-corpus-canary")
                .file("tmp/mvm-corpus-canary/file", "changed")
        }),
    ]
}

fn in_the_place_of_links() -> Vec<Case> {
    vec![
        hostile(
            "file-over-link",
            "2015-3629: a file in a link's place must not be written through it",
            |i| i.layer(Tar::new().symlink("x", "/tmp/mvm-corpus-canary/file").file("x", "changed")),
        )
        .accepted(|| Tree::new().file("x", "changed")),
        hostile(
            "mode-through-link",
            "2021-32760, 2026-33056: a directory entry in a link's place changes no mode of its target",
            |i| {
                i.layer(
                    Tar::new()
                        .symlink("x", "/tmp/mvm-corpus-canary")
                        .with(Entry::dir("x/").mode(0o777).owner(7, 7)),
                )
            },
        )
        .accepted(|| Tree::new().dir("x").mode(0o777).owner(7, 7)),
        hostile("directory-through-link", "2021-38511: a directory made through a link", |i| {
            i.layer(
                Tar::new()
                    .symlink("x", "../../../tmp")
                    .dir("x/mvm-corpus-canary")
                    .dir("x/mvm-corpus-canary/new"),
            )
        })
        .accepted(|| {
            Tree::new()
                .symlink("x", "../../../tmp")
                .implied("tmp")
                .dir("tmp/mvm-corpus-canary")
                .dir("tmp/mvm-corpus-canary/new")
        }),
    ]
}

fn roots() -> Vec<Case> {
    vec![
        hostile("dot-is-a-link", "2021-29136: the entry of the root is a symbolic link", |i| {
            i.layer(Tar::new().symlink(".", "/tmp/mvm-corpus-canary").file("file", "changed"))
        })
        .refused(Kind::Root, "entry 0"),
        hostile("dot-slash-is-a-link", "the same with a slash", |i| {
            i.layer(Tar::new().symlink("./", "/tmp/mvm-corpus-canary"))
        })
        .refused(Kind::Root, "entry 0"),
        hostile("root-is-a-file", "the entry of the root is a file", |i| i.layer(Tar::new().file("/", "x")))
            .refused(Kind::Root, "entry 0"),
        hostile("root-is-a-hard-link", "the entry of the root is a hard link", |i| {
            i.layer(Tar::new().file("a", "x").link("./.", "a"))
        })
        .refused(Kind::Root, "entry 1"),
        hostile("root-is-a-pipe", "the entry of the root is a pipe", |i| {
            i.layer(Tar::new().with(Entry::new(b'6', ".")))
        })
        .refused(Kind::Root, "entry 0"),
    ]
}

fn loops() -> Vec<Case> {
    let chain = |length: usize| {
        let links = (1..length).map(|n| Entry::symlink(format!("l{n}"), format!("l{}", n - 1)));
        Tar::new().dir("d").symlink("l0", "d").all(links).file(format!("l{}/f", length - 1), "x")
    };
    vec![
        hostile("two-links-in-a-circle", "a path through links that never ends", |i| {
            i.layer(Tar::new().symlink("a", "b").symlink("b", "a").file("a/x", "x"))
        })
        .refused(Kind::TooManySymlinks, "a/x"),
        hostile("link-to-itself", "a path through a link to itself", |i| {
            i.layer(Tar::new().symlink("a", "a").file("a/x", "x"))
        })
        .refused(Kind::TooManySymlinks, "a/x"),
        hostile("links-that-double", "each link goes through the one before it twice", |i| {
            let links = (1..60).map(|n| Entry::symlink(format!("l{n}"), format!("l{0}/../l{0}", n - 1)));
            i.layer(Tar::new().dir("d").symlink("l0", "d").all(links).file("l59/x", "x"))
        })
        .refused(Kind::TooManySymlinks, "l59/x"),
        hostile("links-forty-one-deep", "one link more than a kernel follows", move |i| i.layer(chain(41)))
            .refused(Kind::TooManySymlinks, "l40/f")
            .umoci(Peer::Differs("it follows 255 links, more than Linux, which follows 40")),
        oddity("links-forty-deep", "as many links as a kernel follows", move |i| i.layer(chain(40)))
            .accepted(|| {
                let links = (1..40).fold(Tree::new().dir("d").symlink("l0", "d"), |tree, n| {
                    tree.symlink(format!("l{n}"), format!("l{}", n - 1))
                });
                links.file("d/f", "x")
            }),
        hostile("long-targets-on-a-path", "links whose targets make a path longer than any may be", |i| {
            let long = "./".repeat(1500);
            let links = (0..20).map(|n| Entry::symlink(format!("l{n}"), &long));
            let path: String = (0..20).map(|n| format!("l{n}/")).collect();
            i.layer(Tar::new().all(links).file(path + "f", "x"))
        })
        .refused(Kind::PathTooLong, "l0/l1")
        .umoci(Peer::Differs("it has no bound on the length of a path that it resolves")),
    ]
}

fn hard_links() -> Vec<Case> {
    vec![
        hostile("hard-link-out", "2021-21272, 2026-50163: a hard link to a file of the host", |i| {
            i.layer(Tar::new().link("x", "../../../../../../tmp/mvm-corpus-canary/file"))
        })
        .refused(Kind::Parent, "entry 0"),
        hostile("hard-link-to-absolute-path", "RUSTSEC-2018-0002: a hard link by an absolute path", |i| {
            i.layer(Tar::new().link("x", "/tmp/mvm-corpus-canary/file"))
        })
        .refused(Kind::TargetMissing, "link x to tmp/mvm-corpus-canary/file"),
        hostile("hard-link-through-link", "2026-26960: a hard link through a symbolic link", |i| {
            i.layer(Tar::new().symlink("s", "/tmp/mvm-corpus-canary").link("x", "s/file"))
        })
        .refused(Kind::TargetMissing, "link x to s/file"),
        hostile("hard-link-through-links", "2026-26960: through a chain of them", |i| {
            i.layer(
                Tar::new()
                    .symlink("s", "t/..")
                    .dir("d")
                    .symlink("t", "d/../../../tmp/mvm-corpus-canary")
                    .link("x", "s/mvm-corpus-canary/file"),
            )
        })
        .refused(Kind::TargetMissing, "link x to s/mvm-corpus-canary/file"),
        hostile(
            "write-through-hard-link",
            "RUSTSEC-2018-0002, 2026-42497: a file in a hard link's place is a new file",
            |i| {
                i.layer(
                    Tar::new()
                        .file("a", "one")
                        .link("b", "a")
                        .with(Entry::file("b", "two").mode(0o777).owner(3, 3)),
                )
            },
        )
        .accepted(|| Tree::new().file("a", "one").file("b", "two").mode(0o777).owner(3, 3)),
        hostile(
            "hard-link-to-link-to-host",
            "a hard link to a symbolic link is the link, not its target",
            |i| {
                i.layer(
                    Tar::new()
                        .symlink("s", "/tmp/mvm-corpus-canary/file")
                        .link("x", "s")
                        .file("x", "changed"),
                )
            },
        )
        .accepted(|| Tree::new().symlink("s", "/tmp/mvm-corpus-canary/file").file("x", "changed")),
        hostile("hard-link-to-itself", "a hard link whose target is its own name", |i| {
            i.layer(Tar::new().link("a", "a"))
        })
        .refused(Kind::TargetMissing, "link a to a"),
        hostile("hard-link-over-itself", "a file whose name becomes a hard link to itself", |i| {
            i.layer(Tar::new().file("a", "x").link("a", "./a"))
        })
        .refused(Kind::TargetMissing, "link a to a"),
        hostile("hard-link-to-nothing", "a hard link to what was never there", |i| {
            i.layer(Tar::new().link("a", "b"))
        })
        .refused(Kind::TargetMissing, "link a to b"),
        hostile("hard-link-before-its-target", "tar has links after what they link to", |i| {
            i.layer(Tar::new().link("a", "b").file("b", "x"))
        })
        .refused(Kind::TargetMissing, "link a to b"),
        hostile("hard-link-to-directory", "no file system has them", |i| {
            i.layer(Tar::new().dir("d").link("a", "d"))
        })
        .refused(Kind::TargetDirectory, "link a to d"),
        hostile("hard-link-to-own-parent", "a directory within itself", |i| {
            i.layer(Tar::new().dir("d").link("d/a", "d"))
        })
        .refused(Kind::TargetDirectory, "link d/a to d"),
        hostile("hard-link-to-root", "the root within itself", |i| i.layer(Tar::new().link("a", "/")))
            .refused(Kind::LinkTarget, "a"),
        hostile("hard-link-to-parent", "a hard link to `..`", |i| i.layer(Tar::new().link("a", "..")))
            .refused(Kind::Parent, "a"),
        hostile("hard-link-without-target", "a hard link to no name at all", |i| {
            i.layer(Tar::new().link("a", ""))
        })
        .refused(Kind::LinkTarget, "a"),
        hostile("hard-link-to-what-it-replaces", "the directory that holds the target goes first", |i| {
            i.layer(Tar::new().dir("d").file("d/f", "x").link("d", "d/f"))
        })
        .refused(Kind::TargetMissing, "link d to d/f"),
        hostile("hard-link-to-removed-file", "what a lower layer had and a whiteout took away", |i| {
            i.layer(Tar::new().file("f", "x"))?;
            i.layer(Tar::new().file(".wh.f", "").link("g", "f"))
        })
        .refused(Kind::TargetMissing, "link g to f"),
    ]
}

fn symbolic_links() -> Vec<Case> {
    vec![
        hostile("symbolic-link-without-target", "no file system has them", |i| {
            i.layer(Tar::new().symlink("a", ""))
        })
        .refused(Kind::LinkTarget, "a"),
        hostile("symbolic-link-of-4096-bytes", "one byte more than a kernel takes", |i| {
            i.layer(Tar::new().symlink("a", "t".repeat(4096)))
        })
        .refused(Kind::OverLimit, "a"),
    ]
}

fn legal() -> Vec<Case> {
    vec![
        oddity("dangling-links", "links to what is not there are links", |i| {
            i.layer(Tar::new().symlink("a", "nowhere").symlink("b", "/no/where").symlink("c", "c"))
        })
        .accepted(|| Tree::new().symlink("a", "nowhere").symlink("b", "/no/where").symlink("c", "c"))
        .bsdtar(Peer::Same),
        oddity("links-out-of-the-root", "a link may say anything as long as nobody follows it", |i| {
            i.layer(Tar::new().symlink("a", "../../../../etc/passwd").symlink("b", "//tmp/../x/./"))
        })
        .accepted(|| Tree::new().symlink("a", "../../../../etc/passwd").symlink("b", "//tmp/../x/./"))
        .bsdtar(Peer::Same),
        oddity("target-of-any-bytes", "a target is no name: any bytes but NUL", |i| {
            i.layer(Tar::new().symlink("a", b"\xff\n\x1b[31m \\"))
        })
        .accepted(|| Tree::new().symlink("a", b"\xff\n\x1b[31m \\"))
        .bsdtar(Peer::Same),
        oddity("target-of-4095-bytes", "the longest target that a kernel takes", |i| {
            i.layer(Tar::new().symlink("a", "t".repeat(4095)))
        })
        .accepted(|| Tree::new().symlink("a", "t".repeat(4095))),
        oddity("files-through-usr-merge", "a package's path through the link that merges /usr", |i| {
            i.layer(Tar::new().dir("usr").dir("usr/lib").symlink("lib", "usr/lib"))?;
            i.layer(Tar::new().file("lib/a", "x").dir("lib/b").file("lib/b/c", "y"))
        })
        .accepted(|| {
            Tree::new()
                .dir("usr")
                .dir("usr/lib")
                .symlink("lib", "usr/lib")
                .file("usr/lib/a", "x")
                .dir("usr/lib/b")
                .file("usr/lib/b/c", "y")
        }),
        oddity("file-through-dangling-link", "the parent is made where the link points", |i| {
            i.layer(Tar::new().dir("v").symlink("run", "v/run").file("run/pid", "1"))
        })
        .accepted(|| Tree::new().dir("v").symlink("run", "v/run").implied("v/run").file("v/run/pid", "1")),
        oddity(
            "link-with-another-mode",
            "a link's mode means nothing, and tools write what they like",
            |i| i.layer(Tar::new().with(Entry::symlink("a", "b").mode(0o777).owner(5, 6).mtime(7))),
        )
        .accepted(|| Tree::new().symlink("a", "b").owner(5, 6).mtime(7, 0)),
        oddity("link-with-mode-644", "some writers give links the mode of files", |i| {
            i.layer(Tar::new().with(Entry::symlink("a", "b").mode(0o644)))
        })
        .accepted(|| Tree::new().symlink("a", "b")),
    ]
}

fn legal_hard_links() -> Vec<Case> {
    vec![
        oddity("hard-links-in-a-row", "each links to the one before", |i| {
            i.layer(Tar::new().file("a", "x").link("b", "a").link("c", "b").link("d", "c"))
        })
        .accepted(|| Tree::new().file("a", "x").link("b", "a").link("c", "a").link("d", "a"))
        .bsdtar(Peer::Same),
        oddity("hard-link-to-lower-layer", "microsandbox#727: the target is in an earlier layer", |i| {
            i.layer(Tar::new().dir("d").file("d/f", "x"))?;
            i.layer(Tar::new().link("g", "d/f"))
        })
        .accepted(|| Tree::new().dir("d").file("d/f", "x").link("g", "d/f")),
        oddity("hard-link-outlives-its-target", "the name it was made by goes, the file stays", |i| {
            i.layer(Tar::new().file("a", "x").link("b", "a"))?;
            i.layer(Tar::new().file(".wh.a", ""))
        })
        .accepted(|| Tree::new().file("b", "x")),
        oddity("hard-link-keeps-the-old-file", "an upper layer replaces one name of a file", |i| {
            i.layer(Tar::new().file("a", "old").link("b", "a").link("c", "a"))?;
            i.layer(Tar::new().file("a", "new"))
        })
        .accepted(|| Tree::new().file("a", "new").file("b", "old").link("c", "b")),
        oddity("hard-link-to-symbolic-link", "links to the link, not through it", |i| {
            i.layer(Tar::new().symlink("s", "t").link("x", "s"))
        })
        .accepted(|| Tree::new().symlink("s", "t").link("x", "s")),
        oddity("hard-link-to-pipe-and-device", "whatever is no directory can have two names", |i| {
            i.layer(
                Tar::new()
                    .with(Entry::new(b'6', "p"))
                    .with(Entry::device(b'3', "n", 1, 3))
                    .link("p2", "p")
                    .link("n2", "n"),
            )
        })
        .accepted(|| Tree::new().fifo("p").link("p2", "p").character("n", 1, 3).link("n2", "n")),
        oddity(
            "hard-link-through-directory-link",
            "parents of the target are followed, inside the tree",
            |i| i.layer(Tar::new().dir("d").file("d/f", "x").symlink("s", "/d").link("g", "s/f")),
        )
        .accepted(|| Tree::new().dir("d").file("d/f", "x").link("g", "d/f").symlink("s", "/d")),
        oddity("hard-link-with-absolute-target", "a leading slash means the image's root", |i| {
            i.layer(Tar::new().file("f", "x").link("g", "/f"))
        })
        .accepted(|| Tree::new().file("f", "x").link("g", "f")),
        oddity("hard-link-says-other-attributes", "the file's attributes are those of its own entry", |i| {
            let link = Entry::link("g", "f").mode(0o600).owner(9, 9).mtime(9);
            i.layer(Tar::new().file("f", "x").with(link))
        })
        .accepted(|| Tree::new().file("f", "x").link("g", "f")),
        oddity(
            "hard-link-with-a-size",
            "cpio's writers give links the size of their file, without data",
            |i| i.layer(Tar::new().file("f", "text").with(Entry::link("g", "f").size(4)).file("h", "x")),
        )
        .accepted(|| Tree::new().file("f", "text").link("g", "f").file("h", "x")),
    ]
}
