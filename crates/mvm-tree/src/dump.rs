//! A tree as text, for tests and for people.

use std::fmt::Write as _;

use crate::{Content, Device, Inode, Node, Tree};

/// Returns a text with one line for each name of the tree, in the order of [`Tree::walk`].
///
/// A line holds the inode's number, type and mode, owner, modification time, number of links, path (with a leading
/// `/`), then what the type has (`-> target`, `major:minor`, or the file's length and places as
/// `segment:block+count@file_block` and `segment:~offset+len`), then extended attributes as `[name=value]`.
/// Bytes other than printable ASCII, and space, backslash, brackets and `=`, are shown as `\xNN`. Equal trees
/// have equal dumps, and different trees different ones.
pub fn dump(tree: &Tree) -> String {
    let mut text = String::new();
    for (path, id) in tree.walk() {
        let inode = tree.inode(id);
        let a = &inode.attributes;
        let (mode, uid, gid) = (a.mode, a.uid, a.gid);
        let (secs, nanos) = (a.mtime.secs, a.mtime.nanos);
        let line = format_args!("{} {}{mode:04o} {uid}:{gid} {secs}.{nanos:09} ", id.index(), letter(inode));
        append(&mut text, line);
        append(&mut text, format_args!("{} /", inode.links));
        append_bytes(&mut text, &path);
        append_node(&mut text, inode);
        for xattr in &a.xattrs {
            text.push_str(" [");
            append_bytes(&mut text, &xattr.name);
            text.push('=');
            append_bytes(&mut text, &xattr.value);
            text.push(']');
        }
        text.push('\n');
    }
    text
}

fn letter(inode: &Inode) -> char {
    match inode.node {
        Node::Directory(_) => 'd',
        Node::Regular { .. } => 'f',
        Node::Symlink(_) => 'l',
        Node::CharDevice(_) => 'c',
        Node::BlockDevice(_) => 'b',
        Node::Fifo => 'p',
        Node::Socket => 's',
    }
}

fn append_node(text: &mut String, inode: &Inode) {
    match &inode.node {
        Node::Regular { segment, content } => append_content(text, *segment, content),
        Node::Symlink(target) => {
            text.push_str(" -> ");
            append_bytes(text, target);
        }
        Node::CharDevice(Device { major, minor }) | Node::BlockDevice(Device { major, minor }) => {
            append(text, format_args!(" {major}:{minor}"));
        }
        Node::Directory(_) | Node::Fifo | Node::Socket => {}
    }
}

fn append_content(text: &mut String, segment: u32, content: &Content) {
    append(text, format_args!(" {} {segment}:", content.size));
    for e in &content.extents {
        append(text, format_args!(" {}+{}@{}", e.segment_block, e.count, e.file_block));
    }
    if let Some(tail) = content.tail {
        append(text, format_args!(" ~{}+{}", tail.offset, tail.len));
    }
}

fn append_bytes(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        match byte {
            b'\\' | b'[' | b']' | b'=' => append(text, format_args!("\\x{byte:02x}")),
            0x21..=0x7e => text.push(*byte as char),
            _ => append(text, format_args!("\\x{byte:02x}")),
        }
    }
}

fn append(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a String takes all that is written to it");
}
