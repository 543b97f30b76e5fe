//! The bytes of a store path that is one file, as its segment has them.

use super::ImportError;
use mvm_image::segment::read_index;
use mvm_store::{DATA_START, Segment};
use mvm_tree::{Change, Content, Kind};
use std::convert::Infallible;
use std::io::{self, BufReader};
use std::os::unix::fs::FileExt;

const BLOCK: u64 = 4096;

/// Returns the bytes of the one file that a segment holds; nothing if it holds anything else, or more than `max` bytes.
pub(super) fn read(segment: &Segment, max: u64) -> Result<Option<Vec<u8>>, ImportError> {
    let files = segment.open()?;
    let mut found = None;
    let mut changes = 0_u64;
    read_index(BufReader::new(&files.index), |change| {
        changes += 1;
        if let Change::Put { kind: Kind::Regular(content), .. } = change {
            found = Some(content);
        }
        Ok::<_, Infallible>(())
    })?;
    let Some(Content { size, extents, tail }) = found.filter(|content| changes == 1 && content.size <= max)
    else {
        return Ok(None);
    };
    let wrong = || ImportError::Segment(io::ErrorKind::InvalidData.into());
    let mut bytes = vec![0; usize::try_from(size).map_err(|_| wrong())?];
    for extent in &extents {
        let start = extent.file_block.checked_mul(BLOCK).ok_or_else(wrong)?;
        let end =
            extent.count.checked_mul(BLOCK).and_then(|length| start.checked_add(length)).ok_or_else(wrong)?;
        let place = extent.segment_block.checked_mul(BLOCK).and_then(|at| at.checked_add(DATA_START));
        // The last block is filled up with zeros.
        let into = bytes.get_mut(start as usize..end.min(size) as usize).ok_or_else(wrong)?;
        files.data.read_exact_at(into, place.ok_or_else(wrong)?).map_err(ImportError::Segment)?;
    }
    if let Some(tail) = tail {
        let start = size.checked_sub(u64::from(tail.len)).ok_or_else(wrong)?;
        files.tails.read_exact_at(&mut bytes[start as usize..], tail.offset).map_err(ImportError::Segment)?;
    }
    Ok(Some(bytes))
}
