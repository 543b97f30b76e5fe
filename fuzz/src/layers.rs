//! The merge of several archives: whatever they are, the tree is sound and the same each time.

use mvm_tree::{Change, Merge, MergeError, Tree, UnpackPolicy};

use crate::{tar, tree};

/// Stands between two archives of an input.
pub const SEPARATOR: &[u8] = b"\n=== layer ===\n";

/// Most layers of one input.
const LAYERS: usize = 8;

/// Reads the input as archives with [`SEPARATOR`] between them, with the right checksums, and merges them.
pub fn body(data: &[u8]) {
    let layers: Option<Vec<Vec<Change>>> = split(data)
        .into_iter()
        .take(LAYERS)
        .map(|layer| Some(tar::read(&tar::sealed(layer))?.0.changes))
        .collect();
    if let Some(layers) = layers {
        merge_checked(&layers);
    }
}

/// Merges layers twice and checks the tree; nothing where they are refused.
pub fn merge_checked(layers: &[Vec<Change>]) -> Option<Tree> {
    let limits = UnpackPolicy { entries: 512, metadata_bytes: 256 << 10, ..tar::limits() };
    let merged = match merge(layers, &limits) {
        Ok(merged) => merged,
        Err(error) => {
            let words = error.to_string();
            assert!(!words.contains(char::is_control), "{words:?}");
            return None;
        }
    };
    tree::check(&merged, &limits);
    assert_eq!(merge(layers, &limits).ok().as_ref(), Some(&merged), "the same layers, another tree");
    Some(merged)
}

fn merge(layers: &[Vec<Change>], limits: &UnpackPolicy) -> Result<Tree, MergeError> {
    let mut merge = Merge::new(limits);
    for layer in layers {
        merge.begin_layer();
        layer.iter().try_for_each(|change| merge.apply(change.clone()))?;
    }
    Ok(merge.finish())
}

fn split(data: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let mut rest = data;
    while let Some(at) = rest.windows(SEPARATOR.len()).position(|window| window == SEPARATOR) {
        parts.push(&rest[..at]);
        rest = &rest[at + SEPARATOR.len()..];
    }
    parts.push(rest);
    parts
}
