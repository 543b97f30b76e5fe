//! What fuzz targets reach and no other caller: parsers of what a registry sends, on bytes in memory.

use crate::inflate::{Decoder, ExpansionLimit, InflateError};
use mvm_ref::LayerCompression;

pub use crate::registry::fuzzing::{challenge, credentials, log_in, log_out, places};

/// Unpacks `input`, given in pieces of `piece` bytes, into buffers of `room` bytes, of which each is handed to `take`.
///
/// Ends without an error where `take` returns false.
pub fn inflate(
    compression: LayerCompression,
    input: &[u8],
    piece: usize,
    room: usize,
    mut take: impl FnMut(&[u8]) -> bool,
) -> Result<(), InflateError> {
    let mut decoder = Decoder::new(compression, ExpansionLimit::default());
    let mut output = vec![0; room];
    for mut rest in input.chunks(piece) {
        loop {
            let count = decoder.run(&mut rest, &mut output)?;
            if !take(&output[..count]) {
                return Ok(());
            }
            if count < room {
                break;
            }
        }
        assert!(rest.is_empty(), "{} bytes are left over", rest.len());
    }
    decoder.finish()
}
