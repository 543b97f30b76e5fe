//! Decompression of a layer, piece by piece, of bytes that nobody has verified yet.
//!
//! Source: RFC 1952 (gzip; several members are one stream), RFC 8878 (Zstandard; several frames are one stream).

use mvm_ref::LayerCompression;
use zlib_rs::{Inflate, InflateFlush, Status};
use zstd::zstd_safe::{self, DCtx, DParameter, InBuffer, OutBuffer};

/// Largest Zstandard window, as a power of two: 128 MiB.
const MAX_WINDOW_LOG: u32 = 27;
/// zstd's number for a window over the limit (`ZSTD_error_frameParameter_windowTooLarge`).
const WINDOW_TOO_LARGE: usize = 16;
/// Window size and wrapper that zlib calls "32 KiB, gzip".
const GZIP_WINDOW_BITS: u8 = 15 + 16;
const GZIP_MAGIC: u8 = 0x1f;

/// Says why a layer can't be decompressed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InflateError {
    /// The stream doesn't start as its media type says.
    #[error("layer is not a {expected} stream")]
    Magic {
        /// What its media type says.
        expected: LayerCompression,
    },
    /// The compressed data make no sense.
    #[error("{compression} stream is corrupt before byte {offset}: {reason}")]
    Corrupt {
        /// The kind of stream.
        compression: LayerCompression,
        /// Bytes of it that were looked at.
        offset: u64,
        /// What the decompressor says.
        reason: &'static str,
    },
    /// The stream ends too early.
    #[error("{compression} stream is truncated after {offset} bytes")]
    Truncated {
        /// The kind of stream.
        compression: LayerCompression,
        /// Its length.
        offset: u64,
    },
    /// Something other than zeros follows the stream.
    #[error("gzip stream is followed by other data at byte {offset}")]
    TrailingData {
        /// Where the stream ended.
        offset: u64,
    },
    /// Decompression would need more memory than mvm gives it.
    #[error("zstd stream needs a window over {} MiB", (1_u64 << MAX_WINDOW_LOG) >> 20)]
    Window,
    /// The stream blows up out of proportion.
    #[error("layer expands to more than {produced} bytes from {consumed}, over {} to 1", Expansion::RATIO)]
    Bomb {
        /// Compressed bytes so far.
        consumed: u64,
        /// Uncompressed bytes so far.
        produced: u64,
    },
    /// The decompressor can't be made.
    #[error("cannot set up the zstd decompressor: {reason}")]
    Setup {
        /// What it says.
        reason: &'static str,
    },
}

/// Counts both sides of the decompressor and refuses bombs.
///
/// Deflate can't expand by more than 1032 to 1, which honest files of zeros reach, so that the
/// ratio is looked at only from a length on which no honest sparse file of usual size has.
#[derive(Default)]
struct Expansion {
    consumed: u64,
    produced: u64,
}

impl Expansion {
    const RATIO: u64 = 1000;
    const FREE: u64 = 16 << 30;

    fn add(&mut self, consumed: usize, produced: usize) -> Result<(), InflateError> {
        self.consumed += consumed as u64;
        self.produced += produced as u64;
        if self.produced > Self::FREE && self.produced / Self::RATIO > self.consumed {
            return Err(InflateError::Bomb { consumed: self.consumed, produced: self.produced });
        }
        Ok(())
    }
}

/// A decompressor that is fed and drained in pieces.
pub(crate) struct Decoder {
    kind: Kind,
    count: Expansion,
}

enum Kind {
    Stored,
    Gzip { member: Member, inflate: Box<Inflate> },
    Zstd { context: Box<DCtx<'static>>, open: bool },
}

/// Where in a gzip stream the decoder is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Member {
    First,
    Inside,
    After,
    Padding,
}

