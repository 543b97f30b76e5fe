//! What is tried again, how often, and how long is waited before.
//!
//! Source of `Retry-After`: RFC 9110, section 10.2.3.

use super::RegistryError;
use crate::FetchConfig;
use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};
use std::time::{Duration, SystemTime};

/// No wait of mvm's own choice is longer.
const MAX_BACKOFF: Duration = Duration::from_secs(8);
/// A host that wants to be left alone for longer is.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(120);

/// The attempts that are left for one thing.
#[derive(Clone, Debug)]
pub(super) struct Attempts {
    left: u32,
    wait: Duration,
    /// Whether a host that can't be reached is worth another attempt.
    patient: bool,
}

impl Attempts {
    pub(super) fn new(config: &FetchConfig) -> Self {
        Self { left: config.retries, wait: config.backoff, patient: true }
    }

    /// Gives up at once on a host that can't be reached.
    pub(super) fn impatient(self) -> Self {
        Self { patient: false, ..self }
    }

    pub(super) fn left(&self) -> u32 {
        self.left
    }

    /// Takes one attempt and returns the wait before it, which is at least `asked`; nothing if there is none.
    pub(super) fn take(&mut self, asked: Option<Duration>) -> Option<Duration> {
        let asked = asked.unwrap_or_default();
        if self.left == 0 || asked > MAX_RETRY_AFTER {
            return None;
        }
        let wait = self.wait.min(MAX_BACKOFF).max(asked);
        self.left -= 1;
        self.wait = (self.wait * 2).min(MAX_BACKOFF);
        Some(wait)
    }

    /// Takes one attempt if `error` may pass.
    pub(super) fn take_after(&mut self, error: &RegistryError) -> Option<Duration> {
        let asked = match error {
            RegistryError::Connect { .. } if !self.patient => return None,
            RegistryError::RateLimited { retry_after, .. } => retry_after.map(Duration::from_secs),
            RegistryError::Server { status, .. } if !passes(*status) => return None,
            RegistryError::Server { .. }
            | RegistryError::Connect { .. }
            | RegistryError::Timeout { .. }
            | RegistryError::Transfer { .. } => None,
            _ => return None,
        };
        self.take(asked)
    }
}

/// Says whether an answer may be another one soon.
pub(super) fn passes(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

/// Returns for how long an answer asks to be left alone.
///
/// A point in time is compared with the answer's own, so that it doesn't matter what this machine's clock says.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let asked = text(RETRY_AFTER)?.trim();
    if asked.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number holds are more than anybody waits.
        return (!asked.is_empty()).then(|| Duration::from_secs(asked.parse().unwrap_or(u64::MAX)));
    }
    let until = httpdate::parse_http_date(asked).ok()?;
    let now =
        text(DATE).and_then(|date| httpdate::parse_http_date(date).ok()).unwrap_or_else(SystemTime::now);
    Some(until.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_honour_what_is_asked() {
        let mut attempts = Attempts::new(&FetchConfig { retries: 7, ..FetchConfig::default() });
        let seconds =
            |attempts: &mut Attempts, asked| attempts.take(asked).map(|wait: Duration| wait.as_secs_f64());
        let waits: Vec<_> = (0..6).map(|_| seconds(&mut attempts, None)).collect();
        assert_eq!(waits, [0.5, 1.0, 2.0, 4.0, 8.0, 8.0].map(Some));
        assert_eq!(seconds(&mut attempts.clone(), Some(Duration::from_secs(9))), Some(9.0));
        assert_eq!(seconds(&mut attempts.clone(), Some(Duration::from_secs(1))), Some(8.0));
        assert_eq!(seconds(&mut attempts.clone(), Some(Duration::from_secs(121))), None);
        assert_eq!(seconds(&mut attempts, Some(Duration::from_secs(120))), Some(120.0));
        assert_eq!(seconds(&mut attempts, None), None);
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let date = "Fri, 31 Dec 1999 23:59:59 GMT";
        let cases = [
            (None, None, None),
            (Some("7"), None, Some(7)),
            (Some(" 0 "), None, Some(0)),
            (Some("99999999999999999999"), None, Some(u64::MAX)),
            (Some(""), None, None),
            (Some("-1"), None, None),
            (Some("soon"), None, None),
            (Some("Sat, 01 Jan 2000 00:00:09 GMT"), Some(date), Some(10)),
            (Some("Saturday, 01-Jan-00 00:00:09 GMT"), Some(date), Some(10)),
            (Some(date), Some("Sat, 01 Jan 2000 00:00:09 GMT"), Some(0)),
            (Some(date), None, Some(0)),
        ];
        for (asked, now, expected) in cases {
            let mut headers = HeaderMap::new();
            asked.map(|text| headers.insert(RETRY_AFTER, text.parse().unwrap()));
            now.map(|text| headers.insert(DATE, text.parse().unwrap()));
            assert_eq!(retry_after(&headers), expected.map(Duration::from_secs), "{asked:?} {now:?}");
        }
    }
}
