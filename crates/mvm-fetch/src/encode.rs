//! Compression of a layer: equal streams give equal bytes, whenever and wherever that is.
//!
//! Source: RFC 1952 (gzip; the header has no name and no time), RFC 8878 (Zstandard, with a checksum).

use mvm_ref::LayerCompression;
use std::io::{self, Write};
use zlib_rs::{Deflate, DeflateConfig, DeflateFlush, Status};

/// Length of what is compressed at a time: compressors decide by what they have before them, so that pieces of any
/// length would make bytes of any kind.
const PIECE: usize = 128 << 10;
/// What zlib and container engines use when nothing else is said.
const GZIP_LEVEL: i32 = 6;
/// What zstd uses when nothing else is said.
const ZSTD_LEVEL: i32 = 3;
/// Window size and wrapper that zlib calls "32 KiB, gzip".
const GZIP_WINDOW_BITS: i32 = 15 + 16;

/// Compresses what is written to it.
pub struct Encoder<W: Write> {
    kind: Kind<W>,
    piece: Vec<u8>,
}

enum Kind<W: Write> {
    Stored(W),
    Gzip { deflate: Box<Deflate>, given: Vec<u8>, out: W },
    Zstd(Box<zstd::stream::write::Encoder<'static, W>>),
}

impl<W: Write> Encoder<W> {
    /// Starts a stream.
    pub fn new(compression: LayerCompression, out: W) -> io::Result<Self> {
        let kind = match compression {
            LayerCompression::None => Kind::Stored(out),
            LayerCompression::Gzip => {
                let config = DeflateConfig {
                    window_bits: GZIP_WINDOW_BITS,
                    level: GZIP_LEVEL,
                    ..DeflateConfig::default()
                };
                let deflate = Box::new(Deflate::new_with_config(config));
                Kind::Gzip { deflate, given: vec![0; PIECE], out }
            }
            LayerCompression::Zstd => {
                let mut encoder = Box::new(zstd::stream::write::Encoder::new(out, ZSTD_LEVEL)?);
                encoder.include_checksum(true)?;
                Kind::Zstd(encoder)
            }
        };
        Ok(Self { kind, piece: Vec::with_capacity(PIECE) })
    }

    /// Ends the stream and returns what it was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.kind.take(&self.piece)?;
        match self.kind {
            Kind::Stored(out) => Ok(out),
            Kind::Gzip { mut deflate, mut given, mut out } => loop {
                let before = deflate.total_out();
                let status = deflate.compress(&[], &mut given, DeflateFlush::Finish).map_err(failed)?;
                out.write_all(&given[..(deflate.total_out() - before) as usize])?;
                if status == Status::StreamEnd {
                    return Ok(out);
                }
            },
            Kind::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Kind<W> {
    fn take(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stored(out) => out.write_all(bytes),
            Self::Gzip { deflate, given, out } => {
                while !bytes.is_empty() {
                    let before = (deflate.total_in(), deflate.total_out());
                    deflate.compress(bytes, given, DeflateFlush::NoFlush).map_err(failed)?;
                    out.write_all(&given[..(deflate.total_out() - before.1) as usize])?;
                    bytes = &bytes[(deflate.total_in() - before.0) as usize..];
                }
                Ok(())
            }
            Self::Zstd(encoder) => encoder.write_all(bytes),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..count]);
        if self.piece.len() == PIECE {
            self.kind.take(&self.piece)?;
            self.piece.clear();
        }
        Ok(count)
    }

    /// Does nothing: when something is written on must not decide its bytes.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn failed(error: zlib_rs::DeflateError) -> io::Error {
    io::Error::other(error.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inflate::{Decoder, ExpansionLimit};

    fn encode(compression: LayerCompression, bytes: &[u8], split: usize) -> Vec<u8> {
        let mut encoder = Encoder::new(compression, Vec::new()).unwrap();
        for part in bytes.chunks(split) {
            encoder.write_all(part).unwrap();
            encoder.flush().unwrap();
        }
        encoder.finish().unwrap()
    }

    fn decode(compression: LayerCompression, mut bytes: &[u8]) -> Vec<u8> {
        let mut decoder = Decoder::new(compression, ExpansionLimit::default());
        let (mut out, mut piece) = (Vec::new(), vec![0; 4096]);
        loop {
            let count = decoder.run(&mut bytes, &mut piece).unwrap();
            out.extend_from_slice(&piece[..count]);
            if count < piece.len() && bytes.is_empty() {
                break;
            }
        }
        decoder.finish().unwrap();
        out
    }

    #[test]
    fn what_is_encoded_decodes_and_depends_on_nothing_else() {
        let mixed: Vec<u8> = (0..700_000_u32).map(|n| (n.wrapping_mul(n) >> (n % 13)) as u8).collect();
        for bytes in [&b""[..], b"a", &[0; 300_000], &mixed] {
            for compression in [LayerCompression::None, LayerCompression::Gzip, LayerCompression::Zstd] {
                let encoded = encode(compression, bytes, 1 << 20);
                assert!(decode(compression, &encoded) == bytes, "{compression}");
                for split in [777, 65_536, 131_072] {
                    assert!(encode(compression, bytes, split) == encoded, "{compression} in {split}s");
                }
            }
        }
    }

    #[test]
    fn a_gzip_header_names_neither_file_nor_time() {
        assert_eq!(encode(LayerCompression::Gzip, b"x", 1)[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]);
    }
}
