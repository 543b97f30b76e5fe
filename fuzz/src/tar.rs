//! The reader of layers: whatever the archive, what comes out is normalised and within the limits.

use std::io::{self, BufRead, Read};

use mvm_tree::{Budget, Change, Kind, LayerSummary, UnpackPolicy, read_layer};

use crate::seeds::archive::seal;
use crate::sink::Memory;

/// A policy whose limits inputs of a few KiB can reach.
pub fn limits() -> UnpackPolicy {
    UnpackPolicy {
        entries: 64,
        unpacked_bytes: 128 << 10,
        apparent_bytes: 1 << 30,
        metadata_bytes: 128 << 10,
        xattr_bytes_per_entry: 4096,
        ..UnpackPolicy::default()
    }
}

/// Reads the input as one layer, as it is and with the right checksums, whole and in odd pieces.
pub fn body(data: &[u8]) {
    read_in_pieces(data);
    read_in_pieces(&sealed(data));
}

/// Returns an archive whose headers have the right checksums, as far as they can be found.
pub fn sealed(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    let mut at = 0;
    while let Some(block) = data.get_mut(at..at + 512).filter(|block| block.iter().any(|byte| *byte != 0)) {
        seal(block);
        let digits = block[124..136].iter().take_while(|byte| (b'0'..=b'7').contains(byte));
        let size = digits.fold(0, |size: usize, digit| size << 3 | usize::from(digit - b'0'));
        let stored = if matches!(block[156], b'1'..=b'6') { 0 } else { size };
        at = at.saturating_add(512).saturating_add(stored).next_multiple_of(512);
    }
    data
}

fn read_in_pieces(data: &[u8]) {
    let Some((memory, _)) = read(data) else { return };
    let limits = limits();
    let piece = usize::from(data.first().copied().unwrap_or(0)) * 3 + 1;
    let mut again = Memory::default();
    let mut input = Chopped { bytes: data, piece, is_interrupted: false };
    assert!(read_layer(&mut input, &Budget::new(&limits), &mut again).is_ok(), "in pieces of {piece}");
    assert_eq!(again, memory, "in pieces of {piece}");
}

/// Reads one layer and checks all that comes out of it; nothing where it is refused.
pub fn read(data: &[u8]) -> Option<(Memory, LayerSummary)> {
    let limits = limits();
    let mut memory = Memory::default();
    let mut rest = data;
    let result = read_layer(&mut rest, &Budget::new(&limits), &mut memory);
    assert!(memory.stored <= limits.unpacked_bytes, "{} bytes stored", memory.stored);
    assert!(data.starts_with(&memory.archive), "what came out is not the start of the archive");
    assert!(memory.apparent <= limits.apparent_bytes, "{} bytes in all", memory.apparent);
    memory.changes.iter().for_each(|change| check(change, &limits));
    let summary = match result {
        Ok(summary) => summary,
        Err(error) => {
            // What is said of a hostile name stays on one line.
            let words = error.to_string();
            assert!(!words.contains(char::is_control), "{words:?}");
            return None;
        }
    };
    assert_eq!(rest, b"", "the input is read to its end");
    assert_eq!(summary.archive_bytes, data.len() as u64);
    assert!(summary.entries <= limits.entries);
    assert!(memory.archive == data, "what came out is not the archive");
    Some((memory, summary))
}

/// Checks what holds for each change of a layer.
pub fn check(change: &Change, limits: &UnpackPolicy) {
    check_path(change.path(), limits);
    match change {
        Change::Put { attributes, kind, path } => {
            assert!(attributes.mode <= 0o7777);
            assert!(attributes.mtime.nanos < 1_000_000_000);
            let names = attributes.xattrs.windows(2).all(|pair| pair[0].name < pair[1].name);
            assert!(names, "attributes are sorted by name, each name once");
            let bytes: usize =
                attributes.xattrs.iter().map(|xattr| xattr.name.len() + xattr.value.len()).sum();
            assert!(bytes <= limits.xattr_bytes_per_entry);
            assert!(!attributes.xattrs.iter().any(|xattr| xattr.name.is_empty() || xattr.name.contains(&0)));
            if let Kind::Symlink(target) = kind {
                assert!(!target.is_empty() && target.len() < limits.path_bytes && !target.contains(&0));
            }
            assert!(!path.is_empty() || *kind == Kind::Directory, "the root is a directory");
        }
        Change::Link { target, .. } => check_path(target, limits),
        Change::Whiteout { path } => assert!(!path.is_empty(), "a whiteout of the root"),
        Change::Opaque { .. } => {}
    }
}

fn check_path(path: &[u8], limits: &UnpackPolicy) {
    assert!(path.len() < limits.path_bytes);
    if path.is_empty() {
        return;
    }
    for name in path.split(|byte| *byte == b'/') {
        assert!(!name.is_empty() && name != b"." && name != b"..", "{}", path.escape_ascii());
        assert!(name.len() <= limits.name_bytes && !name.contains(&0), "{}", path.escape_ascii());
    }
}

/// An input whose buffer never holds more than a few bytes, and which is interrupted now and then.
pub(crate) struct Chopped<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) piece: usize,
    pub(crate) is_interrupted: bool,
}

impl Read for Chopped<'_> {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl BufRead for Chopped<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.is_interrupted = !self.is_interrupted;
        if self.is_interrupted {
            return Err(io::ErrorKind::Interrupted.into());
        }
        // Until something is consumed, what is buffered stays there.
        self.is_interrupted = true;
        Ok(&self.bytes[..self.bytes.len().min(self.piece)])
    }

    fn consume(&mut self, count: usize) {
        self.is_interrupted = false;
        self.bytes = &self.bytes[count..];
    }
}

#[cfg(test)]
mod tests {
    use crate::seeds::trees::tars;

    #[test]
    fn seeds_are_accepted() {
        let refused: Vec<usize> = tars()
            .iter()
            .enumerate()
            .filter(|(_, seed)| super::read(seed).is_none())
            .map(|(at, _)| at)
            .collect();
        assert_eq!(refused, [] as [usize; 0]);
    }
}
