//! Random layers through segment, merge, writer and reader: what is read back is the tree that was written.

use std::collections::HashMap;
use std::io::Read as _;

use mvm_image::erofs::{InodeKind, Reader};
use mvm_tree::{Attributes, Change, Device, Devices, Kind, Node, Timestamp, UnpackPolicy, Xattr};

use crate::image::{Built, Piece, Step, build};
use crate::tree;

/// Most steps of one input.
const STEPS: usize = 96;

/// Names that steps choose from: alike, short, longest, and odd ones.
const NAMES: [&[u8]; 12] = [
    b"a",
    b"b",
    b"c",
    b"ab",
    b"a.b",
    &[b'n'; 255],
    &[b'm'; 254],
    b"\xff\xfe",
    b" ",
    b"-",
    b"\\",
    b"\xc3\xa4",
];

/// Lengths around what matters to blocks, tails and holes.
const LENGTHS: [u64; 12] = [0, 1, 100, 2047, 2048, 2049, 4095, 4096, 4097, 8192, 12_288, 20_000];

/// Lengths of holes.
const HOLES: [u64; 8] = [1, 100, 4095, 4096, 65_535, 65_536, 131_072, 70_000];

const MODES: [u16; 8] = [0o644, 0o755, 0o600, 0o4755, 0o2755, 0o1777, 0, 0o7777];
const OWNERS: [u32; 8] = [0, 0, 1000, 65_534, 65_536, 1 << 21, u32::MAX - 1, 1];
const TIMES: [(i64, u32); 8] = [
    (0, 0),
    (1_700_000_000, 0),
    (1_700_000_000, 999_999_999),
    (-1, 1),
    (i64::MIN / 2, 0),
    (1 << 33, 5),
    (253_402_300_800, 0),
    (1, 1),
];
const XATTRS: [(&[u8], &[u8]); 8] = [
    (b"user.a", b""),
    (b"user.b", b"value"),
    (b"security.capability", &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    (b"trusted.t", b"\0\xff\0"),
    (b"system.posix_acl_access", &[2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255]),
    (b"user.long", &[b'x'; 700]),
    (b"user.zzzzzzz", b"zz"),
    (b"user.c", b"value"),
];

/// Builds an image from the input and reads it back.
pub fn body(data: &[u8]) {
    let Some(built) = build(&layers(data), &limits()) else { return };
    tree::check(&built.tree, &limits());
    check(&built);
}

/// The limits that inputs are merged under.
pub fn limits() -> UnpackPolicy {
    UnpackPolicy { entries: 4096, devices: Devices::Any, ..UnpackPolicy::default() }
}

/// Makes layers of an input; every input makes some.
pub fn layers(data: &[u8]) -> Vec<Vec<Step>> {
    let mut bytes = Source { bytes: data };
    let mut layers = vec![Vec::new()];
    for _ in 0..STEPS {
        if bytes.bytes.is_empty() {
            break;
        }
        let number = layers.len();
        let Some(layer) = layers.last_mut() else { break };
        match bytes.below(16) {
            0 if number < 6 => layers.push(Vec::new()),
            0 | 1 => bulk(&mut bytes, layer),
            2..=5 => layer.push(Step::File(bytes.path(), bytes.attributes(), bytes.content())),
            6..=8 => layer.push(put(&mut bytes, |_| Kind::Directory)),
            9 => layer.push(put(&mut bytes, |bytes| Kind::Symlink(bytes.target()))),
            10 | 11 => {
                let (path, target) = (bytes.path(), bytes.path());
                layer.push(Step::Change(Change::Link { path, target }));
            }
            12 | 13 => layer.push(Step::Change(Change::Whiteout { path: bytes.path() })),
            14 => layer.push(Step::Change(Change::Opaque { path: bytes.path() })),
            _ => layer.push(put(&mut bytes, |bytes| bytes.special())),
        }
    }
    layers
}

fn put(bytes: &mut Source<'_>, kind: impl FnOnce(&mut Source<'_>) -> Kind) -> Step {
    let (path, attributes) = (bytes.path(), bytes.attributes());
    Step::Change(Change::Put { path, attributes, kind: kind(bytes) })
}

/// Fills a directory, so that it takes several blocks.
fn bulk(bytes: &mut Source<'_>, layer: &mut Vec<Step>) {
    let (directory, count, width) = (bytes.path(), bytes.below(200), usize::from(bytes.below(60)) + 1);
    for number in 0..count {
        let path = [&directory[..], format!("/{number:0width$}").as_bytes()].concat().into();
        layer.push(Step::File(path, Attributes::default(), vec![Piece::Data(vec![number; width])]));
    }
}

/// The input, taken byte by byte; zeros after its end.
struct Source<'a> {
    bytes: &'a [u8],
}

