//! The keys that leave a command which goes on: ctrl-p, ctrl-q, as docker and podman have them.

const FIRST: u8 = 0x10;
const SECOND: u8 = 0x11;

/// Looks for the keys in what is typed.
#[derive(Debug, Default)]
pub struct DetachKeys {
    /// The first has come, and nothing after it yet.
    held: bool,
}

impl DetachKeys {
    /// Returns what is for the command, at most a byte more than came, and whether the keys came.
    pub fn filter(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(typed.len() + 1);
        for &byte in typed {
            if std::mem::take(&mut self.held) {
                if byte == SECOND {
                    return (passed, true);
                }
                passed.push(FIRST);
            }
            if byte == FIRST {
                self.held = true;
            } else {
                passed.push(byte);
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::DetachKeys;

    #[test]
    fn the_keys_are_found_wherever_input_is_cut() {
        let table: [(&[u8], &[u8], bool); 7] = [
            (b"ls\n", b"ls\n", false),
            (b"\x10\x11", b"", true),
            (b"ab\x10\x11cd", b"ab", true),
            (b"\x10x", b"\x10x", false),
            (b"\x10\x10\x11", b"\x10", true),
            (b"\x11\x10", b"\x11", false),
            (b"\x10\x10\x10y", b"\x10\x10\x10y", false),
        ];
        for (typed, expected, found) in table {
            assert_eq!(DetachKeys::default().filter(typed), (expected.to_vec(), found), "{typed:?}");
            let (mut keys, mut passed, mut left) = (DetachKeys::default(), Vec::new(), false);
            for byte in typed {
                let (some, now) = keys.filter(&[*byte]);
                passed.extend(some);
                left = now;
                if left {
                    break;
                }
            }
            assert_eq!((passed.as_slice(), left), (expected, found), "{typed:?}, byte by byte");
        }
    }
}
