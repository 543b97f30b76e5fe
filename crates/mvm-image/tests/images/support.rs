//! Builds images from layers described in tests, and asks other programs about them.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test ends where something unexpected happens"
)]

pub mod listing;

use mvm_image::erofs::{AssembleError, ImageSummary, assemble};
use mvm_image::files::{FileOutput, FileSegments, SegmentFiles};
use mvm_image::segment::{SegmentWriter, read_index};
use mvm_tree::{
    Attributes, Change, Content, Device, Kind, LayerSink, Merge, Timestamp, Tree, UnpackPolicy, Xattr,
};
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// Bytes of a file, as pieces.
pub type Bytes = Vec<Piece>;

/// A piece of a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Piece {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Bytes that follow from a seed and never hold a whole block of zeros.
    Noise(u64, u64),
    /// Zero bytes.
    Zeros(u64),
}

impl Piece {
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Noise(_, len) | Self::Zeros(len) => *len,
        }
    }
}

pub fn noise(seed: u64, len: u64) -> Vec<u8> {
    let mut random = Random(seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15));
    let mut bytes = Vec::with_capacity(len as usize + 8);
    while (bytes.len() as u64) < len {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(len as usize);
    bytes
}

/// A small generator of numbers (xorshift64*); not for secrets.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// One step of a layer.
#[derive(Clone, Debug)]
pub enum Step {
    Node(Vec<u8>, Attributes, Kind),
    File(Vec<u8>, Attributes, Bytes),
    Link(Vec<u8>, Vec<u8>),
    Whiteout(Vec<u8>),
}

pub fn attributes(mode: u16, uid: u32, gid: u32, secs: i64, nanos: u32) -> Attributes {
    Attributes { mode, uid, gid, mtime: Timestamp { secs, nanos }, xattrs: Box::default() }
}

pub fn with_xattrs(attributes: Attributes, xattrs: &[(&str, &[u8])]) -> Attributes {
    let mut xattrs: Vec<Xattr> = xattrs
        .iter()
        .map(|(name, value)| Xattr { name: name.as_bytes().into(), value: (*value).into() })
        .collect();
    xattrs.sort();
    Attributes { xattrs: xattrs.into(), ..attributes }
}

pub fn plain() -> Attributes {
    attributes(0o644, 0, 0, 1_700_000_000, 0)
}

pub fn dir(path: &str) -> Step {
    Step::Node(path.into(), attributes(0o755, 0, 0, 1_700_000_000, 0), Kind::Directory)
}

pub fn file(path: impl Into<Vec<u8>>, bytes: Bytes) -> Step {
    Step::File(path.into(), plain(), bytes)
}

pub fn symlink(path: &str, target: &[u8]) -> Step {
    Step::Node(path.into(), attributes(0o777, 0, 0, 1, 0), Kind::Symlink(target.into()))
}

pub fn device(path: &str, major: u32, minor: u32) -> Step {
    Step::Node(path.into(), plain(), Kind::CharDevice(Device { major, minor }))
}

/// An image with what it was made from.
pub struct Built {
    pub dir: TempDir,
    pub image: PathBuf,
    pub tree: Tree,
    pub summary: ImageSummary,
    /// What each file's content is.
    pub contents: HashMap<(u32, Content), Bytes>,
}

/// Builds an image of layers, feeding files in parts of `split` bytes.
pub fn build_split(layers: &[Vec<Step>], split: usize) -> Result<Built, AssembleError> {
    let dir = TempDir::new().unwrap();
    let mut contents = HashMap::new();
    let mut merge = Merge::new(&boundless());
    let mut files = Vec::new();
    for (number, steps) in layers.iter().enumerate() {
        let [data, tails, leaves, index] = ["data", "tails", "leaves", "index"]
            .map(|part| create(&dir.path().join(format!("{number}.{part}"))));
        let mut writer = SegmentWriter::new(&data, &tails, &leaves, &index).unwrap();
        for step in steps {
            let change = change(step, split, &mut writer);
            if let (Change::Put { kind: Kind::Regular(content), .. }, Step::File(_, _, bytes)) =
                (&change, step)
            {
                contents.insert((number as u32, content.clone()), bytes.clone());
            }
            writer.change(change).unwrap();
        }
        let summary = writer.finish().unwrap();
        assert_eq!(data.metadata().unwrap().len(), summary.blocks * 4096);
        merge.begin_layer();
        let index = File::open(dir.path().join(format!("{number}.index"))).unwrap();
        assert_eq!(read_index(index, |change| merge.apply(change)).unwrap(), summary);
        files.push((data, tails, leaves));
    }
    let tree = merge.finish();
    let image = dir.path().join("image");
    let file = create(&image);
    let segments = files.iter().map(|(_, tails, leaves)| SegmentFiles { tails, leaves }).collect();
    let data = files.iter().map(|(data, ..)| data).collect();
    let summary = assemble(&tree, &mut FileSegments::new(segments), &mut FileOutput::new(&file, data, 0))?;
    assert_eq!(file.metadata().unwrap().len(), summary.size);
    Ok(Built { dir, image, tree, summary, contents })
}

