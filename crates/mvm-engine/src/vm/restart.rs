//! When a VM that ended is launched again by its supervisor.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// When a VM that ended is launched again, as docker and podman name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// When its main process failed, or the VM itself did; at most so many times in a row, if that is said.
    OnFailure(Option<u32>),
    /// Whenever it ended, but not because it was stopped.
    Always,
    /// The same: no daemon is there that could tell a difference.
    UnlessStopped,
}

/// Says that a text names no policy.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("restart policy {0:?} is not known; expected no, on-failure[:N], always or unless-stopped")]
pub struct RestartPolicyError(String);

/// The first wait before a VM is launched again; each further one is twice as long.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(60);
/// A VM that ran so long begins anew with the first wait.
const STEADY: Duration = Duration::from_secs(10);

impl RestartPolicy {
    /// Returns whether a VM is launched again that failed or not, after so many launches in a row.
    pub fn allows(self, failed: bool, attempts: u32) -> bool {
        match self {
            Self::No => false,
            Self::OnFailure(most) => failed && most.is_none_or(|most| attempts < most),
            Self::Always | Self::UnlessStopped => true,
        }
    }
}

/// How often a VM was launched again, and how long the next wait is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    /// Launches in a row of which none lasted.
    attempts: u32,
}

impl Backoff {
    /// Notes how long the VM ran.
    pub fn ran(&mut self, time: Duration) {
        if time >= STEADY {
            self.attempts = 0;
        }
    }

    /// Returns how many launches in a row did not last.
    pub fn attempts(self) -> u32 {
        self.attempts
    }

    /// Counts a further launch and returns how long it waits.
    pub fn next(&mut self) -> Duration {
        let wait = FIRST.saturating_mul(1 << self.attempts.min(16)).min(LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        wait
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => f.write_str("no"),
            Self::OnFailure(None) => f.write_str("on-failure"),
            Self::OnFailure(Some(most)) => write!(f, "on-failure:{most}"),
            Self::Always => f.write_str("always"),
            Self::UnlessStopped => f.write_str("unless-stopped"),
        }
    }
}

impl FromStr for RestartPolicy {
    type Err = RestartPolicyError;

    fn from_str(text: &str) -> Result<Self, RestartPolicyError> {
        let refuse = || RestartPolicyError(text.to_owned());
        Ok(match text {
            "no" => Self::No,
            "on-failure" => Self::OnFailure(None),
            "always" => Self::Always,
            "unless-stopped" => Self::UnlessStopped,
            text => {
                let most = text.strip_prefix("on-failure:").ok_or_else(refuse)?;
                let digits = !most.is_empty() && most.bytes().all(|byte| byte.is_ascii_digit());
                Self::OnFailure(Some(most.parse().ok().filter(|_| digits).ok_or_else(refuse)?))
            }
        })
    }
}

impl TryFrom<String> for RestartPolicy {
    type Error = RestartPolicyError;

    fn try_from(text: String) -> Result<Self, RestartPolicyError> {
        text.parse()
    }
}

impl From<RestartPolicy> for String {
    fn from(policy: RestartPolicy) -> Self {
        policy.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_and_written() {
        let table = [
            ("no", Some(RestartPolicy::No)),
            ("on-failure", Some(RestartPolicy::OnFailure(None))),
            ("on-failure:3", Some(RestartPolicy::OnFailure(Some(3)))),
            ("always", Some(RestartPolicy::Always)),
            ("unless-stopped", Some(RestartPolicy::UnlessStopped)),
            ("on-failure:", None),
            ("on-failure:-1", None),
            ("on-failure:+1", None),
            ("on-failure:99999999999", None),
            ("Always", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse().ok(), expected, "{text}");
            if let Some(policy) = expected {
                assert_eq!(policy.to_string(), text);
            }
        }
    }

    #[test]
    fn policies_allow_what_they_say() {
        let table = [
            (RestartPolicy::No, [false, false, false]),
            (RestartPolicy::OnFailure(None), [true, false, true]),
            (RestartPolicy::OnFailure(Some(2)), [true, false, false]),
            (RestartPolicy::Always, [true, true, true]),
            (RestartPolicy::UnlessStopped, [true, true, true]),
        ];
        for (policy, [failed, well, often]) in table {
            assert_eq!(policy.allows(true, 0), failed, "{policy}");
            assert_eq!(policy.allows(false, 0), well, "{policy}");
            assert_eq!(policy.allows(true, 2), often, "{policy}");
        }
    }

    #[test]
    fn waits_double_up_to_a_minute_and_begin_anew() {
        let mut backoff = Backoff::default();
        let mut waits = || (0..12).map(|_| backoff.next().as_millis()).collect::<Vec<_>>();
        let expected = [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000];
        assert_eq!(waits(), expected);
        backoff.ran(Duration::from_secs(9));
        assert_eq!((backoff.attempts(), backoff.next().as_millis()), (12, 60_000));
        backoff.ran(Duration::from_secs(10));
        assert_eq!((backoff.attempts(), backoff.next().as_millis()), (0, 100));
        let mut long = Backoff { attempts: u32::MAX };
        assert_eq!(long.next(), LONGEST);
    }
}
