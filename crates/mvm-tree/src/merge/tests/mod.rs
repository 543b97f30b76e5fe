//! Tests of the merge against lists of changes.

mod cost;
mod model;
mod whiteouts;

use super::{Merge, MergeError};
use crate::{
    Attributes, Breach, Change, Content, Escaped, Kind, Knob, Node, Tree, UnpackPolicy, Xattr, dump,
};

fn bytes(text: &str) -> Box<[u8]> {
    text.as_bytes().into()
}

fn attributes(mode: u16) -> Attributes {
    Attributes { mode, ..Attributes::default() }
}

fn dir(path: &str, mode: u16) -> Change {
    Change::Put { path: bytes(path), attributes: attributes(mode), kind: Kind::Directory }
}

/// A file, told from others by its size.
fn file(path: &str, size: u64) -> Change {
    let kind = Kind::Regular(Content { size, ..Content::default() });
    Change::Put { path: bytes(path), attributes: attributes(0o644), kind }
}

fn symlink(path: &str, target: &str) -> Change {
    Change::Put { path: bytes(path), attributes: attributes(0o777), kind: Kind::Symlink(bytes(target)) }
}

fn link(path: &str, target: &str) -> Change {
    Change::Link { path: bytes(path), target: bytes(target) }
}

fn whiteout(path: &str) -> Change {
    Change::Whiteout { path: bytes(path) }
}

fn opaque(path: &str) -> Change {
    Change::Opaque { path: bytes(path) }
}

fn merge(layers: &[&[Change]]) -> Result<Tree, MergeError> {
    merge_with(&UnpackPolicy::default(), layers)
}

fn merge_with(limits: &UnpackPolicy, layers: &[&[Change]]) -> Result<Tree, MergeError> {
    let mut merge = Merge::new(limits);
    for layer in layers {
        merge.begin_layer();
        layer.iter().try_for_each(|change| merge.apply(change.clone()))?;
    }
    Ok(merge.finish())
}

/// Returns a line for each name: inode, path, and what tells it from others.
fn listing(tree: &Tree) -> Vec<String> {
    let line = |(path, id): (Box<[u8]>, crate::InodeId)| {
        let inode = tree.inode(id);
        let mode = inode.attributes.mode;
        let what = match &inode.node {
            Node::Directory(_) => format!("d{mode:o}"),
            Node::Regular { segment, content } => format!("f{segment}:{}", content.size),
            Node::Symlink(target) => format!("->{}", Escaped::new(target)),
            other => format!("{other:?}"),
        };
        format!("{} /{} {what} {}", id.index(), Escaped::new(&path), inode.links)
    };
    tree.walk().map(line).collect()
}

#[track_caller]
fn assert_merged(layers: &[&[Change]], want: &[&str]) {
    assert_eq!(listing(&merge(layers).expect("layers that merge")), want);
}

#[track_caller]
fn assert_refused(layers: &[&[Change]], want: MergeError) {
    assert_eq!(merge(layers), Err(want));
}

fn escaped(text: &str) -> Escaped {
    Escaped::new(text.as_bytes())
}

#[test]
fn merges_nothing() {
    assert_merged(&[], &["0 / d755 2"]);
    assert_merged(&[&[]], &["0 / d755 2"]);
}

#[test]
fn dumps_a_tree() {
    let mut rich = attributes(0o4755);
    rich.uid = 7;
    rich.mtime.secs = -5;
    rich.mtime.nanos = 42;
    rich.xattrs = [Xattr { name: bytes("user.a=b"), value: bytes("\0v") }].into();
    let content = crate::testing::content(3, 9000);
    let layer = [
        Change::Put { path: bytes("b in"), attributes: rich, kind: Kind::Regular(content) },
        link("a", "b in"),
        symlink("d/l", "../é"),
        Change::Put {
            path: bytes("d/null"),
            attributes: attributes(0o666),
            kind: Kind::CharDevice(crate::Device { major: 1, minor: 3 }),
        },
        Change::Put { path: bytes("d/pipe"), attributes: attributes(0o600), kind: Kind::Fifo },
        Change::Put { path: bytes("d/sock"), attributes: attributes(0o600), kind: Kind::Socket },
    ];
    let want = r"0 d0755 0:0 0.000000000 3 /
1 f4755 7:0 -5.000000042 2 /a 9000 0: 3+1@0 [user.a\x3db=\x00v]
1 f4755 7:0 -5.000000042 2 /b\x20in 9000 0: 3+1@0 [user.a\x3db=\x00v]
2 d0755 0:0 0.000000000 2 /d
3 l0777 0:0 0.000000000 1 /d/l -> ../\xc3\xa9
4 c0666 0:0 0.000000000 1 /d/null 1:3
5 p0600 0:0 0.000000000 1 /d/pipe
6 s0600 0:0 0.000000000 1 /d/sock
";
    assert_eq!(dump(&merge(&[&layer]).expect("a layer that merges")), want);
}

