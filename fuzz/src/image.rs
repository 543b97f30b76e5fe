//! Images in memory, made of layers in memory.

use std::collections::HashMap;
use std::io;

use mvm_image::erofs::{ImageOutput, ImageSummary, Segments, assemble};
use mvm_image::segment::{SegmentWriter, read_index};
use mvm_image::{BLOCK, verity};
use mvm_tree::{Attributes, Change, Content, Kind, LayerSink, Merge, Tail, Tree, UnpackPolicy};

/// One step of a layer.
#[derive(Clone, Debug)]
pub enum Step {
    /// Anything but a regular file.
    Change(Change),
    /// A regular file and its bytes.
    File(Box<[u8]>, Attributes, Vec<Piece>),
}

/// A piece of a file.
#[derive(Clone, Debug)]
pub enum Piece {
    /// These bytes.
    Data(Vec<u8>),
    /// As many zero bytes.
    Hole(u64),
}

/// The files of one segment, in memory.
#[derive(Clone, Debug, Default)]
pub struct Segment {
    /// Blocks of file data.
    pub data: Vec<u8>,
    /// Last bytes of files.
    pub tails: Vec<u8>,
    /// Digests of the blocks.
    pub leaves: Vec<u8>,
    /// The changes.
    pub index: Vec<u8>,
}

/// An image with what it was made from.
#[derive(Debug)]
pub struct Built {
    /// The whole file.
    pub bytes: Vec<u8>,
    /// The merged tree.
    pub tree: Tree,
    /// Root hash and measures.
    pub summary: ImageSummary,
    /// The bytes of each file, by segment and place.
    pub contents: HashMap<(u32, Content), Vec<u8>>,
}

impl Segment {
    /// Writes a layer; `contents` learns the bytes of its files.
    pub fn write(layer: &[Step], number: u32, contents: &mut HashMap<(u32, Content), Vec<u8>>) -> Self {
        let mut segment = Self::default();
        let Self { data, tails, leaves, index } = &mut segment;
        let mut writer = SegmentWriter::new(data, tails, leaves, index).expect("memory takes everything");
        for step in layer {
            let change = match step {
                Step::Change(change) => change.clone(),
                Step::File(path, attributes, pieces) => {
                    let (content, bytes) = file(&mut writer, pieces);
                    contents.insert((number, content.clone()), bytes);
                    let kind = Kind::Regular(content);
                    Change::Put { path: path.clone(), attributes: attributes.clone(), kind }
                }
            };
            writer.change(change).expect("a change between files");
        }
        writer.finish().expect("all files are ended");
        segment
    }
}

fn file(writer: &mut SegmentWriter<&mut Vec<u8>>, pieces: &[Piece]) -> (Content, Vec<u8>) {
    let len = |piece: &Piece| match piece {
        Piece::Data(bytes) => bytes.len() as u64,
        Piece::Hole(len) => *len,
    };
    writer.begin(pieces.iter().map(len).sum()).expect("no file is open");
    let mut all = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Data(bytes) => {
                writer.data(bytes).expect("within the size");
                all.extend_from_slice(bytes);
            }
            Piece::Hole(len) => {
                writer.hole(*len).expect("within the size");
                all.resize(all.len() + *len as usize, 0);
            }
        }
    }
    (writer.end().expect("the whole size"), all)
}

/// Makes segments, merges them and assembles the image; nothing where the merge refuses the layers.
///
/// The tree is made of what was read back from the segments' indexes.
pub fn build(layers: &[Vec<Step>], limits: &UnpackPolicy) -> Option<Built> {
    let mut contents = HashMap::new();
    let mut merge = Merge::new(limits);
    let mut segments = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let segment = Segment::write(layer, number as u32, &mut contents);
        merge.begin_layer();
        read_index(&segment.index[..], |change| merge.apply(change)).ok()?;
        segments.push(segment);
    }
    let tree = merge.finish();
    let mut output = Output { segments: &segments, bytes: Vec::new() };
    let summary = assemble(&tree, &mut Store(&segments), &mut output).expect("memory takes every tree");
    let bytes = output.bytes;
    assert_eq!(bytes.len() as u64, summary.size);
    let expected = verity::Expected { root_hash: summary.root_hash, data_blocks: summary.data_blocks };
    verity::verify(&bytes, &expected).expect("the image is what its root hash says");
    Some(Built { bytes, tree, summary, contents })
}

struct Store<'s>(&'s [Segment]);

impl Segments for Store<'_> {
    fn tail(&mut self, segment: u32, tail: Tail, into: &mut Vec<u8>) -> io::Result<()> {
        let start = tail.offset as usize;
        into.extend_from_slice(&self.0[segment as usize].tails[start..start + usize::from(tail.len)]);
        Ok(())
    }

    fn leaves(&mut self, segment: u32, first: u64, count: u64, into: &mut Vec<u8>) -> io::Result<()> {
        let range = first as usize * verity::DIGEST_LEN..(first + count) as usize * verity::DIGEST_LEN;
        into.extend_from_slice(&self.0[segment as usize].leaves[range]);
        Ok(())
    }
}

struct Output<'s> {
    segments: &'s [Segment],
    bytes: Vec<u8>,
}

impl ImageOutput for Output<'_> {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (start, end) = (offset as usize, offset as usize + bytes.len());
        self.bytes.resize(self.bytes.len().max(end), 0);
        self.bytes[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn copy_blocks(&mut self, segment: u32, from: u64, count: u64, to: u64) -> io::Result<()> {
        let range = from as usize * BLOCK..(from + count) as usize * BLOCK;
        let blocks = &self.segments[segment as usize].data[range];
        self.write_at(to * BLOCK as u64, blocks)
    }
}
