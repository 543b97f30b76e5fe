//! What holds for every merged tree.

use mvm_tree::{Node, Tree, UnpackPolicy};

/// Checks numbers, names, links and limits of a tree.
pub fn check(tree: &Tree, limits: &UnpackPolicy) {
    let mut seen = vec![0u32; tree.len()];
    let mut next = 0;
    let mut names = 0u64;
    for (path, id) in tree.walk() {
        assert!(path.len() < limits.path_bytes, "a path of {} bytes", path.len());
        assert_eq!(tree.lookup(&path), Some(id), "{}", path.escape_ascii());
        if seen[id.index()] == 0 {
            assert_eq!(id.index(), next, "inodes are numbered in the order of the walk");
            next += 1;
        }
        seen[id.index()] += 1;
        names += 1;
    }
    assert_eq!(next, tree.len(), "every inode has a name");
    assert!(names <= limits.entries + 1, "{names} names");
    for (id, inode) in tree.inodes() {
        let links = match &inode.node {
            Node::Directory(entries) => {
                assert_eq!(seen[id.index()], 1, "a directory has one name");
                assert!(entries.windows(2).all(|pair| pair[0].name < pair[1].name), "names are sorted");
                for name in entries.iter().map(|entry| &*entry.name) {
                    assert!(
                        !name.is_empty() && name != b"." && name != b".." && name.len() <= limits.name_bytes
                    );
                    assert!(!name.contains(&b'/') && !name.contains(&0));
                }
                let is_directory = |id| matches!(tree.inode(id).node, Node::Directory(_));
                2 + entries.iter().filter(|entry| is_directory(entry.inode)).count() as u32
            }
            _ => seen[id.index()],
        };
        assert_eq!(inode.links, links);
    }
}
