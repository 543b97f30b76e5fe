//! Turns the arena into a tree: numbers inodes depth-first in name order and counts links.

use super::arena::{Arena, Directory, NONE};
use crate::{Dirent, Inode, InodeId, Node, Tree};

/// Numbers the inodes and moves them into their places.
pub(super) fn number(arena: Arena) -> Tree {
    let (mut inodes, slots, mut directories) = arena.into_parts();
    let mut numbers = vec![NONE; inodes.len()];
    let mut live = 0;
    let mut assign = |numbers: &mut Vec<u32>, node: u32| {
        numbers[node as usize] = live;
        live += 1;
    };

    let mut stack: Vec<(u32, usize)> = vec![(0, 0)];
    assign(&mut numbers, 0);
    open(0, &mut inodes, &slots, &mut directories);
    while let Some((directory, position)) = stack.last_mut() {
        let entry = match &inodes[*directory as usize].node {
            Node::Directory(entries) => entries.get(*position),
            _ => None,
        };
        let Some(child) = entry.map(|entry| entry.inode.0) else {
            stack.pop();
            continue;
        };
        *position += 1;
        if numbers[child as usize] == NONE {
            assign(&mut numbers, child);
            if slots[child as usize] != NONE {
                open(child, &mut inodes, &slots, &mut directories);
                stack.push((child, 0));
            }
        }
    }
    drop(directories);

    // Free inodes go to the end, where they are cut off.
    let count = live as usize;
    for (spare, number) in (live..).zip(numbers.iter_mut().filter(|number| **number == NONE)) {
        *number = spare;
    }
    for inode in &mut inodes {
        if let Node::Directory(entries) = &mut inode.node {
            entries.iter_mut().for_each(|entry| entry.inode.0 = numbers[entry.inode.0 as usize]);
        }
    }
    permute(&mut inodes, &mut numbers);
    inodes.truncate(count);
    inodes.shrink_to_fit();
    Tree { inodes }
}

/// Moves a directory's children into its inode and counts its links.
fn open(node: u32, inodes: &mut [Inode], slots: &[u32], directories: &mut [Directory]) {
    let children = std::mem::take(&mut directories[slots[node as usize] as usize].children);
    let mut subdirectories = 0;
    let mut entries = Vec::with_capacity(children.len());
    for (name, child) in children {
        subdirectories += u32::from(slots[child.node as usize] != NONE);
        entries.push(Dirent { name, inode: InodeId(child.node) });
    }
    let inode = &mut inodes[node as usize];
    inode.links = 2 + subdirectories;
    inode.node = Node::Directory(entries);
}

/// Moves every element to the position that `to` gives it, in place.
fn permute(inodes: &mut [Inode], to: &mut [u32]) {
    for index in 0..inodes.len() {
        while to[index] as usize != index {
            let target = to[index] as usize;
            inodes.swap(index, target);
            to.swap(index, target);
        }
    }
}
