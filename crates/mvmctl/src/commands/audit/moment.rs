//! Moments as people give them to a command.

use mvm_engine::UtcTime;
use std::str::FromStr;

/// A moment: a date, a time, or a span before now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(pub UtcTime);

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text, mvm_engine::unix_seconds()).map(Self).ok_or_else(|| {
            "expected a date in UTC (2026-01-31), a time (2026-01-31T12:00:00Z) or a span before now (90m, 24h, 7d)"
                .to_owned()
        })
    }
}

fn parse(text: &str, now: i64) -> Option<UtcTime> {
    let last = text.chars().next_back()?;
    if let Some(seconds) = match last {
        's' => Some(1),
        'm' => Some(60),
        'h' => Some(3600),
        'd' => Some(86_400),
        'w' => Some(7 * 86_400),
        _ => None,
    } {
        let count = text.strip_suffix(last)?;
        let count: i64 = count.bytes().all(|byte| byte.is_ascii_digit()).then(|| count.parse().ok())??;
        return UtcTime::from_unix_seconds(now.checked_sub(count.checked_mul(seconds)?)?).ok();
    }
    const FULL: &str = "0000-00-00T00:00:00.000Z";
    let text = text.strip_suffix('Z').unwrap_or(text).replacen(' ', "T", 1);
    // A date, minutes, seconds or milliseconds; what is left out is nought.
    let fits = matches!(text.len(), 10 | 16 | 19 | 23);
    fits.then(|| format!("{text}{}", &FULL[text.len()..]).parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read() {
        let now = 1_700_000_000; // 2023-11-14T22:13:20Z
        let table = [
            ("2023-11-14", Some("2023-11-14T00:00:00.000Z")),
            ("2023-11-14T22:13", Some("2023-11-14T22:13:00.000Z")),
            ("2023-11-14 22:13:20", Some("2023-11-14T22:13:20.000Z")),
            ("2023-11-14T22:13:20Z", Some("2023-11-14T22:13:20.000Z")),
            ("2023-11-14T22:13:20.125Z", Some("2023-11-14T22:13:20.125Z")),
            ("20s", Some("2023-11-14T22:13:00.000Z")),
            ("13m", Some("2023-11-14T22:00:20.000Z")),
            ("24h", Some("2023-11-13T22:13:20.000Z")),
            ("7d", Some("2023-11-07T22:13:20.000Z")),
            ("1w", Some("2023-11-07T22:13:20.000Z")),
            ("", None),
            ("d", None),
            ("-1d", None),
            ("+1d", None),
            ("1y", None),
            ("99999999999999999999d", None),
            ("9999999d", None),
            ("2023-02-30", None),
            ("2023-11-14T22:13:20+01:00", None),
            ("ü023-11-1", None),
            ("yesterday", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text, now).map(|time| time.to_string()).as_deref(), expected, "{text}");
        }
    }
}
