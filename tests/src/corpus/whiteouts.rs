//! Whiteouts in every odd place (image-spec, `layer.md`, "Whiteouts"; containerd's reading where that is silent).

use std::io;

use super::tar::{Entry, Tar};
use super::{Case, Image, Kind, Peer, Tree, hostile, oddity};

pub(super) fn cases() -> Vec<Case> {
    [legal(), same_layer(), opaque(), metadata(), refused()].into_iter().flatten().collect()
}

/// A layer with a directory of two files.
fn lower(i: &mut Image) -> io::Result<()> {
    i.layer(Tar::new().dir("d").file("d/a", "a").file("d/b", "b").file("f", "f"))
}

fn whiteout(path: &str) -> Entry {
    Entry::file(path, "")
}

fn legal() -> Vec<Case> {
    vec![
        oddity("file", "the file of a lower layer goes", |i| {
            lower(i)?;
            i.layer(Tar::new().with(whiteout("d/.wh.a")))
        })
        .accepted(|| Tree::new().dir("d").file("d/b", "b").file("f", "f")),
        oddity("directory", "the directory goes with what is in it", |i| {
            lower(i)?;
            i.layer(Tar::new().with(whiteout(".wh.d")))
        })
        .accepted(|| Tree::new().file("f", "f")),
        oddity("of-nothing", "a whiteout of what was never there, and makes no parents", |i| {
            lower(i)?;
            i.layer(Tar::new().with(whiteout(".wh.none")).with(whiteout("no/where/.wh.x")))
        })
        .accepted(|| Tree::new().dir("d").file("d/a", "a").file("d/b", "b").file("f", "f")),
        oddity("in-the-lowest-layer", "nothing is below it", |i| {
            i.layer(Tar::new().with(whiteout(".wh.a")).file("b", "b"))
        })
        .accepted(|| Tree::new().file("b", "b")),
        oddity("of-a-link", "the link goes, what it points to stays", |i| {
            i.layer(Tar::new().dir("d").file("d/a", "a").symlink("l", "d"))?;
            i.layer(Tar::new().with(whiteout(".wh.l")))
        })
        .accepted(|| Tree::new().dir("d").file("d/a", "a")),
        oddity("through-a-link", "the parent is a link of a lower layer, followed inside the tree", |i| {
            i.layer(Tar::new().dir("d").file("d/a", "a").file("d/b", "b").symlink("l", "/d"))?;
            i.layer(Tar::new().with(whiteout("l/.wh.a")))
        })
        .accepted(|| Tree::new().dir("d").file("d/b", "b").symlink("l", "/d")),
        oddity("of-a-name-that-starts-with-a-dot", "`.wh..a` removes `.a`", |i| {
            i.layer(Tar::new().file(".a", "a").file("a", "b"))?;
            i.layer(Tar::new().with(whiteout(".wh..a")))
        })
        .accepted(|| Tree::new().file("a", "b")),
        oddity("as-a-directory", "a whiteout is told by its name, whatever its type", |i| {
            lower(i)?;
            i.layer(Tar::new().dir("d/.wh.a/"))
        })
        .accepted(|| Tree::new().dir("d").file("d/b", "b").file("f", "f")),
        oddity("as-a-link", "a symbolic link with a whiteout's name", |i| {
            lower(i)?;
            i.layer(Tar::new().symlink("d/.wh.a", "b"))
        })
        .accepted(|| Tree::new().dir("d").file("d/b", "b").file("f", "f")),
        oddity("with-data", "a whiteout of some bytes", |i| {
            lower(i)?;
            i.layer(Tar::new().file("d/.wh.a", vec![b'x'; 700]).file("g", "g"))
        })
        .accepted(|| Tree::new().dir("d").file("d/b", "b").file("f", "f").file("g", "g")),
        oddity("twice", "the same whiteout in one layer", |i| {
            lower(i)?;
            i.layer(Tar::new().with(whiteout("d/.wh.a")).with(whiteout("d/.wh.a")))
        })
        .accepted(|| Tree::new().dir("d").file("d/b", "b").file("f", "f")),
        oddity("of-a-name-of-255-bytes", "the whiteout's own name is longer than any file's", |i| {
            i.layer(Tar::new().file("n".repeat(255), "x").file("f", "f"))?;
            i.layer(Tar::new().with(whiteout(&format!(".wh.{}", "n".repeat(255)))))
        })
        .accepted(|| Tree::new().file("f", "f")),
        oddity("of-three-dots", "`...` is a name like any other", |i| {
            i.layer(Tar::new().file("...", "x").file("f", "f"))?;
            i.layer(Tar::new().with(whiteout(".wh....")))
        })
        .accepted(|| Tree::new().file("f", "f")),
        oddity("then-back", "removed by one layer, made again by the next", |i| {
            lower(i)?;
            i.layer(Tar::new().with(whiteout(".wh.d")))?;
            i.layer(Tar::new().dir("d").file("d/c", "c"))
        })
        .accepted(|| Tree::new().dir("d").file("d/c", "c").file("f", "f")),
        oddity("names-that-look-like-whiteouts", "only the prefix `.wh.` makes one", |i| {
            i.layer(Tar::new().file(".wh", "1").file(".whx", "2").file("a.wh.b", "3").file(".WH.a", "4"))
        })
        .accepted(|| Tree::new().file(".wh", "1").file(".whx", "2").file("a.wh.b", "3").file(".WH.a", "4"))
        .bsdtar(Peer::Same),
    ]
}

