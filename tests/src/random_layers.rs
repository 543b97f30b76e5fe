//! Random images that every tool must unpack to the same tree.
//!
//! A model of the merged tree says which steps mean the same to umoci and to containerd, whose rules are ours. They differ in
//! this, so no image has it:
//!
//! - a parent that no layer describes: umoci gives it the time of unpacking;
//! - a parent that is a file: umoci fails;
//! - a whiteout of a directory in which the same layer has put something: containerd says that what the layer put stays, in a
//!   directory that nobody describes; umoci keeps the lower directory's owner and times;
//! - an opaque directory with one beneath it that the same layer describes, and in that one something of a lower layer: umoci
//!   gives the inner directory the time of unpacking.

use std::collections::BTreeMap;

use crate::corpus::tar::{Entry, Tar};
use crate::fixtures::rng::Rng;

/// Part of what a seed means.
const NAMES: [&[u8]; 9] = [b"a", b"b", b"c", b"d", b"e", b"a b", b"\xff\xfe", &[b'n'; 200], b"..."];
const LENGTHS: [usize; 12] = [0, 1, 5, 100, 511, 2047, 2048, 2049, 4095, 4096, 4097, 9000];
const MODES: [u64; 9] = [0o644, 0o755, 0o600, 0o4755, 0o2755, 0o1644, 0, 0o7777, 0o640];
const OWNERS: [u64; 6] = [0, 0, 1000, 65_534, 70_000, 2_097_151];
const DEVICES: [(u64, u64); 7] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2)];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Directory,
    /// A link whose target is a directory in the model as long as it exists, spelled as an absolute path.
    Symlink(Vec<u8>),
    Other,
}

/// One name of the merged tree.
#[derive(Debug, Clone)]
struct Node {
    kind: Kind,
    /// The layer that put it.
    layer: usize,
}

/// Makes the archives of an image, lowest layer first.
pub fn generate(seed: u64) -> Vec<Tar> {
    // Neighbouring seeds are to have nothing in common.
    let mut rng = Rng::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d);
    for _ in 0..8 {
        rng.next_u64();
    }
    let mut generator = Generator { rng, tree: BTreeMap::new(), layer: 0, tar: Tar::new() };
    let layers = 1 + generator.rng.below(6);
    (0..layers)
        .map(|layer| {
            generator.layer = layer;
            generator.tar = Tar::new();
            if layer == 0 || generator.rng.below(4) == 0 {
                let root = generator.described(Entry::dir("./"));
                generator.tar.push(root);
            }
            for _ in 0..2 + generator.rng.below(24) {
                generator.step();
            }
            std::mem::take(&mut generator.tar)
        })
        .collect()
}

struct Generator {
    rng: Rng,
    tree: BTreeMap<Vec<u8>, Node>,
    layer: usize,
    tar: Tar,
}

impl Generator {
    fn step(&mut self) {
        match self.rng.below(20) {
            0..=5 => self.put_directory(),
            6..=10 => self.put_file(),
            11 | 12 => self.put_symlink(),
            13 => self.put_special(),
            14 | 15 => self.put_link(),
            16 | 17 => self.whiteout(),
            18 => self.opaque(),
            _ => self.whiteout_of_nothing(),
        }
    }

    /// Returns the path of a directory and how it is spelled, which may be through a symbolic link.
    fn directory(&mut self) -> (Vec<u8>, Vec<u8>) {
        let mut ways = vec![(Vec::new(), Vec::new())];
        for (path, node) in &self.tree {
            match &node.kind {
                Kind::Directory if depth(path) < 5 => ways.push((path.clone(), path.clone())),
                Kind::Symlink(target) if self.is_directory(target) && depth(target) < 5 => {
                    ways.push((target.clone(), path.clone()));
                }
                _ => {}
            }
        }
        self.rng.pick(&ways).clone()
    }

    fn is_directory(&self, path: &[u8]) -> bool {
        path.is_empty() || matches!(self.tree.get(path), Some(Node { kind: Kind::Directory, .. }))
    }

    /// Returns a path in a directory and how it is spelled.
    fn place(&mut self) -> (Vec<u8>, Vec<u8>) {
        let (path, spelled) = self.directory();
        let name = *self.rng.pick::<&[u8]>(&NAMES);
        (join(&path, name), join(&spelled, name))
    }

    fn note(&mut self, path: Vec<u8>, kind: Kind) {
        let keeps = kind == Kind::Directory && self.is_directory(&path);
        if !keeps {
            self.forget(&path);
        }
        self.tree.insert(path, Node { kind, layer: self.layer });
    }

    fn forget(&mut self, path: &[u8]) {
        self.tree.retain(|other, _| !within(path, other));
    }

    /// Gives an entry a mode, owner and time.
    fn described(&mut self, entry: Entry) -> Entry {
        let mode = *self.rng.pick(&MODES);
        let (uid, gid) = (*self.rng.pick(&OWNERS), *self.rng.pick(&OWNERS));
        let time = 1_500_000_000 + self.rng.below(300_000_000) as i64;
        let entry = entry.mode(mode).owner(uid, gid).mtime(time);
        match self.rng.below(5) {
            0 => entry.pax("mtime", format!("{time}.{:09}", self.rng.below(1_000_000_000))),
            _ => entry,
        }
    }

