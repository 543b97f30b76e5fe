//! A moment in UTC, written as RFC 3339 writes it.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The last second of the year 9999: RFC 3339 has four digits for a year.
pub const MAX_UNIX_SECONDS: i64 = 253_402_300_799;

const SECONDS_PER_DAY: i64 = 86_400;

/// A moment from 1970 to 9999 in whole milliseconds, always written `YYYY-MM-DDTHH:MM:SS.mmmZ`.
///
/// Source: RFC 3339, section 5.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UtcTime(i64);

/// Says why a number or a text is not a moment.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TimeError {
    /// The moment lies before 1970 or after 9999.
    #[error("{0} milliseconds since 1970 lie outside the years 1970 to 9999")]
    Range(i64),
    /// The text is not of the one form that is written.
    #[error("time {0:?} is not of the form YYYY-MM-DDTHH:MM:SS.mmmZ")]
    Text(String),
}

impl UtcTime {
    /// Returns the moment `millis` milliseconds after the start of 1970.
    pub fn from_unix_millis(millis: i64) -> Result<Self, TimeError> {
        if (0..=MAX_UNIX_SECONDS * 1000 + 999).contains(&millis) {
            Ok(Self(millis))
        } else {
            Err(TimeError::Range(millis))
        }
    }

    /// Returns the moment `seconds` seconds after the start of 1970.
    pub fn from_unix_seconds(seconds: i64) -> Result<Self, TimeError> {
        Self::from_unix_millis(seconds.saturating_mul(1000))
    }

    /// Reads a moment in any form of RFC 3339, with a fraction of any length and an offset; the fraction is left out.
    pub fn from_rfc3339(text: &str) -> Result<Self, TimeError> {
        let refuse = || TimeError::Text(text.chars().take(80).collect());
        let (date, rest) = text.split_at_checked(19).ok_or_else(refuse)?;
        let start: Self = format!("{}.000Z", date.to_ascii_uppercase()).parse().map_err(|_| refuse())?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let zone = match rest.strip_prefix('.') {
            Some(fraction) => {
                let end = fraction.find(|c: char| !c.is_ascii_digit()).ok_or_else(refuse)?;
                if end == 0 {
                    return Err(refuse());
                }
                &fraction[end..]
            }
            None => rest,
        };
        let offset = match zone {
            "Z" | "z" => 0,
            zone => {
                let sign = if zone.starts_with('-') { -1 } else { 1 };
                let parts = zone.strip_prefix(['+', '-']).and_then(|zone| zone.split_once(':'));
                let (hours, minutes) = parts.ok_or_else(refuse)?;
                if !(digits(hours) && digits(minutes) && hours.len() == 2 && minutes.len() == 2) {
                    return Err(refuse());
                }
                let number = |text: &str| text.parse::<i64>().map_err(|_| refuse());
                sign * (number(hours)? * 3600 + number(minutes)? * 60)
            }
        };
        Self::from_unix_seconds(start.unix_seconds() - offset)
    }

    /// Returns the milliseconds since the start of 1970.
    pub fn unix_millis(self) -> i64 {
        self.0
    }

    /// Returns the whole seconds since the start of 1970.
    pub fn unix_seconds(self) -> i64 {
        self.0 / 1000
    }
}

impl fmt::Display for UtcTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.0 / 1000, self.0 % 1000);
        let (year, month, day) = date_of(seconds / SECONDS_PER_DAY);
        let second = seconds % SECONDS_PER_DAY;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

impl FromStr for UtcTime {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        let refuse = || TimeError::Text(text.to_owned());
        let bytes = text.as_bytes();
        let number = |range: std::ops::Range<usize>| {
            bytes.get(range)?.iter().try_fold(0i64, |sum, digit| {
                digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0'))
            })
        };
        let fields = || {
            let days = days_of(number(0..4)?, number(5..7)?, number(8..10)?)?;
            let seconds = number(11..13)? * 3600 + number(14..16)? * 60 + number(17..19)?;
            Some((days * SECONDS_PER_DAY + seconds) * 1000 + number(20..23)?)
        };
        let time = Self::from_unix_millis(fields().ok_or_else(refuse)?).map_err(|_| refuse())?;
        // One comparison refuses every deviation: separators, an hour 24, the 30th of February, a longer text.
        if time.to_string() == text { Ok(time) } else { Err(refuse()) }
    }
}

