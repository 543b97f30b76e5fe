//! Constants of the segment format, and the counts at the end of an index.

/// The longest tail that is kept in an inode, in bytes; longer ones take a block.
pub const INLINE_TAIL_MAX: usize = 2048;

/// Blocks that are looked at together when zero bytes are turned into holes.
pub const HOLE_UNIT: u64 = 16;

/// The longest encoding of one change in an index, in bytes.
pub const RECORD_MAX: usize = 16 << 20;

/// The first bytes of an index.
pub(super) const MAGIC: [u8; 8] = *b"mvmindex";

/// Bytes of the encoded counts.
pub(super) const SUMMARY_LEN: usize = 24;

/// The counts of one segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentSummary {
    /// Data blocks of 4096 bytes, which is also the number of leaves.
    pub blocks: u64,
    /// Bytes of tails.
    pub tail_bytes: u64,
    /// Changes in the index.
    pub entries: u64,
}

impl SegmentSummary {
    pub(super) fn encode(&self) -> [u8; SUMMARY_LEN] {
        let mut bytes = [0; SUMMARY_LEN];
        let fields = [self.blocks, self.tail_bytes, self.entries];
        for (place, field) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(fields) {
            *place = field.to_le_bytes();
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8; SUMMARY_LEN]) -> Self {
        let (fields, _) = bytes.as_chunks::<8>();
        let [blocks, tail_bytes, entries] = [fields[0], fields[1], fields[2]].map(u64::from_le_bytes);
        Self { blocks, tail_bytes, entries }
    }
}
