//! One name, several entries: in one layer, and in one after the other.

use super::tar::{Entry, Tar};
use super::{Case, Kind, Peer, Tree, hostile, oddity};

pub(super) fn cases() -> Vec<Case> {
    [across_layers(), within_a_layer(), refused()].into_iter().flatten().collect()
}

fn across_layers() -> Vec<Case> {
    vec![
        oddity("file-over-link", "go-microvm#38: a file in the place of a lower layer's link", |i| {
            i.layer(Tar::new().symlink("a", "b").file("b", "old"))?;
            i.layer(Tar::new().file("a", "new"))
        })
        .accepted(|| Tree::new().file("a", "new").file("b", "old")),
        oddity("file-over-directory", "all that was in the directory goes", |i| {
            i.layer(Tar::new().dir("d").dir("d/e").file("d/e/f", "x").file("g", "y"))?;
            i.layer(Tar::new().file("d", "file"))
        })
        .accepted(|| Tree::new().file("d", "file").file("g", "y")),
        oddity("directory-over-file", "a file becomes a directory with children", |i| {
            i.layer(Tar::new().file("a", "x"))?;
            i.layer(Tar::new().dir("a").file("a/b", "y"))
        })
        .accepted(|| Tree::new().dir("a").file("a/b", "y")),
        oddity("directory-over-directory-link", "a link to a directory becomes a directory, empty", |i| {
            i.layer(Tar::new().dir("d").file("d/f", "x").symlink("l", "d"))?;
            i.layer(Tar::new().dir("l").file("l/g", "y"))
        })
        .accepted(|| Tree::new().dir("d").file("d/f", "x").dir("l").file("l/g", "y")),
        oddity("link-over-directory", "a directory becomes a link", |i| {
            i.layer(Tar::new().dir("d").file("d/f", "x").dir("e"))?;
            i.layer(Tar::new().symlink("d", "e").file("d/g", "y"))
        })
        .accepted(|| Tree::new().symlink("d", "e").dir("e").file("e/g", "y")),
        oddity("directory-over-directory", "new attributes, old children", |i| {
            i.layer(Tar::new().dir("d").file("d/f", "x"))?;
            i.layer(Tar::new().with(Entry::dir("d").mode(0o1777).owner(3, 4).mtime(5)))
        })
        .accepted(|| Tree::new().dir("d").mode(0o1777).owner(3, 4).mtime(5, 0).file("d/f", "x")),
        oddity("attributes-go-with-the-old-directory", "no attribute of the former entry stays", |i| {
            i.layer(Tar::new().with(Entry::dir("d").xattr("user.old", "1")).file("d/f", "x"))?;
            i.layer(Tar::new().with(Entry::dir("d").xattr("user.new", "2")))
        })
        .accepted(|| Tree::new().dir("d").xattr("user.new", "2").file("d/f", "x")),
        oddity("pipe-over-file", "any type in the place of any other", |i| {
            i.layer(Tar::new().file("a", "x").symlink("b", "a").dir("c"))?;
            i.layer(
                Tar::new()
                    .with(Entry::new(b'6', "a"))
                    .with(Entry::device(b'3', "b", 1, 3))
                    .with(Entry::new(b'6', "c")),
            )
        })
        .accepted(|| Tree::new().fifo("a").character("b", 1, 3).fifo("c")),
        oddity("four-layers-four-types", "file, directory, link, file", |i| {
            i.layer(Tar::new().file("a", "1"))?;
            i.layer(Tar::new().dir("a").file("a/b", "2"))?;
            i.layer(Tar::new().symlink("a", "c"))?;
            i.layer(Tar::new().file("a", "4"))
        })
        .accepted(|| Tree::new().file("a", "4")),
        oddity("same-layer-twice", "docker builds give equal layers for equal steps", |i| {
            let tar = || Tar::new().dir("d").file("d/f", "x");
            i.layer(tar())?;
            i.layer(Tar::new().file(".wh.d", ""))?;
            i.layer(tar())
        })
        .accepted(|| Tree::new().dir("d").file("d/f", "x")),
        oddity("root-described-twice", "the topmost entry of the root counts", |i| {
            i.layer(Tar::new().with(Entry::dir("./").mode(0o700)).file("a", "x"))?;
            i.layer(Tar::new().with(Entry::dir("/").mode(0o1755).owner(1, 2).mtime(3)))
        })
        .accepted(|| Tree::new().dir("").mode(0o1755).owner(1, 2).mtime(3, 0).file("a", "x")),
    ]
}