impl TryFrom<String> for UtcTime {
    type Error = TimeError;

    fn try_from(text: String) -> Result<Self, TimeError> {
        text.parse()
    }
}

impl From<UtcTime> for String {
    fn from(time: UtcTime) -> String {
        time.to_string()
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Days of the years 1 to `year` in the Gregorian calendar.
fn days_through(year: i64) -> i64 {
    year * 365 + year / 4 - year / 100 + year / 400
}

fn month_lengths(year: i64) -> [i64; 12] {
    [31, if is_leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
}

fn date_of(days: i64) -> (i64, i64, i64) {
    let mut year = 1970 + days / 366;
    while days >= days_through(year) - days_through(1969) {
        year += 1;
    }
    let mut day = days - (days_through(year - 1) - days_through(1969));
    let mut month = 1;
    for length in month_lengths(year) {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    (year, month, day + 1)
}

fn days_of(year: i64, month: i64, day: i64) -> Option<i64> {
    let lengths = month_lengths(year);
    let before = lengths.get(..usize::try_from(month.checked_sub(1)?).ok()?)?;
    let year_start = days_through(year - 1) - days_through(1969);
    Some(year_start + before.iter().sum::<i64>() + day - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_its_text() {
        let table = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (1_709_251_200_000, "2024-03-01T00:00:00.000Z"),
            (1_735_689_599_001, "2024-12-31T23:59:59.001Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ];
        for (millis, text) in table {
            assert_eq!(UtcTime::from_unix_millis(millis).unwrap().to_string(), text);
            assert_eq!(text.parse(), Ok(UtcTime(millis)), "{text}");
        }
    }

    #[test]
    fn forms_of_rfc_3339_are_read() {
        let table = [
            ("2000-02-29T00:00:00Z", Some(951_782_400)),
            ("2000-02-29t00:00:00z", Some(951_782_400)),
            ("2000-02-29T00:00:00.123456789Z", Some(951_782_400)),
            ("2000-02-29T02:30:00+02:30", Some(951_782_400)),
            ("2000-02-28T23:00:00.5-01:00", Some(951_782_400)),
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1970-01-01T00:00:00+01:00", None),
            ("0001-01-01T00:00:00Z", None),
            ("2000-02-30T00:00:00Z", None),
            ("2000-02-29T00:00:00", None),
            ("2000-02-29T00:00:00.Z", None),
            ("2000-02-29T00:00:00+2:00", None),
            ("2000-02-29T00:00:00+0200", None),
            ("2000-02-29", None),
            ("", None),
            ("2000-02-29T00:00:0\u{fc}Z", None),
        ];
        for (text, expected) in table {
            let read = UtcTime::from_rfc3339(text).ok().map(UtcTime::unix_seconds);
            assert_eq!(read, expected, "{text}");
        }
    }

    #[test]
    fn every_day_reads_back() {
        for day in 0..MAX_UNIX_SECONDS / SECONDS_PER_DAY {
            let (year, month, date) = date_of(day);
            assert_eq!(days_of(year, month, date), Some(day));
        }
    }

    #[test]
    fn other_forms_are_refused() {
        let table = [
            "",
            "2024-01-01",
            "2024-01-01T00:00:00Z",
            "2024-01-01T00:00:00.000+00:00",
            "2024-01-01t00:00:00.000Z",
            "2024-01-01T24:00:00.000Z",
            "2024-01-01T00:60:00.000Z",
            "2023-02-29T00:00:00.000Z",
            "2024-00-01T00:00:00.000Z",
            "2024-13-01T00:00:00.000Z",
            "2024-01-00T00:00:00.000Z",
            "1969-12-31T23:59:59.999Z",
            "0000-01-01T00:00:00.000Z",
            "2024-01-01T00:00:00.000Z ",
        ];
        for text in table {
            assert_eq!(text.parse::<UtcTime>(), Err(TimeError::Text(text.to_owned())), "{text}");
        }
        for millis in [-1, 253_402_300_800_000, i64::MAX, i64::MIN] {
            assert_eq!(UtcTime::from_unix_millis(millis), Err(TimeError::Range(millis)));
        }
    }
}