    fn attributed(&mut self, entry: Entry) -> Entry {
        let value = self.rng.bytes(12);
        match self.rng.below(8) {
            0 => entry.xattr("user.a", &value).xattr("user.same", "everywhere"),
            1 => entry.xattr("user.same", "everywhere"),
            // Network sockets without root: a set of version 2.
            2 => entry.xattr("security.capability", [&[1, 0, 0, 2, 0, 0x20, 0, 0][..], &[0; 12]].concat()),
            3 => entry.xattr("trusted.mark", &value),
            _ => entry,
        }
    }

    fn put_directory(&mut self) {
        let (path, spelled) = self.place();
        let slash: &[u8] = if self.rng.below(2) == 0 { b"/" } else { b"" };
        let entry = self.described(Entry::dir([&spelled, slash].concat()));
        let entry = self.attributed(entry);
        self.tar.push(entry);
        self.note(path, Kind::Directory);
    }

    fn put_file(&mut self) {
        let (path, spelled) = self.place();
        let length = *self.rng.pick(&LENGTHS);
        let mut data = self.rng.bytes(length);
        match self.rng.below(6) {
            0 => data.fill(0),
            1 if length > 0 => {
                // A run of zeros that an image may store as a hole, between two blocks that are none.
                data.resize(length + 180_000, 0);
                data.push(1);
            }
            _ => {}
        }
        let entry = self.described(Entry::file(spelled, data));
        let entry = self.attributed(entry);
        self.tar.push(entry);
        self.note(path, Kind::Other);
    }

    fn put_symlink(&mut self) {
        let (path, spelled) = self.place();
        let (target, text) = match self.rng.below(4) {
            0 => (b"nowhere".to_vec(), b"../nowhere/at all".to_vec()),
            1 => {
                // As many steps up as it takes, and more: the root is its own parent.
                let (target, _) = self.directory();
                let text = [&b"../../../../../../../"[..], &target].concat();
                (target, text)
            }
            _ => {
                let (target, _) = self.directory();
                let text = [b"/", &target[..]].concat();
                (target, text)
            }
        };
        let entry = self.described(Entry::symlink(spelled, text)).mode(0o777);
        self.tar.push(entry);
        self.note(path, Kind::Symlink(target));
    }

    fn put_special(&mut self) {
        let (path, spelled) = self.place();
        let (major, minor) = *self.rng.pick(&DEVICES);
        let entry = match self.rng.below(2) {
            0 => Entry::new(b'6', spelled),
            _ => Entry::device(b'3', spelled, major, minor),
        };
        let entry = self.described(entry);
        self.tar.push(entry);
        self.note(path, Kind::Other);
    }

    fn put_link(&mut self) {
        let targets: Vec<Vec<u8>> = self
            .tree
            .iter()
            .filter(|(_, node)| node.kind == Kind::Other)
            .map(|(path, _)| path.clone())
            .collect();
        if targets.is_empty() {
            return;
        }
        let target = self.rng.pick(&targets).clone();
        let (path, spelled) = self.place();
        // A link to itself has no target, nor has one in the place of a directory that holds it.
        if within(&path, &target) {
            return;
        }
        let dot = *self.rng.pick::<&[u8]>(&[b"", b"./", b"/"]);
        let entry = self.described(Entry::link(spelled, [dot, &target].concat()));
        self.tar.push(entry);
        self.note(path, Kind::Other);
    }

    /// Removes what a lower layer put, unless this one has touched something of it.
    fn whiteout(&mut self) {
        let is_own = |path: &Vec<u8>| {
            self.tree.iter().any(|(other, node)| node.layer == self.layer && within(path, other))
        };
        let paths: Vec<Vec<u8>> = self.tree.keys().filter(|path| !is_own(path)).cloned().collect();
        if paths.is_empty() {
            return;
        }
        let path = self.rng.pick(&paths).clone();
        let (parent, name) = split(&path);
        self.tar.push(Entry::file(join(parent, &[b".wh.", name].concat()), ""));
        self.forget(&path);
    }

    /// Removes all that lower layers put in a directory, unless this layer has put something into one of theirs, or has
    /// described a directory beneath that holds something of theirs.
    fn opaque(&mut self) {
        let (path, spelled) = self.directory();
        let own: Vec<&Vec<u8>> = (self.tree.iter())
            .filter(|(other, node)| **other != path && within(&path, other) && node.layer == self.layer)
            .map(|(other, _)| other)
            .collect();
        let lower: Vec<Vec<u8>> = (self.tree.iter())
            .filter(|(other, node)| **other != path && within(&path, other) && node.layer != self.layer)
            .map(|(other, _)| other.clone())
            .collect();
        if lower.iter().any(|lower| own.iter().any(|own| within(lower, own) || within(own, lower))) {
            return;
        }
        self.tar.push(Entry::file(join(&spelled, b".wh..wh..opq"), ""));
        lower.iter().for_each(|other| drop(self.tree.remove(other)));
    }

    fn whiteout_of_nothing(&mut self) {
        let (path, spelled) = self.place();
        if !self.tree.contains_key(&path) {
            let (parent, name) = split(&spelled);
            self.tar.push(Entry::file(join(parent, &[b".wh.", name].concat()), ""));
        }
    }
}

fn depth(path: &[u8]) -> usize {
    path.split(|byte| *byte == b'/').count()
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

/// Tells whether `path` is `directory` or below it.
fn within(directory: &[u8], path: &[u8]) -> bool {
    directory.is_empty()
        || path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}
