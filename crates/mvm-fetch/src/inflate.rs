//! Decompression of a layer, piece by piece, of bytes that nobody has verified yet.
//!
//! The first bytes say how a layer is compressed, whatever its media type says, as in containerd and skopeo: media types
//! are wrong in the wild, and the diff ID decides in the end. Zeros may follow a gzip stream, as tapes have it; other
//! bytes that start no further member are refused, as by Go's reader.
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

/// Bytes that are looked at to tell how a layer is compressed.
const HEAD: usize = 6;

/// How much larger than its stored bytes a layer may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpansionLimit {
    /// Uncompressed bytes for each stored one; `u64::MAX` is no limit.
    pub ratio: u64,
    /// Uncompressed bytes that any layer may have.
    pub from: u64,
}

impl Default for ExpansionLimit {
    /// Returns 1000 to 1, past 1 GiB.
    fn default() -> Self {
        Self { ratio: 1000, from: 1 << 30 }
    }
}

/// Says why a layer can't be decompressed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InflateError {
    /// The layer is compressed in a way that image specifications don't have.
    #[error("layer is not a tar, gzip or zstd stream but {format}, which is not supported")]
    Format {
        /// What it is.
        format: &'static str,
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
    #[error("layer expands to more than {limit} bytes from {stored}, over {ratio} to 1")]
    Bomb {
        /// Stored bytes that went in.
        stored: u64,
        /// Uncompressed bytes that may come of them.
        limit: u64,
        /// The limit on the ratio of the two.
        ratio: u64,
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
/// What has come out is compared with what has gone in so far, not with all that is stored: a bomb ends after a second, and
/// not when a thousand times its own length was made of it.
struct Expansion {
    consumed: u64,
    produced: u64,
    limit: ExpansionLimit,
}

impl Expansion {
    fn add(&mut self, consumed: usize, produced: usize) -> Result<(), InflateError> {
        self.consumed += consumed as u64;
        self.produced += produced as u64;
        let ExpansionLimit { ratio, from } = self.limit;
        let limit = self.consumed.saturating_mul(ratio).max(from);
        if self.produced > limit {
            return Err(InflateError::Bomb { stored: self.consumed, limit, ratio });
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
    /// The first bytes are still to come, of which these are known.
    Unknown {
        media: LayerCompression,
        head: Vec<u8>,
    },
    /// The first bytes still have to be handed out.
    Stored {
        head: Vec<u8>,
    },
    Gzip {
        member: Member,
        inflate: Box<Inflate>,
    },
    Zstd {
        context: Box<DCtx<'static>>,
        open: bool,
    },
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
    /// Returns a decoder for a stream with this media type.
    pub(crate) fn new(media: LayerCompression, limit: ExpansionLimit) -> Self {
        let count = Expansion { consumed: 0, produced: 0, limit };
        Self { kind: Kind::Unknown { media, head: Vec::new() }, count }
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
    pub(crate) fn finish(&self) -> Result<(), InflateError> {
        let truncated = |compression| InflateError::Truncated { compression, offset: self.count.consumed };
        match &self.kind {
            // A layer without a byte is a layer without a file, as containerd has it.
            Kind::Unknown { head, .. } if head.is_empty() => Ok(()),
            Kind::Unknown { media, .. } => Err(truncated(*media)),
            Kind::Gzip { member: Member::First | Member::Inside, .. } => {
                Err(truncated(LayerCompression::Gzip))
            }
            Kind::Zstd { open: true, .. } => Err(truncated(LayerCompression::Zstd)),
            Kind::Stored { .. } | Kind::Gzip { .. } | Kind::Zstd { .. } => Ok(()),
        }
    }

    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<(usize, usize), InflateError> {
        let offset = self.count.consumed;
        match &mut self.kind {
            Kind::Unknown { head, .. } => {
                let Some(first) = input.first() else { return Ok((0, 0)) };
                head.push(*first);
                if head.len() == HEAD || !may_be_compressed(head) {
                    let head = std::mem::take(head);
                    self.kind = begin(head)?;
                }
                Ok((1, 0))
            }
            Kind::Stored { head } if !head.is_empty() => {
                let length = head.len().min(output.len());
                output[..length].copy_from_slice(&head[..length]);
                head.drain(..length);
                Ok((0, length))
            }
            Kind::Stored { .. } => {
                let length = input.len().min(output.len());
                output[..length].copy_from_slice(&input[..length]);
                Ok((length, length))
            }
            Kind::Gzip { member, inflate } => step_gzip(member, inflate, input, output, offset),
            Kind::Zstd { context, open } => step_zstd(context, open, input, output, offset),
        }
    }
}

/// Says whether bytes are the beginning of those that a compressed stream of a known kind begins with.
fn may_be_compressed(head: &[u8]) -> bool {
    let skippable = |head: &[u8]| matches!(head[0], 0x50..=0x5f) && begins(&[0x2a, 0x4d, 0x18], &head[1..]);
    let magics: [&[u8]; 5] = [&[0x1f, 0x8b], &[0x28, 0xb5, 0x2f, 0xfd], b"\xfd7zXZ\0", b"BZh", b"PK\x03\x04"];
    head.is_empty() || skippable(head) || magics.iter().any(|magic| begins(magic, head))
}

/// Says whether one of two texts is the beginning of the other.
fn begins(magic: &[u8], head: &[u8]) -> bool {
    magic.iter().zip(head).all(|(magic, head)| magic == head)
}

/// Chooses the decompressor by the first bytes of a layer, and hands them to it.
fn begin(head: Vec<u8>) -> Result<Kind, InflateError> {
    // No format has anything to give after so few bytes.
    let mut nothing = [];
    match &head[..] {
        [0x1f, 0x8b, ..] => {
            let (mut member, mut inflate) = (Member::First, new_inflate());
            let mut at = 0;
            while at < head.len() {
                let (consumed, _) =
                    step_gzip(&mut member, &mut inflate, &head[at..], &mut nothing, at as u64)?;
                if consumed == 0 {
                    return Err(corrupt(LayerCompression::Gzip, at as u64, "malformed header"));
                }
                at += consumed;
            }
            Ok(Kind::Gzip { member, inflate })
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            let (mut context, mut open) = (new_context()?, true);
            let mut at = 0;
            while at < head.len() {
                let (consumed, _) = step_zstd(&mut context, &mut open, &head[at..], &mut nothing, at as u64)?;
                if consumed == 0 {
                    return Err(corrupt(LayerCompression::Zstd, at as u64, "malformed header"));
                }
                at += consumed;
            }
            Ok(Kind::Zstd { context, open: true })
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Err(InflateError::Format { format: "xz" }),
        [b'B', b'Z', b'h', b'1'..=b'9', b'1', b'A'] => Err(InflateError::Format { format: "bzip2" }),
        [b'P', b'K', 3, 4, ..] => Err(InflateError::Format { format: "zip" }),
        _ => Ok(Kind::Stored { head }),
    }
}

fn corrupt(compression: LayerCompression, offset: u64, reason: &'static str) -> InflateError {
    InflateError::Corrupt { compression, offset, reason }
}

fn new_context() -> Result<Box<DCtx<'static>>, InflateError> {
    let mut context = Box::new(DCtx::create());
    context
        .set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG))
        .map_err(|code| InflateError::Setup { reason: zstd_safe::get_error_name(code) })?;
    Ok(context)
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
        // The first member is begun only where its first byte is this one.
        (Member::First, _) => return Err(corrupt(LayerCompression::Gzip, offset, "no header")),
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
            let reason = inflate.error_message().unwrap_or(error.as_str());
            return Err(corrupt(LayerCompression::Gzip, offset + consumed as u64, reason));
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
        Err(code) => {
            let reason = zstd_safe::get_error_name(code);
            Err(corrupt(LayerCompression::Zstd, offset + consumed as u64, reason))
        }
    }
}

#[cfg(test)]
#[path = "inflate_tests.rs"]
pub(crate) mod tests;
