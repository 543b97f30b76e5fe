//! Layers, segments and images of a few blocks, made the way that a pull makes them.

use mvm_ref::verify::{self, Expected};
use mvm_ref::{Digest, Platform, ScopeName, VerifiedLayer};
use mvm_store::{
    Claim, Collected, CollectedKind, Image, ImageClaim, ImageRecord, ManifestRecord, ResolutionRecord, Scope,
    Segment, SegmentSlot, SegmentStats, Store, StoreError,
};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

pub const GENERATION: u32 = 1;
pub const PULLED_AT: i64 = 1_700_000_000;

pub struct Fixture {
    pub directory: tempfile::TempDir,
    pub scope: Scope,
}

pub fn fixture() -> Fixture {
    let directory = tempfile::Builder::new().prefix("mvm-store").tempdir().unwrap();
    let scope = open(directory.path());
    Fixture { directory, scope }
}

/// Nobody but who holds a lease uses an image.
pub fn nobody(_: &Digest) -> BTreeSet<String> {
    BTreeSet::new()
}

pub fn open(root: &Path) -> Scope {
    Store::open(root).unwrap().scope(&ScopeName::default()).unwrap()
}

impl Fixture {
    pub fn path(&self, below: &str) -> PathBuf {
        self.scope.path().join(below)
    }

    pub fn names(&self, below: &str) -> Vec<String> {
        names(&self.path(below))
    }

    /// Opens the scope once more, as another process would.
    pub fn again(&self) -> Scope {
        open(self.directory.path())
    }
}

pub fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

pub fn never() -> bool {
    false
}

pub fn platform() -> Platform {
    Platform::new("linux", "amd64", None)
}

/// The layer whose stream is `text`, stored as it is.
pub fn layer(text: &str) -> VerifiedLayer {
    let digest = Digest::of(text.as_bytes());
    let expected = Expected { digest, size: text.len() as u64, diff_id: digest };
    let (mut stored, mut tar) = verify::layer(expected);
    stored.update(text.as_bytes());
    tar.update(text.as_bytes());
    stored.finish(tar).unwrap()
}

pub fn diff_id(text: &str) -> Digest {
    layer(text).diff_id()
}

pub fn chain(layers: &[&str]) -> Vec<Digest> {
    layers.iter().map(|text| diff_id(text)).collect()
}

/// Fills and commits a slot: two blocks, their leaves, a tail and an index.
pub fn fill(slot: SegmentSlot, text: &str) -> Result<Segment, StoreError> {
    let files = slot.files();
    (&files.data).write_all(&[7; 8192]).unwrap();
    (&files.leaves).write_all(&[8; 64]).unwrap();
    (&files.tails).write_all(text.as_bytes()).unwrap();
    (&files.index).write_all(b"index").unwrap();
    slot.commit(&layer(text), SegmentStats { blocks: 2, tail_bytes: text.len() as u64, entries: 3 })
}

/// Returns the segment of a layer and whether it was made just now.
pub fn segment(scope: &Scope, text: &str) -> (Segment, bool) {
    match scope.claim_segment(&diff_id(text), GENERATION, &never).unwrap() {
        Claim::Ready(segment) => (segment, false),
        Claim::Build(slot) => (fill(slot, text).unwrap(), true),
    }
}

pub fn slot(scope: &Scope, text: &str) -> SegmentSlot {
    match scope.claim_segment(&diff_id(text), GENERATION, &never).unwrap() {
        Claim::Build(slot) => slot,
        Claim::Ready(_) => panic!("segment {text:?} is there already"),
    }
}

/// The image that a chain leads to; as with real ones, its root hash depends on its content only.
pub fn image_record(layers: &[&str]) -> (ImageRecord, Vec<u8>) {
    let content = layers.concat().into_bytes();
    let record = ImageRecord {
        root_hash: Digest::of(&content),
        data_blocks: 1,
        hash_start: 4096,
        size: content.len() as u64,
    };
    (record, content)
}

pub fn image(scope: &Scope, layers: &[&str]) -> (Image, bool) {
    let (record, content) = image_record(layers);
    match scope.claim_image(&chain(layers), GENERATION, &never).unwrap() {
        ImageClaim::Ready(image) => (image, false),
        ImageClaim::Build(slot) => {
            slot.file().write_all(&content).unwrap();
            (slot.commit(record).unwrap(), true)
        }
    }
}

/// What a pull ends with.
pub struct Pulled {
    pub manifest: ManifestRecord,
    pub resolution: ResolutionRecord,
    pub segments: Vec<Segment>,
    pub image: Image,
    pub built: BTreeSet<String>,
}

/// Pulls an image whose manifest, config and index are made up from its name and layers.
pub fn pull(scope: &Scope, requested: &str, layers: &[&str]) -> Pulled {
    let mut built = BTreeSet::new();
    let manifest = scope.put_document(format!("manifest of {layers:?}").as_bytes()).unwrap();
    let config = scope.put_document(format!("config of {layers:?}").as_bytes()).unwrap();
    let index = scope.put_document(format!("index of {requested}").as_bytes()).unwrap();
    let mut segments = Vec::new();
    for text in layers {
        let (segment, new) = segment(scope, text);
        segments.push(segment);
        if new {
            built.insert((*text).to_owned());
        }
    }
    let (image, new) = image(scope, layers);
    if new {
        built.insert("image".to_owned());
    }
    let manifest = ManifestRecord {
        manifest,
        config,
        chain: chain(layers),
        platform: platform(),
        root_hash: image.record().root_hash,
        posture: "compatible".to_owned(),
        pulled_at: PULLED_AT,
    };
    scope.record_manifest(&manifest).unwrap();
    let resolution = ResolutionRecord {
        requested: requested.to_owned(),
        platform: platform(),
        manifest: manifest.manifest,
        index: Some(index),
        resolved_at: PULLED_AT,
    };
    scope.record_resolution(&resolution).unwrap();
    Pulled { manifest, resolution, segments, image, built }
}

pub fn set(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// The name of what was removed, which lay in the directory of its kind.
pub fn entry(item: &Collected) -> String {
    let below = match item.kind {
        CollectedKind::Image => "images",
        CollectedKind::Segment => "segments",
        CollectedKind::Document => "documents",
        CollectedKind::Leftover => "staging",
        kind => panic!("no scope holds a {kind:?}"),
    };
    item.path.strip_prefix(below).unwrap().to_str().unwrap().to_owned()
}
