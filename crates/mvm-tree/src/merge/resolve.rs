//! Finds the place of a path in a tree in the making, through the symbolic links of that tree.
//!
//! The rules are those of containerd's `fs.RootPath`: every component but the last is followed; an absolute
//! target starts at the tree's root; `..` never leaves the root; what doesn't exist is taken by its name.

use std::borrow::Cow;

use super::MergeError;
use super::arena::{Arena, Dir};
use crate::{Escaped, UnpackPolicy};

/// One resolved component.
#[derive(Debug)]
pub(super) struct Step {
    /// The child, unless it is missing.
    pub(super) child: Option<u32>,
    /// The layer that put the name, 0 if it is missing.
    pub(super) layer: u32,
    /// The name.
    pub(super) name: Vec<u8>,
}

/// Resolves all components of `path`, the last one too, for the entry `of`, which errors name.
pub(super) fn resolve(
    arena: &Arena,
    policy: &UnpackPolicy,
    path: &[u8],
    of: &[u8],
) -> Result<Vec<Step>, MergeError> {
    let mut steps: Vec<Step> = Vec::new();
    let mut rest = Cow::Borrowed(path);
    let mut at = 0;
    let mut links = 0;
    // Links that lead through long targets must not multiply the work without end.
    let mut walked = 0;
    while at < rest.len() {
        let end = rest[at..].iter().position(|b| *b == b'/').map_or(rest.len(), |slash| at + slash);
        let component = &rest[at..end];
        at = rest.len().min(end + 1);
        walked += 1;
        if walked > policy.path_bytes {
            return Err(MergeError::PathTooLong { path: Escaped::new(of), limit: policy.path_bytes });
        }
        match component {
            b"" | b"." => continue,
            b".." => {
                steps.pop();
                continue;
            }
            _ => {}
        }
        let child = last_directory(arena, &steps).and_then(|dir| arena.child(dir, component));
        let Some(target) = child.and_then(|child| arena.symlink(child.node)) else {
            let (node, layer) = child.map_or((None, 0), |child| (Some(child.node), child.layer));
            steps.push(Step { child: node, layer, name: component.to_vec() });
            continue;
        };
        links += 1;
        if links > policy.symlink_depth {
            return Err(MergeError::TooManySymlinks { path: Escaped::new(of), limit: policy.symlink_depth });
        }
        if target.first() == Some(&b'/') {
            steps.clear();
        }
        rest = Cow::Owned([target, b"/", &rest[at..]].concat());
        at = 0;
    }
    Ok(steps)
}

/// Returns the directory at the end of `steps`, if it is one.
pub(super) fn last_directory(arena: &Arena, steps: &[Step]) -> Option<Dir> {
    match steps.last() {
        None => Some(Arena::ROOT),
        Some(step) => arena.dir(step.child?),
    }
}