fn same_layer() -> Vec<Case> {
    vec![
        oddity("before-the-file-of-its-name", "the whiteout means lower layers, the file stays", |i| {
            lower(i)?;
            i.layer(Tar::new().with(whiteout(".wh.f")).file("f", "new"))
        })
        .accepted(|| Tree::new().dir("d").file("d/a", "a").file("d/b", "b").file("f", "new")),
        oddity("after-the-file-of-its-name", "the same in the other order", |i| {
            lower(i)?;
            i.layer(Tar::new().file("f", "new").with(whiteout(".wh.f")))
        })
        .accepted(|| Tree::new().dir("d").file("d/a", "a").file("d/b", "b").file("f", "new")),
        oddity("before-the-directory-of-its-name", "the old children go, the new ones stay", |i| {
            lower(i)?;
            i.layer(Tar::new().with(whiteout(".wh.d")).dir("d").file("d/c", "c"))
        })
        .accepted(|| Tree::new().dir("d").file("d/c", "c").file("f", "f")),
        oddity("after-the-directory-of-its-name", "the same in the other order", |i| {
            lower(i)?;
            i.layer(Tar::new().with(Entry::dir("d").mode(0o700)).file("d/c", "c").with(whiteout(".wh.d")))
        })
        .accepted(|| Tree::new().dir("d").mode(0o700).file("d/c", "c").file("f", "f"))
        .umoci(Peer::Differs("it removes from the directory afterwards, which changes its time")),
    ]
}