impl Decoder {
    pub(crate) fn new(compression: LayerCompression) -> Result<Self, InflateError> {
        let kind = match compression {
            LayerCompression::None => Kind::Stored,
            LayerCompression::Gzip => Kind::Gzip { member: Member::First, inflate: new_inflate() },
            LayerCompression::Zstd => {
                let mut context = Box::new(DCtx::create());
                context
                    .set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG))
                    .map_err(|code| InflateError::Setup { reason: zstd_safe::get_error_name(code) })?;
                Kind::Zstd { context, open: true }
            }
        };
        Ok(Self { kind, count: Expansion::default() })
    }

    /// Decompresses from the front of `input`, which is shortened, and returns how much of `output` was filled.
    ///
    /// When `output` isn't full afterwards, `input` is empty and nothing is held back.
    pub(crate) fn run(&mut self, input: &mut &[u8], output: &mut [u8]) -> Result<usize, InflateError> {
        let mut filled = 0;
        loop {
            let (consumed, produced) = self.step(input, &mut output[filled..])?;
            *input = &input[consumed..];
            filled += produced;
            self.count.add(consumed, produced)?;
            if filled == output.len() || (consumed, produced) == (0, 0) {
                return Ok(filled);
            }
        }
    }

    /// Checks that the stream was complete.
    pub(crate) fn finish(self) -> Result<(), InflateError> {
        let truncated = |compression| InflateError::Truncated { compression, offset: self.count.consumed };
        match self.kind {
            Kind::Gzip { member: Member::First | Member::Inside, .. } => {
                Err(truncated(LayerCompression::Gzip))
            }
            Kind::Zstd { open: true, .. } => Err(truncated(LayerCompression::Zstd)),
            Kind::Stored | Kind::Gzip { .. } | Kind::Zstd { .. } => Ok(()),
        }
    }

    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<(usize, usize), InflateError> {
        let offset = self.count.consumed;
        match &mut self.kind {
            Kind::Stored => {
                let length = input.len().min(output.len());
                output[..length].copy_from_slice(&input[..length]);
                Ok((length, length))
            }
            Kind::Gzip { member, inflate } => step_gzip(member, inflate, input, output, offset),
            Kind::Zstd { context, open } => step_zstd(context, open, input, output, offset),
        }
    }
}

fn new_inflate() -> Box<Inflate> {
    Box::new(Inflate::new(true, GZIP_WINDOW_BITS))
}

fn step_gzip(
    member: &mut Member,
    inflate: &mut Box<Inflate>,
    input: &[u8],
    output: &mut [u8],
    offset: u64,
) -> Result<(usize, usize), InflateError> {
    let Some(&first) = input.first() else {
        return if *member == Member::Inside {
            pump(member, inflate, input, output, offset)
        } else {
            Ok((0, 0))
        };
    };
    match (*member, first) {
        (Member::Inside, _) => {}
        (Member::First | Member::After, GZIP_MAGIC) => {
            if *member == Member::After {
                *inflate = new_inflate();
            }
            *member = Member::Inside;
        }
        (Member::First, _) => return Err(InflateError::Magic { expected: LayerCompression::Gzip }),
        (Member::After | Member::Padding, 0) => {
            *member = Member::Padding;
            return Ok((input.iter().take_while(|&&b| b == 0).count(), 0));
        }
        (Member::After | Member::Padding, _) => return Err(InflateError::TrailingData { offset }),
    }
    pump(member, inflate, input, output, offset)
}

fn pump(
    member: &mut Member,
    inflate: &mut Inflate,
    input: &[u8],
    output: &mut [u8],
    offset: u64,
) -> Result<(usize, usize), InflateError> {
    let (before_in, before_out) = (inflate.total_in(), inflate.total_out());
    let result = inflate.decompress(input, output, InflateFlush::NoFlush);
    let consumed = (inflate.total_in() - before_in) as usize;
    let produced = (inflate.total_out() - before_out) as usize;
    match result {
        Ok(Status::StreamEnd) => *member = Member::After,
        Ok(Status::Ok | Status::BufError) => {}
        Err(error) => {
            return Err(InflateError::Corrupt {
                compression: LayerCompression::Gzip,
                offset: offset + consumed as u64,
                reason: inflate.error_message().unwrap_or(error.as_str()),
            });
        }
    }
    Ok((consumed, produced))
}

fn step_zstd(
    context: &mut DCtx<'static>,
    open: &mut bool,
    input: &[u8],
    output: &mut [u8],
    offset: u64,
) -> Result<(usize, usize), InflateError> {
    let (mut source, mut target) = (InBuffer::around(input), OutBuffer::around(output));
    let result = context.decompress_stream(&mut target, &mut source);
    let (consumed, produced) = (source.pos(), target.pos());
    match result {
        Ok(hint) => {
            // Between frames a call without input reports what the next header needs, not an open frame.
            if (consumed, produced) != (0, 0) {
                *open = hint != 0;
            }
            Ok((consumed, produced))
        }
        Err(code) if code.wrapping_neg() == WINDOW_TOO_LARGE => Err(InflateError::Window),
        Err(code) => Err(InflateError::Corrupt {
            compression: LayerCompression::Zstd,
            offset: offset + consumed as u64,
            reason: zstd_safe::get_error_name(code),
        }),
    }
}

#[cfg(test)]
#[path = "inflate_tests.rs"]
pub(crate) mod tests;
