//! Inputs that would take for ever if some step weren't near-linear. Nothing is timed: a quadratic step makes the
//! tests run for minutes.

use super::*;

#[test]
fn many_files_in_one_directory() {
    let mut merge = Merge::new(&UnpackPolicy::default());
    merge.begin_layer();
    for n in 0..200_000u64 {
        // Neither ascending nor descending.
        let n = n * 7919 % 200_000;
        merge.apply(file(&format!("d/{n:06}"), n)).expect("a file");
    }
    merge.begin_layer();
    for n in 0..200_000 {
        merge.apply(whiteout(&format!("d/{n:06}"))).expect("a whiteout");
        merge.apply(opaque("")).expect("an opaque whiteout");
    }
    merge.apply(file("e", 1)).expect("a file");
    assert_eq!(listing(&merge.finish()), ["0 / d755 2", "1 /e f1:1 1"]);
}

#[test]
fn a_million_hard_links() {
    let mut merge = Merge::new(&UnpackPolicy::default());
    merge.begin_layer();
    merge.apply(file("a", 1)).expect("a file");
    for n in 0..1_000_000 {
        merge.apply(link(&format!("d/{n}"), "a")).expect("a link");
    }
    let tree = merge.finish();
    assert_eq!((tree.len(), tree.inode(tree.lookup(b"a").expect("a")).links), (3, 1_000_001));
}

/// CVE-2026-95838: whiteouts of one directory, over and over, that holds much of their own layer.
#[test]
fn repeated_opaque_whiteouts() {
    let mut merge = Merge::new(&UnpackPolicy::default());
    for _ in 0..2 {
        merge.begin_layer();
        for n in 0..100_000u64 {
            merge.apply(file(&format!("d/e/{n}"), n)).expect("a file");
            merge.apply(opaque("d/e")).expect("an opaque whiteout");
            merge.apply(opaque("d")).expect("an opaque whiteout");
            merge.apply(whiteout("d")).expect("a whiteout");
        }
    }
    assert_eq!(merge.finish().len(), 100_003);
}

/// Links lead ever deeper, though each path is short.
#[test]
fn a_tree_deeper_than_paths() {
    let mut merge = Merge::new(&UnpackPolicy::default());
    merge.begin_layer();
    merge.apply(symlink("l", "/")).expect("a link");
    let mut result = Ok(());
    for n in 0..3000 {
        let prefix = vec!["d"; n + 1].join("/");
        result = merge.apply(dir("l/d", 0o755)).and_then(|()| merge.apply(symlink("l", &prefix)));
        if result.is_err() {
            break;
        }
    }
    assert_eq!(result, Err(MergeError::PathTooLong { path: escaped("l/d"), limit: 4096 }));
    // The deepest tree that there can be takes no recursion to number, to list, or to drop.
    let mut merge = Merge::new(&UnpackPolicy::default());
    merge.begin_layer();
    let deep = ["d"; 2000].join("/");
    merge.apply(dir(&deep, 0o700)).expect("a directory");
    merge.begin_layer();
    merge.apply(opaque("d")).expect("an opaque whiteout");
    merge.apply(dir(&deep, 0o711)).expect("a directory");
    let tree = merge.finish();
    assert_eq!((tree.len(), dump(&tree).lines().count()), (2001, 2001));
}

#[test]
fn many_layers() {
    let mut merge = Merge::new(&UnpackPolicy::default());
    for n in 0..10_000 {
        merge.begin_layer();
        merge.apply(file("same", n)).expect("a file");
        merge.apply(whiteout("d/f")).expect("a whiteout");
        merge.apply(file("d/g", n)).expect("a file");
    }
    assert_eq!(
        listing(&merge.finish()),
        ["0 / d755 3", "1 /d d755 2", "2 /d/g f9999:9999 1", "3 /same f9999:9999 1"]
    );
}
