//! Compressed streams, whole and broken.

use std::io;

use zlib_rs::{Deflate, DeflateFlush, Status};

/// Window size and wrapper that zlib calls "32 KiB, gzip".
const GZIP_WINDOW_BITS: u8 = 15 + 16;

/// Compresses bytes as one gzip member.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut deflate = Deflate::new(6, true, GZIP_WINDOW_BITS);
    let mut packed = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = deflate.total_in() as usize;
        let before = deflate.total_out();
        let status = deflate.compress(&bytes[read..], &mut buffer, DeflateFlush::Finish);
        packed.extend_from_slice(&buffer[..(deflate.total_out() - before) as usize]);
        match status {
            Ok(Status::StreamEnd) => return packed,
            Ok(_) => {}
            Err(error) => unreachable!("deflate takes any bytes: {}", error.as_str()),
        }
    }
}

/// Compresses bytes as one Zstandard frame with a checksum of its content.
pub fn zstd(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3)?;
    encoder.include_checksum(true)?;
    io::copy(&mut &*bytes, &mut encoder)?;
    encoder.finish()
}
