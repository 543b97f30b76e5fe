//! Random trees become images that `fsck.erofs` finds nothing wrong with, and that we read back as they were.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::io::ErrorKind;
use std::process::Command;

use mvm_fuzz::changes;
use mvm_fuzz::image::{Built, Step, build};
use mvm_tree::{Attributes, Change, Content, Kind, Merge};

/// Images of one run.
const IMAGES: u64 = 300;

/// A small generator of numbers (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// `MVM_SEED` starts from another seed than the usual, to look further.
#[test]
fn images_of_random_trees_are_sound() {
    let first = std::env::var("MVM_SEED").map_or(1, |seed| seed.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("image");
    let mut inodes = 0;
    for seed in first..first + IMAGES {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let length = 20 + random.next() % 600;
        let bytes: Vec<u8> = (0..length).map(|_| (random.next() >> 32) as u8).collect();
        let built = sound(changes::layers(&bytes));
        inodes += built.summary.inodes;
        let seeded = std::panic::catch_unwind(|| changes::check(&built));
        assert!(seeded.is_ok(), "MVM_SEED={seed}");
        std::fs::write(&file, &built.bytes).unwrap();
        match Command::new("fsck.erofs").arg(&file).output() {
            Ok(output) => {
                let words = [&output.stdout[..], &output.stderr].concat();
                let words = String::from_utf8_lossy(&words);
                let is_sound = output.status.success() && !words.contains("<E>") && !words.contains("<W>");
                assert!(is_sound, "MVM_SEED={seed}: fsck.erofs: {words}");
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                eprintln!("SKIPPED: fsck.erofs is not installed (Debian: erofs-utils)");
                return;
            }
            Err(error) => panic!("fsck.erofs: {error}"),
        }
    }
    assert!(inodes > IMAGES * 20, "{inodes} inodes in all: the trees are too small to tell anything");
}

/// Builds the image of layers, without the steps that a merge refuses.
fn sound(layers: Vec<Vec<Step>>) -> Built {
    let mut kept: Vec<Vec<Step>> = Vec::new();
    let mut merge = merged(&kept);
    for layer in layers {
        kept.push(Vec::new());
        merge.begin_layer();
        for step in layer {
            if merge.apply(change(&step)).is_ok() {
                kept.last_mut().unwrap().push(step);
            } else {
                // After an error a merge is in no state to be used.
                merge = merged(&kept);
            }
        }
    }
    build(&kept, &changes::limits()).unwrap()
}

fn merged(layers: &[Vec<Step>]) -> Merge {
    let mut merge = Merge::new(&changes::limits());
    for layer in layers {
        merge.begin_layer();
        layer.iter().for_each(|step| merge.apply(change(step)).unwrap());
    }
    merge
}

fn change(step: &Step) -> Change {
    match step {
        Step::Change(change) => change.clone(),
        Step::File(path, ..) => Change::Put {
            path: path.clone(),
            attributes: Attributes::default(),
            kind: Kind::Regular(Content::default()),
        },
    }
}
