//! The framing of segments: an archive that was taken in comes out again, and a damaged framing gives a bounded answer.

use std::sync::LazyLock;

use mvm_image::segment::{Places, RebuildError, SegmentWriter, rebuild};
use mvm_tree::{Budget, read_layer};

use crate::image::Segment;
use crate::{seeds, tar};

/// Length of the archives that damaged framings are to give.
const LENGTH: u64 = 16_384;

/// What damaged framings belong to.
static BASE: LazyLock<Option<(Segment, Vec<u8>)>> =
    LazyLock::new(|| seeds::trees::tars().iter().find_map(|archive| store(archive)));

/// Takes an archive in and gives it back, or gives back what a damaged framing says: the first byte says which.
pub fn body(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    if kind % 2 == 0 {
        give_back(rest);
        give_back(&tar::sealed(rest));
        return;
    }
    let Some((segment, _)) = BASE.as_ref() else { return };
    let mut archive = Vec::new();
    let result = back(segment, rest, LENGTH, &mut archive);
    assert!(archive.len() as u64 <= LENGTH, "{} bytes", archive.len());
    assert!(result.is_err() || archive.len() as u64 == LENGTH, "{} bytes", archive.len());
}

fn give_back(archive: &[u8]) {
    let Some((segment, framing)) = store(archive) else { return };
    let mut again = Vec::new();
    let result = back(&segment, &framing, archive.len() as u64, &mut again);
    assert!(result.is_ok(), "{result:?}");
    assert!(again == archive, "another archive came back");
}

/// Returns a layer's segment and framing; nothing where the layer is refused.
fn store(archive: &[u8]) -> Option<(Segment, Vec<u8>)> {
    let (mut segment, mut framing) = (Segment::default(), Vec::new());
    let Segment { data, tails, leaves, index } = &mut segment;
    let writer = SegmentWriter::new(data, tails, leaves, index).expect("memory takes everything");
    let mut writer = writer.with_framing(&mut framing);
    read_layer(&mut &archive[..], &Budget::new(&tar::limits()), &mut writer).ok()?;
    writer.finish().expect("all files are ended");
    Some((segment, framing))
}

fn back(segment: &Segment, framing: &[u8], length: u64, into: &mut Vec<u8>) -> Result<(), RebuildError> {
    let places = Places { data: segment.data.as_slice(), data_start: 0, tails: segment.tails.as_slice() };
    rebuild(framing, &segment.index[..], &places, length, into)
}

/// Valid inputs to start from.
pub fn seeds() -> Vec<Vec<u8>> {
    let archives = seeds::trees::tars().into_iter().take(8).map(|archive| [&[0], &archive[..]].concat());
    let framings = BASE.as_ref().map(|(_, framing)| [&[1], &framing[..]].concat());
    archives.chain(framings).collect()
}