pub fn build(layers: &[Vec<Step>]) -> Built {
    build_split(layers, usize::MAX).unwrap()
}

fn create(path: &Path) -> File {
    File::options().read(true).write(true).create_new(true).open(path).unwrap()
}

fn change(step: &Step, split: usize, writer: &mut SegmentWriter<&File>) -> Change {
    match step.clone() {
        Step::Node(path, attributes, kind) => Change::Put { path: path.into(), attributes, kind },
        Step::Link(path, target) => Change::Link { path: path.into(), target: target.into() },
        Step::Whiteout(path) => Change::Whiteout { path: path.into() },
        Step::File(path, attributes, bytes) => {
            writer.begin(bytes.iter().map(Piece::len).sum()).unwrap();
            for piece in bytes {
                match piece {
                    Piece::Bytes(bytes) => bytes.chunks(split).for_each(|part| writer.data(part).unwrap()),
                    Piece::Noise(seed, len) => {
                        noise(seed, len).chunks(split).for_each(|part| writer.data(part).unwrap());
                    }
                    Piece::Zeros(len) => writer.hole(len).unwrap(),
                }
            }
            let content = writer.end().unwrap();
            Change::Put { path: path.into(), attributes, kind: Kind::Regular(content) }
        }
    }
}

/// Runs a program; `None`, with words, where it isn't installed.
pub fn run(program: &str, args: &[&str]) -> Option<Output> {
    let search = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    match Command::new(program).args(args).env("PATH", search).output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: {program} is not installed (Debian: erofs-utils, cryptsetup-bin)");
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

/// Runs a program that must succeed; returns false where it isn't installed.
pub fn must(program: &str, args: &[&str]) -> bool {
    let Some(output) = run(program, args) else { return false };
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    true
}

/// Asks `fsck.erofs` and `veritysetup` about an image, and compares what our reader and a mount show with the tree.
pub fn check(built: &Built) {
    check_tools(built);
    let expected = listing::of_tree(built);
    listing::assert_same(&listing::of_reader(built), &expected);
    if let Some(mounted) = Mount::new(&built.image) {
        listing::assert_same(&listing::of_mount(mounted.path(), built), &listing::readable(expected));
    }
}

pub fn check_tools(built: &Built) {
    let image = built.image.to_str().unwrap();
    if let Some(output) = run("fsck.erofs", &[image]) {
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !text.contains("<E>"), "fsck.erofs: {text}");
    }
    let offset = built.summary.hash_start.to_string();
    let root = built.summary.root_hash.hex();
    must("veritysetup", &["verify", image, image, &root, "--hash-offset", &offset]);
    let file = File::open(&built.image).unwrap();
    let expected = mvm_image::verity::Expected {
        root_hash: built.summary.root_hash,
        data_blocks: built.summary.data_blocks,
    };
    mvm_image::verity::verify(&file, &expected).unwrap();
}

/// An image mounted through a loop device.
pub struct Mount(TempDir);

impl Mount {
    pub fn new(image: &Path) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: mounting an image needs root");
            return None;
        }
        let dir = TempDir::new().unwrap();
        let args = ["-t", "erofs", "-o", "ro,loop", image.to_str().unwrap(), dir.path().to_str().unwrap()];
        let output = run("mount", &args)?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            let missing = ["unknown filesystem", "loop device", "permission denied"];
            assert!(missing.iter().any(|text| words.contains(text)), "mount: {words}");
            eprintln!("SKIPPED: this machine mounts no EROFS through a loop device: {words}");
            return None;
        }
        Some(Self(dir))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let path = self.0.path().to_str().unwrap_or_default();
        if !run("umount", &[path]).is_some_and(|output| output.status.success()) {
            eprintln!("cannot unmount {path}");
        }
    }
}

/// Returns a policy that leaves it to the image to refuse something.
pub fn boundless() -> UnpackPolicy {
    UnpackPolicy {
        unpacked_bytes: u64::MAX,
        apparent_bytes: u64::MAX,
        xattr_bytes_per_entry: usize::MAX,
        path_bytes: usize::MAX,
        ..UnpackPolicy::loosest()
    }
}
