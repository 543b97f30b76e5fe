//! The reader of segment indexes: what it gives can be written and read again.

use std::convert::Infallible;

use mvm_image::segment::{ReadIndexError, SegmentSummary, SegmentWriter, read_index};
use mvm_tree::{Change, LayerSink as _};

/// Reads an index, and what a writer makes of its changes.
pub fn body(data: &[u8]) {
    let (changes, result) = read(data);
    let Ok(summary) = result else { return };
    assert_eq!(summary.entries, changes.len() as u64);
    let (mut blocks, mut tails, mut leaves, mut index) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut writer = SegmentWriter::new(&mut blocks, &mut tails, &mut leaves, &mut index)
        .expect("memory takes everything");
    for change in &changes {
        writer.change(change.clone()).expect("a change that was read can be written");
    }
    writer.finish().expect("no file was begun");
    assert_eq!(read(&index).0, changes);
}

fn read(data: &[u8]) -> (Vec<Change>, Result<SegmentSummary, ReadIndexError<Infallible>>) {
    let mut changes = Vec::new();
    let result = read_index(data, |change| {
        changes.push(change);
        Ok(())
    });
    (changes, result)
}