fn opaque() -> Vec<Case> {
    vec![
        oddity("opaque", "what lower layers put into the directory goes", |i| {
            lower(i)?;
            i.layer(Tar::new().dir("d").with(whiteout("d/.wh..wh..opq")).file("d/c", "c"))
        })
        .accepted(|| Tree::new().dir("d").file("d/c", "c").file("f", "f")),
        oddity("opaque-after-siblings", "what the same layer put before it stays", |i| {
            lower(i)?;
            i.layer(Tar::new().dir("d").file("d/a", "new").file("d/c", "c").with(whiteout("d/.wh..wh..opq")))
        })
        .accepted(|| Tree::new().dir("d").file("d/a", "new").file("d/c", "c").file("f", "f")),
        oddity("opaque-deep-after-siblings", "deep down too", |i| {
            i.layer(Tar::new().dir("d").dir("d/e").file("d/e/old", "o").file("d/x", "x"))?;
            i.layer(Tar::new().dir("d").dir("d/e").file("d/e/new", "n").with(whiteout("d/.wh..wh..opq")))
        })
        .accepted(|| Tree::new().dir("d").dir("d/e").file("d/e/new", "n"))
        .umoci(Peer::Differs("it removes from d/e afterwards, which changes its time")),
        oddity("opaque-root", "all lower layers go", |i| {
            lower(i)?;
            i.layer(Tar::new().with(whiteout(".wh..wh..opq")).file("g", "g"))
        })
        .accepted(|| Tree::new().file("g", "g")),
        oddity("opaque-without-directory", "no entry for the directory itself, which stays as it was", |i| {
            lower(i)?;
            i.layer(Tar::new().with(whiteout("d/.wh..wh..opq")))
        })
        .accepted(|| Tree::new().dir("d").file("f", "f")),
        oddity("opaque-on-nothing", "the directory isn't there, and isn't made", |i| {
            lower(i)?;
            i.layer(Tar::new().with(whiteout("none/.wh..wh..opq")))
        })
        .accepted(|| Tree::new().dir("d").file("d/a", "a").file("d/b", "b").file("f", "f")),
        oddity("opaque-on-a-file", "it is no directory, so that it has nothing to lose", |i| {
            lower(i)?;
            i.layer(Tar::new().with(whiteout("f/.wh..wh..opq")))
        })
        .accepted(|| Tree::new().dir("d").file("d/a", "a").file("d/b", "b").file("f", "f")),
        oddity("opaque-through-a-link", "the directory is reached through a link", |i| {
            i.layer(Tar::new().dir("d").file("d/a", "a").symlink("l", "d"))?;
            i.layer(Tar::new().with(whiteout("l/.wh..wh..opq")))
        })
        .accepted(|| Tree::new().dir("d").symlink("l", "d")),
        oddity("opaque-in-the-lowest-layer", "nothing is below it", |i| {
            i.layer(Tar::new().dir("d").file("d/a", "a").with(whiteout("d/.wh..wh..opq")).file("d/b", "b"))
        })
        .accepted(|| Tree::new().dir("d").file("d/a", "a").file("d/b", "b")),
        hostile(
            "opaque-very-often",
            "2026-95838: each opaque whiteout costs the whole directory again",
            |i| {
                let mut tar = Tar::new().dir("d");
                (0..20_000).for_each(|n| tar.push(Entry::file(format!("d/{n}"), "")));
                i.gzip(tar)?;
                let mut tar = Tar::new().dir("d");
                for n in 0..20_000 {
                    tar.push(Entry::file(format!("d/{n}"), ""));
                    tar.push(whiteout("d/.wh..wh..opq"));
                }
                i.gzip(tar)
            },
        )
        .accepted(|| (0..20_000).fold(Tree::new().dir("d"), |tree, n| tree.file(format!("d/{n}"), "")))
        .umoci(Peer::NotAsked("it takes minutes")),
        hostile("plain-very-often", "the same with plain whiteouts", |i| {
            let mut tar = Tar::new().dir("d");
            (0..10_000).for_each(|n| tar.push(Entry::file(format!("d/{n}"), "")));
            i.gzip(tar)?;
            let mut tar = Tar::new();
            for n in 0..10_000 {
                tar.push(Entry::file(format!("d/{n}"), ""));
                tar.push(whiteout(".wh.d"));
            }
            i.gzip(tar)
        })
        .accepted(|| (0..10_000).fold(Tree::new().implied("d"), |tree, n| tree.file(format!("d/{n}"), "")))
        .umoci(Peer::NotAsked("it takes minutes")),
    ]
}

