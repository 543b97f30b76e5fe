//! Bytes that documents carry as hexadecimal text.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes written as lower-case hexadecimal text, two digits each.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hex(Vec<u8>);

/// A text that is not lower-case hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HexError {
    /// The number of digits is odd.
    #[error("hexadecimal text has {got} digits, expected an even number")]
    Odd {
        /// Number of digits.
        got: usize,
    },
    /// A character is no lower-case hexadecimal digit.
    #[error("byte {offset} of hexadecimal text is {got:#04x}, expected 0-9 or a-f")]
    Digit {
        /// Position in the text.
        offset: usize,
        /// The byte there.
        got: u8,
    },
}

impl Hex {
    /// Keeps bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::str::FromStr for Hex {
    type Err = HexError;

    fn from_str(text: &str) -> Result<Self, HexError> {
        let digits = text.as_bytes();
        if !digits.len().is_multiple_of(2) {
            return Err(HexError::Odd { got: digits.len() });
        }
        let value = |offset: usize| match digits[offset] {
            digit @ b'0'..=b'9' => Ok(digit - b'0'),
            digit @ b'a'..=b'f' => Ok(digit - b'a' + 10),
            got => Err(HexError::Digit { offset, got }),
        };
        (0..digits.len())
            .step_by(2)
            .map(|i| Ok((value(i)? << 4) | value(i + 1)?))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl std::fmt::Display for Hex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Hex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hex({self})")
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
