//! Untrusted bytes, made fit for a line of text.

use std::fmt;

/// Bytes that a stranger chose, shown so that they can neither break a line nor steer a terminal.
///
/// UTF-8 without control characters is shown as it is, every other byte as `\xNN`, a backslash as `\\`; what
/// is longer than 256 bytes keeps its start and its end.
#[derive(Clone, PartialEq, Eq)]
pub struct Escaped(Box<[u8]>);

const SHOWN: usize = 256;

impl Escaped {
    /// Keeps a copy of `bytes`, at most as much of it as is shown.
    pub fn new(bytes: &[u8]) -> Self {
        if bytes.len() <= SHOWN {
            return Self(bytes.into());
        }
        let half = SHOWN / 2;
        let parts = [&bytes[..half], "…".as_bytes(), &bytes[bytes.len() - half..]];
        Self(parts.concat().into_boxed_slice())
    }

    /// Says whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Escaped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\\' => f.write_str("\\\\")?,
                    c if is_plain(c) => write!(f, "{c}")?,
                    c => c.encode_utf8(&mut [0; 4]).bytes().try_for_each(|b| write!(f, "\\x{b:02x}"))?,
                }
            }
            chunk.invalid().iter().try_for_each(|b| write!(f, "\\x{b:02x}"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Escaped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Says whether a character neither controls a terminal nor reorders or hides the text around it.
fn is_plain(c: char) -> bool {
    !(c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'))
}

#[cfg(test)]
mod tests {
    use super::Escaped;

    #[test]
    fn shows_bytes_without_harm() {
        let cases: [(&[u8], &str); 7] = [
            (b"usr/bin", "usr/bin"),
            (b"a b", "a b"),
            ("é".as_bytes(), "é"),
            (b"\xff\xfea", "\\xff\\xfea"),
            (b"a\nb\x1b[2J", "a\\x0ab\\x1b[2J"),
            (b"a\\b", "a\\\\b"),
            ("a\u{202e}b".as_bytes(), "a\\xe2\\x80\\xaeb"),
        ];
        for (bytes, want) in cases {
            assert_eq!(Escaped::new(bytes).to_string(), want);
        }
    }

    #[test]
    fn shortens_long_bytes() {
        let shown = Escaped::new(&[b'a'; 5000]).to_string();
        assert_eq!(shown, format!("{}…{}", "a".repeat(128), "a".repeat(128)));
    }
}
