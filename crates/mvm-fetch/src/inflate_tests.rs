use super::*;
use zlib_rs::{Deflate, DeflateFlush};

/// Text that compresses, but not to nothing.
fn sample(length: usize) -> Vec<u8> {
    (0..length as u64).map(|i| (i.wrapping_mul(i) >> 7) as u8 & 0x3f).collect()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut deflate = Deflate::new(6, true, GZIP_WINDOW_BITS);
    let mut output = vec![0; bytes.len() + bytes.len() / 10 + 100];
    let status = deflate.compress(bytes, &mut output, DeflateFlush::Finish).unwrap();
    assert_eq!(status, Status::StreamEnd);
    output.truncate(deflate.total_out() as usize);
    output
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 3).unwrap()
}

/// Decompresses with pieces of odd sizes on both sides.
fn inflate(compression: LayerCompression, stored: &[u8], piece: usize) -> Result<Vec<u8>, InflateError> {
    let mut decoder = Decoder::new(compression)?;
    let mut output = Vec::new();
    let mut buffer = [0; 1021];
    for mut input in stored.chunks(piece) {
        loop {
            let length = decoder.run(&mut input, &mut buffer)?;
            output.extend_from_slice(&buffer[..length]);
            if length < buffer.len() {
                break;
            }
        }
        assert_eq!(input, b"", "all input is taken before less than a full buffer comes out");
    }
    decoder.finish().map(|()| output)
}

#[test]
fn streams_of_every_kind_inflate() {
    use LayerCompression::{Gzip, None, Zstd};
    let (tar, half) = (sample(100_000), sample(50_000));
    let twice = [half.as_slice(), &half].concat();
    let mut skippable = vec![0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];
    skippable.splice(0..0, zstd(&tar));
    let cases = [
        (None, tar.clone(), &tar),
        (None, vec![], &vec![]),
        (Gzip, gzip(&tar), &tar),
        (Gzip, gzip(b""), &vec![]),
        (Gzip, [gzip(&half), gzip(&half)].concat(), &twice),
        (Gzip, [gzip(b""), gzip(&tar), gzip(b"")].concat(), &tar),
        (Gzip, [gzip(&tar), vec![0; 700]].concat(), &tar),
        (Zstd, zstd(&tar), &tar),
        (Zstd, zstd(b""), &vec![]),
        (Zstd, [zstd(&half), zstd(&half)].concat(), &twice),
        (Zstd, skippable, &tar),
    ];
    for (number, (compression, stored, expected)) in cases.iter().enumerate() {
        for piece in [1, 7, 1021, 65_536] {
            let got = inflate(*compression, stored, piece);
            assert!(got.as_ref() == Ok(*expected), "case {number}, pieces of {piece}: {:?}", got.err());
        }
    }
}

#[test]
fn broken_streams_are_refused() {
    use LayerCompression::{Gzip, Zstd};
    let (gz, zs) = (gzip(&sample(10_000)), zstd(&sample(10_000)));
    let flip = |stored: &[u8], at: usize| {
        let mut stored = stored.to_vec();
        stored[at] ^= 0x40;
        stored
    };
    let truncated =
        |compression, offset: usize| InflateError::Truncated { compression, offset: offset as u64 };
    for piece in [1, 4096] {
        for length in [0, 1, 5, 17, gz.len() / 2, gz.len() - 1] {
            assert_eq!(inflate(Gzip, &gz[..length], piece), Err(truncated(Gzip, length)), "{length}");
        }
        for length in [0, 1, 5, zs.len() / 2, zs.len() - 1] {
            assert_eq!(inflate(Zstd, &zs[..length], piece), Err(truncated(Zstd, length)), "{length}");
        }
        assert_eq!(inflate(Gzip, b"PK\x03\x04", piece), Err(InflateError::Magic { expected: Gzip }));
        let trailing = InflateError::TrailingData { offset: gz.len() as u64 };
        assert_eq!(inflate(Gzip, &[&gz[..], b"x"].concat(), piece), Err(trailing));
        let trailing = InflateError::TrailingData { offset: gz.len() as u64 + 3 };
        assert_eq!(inflate(Gzip, &[&gz[..], &[0, 0, 0], &gz].concat(), piece), Err(trailing));
        let half_member = [&gz[..], &gz[..20]].concat();
        assert_eq!(inflate(Gzip, &half_member, piece), Err(truncated(Gzip, half_member.len())));
        for (compression, stored) in [
            (Gzip, flip(&gz, 1)),
            (Gzip, flip(&gz, gz.len() - 8)),
            (Gzip, flip(&gz, gz.len() - 1)),
            (Zstd, flip(&zs, 0)),
            (Zstd, [&zs[..], b"garbage"].concat()),
            (Zstd, b"\x1f\x8b garbage".to_vec()),
        ] {
            let error = inflate(compression, &stored, piece).unwrap_err();
            assert!(matches!(error, InflateError::Corrupt { .. }), "{error:?}");
        }
    }
}

#[test]
fn a_window_over_the_limit_is_refused_by_name() {
    // Magic, descriptor without a content size, window descriptor of 2^31 bytes (exponent 21), one raw block.
    let stored = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x09, 0x00, 0x00, b'x'];
    assert_eq!(inflate(LayerCompression::Zstd, &stored, 64), Err(InflateError::Window));
    let allowed = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 17 << 3, 0x09, 0x00, 0x00, b'x'];
    assert_eq!(inflate(LayerCompression::Zstd, &allowed, 64), Ok(b"x".to_vec()));
    assert_eq!(InflateError::Window.to_string(), "zstd stream needs a window over 128 MiB");
}

#[test]
fn bombs_are_refused_and_long_files_of_zeros_are_not() {
    let cases = [
        (1_u64 << 20, 10 << 30, true),
        (16 << 20, 16 << 30, true),
        (16 << 20, (16 << 30) + 1, false),
        (20 << 20, 17 << 30, true),
    ];
    for (consumed, produced, fine) in cases {
        let mut count = Expansion { consumed, produced: 0 };
        let bomb = InflateError::Bomb { consumed, produced };
        assert_eq!(count.add(0, produced as usize), if fine { Ok(()) } else { Err(bomb) });
    }
}
