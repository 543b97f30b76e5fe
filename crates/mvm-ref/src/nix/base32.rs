//! Nix's base 32: no padding, the last digit first, without the letters e, o, t and u.

const ALPHABET: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// Returns the digits that stand for so many bytes.
pub(super) const fn length(bytes: usize) -> usize {
    (bytes * 8).div_ceil(5)
}

/// Writes bytes in base 32.
pub(super) fn encode(bytes: &[u8]) -> String {
    let digit = |at: usize| {
        let (byte, shift) = (at * 5 / 8, at * 5 % 8);
        let low = u16::from(bytes[byte]) >> shift;
        let high = bytes.get(byte + 1).map_or(0, |&next| u16::from(next) << (8 - shift));
        char::from(ALPHABET[usize::from((low | high) & 31)])
    };
    (0..length(bytes.len())).rev().map(digit).collect()
}

/// Reads exactly `N` bytes in base 32; nothing if the text is anything else.
pub(super) fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != length(N) {
        return None;
    }
    let mut bytes = [0; N];
    for (at, digit) in text.bytes().rev().enumerate() {
        let value = ALPHABET.iter().position(|&known| known == digit)? as u16;
        let (byte, shift) = (at * 5 / 8, at * 5 % 8);
        let value = value << shift;
        bytes[byte] |= (value & 0xff) as u8;
        match bytes.get_mut(byte + 1) {
            Some(next) => *next |= (value >> 8) as u8,
            // Bits past the end stand for nothing, and have one spelling.
            None if value >> 8 != 0 => return None,
            None => {}
        }
    }
    Some(bytes)
}

/// Says whether a text has only digits of base 32.
pub(super) fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| ALPHABET.contains(&byte))
}
