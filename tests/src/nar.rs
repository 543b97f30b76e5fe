//! Nix archives, written word by word, so that any of it can be wrong.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

/// Writes a text with its length and padding.
pub fn text(bytes: &[u8]) -> Vec<u8> {
    let mut out = (bytes.len() as u64).to_le_bytes().to_vec();
    out.extend_from_slice(bytes);
    out.resize(out.len().next_multiple_of(8), 0);
    out
}

/// Writes several texts.
pub fn words(words: &[&str]) -> Vec<u8> {
    words.iter().flat_map(|word| text(word.as_bytes())).collect()
}

/// Writes an archive of a node.
pub fn archive(node: &[u8]) -> Vec<u8> {
    [&text(b"nix-archive-1"), node].concat()
}

/// Writes a file's node.
pub fn file(data: &[u8]) -> Vec<u8> {
    [words(&["(", "type", "regular", "contents"]), text(data), words(&[")"])].concat()
}

/// Writes the node of a file that can be run.
pub fn program(data: &[u8]) -> Vec<u8> {
    let start = words(&["(", "type", "regular", "executable", "", "contents"]);
    [start, text(data), words(&[")"])].concat()
}

/// Writes a symbolic link's node.
pub fn link(target: &[u8]) -> Vec<u8> {
    [words(&["(", "type", "symlink", "target"]), text(target), words(&[")"])].concat()
}

/// Writes a directory's node, with its entries in the order that they are given in.
pub fn directory(entries: &[(&[u8], Vec<u8>)]) -> Vec<u8> {
    let entry = |(name, node): &(&[u8], Vec<u8>)| {
        [words(&["entry", "(", "name"]), text(name), words(&["node"]), node.clone(), words(&[")"])].concat()
    };
    let entries: Vec<u8> = entries.iter().flat_map(entry).collect();
    [words(&["(", "type", "directory"]), entries, words(&[")"])].concat()
}

/// Returns the hash of an archive as Nix writes it.
pub fn hash(archive: &[u8]) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(archive)))
}
