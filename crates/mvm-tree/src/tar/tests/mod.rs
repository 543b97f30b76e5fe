//! Tests of the reader against archives made by hand.

mod dialects;
mod external;
mod hostile;
mod sparse;

use super::{ReadError, Refusal};
use crate::testing::read;
use crate::{Attributes, Change, Kind, UnpackPolicy};

fn put(path: &str, kind: Kind) -> Change {
    let mode = if matches!(kind, Kind::Symlink(_)) { 0o777 } else { 0o644 };
    let attributes = Attributes { mode, ..Attributes::default() };
    Change::Put { path: path.as_bytes().into(), attributes, kind }
}

/// Returns why an archive is refused.
fn refusal(archive: &[u8], limits: &UnpackPolicy) -> (u64, u64, String, Refusal) {
    match read(archive, limits).1 {
        Err(ReadError::Refused { index, offset, path, source }) => (index, offset, path.to_string(), source),
        other => panic!("refused, expected; got {other:?}"),
    }
}

fn why(archive: &[u8]) -> Refusal {
    refusal(archive, &UnpackPolicy::default()).3
}