#[test]
fn looks_names_up() {
    let layer = [file("a/b/c", 1), symlink("l", "a")];
    let tree = merge(&[&layer]).expect("a layer that merges");
    let cases = [
        ("", Some(0)),
        ("/", Some(0)),
        ("a", Some(1)),
        ("a/b", Some(2)),
        ("/a//b/c/", Some(3)),
        ("l", Some(4)),
        ("l/b", None),
        ("a/b/c/d", None),
        ("a/..", None),
        (".", None),
        ("b", None),
    ];
    for (path, want) in cases {
        assert_eq!(tree.lookup(path.as_bytes()).map(crate::InodeId::index), want, "{path:?}");
    }
}

#[test]
fn numbers_depth_first_in_name_order() {
    let layers: [&[Change]; 2] = [
        &[file("z", 1), file("b/y", 2), file("b/x/w", 3), file("a", 4), dir("b-", 0o700), file("gone", 5)],
        &[whiteout("gone"), link("b/x/a", "z"), file("new", 6)],
    ];
    let want = [
        "0 / d755 4",
        "1 /a f0:4 1",
        "2 /b d755 3",
        "3 /b/x d755 2",
        "4 /b/x/a f0:1 2",
        "5 /b/x/w f0:3 1",
        "6 /b/y f0:2 1",
        "7 /b- d700 2",
        "8 /new f1:6 1",
        "4 /z f0:1 2",
    ];
    assert_merged(&layers, &want);
}

#[test]
fn sets_attributes_of_directories_and_keeps_children() {
    let layers: [&[Change]; 2] =
        [&[dir("", 0o700), dir("d", 0o700), file("d/a", 1)], &[dir("d", 0o1777), dir("", 0o555)]];
    assert_merged(&layers, &["0 / d555 3", "1 /d d1777 2", "2 /d/a f0:1 1"]);
    // In one layer too, whatever comes first.
    assert_merged(&[&[file("d/a", 1), dir("d", 0o1777)]], &["0 / d755 3", "1 /d d1777 2", "2 /d/a f0:1 1"]);
}

#[test]
fn replaces_by_another_type() {
    let base: &[Change] = &[file("d/a/b", 1), file("f", 2), symlink("l", "d"), symlink("gone", "d")];
    let cases: [(&[Change], &[&str]); 4] = [
        (&[file("d", 9)], &["0 / d755 2", "1 /d f1:9 1", "2 /f f0:2 1", "3 /gone ->d 1", "4 /l ->d 1"]),
        (
            &[dir("f", 0o700), dir("l", 0o711)],
            &[
                "0 / d755 5",
                "1 /d d755 3",
                "2 /d/a d755 2",
                "3 /d/a/b f0:1 1",
                "4 /f d700 2",
                "5 /gone ->d 1",
                "6 /l d711 2",
            ],
        ),
        (
            &[file("l", 3), symlink("f", "x")],
            &[
                "0 / d755 3",
                "1 /d d755 3",
                "2 /d/a d755 2",
                "3 /d/a/b f0:1 1",
                "4 /f ->x 1",
                "5 /gone ->d 1",
                "6 /l f1:3 1",
            ],
        ),
        // A parent that a lower layer made as a file gives way.
        (
            &[file("f/x", 3)],
            &[
                "0 / d755 4",
                "1 /d d755 3",
                "2 /d/a d755 2",
                "3 /d/a/b f0:1 1",
                "4 /f d755 2",
                "5 /f/x f1:3 1",
                "6 /gone ->d 1",
                "7 /l ->d 1",
            ],
        ),
    ];
    for (layer, want) in cases {
        assert_merged(&[base, layer], want);
    }
}

