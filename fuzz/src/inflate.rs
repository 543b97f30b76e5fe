//! The decompressors of layers: how the bytes come in and go out makes no difference.

use mvm_fetch::InflateError;
use mvm_fetch::fuzzing::inflate;
use mvm_ref::LayerCompression;

/// Most bytes that are unpacked of one input.
const LIMIT: usize = 1 << 20;

/// How gzip members and Zstandard frames begin.
const MAGICS: [&[u8]; 2] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd"];

/// Unpacks the input: the first byte says what it is and in what pieces it comes.
pub fn body(data: &[u8]) {
    let Some((shape, input)) = data.split_first() else { return };
    let compression = match shape % 3 {
        0 => LayerCompression::Gzip,
        1 => LayerCompression::Zstd,
        _ => LayerCompression::None,
    };
    let piece = usize::from(shape / 3) * 7 + 1;
    let whole = run(compression, input, input.len().max(1), 64 << 10);
    let pieces = run(compression, input, piece, 4099);
    match (&whole, &pieces) {
        (Ok(whole), Ok(pieces)) => {
            assert!(whole == pieces, "{} bytes whole, {} in pieces", whole.len(), pieces.len())
        }
        // Where it is noticed may differ, whether it is may not.
        (Err(_), Err(_)) => {}
        _ => panic!("whole {:?}, in pieces of {piece} {:?}", shown(&whole), shown(&pieces)),
    }
    // A layer's bytes say how it is compressed, whatever its media type says.
    let is_packed = MAGICS.iter().any(|magic| input.starts_with(magic));
    if let (LayerCompression::None, Ok(bytes), false) = (compression, &whole, is_packed) {
        assert!(input.starts_with(bytes));
    }
}

fn shown(result: &Result<Vec<u8>, InflateError>) -> Result<usize, &InflateError> {
    result.as_ref().map(Vec::len)
}

fn run(
    compression: LayerCompression,
    input: &[u8],
    piece: usize,
    room: usize,
) -> Result<Vec<u8>, InflateError> {
    let mut output = Vec::new();
    inflate(compression, input, piece, room, |bytes| {
        output.extend_from_slice(bytes);
        output.len() < LIMIT
    })?;
    output.truncate(LIMIT);
    Ok(output)
}
