//! Amounts of bytes as users write them.

use serde::Deserialize;
use std::fmt;
use std::str::FromStr;

/// An amount of bytes: a number, or one with a unit.
///
/// `k`, `m`, `g` and `t` alone, and `KiB` to `TiB`, are powers of 1024 as in docker's `--memory`; `kB` to `TB` are
/// powers of 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Size(u64);

/// Says why a text is not an amount of bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a size; write bytes, or a number with k, m, g or t, KiB to TiB, or kB to TB")]
pub struct SizeError(String);

impl Size {
    /// Takes a number of bytes.
    pub fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Returns the number of bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let factor: Option<u64> = match unit {
            "" | "b" | "B" => Some(1),
            "k" | "K" | "KiB" => Some(1 << 10),
            "m" | "M" | "MiB" => Some(1 << 20),
            "g" | "G" | "GiB" => Some(1 << 30),
            "t" | "T" | "TiB" => Some(1 << 40),
            "kB" | "KB" => Some(1000),
            "MB" => Some(1_000_000),
            "GB" => Some(1_000_000_000),
            "TB" => Some(1_000_000_000_000),
            _ => None,
        };
        let bytes =
            number.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
        bytes.map(Self).ok_or_else(|| SizeError(text.to_owned()))
    }
}

impl TryFrom<String> for Size {
    type Error = SizeError;

    fn try_from(text: String) -> Result<Self, SizeError> {
        text.parse()
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}B", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_users_write_them() {
        for (text, expected) in [
            ("0", Some(0)),
            ("4096", Some(4096)),
            ("7b", Some(7)),
            ("512m", Some(512 << 20)),
            ("20GiB", Some(20 << 30)),
            ("20GB", Some(20_000_000_000)),
            ("3T", Some(3 << 40)),
            ("1kB", Some(1000)),
            ("16777215TiB", Some(16_777_215 << 40)),
            ("16777216TiB", None),
            ("18446744073709551616", None),
            ("", None),
            ("g", None),
            ("-1", None),
            ("+1", None),
            ("1.5g", None),
            (" 1", None),
            ("1 g", None),
            ("1gib", None),
        ] {
            assert_eq!(text.parse::<Size>().ok().map(Size::bytes), expected, "{text:?}");
        }
    }
}
