//! How libarchive writes an extended attribute into a PAX record: `LIBARCHIVE.xattr.` and the name with `%XX` for what is
//! no plain ASCII, then the value in Base64 without padding (libarchive, `archive_write_set_format_pax.c`).

/// Returns a name with every `%XX` replaced by its byte; any other `%` stands for itself.
pub(super) fn percent(name: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (*first, after) {
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    decoded.push(high << 4 | low);
                    rest = after;
                }
                _ => decoded.push(b'%'),
            },
            (byte, _) => decoded.push(byte),
        }
    }
    decoded
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Returns the bytes of a Base64 text (RFC 4648, section 4), with or without padding, or nothing if it is none.
pub(super) fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let digits = match text {
        [digits @ .., b'=', b'='] | [digits @ .., b'='] if text.len().is_multiple_of(4) => digits,
        digits => digits,
    };
    let mut decoded = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for group in digits.chunks(4) {
        let mut bits = 0u32;
        for digit in group {
            bits = bits << 6 | u32::from(sextet(*digit)?);
        }
        let count = match group.len() {
            4 => 3,
            3 => 2,
            2 => 1,
            _ => return None,
        };
        let bytes = (bits << (6 * (4 - group.len()))).to_be_bytes();
        // What a group has beyond its bytes is zero, or two texts would stand for the same value.
        if bytes[1 + count..].iter().any(|byte| *byte != 0) {
            return None;
        }
        decoded.extend_from_slice(&bytes[1..=count]);
    }
    Some(decoded)
}

fn sextet(digit: u8) -> Option<u8> {
    match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_names() {
        let cases: [(&[u8], &[u8]); 6] = [
            (b"user.a", b"user.a"),
            (b"user.%c3%A9", "user.é".as_bytes()),
            (b"%2575", b"%75"),
            (b"100%", b"100%"),
            (b"%4", b"%4"),
            (b"%zz%41", b"%zzA"),
        ];
        for (name, decoded) in cases {
            assert_eq!(percent(name), decoded);
        }
    }

    #[test]
    fn decodes_values() {
        let cases: [(&[u8], Option<&[u8]>); 13] = [
            (b"", Some(b"")),
            (b"AA", Some(b"\0")),
            (b"AA==", Some(b"\0")),
            (b"Zm8", Some(b"fo")),
            (b"Zm8=", Some(b"fo")),
            (b"Zm9v", Some(b"foo")),
            (b"Zm9vYg", Some(b"foob")),
            (b"+/+/", Some(b"\xfb\xff\xbf")),
            (b"A", None),
            (b"AB", None),
            (b"AA=", None),
            (b"AA A", None),
            (b"====", None),
        ];
        for (text, value) in cases {
            assert_eq!(base64(text).as_deref(), value, "{}", text.escape_ascii());
        }
    }
}
