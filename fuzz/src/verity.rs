//! The check of an image against its root hash: whatever is changed is noticed.

use std::sync::LazyLock;

use mvm_image::verity::{Expected, verify};

use crate::image::Built;
use crate::{changes, erofs, image};

static BASE: LazyLock<Option<Built>> =
    LazyLock::new(|| image::build(&changes::layers(erofs::RECIPES[2]), &changes::limits()));

/// Changes an image of ours as [`erofs::damaged`] says, or cuts it, and verifies it.
///
/// The first byte says by how many bytes the image becomes shorter (below 128) or longer.
pub fn body(data: &[u8]) {
    let (Some((length, changes)), Some(base)) = (data.split_first(), BASE.as_ref()) else { return };
    let mut image = erofs::damaged(&base.bytes, changes);
    match length {
        0..128 => image.truncate(image.len() - usize::from(*length)),
        128.. => image.resize(image.len() + usize::from(*length) - 128, 0),
    }
    let expected = Expected { root_hash: base.summary.root_hash, data_blocks: base.summary.data_blocks };
    let is_good = verify(&image, &expected).is_ok();
    assert_eq!(is_good, image == base.bytes, "an image that is not what its root hash says");
    // A reader of another number of blocks is refused, and doesn't overflow.
    for data_blocks in [0, 1, base.summary.data_blocks + 1, u64::MAX] {
        if data_blocks != base.summary.data_blocks {
            assert!(verify(&image, &Expected { data_blocks, ..expected }).is_err(), "{data_blocks} blocks");
        }
    }
}
