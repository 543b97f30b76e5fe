//! Runs the body of each fuzz target over its stored inputs.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use mvm_fuzz::TARGETS;

/// Most inputs and bytes that one target may have in the tree.
const FILES: usize = 100;
const BYTES: u64 = 100 << 10;

fn inputs(label: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(label);
    let files = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn stored_inputs_hold() {
    let mut failed = Vec::new();
    for target in TARGETS {
        let files = inputs(target.label);
        assert!(!files.is_empty(), "corpus/{} is empty", target.label);
        for file in files {
            let bytes = fs::read(&file).unwrap();
            if catch_unwind(|| (target.body)(&bytes)).is_err() {
                failed.push(file);
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn seeds_hold() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{} has no seeds", target.label);
        seeds.iter().for_each(|seed| (target.body)(seed));
    }
}

#[test]
fn corpora_stay_small_and_belong_to_targets() {
    for target in TARGETS {
        let files = inputs(target.label);
        let bytes: u64 = files.iter().map(|file| fs::metadata(file).unwrap().len()).sum();
        assert!(
            files.len() < FILES && bytes < BYTES,
            "{}: {} files, {bytes} bytes",
            target.label,
            files.len()
        );
    }
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let known: BTreeSet<&str> = TARGETS.iter().map(|target| target.label).collect();
    for directory in fs::read_dir(corpus).unwrap() {
        let label = directory.unwrap().file_name().into_string().unwrap();
        assert!(known.contains(label.as_str()), "corpus/{label} belongs to no target");
    }
}