#[test]
fn follows_symlinked_parents_inside_the_tree() {
    let cases: [(&str, &str, &str); 9] = [
        ("usr/lib", "lib/x", "usr/lib/x"),
        ("/usr/lib", "lib/x", "usr/lib/x"),
        ("../../usr/lib", "lib/x", "usr/lib/x"),
        ("./usr/./lib/", "lib/x", "usr/lib/x"),
        ("usr/lib/../lib", "lib/x", "usr/lib/x"),
        ("..", "lib/x", "x"),
        ("/", "lib/x", "x"),
        ("not/yet", "lib/x", "not/yet/x"),
        ("not/../yet", "lib/sub/x", "yet/sub/x"),
    ];
    for (target, put, want) in cases {
        let layers: [&[Change]; 2] = [&[dir("usr/lib", 0o700), symlink("lib", target)], &[file(put, 1)]];
        let tree = merge(&layers).expect("layers that merge");
        assert!(tree.lookup(want.as_bytes()).is_some(), "{target}: {:?}", listing(&tree));
        assert!(
            matches!(tree.inode(tree.lookup(b"lib").expect("the link")).node, Node::Symlink(_)),
            "{target}"
        );
        assert_eq!(tree.lookup(b"not").is_some(), want.starts_with("not"), "{target}");
    }
}

#[test]
fn follows_chains_and_refuses_loops() {
    let chain = |count: usize| -> Vec<Change> {
        let mut layer: Vec<_> =
            (0..count).map(|n| symlink(&format!("l{n}"), &format!("l{}", n + 1))).collect();
        layer.push(dir(&format!("l{count}"), 0o755));
        layer.push(file("l0/x", 1));
        layer
    };
    assert!(merge(&[&chain(40)]).expect("a layer that merges").lookup(b"l40/x").is_some());
    let refused = |path: &str| MergeError::TooManySymlinks { path: escaped(path), limit: 40 };
    assert_refused(&[&chain(41)], refused("l0/x"));
    assert_refused(&[&[symlink("a", "b"), symlink("b", "/a"), file("a/x", 1)]], refused("a/x"));
    assert_refused(&[&[symlink("a", "a/a"), file("a/x", 1)]], refused("a/x"));
    assert_refused(&[&[symlink("a", "a"), whiteout("a/x")]], refused("a/x"));
    assert_refused(&[&[symlink("a", "a"), opaque("a")]], refused("a"));
    // The last component is not followed, so that a loop does no harm.
    assert_merged(&[&[symlink("a", "a"), link("b", "a")]], &["0 / d755 2", "1 /a ->a 2", "1 /b ->a 2"]);
}

#[test]
fn links_share_inodes() {
    let base: &[Change] = &[file("a", 1), symlink("l", "nowhere"), symlink("s", "d"), file("d/f", 2)];
    let layers: [&[Change]; 3] = [
        base,
        &[link("b", "a"), link("m", "l"), link("n/o", "s/f"), link("b", "a")],
        // The other names of a replaced or removed file keep it.
        &[file("a", 7), whiteout("d")],
    ];
    let want = [
        "0 / d755 3",
        "1 /a f2:7 1",
        "2 /b f0:1 1",
        "3 /l ->nowhere 2",
        "3 /m ->nowhere 2",
        "4 /n d755 2",
        "5 /n/o f0:2 1",
        "6 /s ->d 1",
    ];
    assert_merged(&layers, &want);
}

