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

/// Puts a header with all optional fields (RFC 1952, section 2.3) before the data of a gzip member.
pub fn with_gzip_header(member: &[u8]) -> Vec<u8> {
    const FLAGS: u8 = 0b1_1110;
    let mut header = vec![0x1f, 0x8b, 8, FLAGS, 1, 2, 3, 4, 2, 3];
    header.extend([4, 0, b'a', b'b', 0, 0]);
    header.extend(b"layer.tar\0a comment\0");
    let checksum = crc32(&header) as u16;
    header.extend(checksum.to_le_bytes());
    header.extend(&member[10..]);
    header
}

/// Wraps bytes in a gzip member of stored blocks.
pub fn gzip_stored(bytes: &[u8]) -> Vec<u8> {
    let mut member = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut chunks = bytes.chunks(1000).peekable();
    while let Some(chunk) = chunks.next() {
        let length = chunk.len() as u16;
        member.push(u8::from(chunks.peek().is_none()));
        member.extend(length.to_le_bytes());
        member.extend((!length).to_le_bytes());
        member.extend(chunk);
    }
    member.extend(crc32(bytes).to_le_bytes());
    member.extend((bytes.len() as u32).to_le_bytes());
    member
}

/// Returns the checksum of gzip (RFC 1952, section 8).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(
            sum ^ u32::from(*byte),
            |sum, _| if sum & 1 == 0 { sum >> 1 } else { sum >> 1 ^ 0xedb8_8320 },
        )
    })
}

/// Returns a frame that readers skip (RFC 8878, section 3.1.2).
pub fn skippable(bytes: &[u8]) -> Vec<u8> {
    [&0x184d_2a50_u32.to_le_bytes()[..], &(bytes.len() as u32).to_le_bytes(), bytes].concat()
}

/// Wraps bytes in a Zstandard frame of raw blocks that asks for a window of `2^log` bytes (RFC 8878, section 3.1.1).
pub fn zstd_raw(bytes: &[u8], log: u8) -> Vec<u8> {
    let blocks = bytes.chunks(1000).map(|chunk| (0, chunk.len(), chunk));
    zstd_frame(blocks.collect(), log)
}

/// Returns a Zstandard frame of `count` blocks that each repeat a zero byte `length` times, at most 128 KiB.
pub fn zstd_repeated(length: usize, count: usize) -> Vec<u8> {
    zstd_frame(vec![(1, length, &[0][..]); count], 20)
}

/// Puts blocks (type, size, bytes) into a frame without content size and checksum.
fn zstd_frame(blocks: Vec<(u32, usize, &[u8])>, log: u8) -> Vec<u8> {
    let mut frame = 0xfd2f_b528_u32.to_le_bytes().to_vec();
    frame.extend([0, (log - 10) << 3]);
    let last = blocks.len() - 1;
    for (index, (kind, size, bytes)) in blocks.into_iter().enumerate() {
        let header = u32::from(index == last) | kind << 1 | (size as u32) << 3;
        frame.extend(&header.to_le_bytes()[..3]);
        frame.extend(bytes);
    }
    frame
}