fn metadata() -> Vec<Case> {
    vec![
        oddity(
            "aufs-files",
            "layers of AUFS hosts carry its own files, which are no part of the tree",
            |i| {
                i.layer(
                    Tar::new()
                        .file(".wh..wh.aufs", "")
                        .dir(".wh..wh.orph")
                        .dir(".wh..wh.plnk")
                        .file(".wh..wh.plnk/12.34", "x")
                        .file("a", "a"),
                )
            },
        )
        .accepted(|| Tree::new().file("a", "a"))
        .umoci(Peer::Differs("it knows no AUFS, and takes them for whiteouts and files")),
        oddity("aufs-with-data", "data of such a file is passed over", |i| {
            i.layer(Tar::new().file(".wh..wh.plnk/1.2", vec![b'x'; 1500]).file("a", "a"))
        })
        .accepted(|| Tree::new().file("a", "a"))
        .umoci(Peer::Differs("it knows no AUFS")),
    ]
}

fn refused() -> Vec<Case> {
    vec![
        hostile("of-no-name", "a whiteout of the directory it is in", |i| {
            lower(i)?;
            i.layer(Tar::new().with(whiteout("d/.wh.")))
        })
        .refused(Kind::Whiteout, "d/.wh."),
        hostile("of-dot", "`.wh..` would remove the directory it is in", |i| {
            lower(i)?;
            i.layer(Tar::new().with(whiteout("d/.wh..")))
        })
        .refused(Kind::Whiteout, "d/.wh.."),
        hostile("of-dot-dot", "`.wh...` would remove the parent", |i| {
            lower(i)?;
            i.layer(Tar::new().with(whiteout("d/.wh...")))
        })
        .refused(Kind::Whiteout, "d/.wh..."),
        hostile("of-the-root", "`.wh.` in the root", |i| {
            lower(i)?;
            i.layer(Tar::new().with(whiteout(".wh.")))
        })
        .refused(Kind::Whiteout, "entry 0"),
        hostile("of-the-parent-of-the-root", "`.wh...` in the root", |i| {
            lower(i)?;
            i.layer(Tar::new().with(whiteout("./.wh...")))
        })
        .refused(Kind::Whiteout, "entry 0"),
        hostile("beneath-a-whiteout", "a whiteout's name as a directory", |i| {
            lower(i)?;
            i.layer(Tar::new().file(".wh.d/a", "x"))
        })
        .refused(Kind::BeneathWhiteout, ".wh.d/a")
        .umoci(Peer::Differs(
            "it looks at the last name only, and makes a directory .wh.d that no tool could ever see",
        )),
        hostile("slash-after-the-prefix", "`.wh./tmp/…` is no path to remove", |i| {
            i.layer(Tar::new().file(".wh./tmp/mvm-corpus-canary/file", ""))
        })
        .refused(Kind::BeneathWhiteout, ".wh./tmp/mvm-corpus-canary/file")
        .umoci(Peer::Differs("it looks at the last name only")),
        hostile(
            "character-device-0-0",
            "overlayfs takes it for a whiteout when layers become its directories",
            |i| {
                lower(i)?;
                i.layer(Tar::new().with(Entry::device(b'3', "f", 0, 0)))
            },
        )
        .refused(Kind::OverlayWhiteout, ", f")
        .umoci(Peer::Differs("it makes the device, and overlayfs would hide the file")),
        hostile("out-of-the-tree", "a whiteout of a file of the host", |i| {
            i.layer(Tar::new().with(whiteout("../../../../../tmp/mvm-corpus-canary/.wh.file")))
        })
        .refused(Kind::Parent, ".wh.file")
        .umoci(Peer::Differs("it cuts the path off at the root, where it has nothing to remove")),
        hostile(
            "through-a-link-to-the-host",
            "the parent is a link out of the tree, which has nothing there",
            |i| {
                i.layer(Tar::new().symlink("l", "/tmp/mvm-corpus-canary"))?;
                i.layer(Tar::new().with(whiteout("l/.wh.file")).with(whiteout("l/.wh..wh..opq")))
            },
        )
        .accepted(|| Tree::new().symlink("l", "/tmp/mvm-corpus-canary")),
    ]
}
