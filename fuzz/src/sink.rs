//! A layer sink in memory that checks the order in which it is called.

use std::convert::Infallible;

use mvm_tree::{Change, Content, Extent, Kind, LayerSink};

/// Bytes of holes that are counted and not kept.
const KEPT_HOLE: u64 = 1 << 16;

/// Keeps what a layer holds. The content of file number N has one extent that starts at segment block N.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Changes in archive order.
    pub changes: Vec<Change>,
    /// Bytes of the files, short holes as zeros.
    pub files: Vec<Vec<u8>>,
    /// Sum of the lengths of all files.
    pub apparent: u64,
    /// Bytes that came as data.
    pub stored: u64,
    /// All bytes that came, as data and as framing.
    pub archive: Vec<u8>,
    state: State,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Between,
    File {
        size: u64,
        seen: u64,
    },
    Ended(Content),
}

impl Memory {
    fn advance(&mut self, len: u64) {
        let State::File { size, seen } = &mut self.state else { panic!("content outside of a file") };
        assert_ne!(len, 0, "an empty piece");
        *seen = seen.checked_add(len).expect("a length that fits");
        assert!(*seen <= *size, "{seen} bytes of {size}");
    }

    fn file(&mut self) -> &mut Vec<u8> {
        self.files.last_mut().expect("a file began")
    }
}

impl LayerSink for Memory {
    type Error = Infallible;

    fn begin(&mut self, size: u64) -> Result<(), Infallible> {
        assert_eq!(self.state, State::Between);
        self.state = State::File { size, seen: 0 };
        self.files.push(Vec::new());
        self.apparent += size;
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.advance(bytes.len() as u64);
        self.stored += bytes.len() as u64;
        self.archive.extend_from_slice(bytes);
        self.file().extend_from_slice(bytes);
        Ok(())
    }

    fn hole(&mut self, len: u64) -> Result<(), Infallible> {
        self.advance(len);
        let kept = len.min(KEPT_HOLE) as usize;
        let file = self.file();
        file.resize(file.len() + kept, 0);
        Ok(())
    }

    fn end(&mut self) -> Result<Content, Infallible> {
        let State::File { size, seen } = self.state else { panic!("the end of no file") };
        assert_eq!(seen, size, "all bytes of a file");
        let extent = Extent { file_block: 0, segment_block: self.files.len() as u64 - 1, count: 1 };
        let content = Content { size, extents: [extent].into(), tail: None };
        self.state = State::Ended(content.clone());
        Ok(content)
    }

    fn change(&mut self, change: Change) -> Result<(), Infallible> {
        match (&self.state, &change) {
            (State::Ended(content), Change::Put { kind: Kind::Regular(put), .. }) => assert_eq!(content, put),
            (State::Between, Change::Put { kind, .. }) => assert!(!matches!(kind, Kind::Regular(_))),
            (State::Between, _) => {}
            (state, change) => panic!("{change:?} after {state:?}"),
        }
        self.state = State::Between;
        self.changes.push(change);
        Ok(())
    }

    fn framing(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.archive.extend_from_slice(bytes);
        Ok(())
    }
}
