//! The merge against a slow model that says the rules in the plainest way, on random layers.

use std::collections::BTreeMap;

use super::*;

#[derive(Clone, PartialEq, Eq, Debug)]
enum Thing {
    Directory {
        mode: u16,
    },
    /// A file, told from others by its number; names that share a file have the same one.
    File {
        number: u64,
    },
}

/// Every path of a tree, with the layer that put it.
#[derive(Default)]
struct Model {
    names: BTreeMap<String, (Thing, usize)>,
    layer: usize,
}

impl Model {
    /// Applies a change; false if it is refused.
    fn apply(&mut self, change: &Change) -> bool {
        let text = |path: &[u8]| String::from_utf8(path.to_vec()).expect("text");
        match change {
            Change::Put { path, attributes, kind } => {
                let thing = match kind {
                    Kind::Regular(content) => Thing::File { number: content.size },
                    _ => Thing::Directory { mode: attributes.mode },
                };
                self.make_parents(&text(path)) && self.put(&text(path), thing)
            }
            Change::Link { path, target } => {
                let (path, target) = (text(path), text(target));
                if !self.make_parents(&path) {
                    return false;
                }
                self.remove(&path);
                match self.names.get(&target) {
                    Some((file @ Thing::File { .. }, _)) => self.put(&path, file.clone()),
                    _ => false,
                }
            }
            Change::Whiteout { path } => self.clear(&text(path), true),
            Change::Opaque { path } => self.clear(&text(path), false),
        }
    }

    fn put(&mut self, path: &str, thing: Thing) -> bool {
        let is_kept = matches!(thing, Thing::Directory { .. })
            && matches!(self.names.get(path), Some((Thing::Directory { .. }, _)));
        if !is_kept {
            self.remove(path);
        }
        self.names.insert(path.to_owned(), (thing, self.layer));
        true
    }

    fn make_parents(&mut self, path: &str) -> bool {
        for (slash, _) in path.match_indices('/') {
            let parent = &path[..slash];
            match self.names.get(parent) {
                Some((Thing::Directory { .. }, _)) => {}
                Some((Thing::File { .. }, layer)) if *layer == self.layer => return false,
                _ => drop(self.put(parent, Thing::Directory { mode: 0o755 })),
            }
        }
        true
    }

    fn remove(&mut self, path: &str) {
        self.names.retain(|name, _| !is_within(name, path));
    }

    /// Removes what lower layers put at or beneath a path, but for the parents of what this layer put.
    fn clear(&mut self, path: &str, itself: bool) -> bool {
        let own: Vec<String> = self
            .names
            .iter()
            .filter(|(_, (_, layer))| *layer == self.layer)
            .map(|(name, _)| name.clone())
            .collect();
        let layer = self.layer;
        self.names.retain(|name, (thing, put)| {
            if *put == layer || !is_within(name, path) || (name == path && !itself) {
                return true;
            }
            if own.iter().any(|own| is_within(own, name)) {
                (*thing, *put) = (Thing::Directory { mode: 0o755 }, layer);
                return true;
            }
            false
        });
        true
    }

    fn listing(&self) -> BTreeMap<String, Thing> {
        self.names.iter().map(|(name, (thing, _))| (name.clone(), thing.clone())).collect()
    }
}

fn is_within(name: &str, path: &str) -> bool {
    path.is_empty() || name.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn listing_of(tree: &Tree) -> BTreeMap<String, Thing> {
    let thing = |id| match &tree.inode(id).node {
        Node::Regular { content, .. } => Thing::File { number: content.size },
        _ => Thing::Directory { mode: tree.inode(id).attributes.mode },
    };
    let text = |path: &[u8]| String::from_utf8(path.to_vec()).expect("text");
    tree.walk().skip(1).map(|(path, id)| (text(&path), thing(id))).collect()
}

/// Checks what holds for every tree: dense numbers in the order of the walk, and right link counts.
fn check_tree(tree: &Tree) {
    let mut seen = vec![0; tree.len()];
    let mut next = 0;
    for (_, id) in tree.walk() {
        if seen[id.index()] == 0 {
            assert_eq!(id.index(), next);
            next += 1;
        }
        seen[id.index()] += 1;
    }
    assert_eq!(next, tree.len());
    for (id, inode) in tree.inodes() {
        let want = match &inode.node {
            Node::Directory(entries) => {
                let is_directory = |id| matches!(tree.inode(id).node, Node::Directory(_));
                2 + entries.iter().filter(|entry| is_directory(entry.inode)).count()
            }
            _ => seen[id.index()],
        };
        assert_eq!(inode.links as usize, want);
    }
}

#[test]
fn agrees_with_the_model() {
    // A linear congruential generator (Knuth, MMIX), so that every run is the same.
    let mut state = 7u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut refused = 0;
    for round in 0..20_000u64 {
        let (mut model, mut merge) = (Model::default(), Merge::new(&UnpackPolicy::default()));
        let mut history = Vec::new();
        let mut is_good = true;
        'layers: for layer in 1..=3 {
            model.layer = layer;
            merge.begin_layer();
            for n in 0..random(8) {
                let path = |random: &mut dyn FnMut(u64) -> u64| {
                    let names: Vec<&str> =
                        (0..=random(3)).map(|_| ["a", "b", "c"][random(3) as usize]).collect();
                    names.join("/")
                };
                let change = match random(10) {
                    0..4 => file(&path(&mut random), round * 100 + layer as u64 * 10 + n),
                    4..6 => dir(&path(&mut random), 0o700 + random(8) as u16),
                    6 => link(&path(&mut random), &path(&mut random)),
                    7 | 8 => whiteout(&path(&mut random)),
                    _ => opaque(&path(&mut random)),
                };
                history.push((layer, change.clone()));
                is_good = model.apply(&change);
                assert_eq!(merge.apply(change).is_ok(), is_good, "{history:?}");
                if !is_good {
                    refused += 1;
                    break 'layers;
                }
            }
        }
        if is_good {
            let tree = merge.finish();
            assert_eq!(listing_of(&tree), model.listing(), "{history:?}");
            check_tree(&tree);
        }
    }
    assert!((1000..15_000).contains(&refused), "{refused} refused");
}