fn within_a_layer() -> Vec<Case> {
    vec![
        oddity("last-file-counts", "tar --append leaves old entries where they are", |i| {
            i.layer(Tar::new().file("a", "old").file("b", "x").file("a", "new"))
        })
        .accepted(|| Tree::new().file("a", "new").file("b", "x"))
        .bsdtar(Peer::Same),
        oddity("directory-twice", "the second entry gives the attributes, children stay", |i| {
            i.layer(Tar::new().dir("d").file("d/f", "x").with(Entry::dir("d/").mode(0o711).mtime(9)))
        })
        .accepted(|| Tree::new().dir("d").mode(0o711).mtime(9, 0).file("d/f", "x"))
        .bsdtar(Peer::Differs("it leaves a directory that exists as it is")),
        oddity("parent-after-child", "the directory's entry comes after what is in it", |i| {
            i.layer(
                Tar::new()
                    .file("d/e/f", "x")
                    .with(Entry::dir("d/e").mode(0o700))
                    .with(Entry::dir("d").mode(0o711)),
            )
        })
        .accepted(|| Tree::new().dir("d").mode(0o711).dir("d/e").mode(0o700).file("d/e/f", "x")),
        oddity("no-parents", "no entry for any directory", |i| i.layer(Tar::new().file("a/b/c/d", "x")))
            .accepted(|| Tree::new().implied("a").implied("a/b").implied("a/b/c").file("a/b/c/d", "x")),
        oddity("file-becomes-directory", "of two types in one layer the last counts", |i| {
            i.layer(Tar::new().file("a", "x").dir("a").file("a/b", "y"))
        })
        .accepted(|| Tree::new().dir("a").file("a/b", "y")),
        oddity("directory-becomes-file", "with what was in it", |i| {
            i.layer(Tar::new().dir("a").file("a/b", "y").file("a", "x"))
        })
        .accepted(|| Tree::new().file("a", "x")),
        oddity("one-file-ten-thousand-times", "the last of very many counts", |i| {
            i.layer(Tar::new().all((0..10_000).map(|n| Entry::file("a", n.to_string()))))
        })
        .accepted(|| Tree::new().file("a", "9999")),
        oddity(
            "read-only-directory",
            "a directory without write permission gets its children all the same",
            |i| {
                i.layer(
                    Tar::new()
                        .with(Entry::dir("d").mode(0o555))
                        .file("d/f", "x")
                        .with(Entry::dir("d/e").mode(0)),
                )
            },
        )
        .accepted(|| Tree::new().dir("d").mode(0o555).file("d/f", "x").dir("d/e").mode(0))
        .bsdtar(Peer::Same),
    ]
}

fn refused() -> Vec<Case> {
    vec![
        hostile("beneath-a-file", "a path through a file of the same layer", |i| {
            i.layer(Tar::new().file("a", "x").file("a/b", "y"))
        })
        .refused(Kind::NotDirectory, "a/b"),
        hostile("beneath-a-pipe", "a path through a pipe of the same layer", |i| {
            i.layer(Tar::new().with(Entry::new(b'6', "p")).file("p/b", "y"))
        })
        .refused(Kind::NotDirectory, "p/b"),
        hostile("beneath-a-link-to-a-file", "a path through a link to a file", |i| {
            i.layer(Tar::new().file("f", "x").symlink("l", "f").file("l/b", "y"))
        })
        .refused(Kind::NotDirectory, "l/b"),
    ]
}
