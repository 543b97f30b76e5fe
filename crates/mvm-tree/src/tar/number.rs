//! Numbers as tar writes them: octal, base-256, and decimal in PAX records.

use crate::Timestamp;

/// Returns the value of a numeric header field: octal digits between spaces and NULs (nothing means 0), or GNU's
/// base-256, a two's complement number of big-endian bytes with the topmost bit set as a mark.
pub(super) fn field(bytes: &[u8]) -> Option<i64> {
    match bytes.split_first() {
        Some((first, rest)) if first & 0x80 != 0 => base256(*first, rest),
        _ => octal(bytes),
    }
}

fn base256(first: u8, rest: &[u8]) -> Option<i64> {
    // The bit after the mark is the sign.
    let start = if first & 0x40 != 0 { i128::from(first) - 0x100 } else { i128::from(first & 0x3f) };
    let value = rest
        .iter()
        .try_fold(start, |value, byte| value.checked_mul(256).map(|value| value + i128::from(*byte)))?;
    i64::try_from(value).ok()
}

fn octal(bytes: &[u8]) -> Option<i64> {
    let start = bytes.iter().position(|b| !matches!(b, b' ' | 0)).unwrap_or(bytes.len());
    let bytes = &bytes[start..];
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    bytes[..end].trim_ascii_end().iter().try_fold(0i64, |value, byte| match byte {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(byte - b'0')),
        _ => None,
    })
}

/// Returns the value of decimal digits, one or more and nothing else.
pub(super) fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0u64, |value, byte| match byte {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

/// Returns a PAX time: decimal seconds with an optional sign and fraction, of which nine digits count.
pub(super) fn time(bytes: &[u8]) -> Option<Timestamp> {
    let (is_negative, bytes) = match bytes.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, bytes),
    };
    let (whole, fraction) = match bytes.iter().position(|b| *b == b'.') {
        Some(dot) => (&bytes[..dot], &bytes[dot + 1..]),
        None => (bytes, &[][..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let secs = i64::try_from(decimal(whole)?).ok()?;
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanos = digits.fold(0u32, |value, byte| value * 10 + u32::from(byte - b'0'));
    Some(match (is_negative, nanos) {
        (false, nanos) => Timestamp { secs, nanos },
        (true, 0) => Timestamp { secs: -secs, nanos: 0 },
        (true, nanos) => Timestamp { secs: -secs - 1, nanos: 1_000_000_000 - nanos },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_header_fields() {
        let cases: [(&[u8], Option<i64>); 16] = [
            (b"0000644\0", Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"644     ", Some(0o644)),
            (b"77777777777\0", Some(0o77777777777)),
            (b"777777777777", Some(0o777777777777)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"12\0junk", Some(0o12)),
            (b"12 3\0", None),
            (b"8\0", None),
            (b"-1\0", None),
            (b"\x80\0\0\0\0\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\xff\xff\xff\xff\x80\0\0\0\0\0\0\0", Some(i64::MIN)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        ];
        for (bytes, want) in cases {
            assert_eq!(field(bytes), want, "{bytes:?}");
        }
    }

    #[test]
    fn reads_decimals() {
        let cases: [(&[u8], Option<u64>); 7] = [
            (b"0", Some(0)),
            (b"18446744073709551615", Some(u64::MAX)),
            (b"18446744073709551616", None),
            (b"", None),
            (b"+1", None),
            (b"-1", None),
            (b"1 ", None),
        ];
        for (bytes, want) in cases {
            assert_eq!(decimal(bytes), want, "{bytes:?}");
        }
    }

    #[test]
    fn reads_times() {
        let at = |secs, nanos| Some(Timestamp { secs, nanos });
        let cases: [(&[u8], Option<Timestamp>); 10] = [
            (b"0", at(0, 0)),
            (b"1.5", at(1, 500_000_000)),
            (b"1.", at(1, 0)),
            (b"1350244992.0239601089", at(1_350_244_992, 23_960_108)),
            (b"-1", at(-1, 0)),
            (b"-1.25", at(-2, 750_000_000)),
            (b"-0.000000001", at(-1, 999_999_999)),
            (b".5", None),
            (b"1.5x", None),
            (b"9223372036854775808", None),
        ];
        for (bytes, want) in cases {
            assert_eq!(time(bytes), want, "{bytes:?}");
        }
    }
}