impl Source<'_> {
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        *first
    }

    fn below(&mut self, end: u8) -> u8 {
        self.next() % end
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::from(self.next()) % of.len()]
    }

    /// Takes a path of 1 to 4 names.
    fn path(&mut self) -> Box<[u8]> {
        let shape = self.next();
        let names: Vec<&[u8]> = (0..=shape % 4)
            .map(|depth| {
                if shape & 0x80 == 0 { NAMES[usize::from(shape >> 2 >> depth) % 3] } else { self.one(&NAMES) }
            })
            .collect();
        names.join(&b'/').into()
    }

    fn target(&mut self) -> Box<[u8]> {
        let kind = self.next();
        let path = self.path();
        match kind % 6 {
            0 => [b"/", &path[..]].concat().into(),
            1 => [b"../", &path[..]].concat().into(),
            2 => [b"./", &path[..], b"/.."].concat().into(),
            3 => vec![b't'; 16 * usize::from(kind)].into(),
            4 => vec![b'l'; 4095].into(),
            _ => path,
        }
        .to_vec()
        .into_iter()
        .chain((kind == 3).then_some(b't'))
        .collect()
    }

    fn attributes(&mut self) -> Attributes {
        let shape = self.next();
        if shape < 0x80 {
            return Attributes { mode: MODES[usize::from(shape % 8)], ..Attributes::default() };
        }
        let (secs, nanos) = self.one(&TIMES);
        let chosen = self.next();
        let mut xattrs: Vec<Xattr> = (XATTRS.iter().enumerate())
            .filter(|(bit, _)| chosen & (1 << bit) != 0)
            .map(|(_, (name, value))| Xattr { name: (*name).into(), value: (*value).into() })
            .collect();
        xattrs.sort();
        Attributes {
            mode: self.one(&MODES),
            uid: self.one(&OWNERS),
            gid: self.one(&OWNERS),
            mtime: Timestamp { secs, nanos },
            xattrs: xattrs.into(),
        }
    }

    fn content(&mut self) -> Vec<Piece> {
        (0..self.below(4))
            .map(|_| match self.next() {
                kind @ 0..=160 => {
                    let len = self.one(&LENGTHS) as usize;
                    // Zero bytes inside of data are to become holes, too.
                    let fill = if kind % 5 == 0 { 0 } else { kind | 1 };
                    Piece::Data(
                        (0..len).map(|at| if fill == 0 { 0 } else { fill.wrapping_add(at as u8) }).collect(),
                    )
                }
                _ => Piece::Hole(self.one(&HOLES)),
            })
            .filter(|piece| !matches!(piece, Piece::Data(bytes) if bytes.is_empty()))
            .collect()
    }

    fn special(&mut self) -> Kind {
        let device = Device {
            major: self.one(&[0, 1, 5, 255, 256, 4095]),
            minor: self.one(&[0, 3, 255, 256, 1 << 19]),
        };
        match self.below(4) {
            0 => Kind::CharDevice(device),
            1 => Kind::BlockDevice(device),
            2 => Kind::Fifo,
            _ => Kind::Socket,
        }
    }
}

/// Reads an image and compares it with its tree, name for name and byte for byte.
pub fn check(built: &Built) {
    let reader = Reader::open(&built.bytes).expect("an image that was just made");
    assert_eq!((reader.inodes(), reader.blocks()), (built.summary.inodes, built.summary.data_blocks));
    let mut numbers = HashMap::new();
    let mut walk = reader.walk();
    for (path, id) in built.tree.walk() {
        let (got, inode) = walk.next().expect("as many names").expect("a name that can be read");
        let shown = path.escape_ascii();
        assert_eq!(got, *path);
        let expected = built.tree.inode(id);
        assert_eq!(inode.attributes(), &expected.attributes, "{shown}");
        assert_eq!(inode.links(), expected.links, "{shown}");
        assert_eq!(*numbers.entry(inode.nid()).or_insert(id), id, "{shown}: two inodes at one place");
        match (&expected.node, inode.kind()) {
            (Node::Directory(_), InodeKind::Directory)
            | (Node::Fifo, InodeKind::Fifo)
            | (Node::Socket, InodeKind::Socket) => {}
            (Node::Symlink(target), InodeKind::Symlink(got)) => assert_eq!(got, target, "{shown}"),
            (Node::CharDevice(device), InodeKind::CharDevice(got))
            | (Node::BlockDevice(device), InodeKind::BlockDevice(got)) => assert_eq!(got, device, "{shown}"),
            (Node::Regular { segment, content }, InodeKind::Regular) => {
                let mut bytes = Vec::new();
                reader.data(&inode).read_to_end(&mut bytes).expect("a file that can be read");
                let expected = &built.contents[&(*segment, content.clone())];
                assert!(
                    bytes == *expected,
                    "{shown}: {} bytes, not the {} written",
                    bytes.len(),
                    expected.len()
                );
            }
            (expected, got) => panic!("{shown}: {got:?}, expected {expected:?}"),
        }
    }
    assert!(walk.next().is_none(), "names that nobody wrote");
}
