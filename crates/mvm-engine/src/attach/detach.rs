//! The keys that leave a command which goes on: ctrl-p, ctrl-q unless others are asked for, as docker and podman have them.

use std::str::FromStr;

/// Looks for the keys in what is typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetachKeys {
    /// What they send; nothing, if no keys leave.
    keys: Vec<u8>,
    /// How many of them have come.
    held: usize,
}

/// Says that a text names no keys.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} is not a list of keys; write such as ctrl-p,ctrl-q or a,b,c: ctrl- with a to z, @, [, \\, ], ^ or _, or one character"
)]
pub struct DetachKeysError(String);

impl Default for DetachKeys {
    fn default() -> Self {
        Self { keys: vec![0x10, 0x11], held: 0 }
    }
}

impl FromStr for DetachKeys {
    type Err = DetachKeysError;

    fn from_str(text: &str) -> Result<Self, DetachKeysError> {
        let keys: Option<Vec<u8>> = match text {
            "" => Some(Vec::new()),
            text => text.split(',').map(key).collect(),
        };
        Ok(Self { keys: keys.ok_or_else(|| DetachKeysError(text.to_owned()))?, held: 0 })
    }
}

/// Returns what a key sends.
fn key(name: &str) -> Option<u8> {
    match (name.strip_prefix("ctrl-").map(str::as_bytes), name.as_bytes()) {
        (Some(&[letter @ b'a'..=b'z']), _) => Some(letter - b'a' + 1),
        (Some(&[sign @ (b'@' | b'['..=b'_')]), _) => Some(sign - b'@'),
        (None, &[character]) if character.is_ascii_graphic() || character == b' ' => Some(character),
        _ => None,
    }
}

impl DetachKeys {
    /// Returns how many bytes more than came may be passed on at most.
    pub(super) fn room(&self) -> usize {
        self.keys.len().saturating_sub(1)
    }

    /// Returns what is for the command, and whether the keys came.
    pub(super) fn filter(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        if self.keys.is_empty() {
            return (typed.to_vec(), false);
        }
        let mut passed = Vec::with_capacity(typed.len() + self.room());
        for &byte in typed {
            let mut open = [&self.keys[..self.held], &[byte]].concat();
            // What can't become the keys is for the command, and what comes after it may still.
            while !self.keys.starts_with(&open) {
                passed.push(open.remove(0));
            }
            self.held = open.len();
            if self.held == self.keys.len() {
                self.held = 0;
                return (passed, true);
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::{DetachKeys, DetachKeysError};

    #[test]
    fn the_keys_are_found_wherever_input_is_cut() {
        let table: [(&str, &[u8], &[u8], bool); 11] = [
            ("ctrl-p,ctrl-q", b"ls\n", b"ls\n", false),
            ("ctrl-p,ctrl-q", b"\x10\x11", b"", true),
            ("ctrl-p,ctrl-q", b"ab\x10\x11cd", b"ab", true),
            ("ctrl-p,ctrl-q", b"\x10x", b"\x10x", false),
            ("ctrl-p,ctrl-q", b"\x10\x10\x11", b"\x10", true),
            ("ctrl-p,ctrl-q", b"\x11\x10", b"\x11", false),
            ("ctrl-p,ctrl-q", b"\x10\x10\x10y", b"\x10\x10\x10y", false),
            ("a,a,b", b"aaab", b"a", true),
            ("a,b,a,c", b"ababac", b"ab", true),
            ("ctrl-@", b"x\0", b"x", true),
            ("", b"\x10\x11", b"\x10\x11", false),
        ];
        for (text, typed, expected, found) in table {
            let keys: DetachKeys = text.parse().unwrap();
            assert_eq!(keys.clone().filter(typed), (expected.to_vec(), found), "{text}: {typed:?}");
            let (mut keys, mut passed, mut left) = (keys, Vec::new(), false);
            for byte in typed {
                let (some, now) = keys.filter(&[*byte]);
                passed.extend(some);
                left = now;
                if left {
                    break;
                }
            }
            assert_eq!((passed.as_slice(), left), (expected, found), "{text}: {typed:?}, byte by byte");
        }
    }

    #[test]
    fn keys_have_names() {
        assert_eq!("ctrl-p,ctrl-q".parse(), Ok(DetachKeys::default()));
        let sent = |text: &str| text.parse::<DetachKeys>().map(|keys| keys.keys);
        assert_eq!(
            sent("ctrl-a,ctrl-z,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_,x"),
            Ok(vec![1, 26, 27, 28, 29, 30, 31, b'x'])
        );
        for text in ["ctrl-", "ctrl-A", "ctrl-p,", ",", "ctrl-pq", "xy", "é", "ctrl-1", "\n"] {
            assert_eq!(sent(text), Err(DetachKeysError(text.to_owned())), "{text:?}");
        }
    }
}
