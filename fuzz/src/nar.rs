//! The reader of Nix archives: what it accepts is canonical, so that writing it anew gives the same bytes.

use std::collections::BTreeMap;

use mvm_tree::{Budget, Change, Kind, NarSummary, UnpackPolicy, read_nar};

use crate::sink::Memory;
use crate::tar::{Chopped, check};

/// Where the archive's node is put.
const PATH: &[u8] = b"nix/store/x";

/// Reads the input as one archive, whole and in odd pieces, and writes it anew.
pub fn body(data: &[u8]) {
    let limits = UnpackPolicy { path_bytes: 512, ..crate::tar::limits() };
    let mut memory = Memory::default();
    let mut rest = data;
    let result = read_nar(&mut rest, PATH, &Budget::new(&limits), &mut memory);
    assert!(memory.stored <= limits.unpacked_bytes, "{} bytes stored", memory.stored);
    memory.changes.iter().for_each(|change| check(change, &limits));
    let piece = usize::from(data.first().copied().unwrap_or(0)) * 3 + 1;
    let mut again = Memory::default();
    let mut input = Chopped { bytes: data, piece, is_interrupted: false };
    let chopped = read_nar(&mut input, PATH, &Budget::new(&limits), &mut again);
    assert_eq!(again, memory, "in pieces of {piece}");
    match (result, chopped) {
        (Ok(summary), Ok(chopped)) => {
            assert_eq!(summary, chopped);
            check_summary(&summary, &memory, data.len() - rest.len());
            assert!(
                written(&memory) == data[..data.len() - rest.len()],
                "an accepted archive is the canonical one"
            );
        }
        (Err(error), Err(chopped)) => {
            let words = error.to_string();
            assert_eq!(words, chopped.to_string(), "in pieces of {piece}");
            assert!(!words.contains(char::is_control), "{words:?}");
        }
        (result, chopped) => panic!("{result:?}, and in pieces of {piece} {chopped:?}"),
    }
}

fn check_summary(summary: &NarSummary, memory: &Memory, length: usize) {
    assert_eq!(summary.nar_bytes, length as u64, "nothing is read beyond the end");
    assert_eq!(summary.entries, memory.changes.len() as u64);
    assert_eq!(summary.data_bytes, memory.stored);
}

/// Writes what was read as an archive.
fn written(memory: &Memory) -> Vec<u8> {
    let mut files = memory.files.iter();
    let mut nodes = BTreeMap::new();
    for change in &memory.changes {
        let Change::Put { path, attributes, kind } = change else { panic!("{change:?}") };
        let content = matches!(kind, Kind::Regular(_)).then(|| files.next().expect("a file for each"));
        let path: Vec<Vec<u8>> = path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect();
        let before = nodes.insert(path, (attributes.mode, kind, content));
        assert!(before.is_none(), "a path that comes twice");
    }
    let mut out = text(b"nix-archive-1");
    let mut depth: Vec<bool> = Vec::new();
    let top = PATH.split(|byte| *byte == b'/').count();
    for (path, (mode, kind, content)) in &nodes {
        let level = path.len() - top;
        while depth.len() > level {
            close(&mut out, &mut depth);
        }
        if level > 0 {
            for word in [&b"entry"[..], b"(", b"name", &path[path.len() - 1], b"node"] {
                out.extend(text(word));
            }
        }
        out.extend([text(b"("), text(b"type")].concat());
        let words: Vec<&[u8]> = match kind {
            Kind::Directory => vec![b"directory"],
            Kind::Symlink(target) => vec![b"symlink", b"target", target, b")"],
            _ if *mode == 0o555 => {
                vec![b"regular", b"executable", b"", b"contents", content.expect("a file has content"), b")"]
            }
            _ => vec![b"regular", b"contents", content.expect("a file has content"), b")"],
        };
        words.iter().for_each(|word| out.extend(text(word)));
        match kind {
            Kind::Directory => depth.push(level > 0),
            _ if level > 0 => out.extend(text(b")")),
            _ => {}
        }
    }
    while !depth.is_empty() {
        close(&mut out, &mut depth);
    }
    out
}

/// Ends a directory, and the entry that it is.
fn close(out: &mut Vec<u8>, depth: &mut Vec<bool>) {
    out.extend(text(b")"));
    if depth.pop() == Some(true) {
        out.extend(text(b")"));
    }
}

fn text(bytes: &[u8]) -> Vec<u8> {
    let mut out = [&(bytes.len() as u64).to_le_bytes()[..], bytes].concat();
    out.resize(out.len().next_multiple_of(8), 0);
    out
}

fn words(words: &[&str]) -> Vec<u8> {
    words.iter().flat_map(|word| text(word.as_bytes())).collect()
}

/// Returns archives, good and bad ones.
pub fn seeds() -> Vec<Vec<u8>> {
    let start = words(&["nix-archive-1", "("]);
    let file = words(&["(", "type", "regular", "contents", "hello\n", ")"]);
    let program = words(&["(", "type", "regular", "executable", "", "contents", "#!/bin/sh\n", ")"]);
    let link = words(&["(", "type", "symlink", "target", "../x", ")"]);
    let entry = |name: &str, node: &[u8]| {
        [&words(&["entry", "(", "name", name, "node"]), node, &words(&[")"])].concat()
    };
    let directory =
        |entries: &[Vec<u8>]| [words(&["(", "type", "directory"]), entries.concat(), words(&[")"])].concat();
    let magic = words(&["nix-archive-1"]);
    let nar = |node: &[u8]| [&magic, node].concat();
    let deep = (0..40).fold(directory(&[]), |node, _| directory(&[entry("d", &node)]));
    let mut padded = nar(&file);
    let last = padded.len() - 17;
    padded[last] = 1;
    let tree = directory(&[
        entry("a", &file),
        entry("bin", &directory(&[entry("sh", &program)])),
        entry("l", &link),
    ]);
    let whole = nar(&tree);
    vec![
        nar(&file),
        nar(&program),
        nar(&link),
        nar(&directory(&[])),
        whole.clone(),
        [whole.clone(), whole.clone()].concat(),
        whole[..whole.len() / 2].to_vec(),
        nar(&deep),
        nar(&directory(&[entry("b", &file), entry("a", &file)])),
        nar(&directory(&[entry("a", &file), entry("a", &link)])),
        nar(&directory(&[entry("..", &file)])),
        nar(&directory(&[entry("a/b", &file)])),
        padded,
        [start, words(&["type", "regular", "contents"]), (1_u64 << 62).to_le_bytes().to_vec()].concat(),
    ]
}