#[test]
fn refuses_links_that_name_nothing() {
    let missing =
        |path: &str, target: &str| MergeError::TargetMissing { path: escaped(path), target: escaped(target) };
    let cases: [(&[Change], MergeError); 8] = [
        (&[link("b", "a")], missing("b", "a")),
        (&[link("b", "x/y/a")], missing("b", "x/y/a")),
        (&[file("a", 1), link("a", "a")], missing("a", "a")),
        (&[file("a/b", 1), link("a", "a/b")], missing("a", "a/b")),
        (&[file("a", 1), link("b", "a/c")], missing("b", "a/c")),
        (&[file("a", 1), link("b", "")], missing("b", "")),
        (
            &[dir("a", 0o755), link("b", "a")],
            MergeError::TargetDirectory { path: escaped("b"), target: escaped("a") },
        ),
        (&[file("a", 1), link("", "a")], MergeError::RootReplaced),
    ];
    for (layer, want) in cases {
        assert_refused(&[layer], want);
    }
    // A link that comes before its target.
    assert_refused(&[&[link("b", "a"), file("a", 1)]], missing("b", "a"));
}

#[test]
fn refuses_what_is_no_tree() {
    let bad = |path: &str, name: &str| MergeError::BadName { path: escaped(path), name: escaped(name) };
    let long = "n".repeat(256);
    let cases: [(&[Change], MergeError); 8] = [
        (&[file("", 1)], MergeError::RootReplaced),
        (&[symlink("", "/etc")], MergeError::RootReplaced),
        (&[whiteout("")], MergeError::RootRemoved),
        (&[file("a/..", 1)], bad("a/..", "..")),
        (&[file("a/", 1)], bad("a/", "")),
        (&[file("a\0b", 1)], bad("a\0b", "a\0b")),
        (&[file(&long, 1)], MergeError::NameTooLong { path: escaped(&long), got: 256, limit: 255 }),
        (
            &[file("a", 1), file("a/b", 1)],
            MergeError::NotDirectory { path: escaped("a/b"), parent: escaped("a") },
        ),
    ];
    for (layer, want) in cases {
        assert_refused(&[layer], want);
    }
    let mut merge = Merge::new(&UnpackPolicy::default());
    assert_eq!(merge.apply(file("a", 1)), Err(MergeError::NoLayer { path: escaped("a") }));
    // A dangling link must not make a name that no entry may have.
    let layer = [symlink("l", &format!("{long}/x")), file("l/y", 1)];
    assert_refused(&[&layer], MergeError::NameTooLong { path: escaped("l/y"), got: 256, limit: 255 });
}

#[test]
fn keeps_to_its_limits() {
    let limits = UnpackPolicy { entries: 3, path_bytes: 16, metadata_bytes: 30, ..UnpackPolicy::default() };
    let names = |path: &str| MergeError::TooManyNames { path: escaped(path), limit: 3 };
    let path = |path: &str| MergeError::PathTooLong { path: escaped(path), limit: 16 };
    let weight = |path: &str| MergeError::TooMuchMetadata { path: escaped(path), limit: 30 };
    let cases: [(&[Change], MergeError); 5] = [
        (&[file("a/b", 1), file("c", 1), file("d", 1)], names("d")),
        (&[file("a/b/c/d", 1)], names("a/b/c/d")),
        (&[file("0123456789abcdef", 1)], path("0123456789abcdef")),
        (&[symlink("l", "01234567/9abc"), file("l/ef", 1)], path("l/ef")),
        (&[symlink("a", "0123456789"), symlink("b", "0123456789"), symlink("c", "0123456789")], weight("c")),
    ];
    for (layer, want) in cases {
        assert_eq!(merge_with(&limits, &[layer]), Err(want));
    }
    // What is replaced or removed no longer counts as a name or as metadata, but as an entry.
    let limits = UnpackPolicy { entries: 7, ..limits };
    let layers: [&[Change]; 4] = [
        &[file("a/b/c", 1)],
        &[whiteout("a")],
        &[symlink("a", "0123456789"), symlink("a", "9876543210"), file("b", 1), link("c", "b")],
        &[file("a", 1)],
    ];
    assert_eq!(merge_with(&limits, &layers).map(|tree| tree.len()), Ok(3));
    let source = Breach::OverLimit { knob: Knob::Entries, what: "entries", got: 7, limit: 6 };
    let want = MergeError::Policy { path: escaped("a"), source };
    assert_eq!(merge_with(&UnpackPolicy { entries: 6, ..limits }, &layers), Err(want));
}
