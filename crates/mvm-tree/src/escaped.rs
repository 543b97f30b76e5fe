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
        write(&self.0, f)
    }
}

impl fmt::Debug for Escaped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Returns all of `bytes` in the form of [`Escaped`], from which they can be had back: `\\` is a backslash, `\xNN` the
/// byte with that value in hexadecimal, and everything else stands for itself.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    write(bytes, &mut text).expect("a String takes all that is written to it");
    text
}

fn write(bytes: &[u8], to: &mut impl fmt::Write) -> fmt::Result {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => to.write_str("\\\\")?,
                c if is_plain(c) => to.write_char(c)?,
                c => c.encode_utf8(&mut [0; 4]).bytes().try_for_each(|b| write!(to, "\\x{b:02x}"))?,
            }
        }
        chunk.invalid().iter().try_for_each(|b| write!(to, "\\x{b:02x}"))?;
    }
    Ok(())
}

/// Says whether a character neither controls a terminal nor reorders or hides the text around it.
fn is_plain(c: char) -> bool {
    !(c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'))
}

#[cfg(test)]
mod tests {
    use super::{Escaped, escape};

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

    #[test]
    fn escapes_so_that_nothing_is_lost() {
        let cases: [(&[u8], &str); 6] = [
            (b"", ""),
            (b"\\x41", "\\\\x41"),
            (b"\\", "\\\\"),
            (b"a\nb\0\x7f", "a\\x0ab\\x00\\x7f"),
            ("é\u{200b}".as_bytes(), "é\\xe2\\x80\\x8b"),
            (b"\xc3", "\\xc3"),
        ];
        for (bytes, text) in cases {
            assert_eq!(escape(bytes), text);
        }
        assert_eq!(escape(&[b'a'; 5000]), "a".repeat(5000));
    }
}
