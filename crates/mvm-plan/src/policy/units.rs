//! Lengths of time and sizes as a policy writes them.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A length of time in seconds, written as a number with `s`, `m`, `h`, `d` or `w`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Seconds(pub i64);

/// A size in MiB, written as a number with `m`, `g` or `t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mebibytes(pub u64);

/// Says that a text is not a length of time, or not a size.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UnitError {
    /// The text is not a length of time.
    #[error("{0:?} is not a length of time; write a number with s, m, h, d or w, as in 12h")]
    Time(String),
    /// The text is not a size.
    #[error("{0:?} is not a size; write a number with m, g or t, as in 512m")]
    Size(String),
}

/// Units of time, largest first.
const TIMES: [(char, u64); 5] = [('w', 604_800), ('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];
/// Units of size, largest first.
const SIZES: [(char, u64); 3] = [('t', 1 << 20), ('g', 1 << 10), ('m', 1)];
/// More than any moment that a plan can name.
const MAX_SECONDS: u64 = 1 << 40;

fn parse(text: &str, units: &[(char, u64)]) -> Option<u64> {
    let unit = text.chars().next_back()?;
    let (_, factor) = units.iter().find(|(letter, _)| *letter == unit)?;
    let digits = text.strip_suffix(unit)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(*factor)
}

fn write(f: &mut fmt::Formatter<'_>, value: u64, units: &[(char, u64)]) -> fmt::Result {
    let fits = |unit: &&(char, u64)| value != 0 && value.is_multiple_of(unit.1);
    match units.iter().find(fits).or(units.last()) {
        Some((letter, factor)) => f.pad(&format!("{}{letter}", value / factor)),
        None => Ok(()),
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

impl FromStr for Seconds {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let seconds = parse(text, &TIMES).filter(|seconds| *seconds <= MAX_SECONDS);
        let seconds = seconds.and_then(|seconds| i64::try_from(seconds).ok());
        seconds.map(Self).ok_or_else(|| UnitError::Time(shortened(text)))
    }
}

impl FromStr for Mebibytes {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse(text, &SIZES).map(Self).ok_or_else(|| UnitError::Size(shortened(text)))
    }
}

impl TryFrom<String> for Seconds {
    type Error = UnitError;

    fn try_from(text: String) -> Result<Self, UnitError> {
        text.parse()
    }
}

impl TryFrom<String> for Mebibytes {
    type Error = UnitError;

    fn try_from(text: String) -> Result<Self, UnitError> {
        text.parse()
    }
}

impl From<Seconds> for String {
    fn from(time: Seconds) -> String {
        time.to_string()
    }
}

impl From<Mebibytes> for String {
    fn from(size: Mebibytes) -> String {
        size.to_string()
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.0.unsigned_abs(), &TIMES)
    }
}

impl fmt::Display for Mebibytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.0, &SIZES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_read_back() {
        for (text, seconds) in [
            ("0s", 0),
            ("1s", 1),
            ("90s", 90),
            ("2m", 120),
            ("36h", 129_600),
            ("30d", 2_592_000),
            ("2w", 1_209_600),
        ] {
            assert_eq!(text.parse(), Ok(Seconds(seconds)), "{text}");
            assert_eq!(Seconds(seconds).to_string(), text);
        }
        assert_eq!("60s".parse::<Seconds>().map(|time| time.to_string()), Ok("1m".to_owned()));
        for text in
            ["", "s", "1", "-1s", "+1s", "1.5h", "1 h", "1y", "1H", "99999999999999999999s", "9999999999999w"]
        {
            assert_eq!(text.parse::<Seconds>(), Err(UnitError::Time(text.to_owned())), "{text}");
        }
        for (text, size) in [("0m", 0), ("512m", 512), ("4g", 4096), ("1t", 1 << 20)] {
            assert_eq!(text.parse(), Ok(Mebibytes(size)), "{text}");
            assert_eq!(Mebibytes(size).to_string(), text);
        }
        for text in ["", "m", "512", "1k", "0x1m", "18446744073709551615t"] {
            assert_eq!(text.parse::<Mebibytes>(), Err(UnitError::Size(text.to_owned())), "{text}");
        }
    }
}
