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
fn inflate(media: LayerCompression, stored: &[u8], piece: usize) -> Result<Vec<u8>, InflateError> {
    let mut decoder = Decoder::new(media, ExpansionLimit::default());
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
        (None, b"P?".to_vec(), &b"P?".to_vec()),
        (Gzip, b"(\xb5/x a tar".to_vec(), &b"(\xb5/x a tar".to_vec()),
        (Gzip, gzip(&tar), &tar),
        (Gzip, gzip(b""), &vec![]),
        (Gzip, [gzip(&half), gzip(&half)].concat(), &twice),
        (Gzip, [gzip(b""), gzip(&tar), gzip(b"")].concat(), &tar),
        (Gzip, [gzip(&tar), vec![0; 700]].concat(), &tar),
        (Zstd, zstd(&tar), &tar),
        (Zstd, zstd(b""), &vec![]),
        (Zstd, [zstd(&half), zstd(&half)].concat(), &twice),
        (Zstd, skippable, &tar),
        (Zstd, [&[0x5f, 0x2a, 0x4d, 0x18, 0, 0, 0, 0], &zstd(&tar)[..]].concat(), &tar),
        (Gzip, vec![], &vec![]),
        // What the media type says is not asked.
        (Gzip, zstd(&tar), &tar),
        (Gzip, tar.clone(), &tar),
        (Zstd, gzip(&tar), &tar),
        (None, gzip(&tar), &tar),
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
        for length in [1, 5, 6, 7, 9, 17, gz.len() / 2, gz.len() - 1] {
            assert_eq!(inflate(Gzip, &gz[..length], piece), Err(truncated(Gzip, length)), "{length}");
        }
        for length in [1, 5, 6, 7, zs.len() / 2, zs.len() - 1] {
            assert_eq!(inflate(Zstd, &zs[..length], piece), Err(truncated(Zstd, length)), "{length}");
        }
        let formats = [("xz", &b"\xfd7zXZ\0..."[..]), ("bzip2", b"BZh91AY&SY"), ("zip", b"PK\x03\x04...")];
        for (format, stored) in formats {
            assert_eq!(inflate(Gzip, stored, piece), Err(InflateError::Format { format }));
        }
        let trailing = InflateError::TrailingData { offset: gz.len() as u64 };
        assert_eq!(inflate(Gzip, &[&gz[..], b"x"].concat(), piece), Err(trailing));
        let trailing = InflateError::TrailingData { offset: gz.len() as u64 + 3 };
        assert_eq!(inflate(Gzip, &[&gz[..], &[0, 0, 0], &gz].concat(), piece), Err(trailing));
        let half_member = [&gz[..], &gz[..20]].concat();
        assert_eq!(inflate(Gzip, &half_member, piece), Err(truncated(Gzip, half_member.len())));
        for (compression, stored) in [
            (Gzip, flip(&gz, 2)),
            (Gzip, flip(&gz, 3)),
            (Gzip, flip(&gz, gz.len() - 8)),
            (Gzip, flip(&gz, gz.len() - 1)),
            (Zstd, flip(&zs, 4)),
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
fn bombs_are_refused_past_a_length() {
    const MIB: u64 = 1 << 20;
    let usual = ExpansionLimit::default();
    let cases = [
        (1, usual, 1024 * MIB),
        (MIB, usual, 1024 * MIB),
        (2 * MIB, usual, 2000 * MIB),
        (2 * MIB, ExpansionLimit { ratio: 10, from: 0 }, 20 * MIB),
        (2 * MIB, ExpansionLimit { ratio: u64::MAX, from: 0 }, u64::MAX),
        (u64::MAX / 2, usual, u64::MAX),
    ];
    for (stored, limit, most) in cases {
        let mut count = Expansion { consumed: stored, produced: most - 1, limit };
        assert_eq!(count.add(0, 1), Ok(()), "{stored}");
        if most < u64::MAX {
            let bomb = InflateError::Bomb { stored, limit: most, ratio: limit.ratio };
            assert_eq!(count.add(0, 1), Err(bomb));
        }
    }
    let zeros = gzip(&vec![0; 3 << 20]);
    let limit = ExpansionLimit { ratio: 100, from: 4096 };
    let mut output = vec![0; 4 << 20];
    let result = Decoder::new(LayerCompression::Gzip, limit).run(&mut &zeros[..], &mut output);
    assert!(matches!(result, Err(InflateError::Bomb { ratio: 100, .. })), "{result:?}");
}
