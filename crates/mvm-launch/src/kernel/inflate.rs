//! Decompression of kernel images and modules, in the formats that distributions use for them.

use std::io::{self, Read};

/// The memory that an xz stream may ask for, in KiB; the kernel's own build uses a dictionary of 32 MiB at most.
const XZ_MEMORY_KIB: u32 = 128 << 10;

/// The logarithm of the largest zstd window; the kernel's own build uses 27 at most.
const ZSTD_WINDOW_LOG: u32 = 27;

/// The block size of the LZ4 legacy format (`lz4_Frame_format.md`, "Legacy frame").
const LZ4_BLOCK: usize = 8 << 20;

const LZ4_MAGIC: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];

/// Says why compressed bytes cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum InflateError {
    /// The decompressor refused the bytes.
    #[error("cannot unpack {format} data")]
    Corrupt {
        /// The format's name.
        format: &'static str,
        /// What the decompressor said.
        source: io::Error,
    },
    /// The data unpacks to more than is sensible.
    #[error("{format} data unpacks to more than {limit} bytes")]
    TooLarge {
        /// The format's name.
        format: &'static str,
        /// The limit in bytes.
        limit: usize,
    },
    /// The data ends within a block.
    #[error("{format} data is truncated at byte {offset}")]
    Truncated {
        /// The format's name.
        format: &'static str,
        /// Where the data ends.
        offset: usize,
    },
}

/// A compression format, told by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    /// xz, with the x86 branch filter that the kernel's build uses.
    Xz,
    /// Zstandard.
    Zstd,
    /// LZ4 in its legacy frame format.
    Lz4,
}

impl Compression {
    /// Recognises the format of `bytes`.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let starts = |magic: &[u8]| bytes.starts_with(magic);
        if starts(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
            Some(Self::Xz)
        } else if starts(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Some(Self::Zstd)
        } else if starts(&LZ4_MAGIC) {
            Some(Self::Lz4)
        } else {
            None
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
        }
    }

    /// Unpacks the first stream of `bytes` into at most `limit` bytes; what follows the stream is ignored.
    pub fn inflate(self, bytes: &[u8], limit: usize) -> Result<Vec<u8>, InflateError> {
        let format = self.name();
        let corrupt = |source| InflateError::Corrupt { format, source };
        match self {
            Self::Xz => read(lzma_rust2::XzReader::new_mem_limit(bytes, false, XZ_MEMORY_KIB), format, limit),
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes).map_err(corrupt)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(corrupt)?;
                read(decoder.single_frame(), format, limit)
            }
            Self::Lz4 => lz4(bytes, limit),
        }
    }
}

fn read(stream: impl Read, format: &'static str, limit: usize) -> Result<Vec<u8>, InflateError> {
    let mut output = Vec::new();
    let read = stream.take(limit as u64 + 1).read_to_end(&mut output);
    read.map_err(|source| InflateError::Corrupt { format, source })?;
    if output.len() > limit { Err(InflateError::TooLarge { format, limit }) } else { Ok(output) }
}

/// Unpacks blocks, each led by its compressed size, until one is not full or the bytes end.
fn lz4(bytes: &[u8], limit: usize) -> Result<Vec<u8>, InflateError> {
    let format = Compression::Lz4.name();
    let mut output = Vec::new();
    let mut block = vec![0; LZ4_BLOCK];
    let mut offset = LZ4_MAGIC.len();
    while offset < bytes.len() {
        let truncated = InflateError::Truncated { format, offset };
        let Some((size, rest)) = bytes[offset..].split_first_chunk::<4>() else { return Err(truncated) };
        let size = u32::from_le_bytes(*size) as usize;
        let Some(packed) = rest.get(..size) else { return Err(truncated) };
        let count = lz4_flex::block::decompress_into(packed, &mut block).map_err(|error| {
            InflateError::Corrupt { format, source: io::Error::new(io::ErrorKind::InvalidData, error) }
        })?;
        output.extend_from_slice(&block[..count]);
        if output.len() > limit {
            return Err(InflateError::TooLarge { format, limit });
        }
        offset += 4 + size;
        if count < LZ4_BLOCK {
            break;
        }
    }
    Ok(output)
}
