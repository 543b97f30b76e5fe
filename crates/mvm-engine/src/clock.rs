//! The clock: the one place in the engine that asks what time it is.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns whole seconds since 1970-01-01 UTC; a clock before that counts as 0.
pub fn unix_seconds() -> i64 {
    i64::try_from(since_epoch().as_secs()).unwrap_or(i64::MAX)
}

/// Returns milliseconds since 1970-01-01 UTC; a clock before that counts as 0.
pub fn unix_millis() -> i64 {
    i64::try_from(since_epoch().as_millis()).unwrap_or(i64::MAX)
}

/// Returns nanoseconds since 1970-01-01 UTC; a clock before that counts as 0.
pub fn unix_nanos() -> u64 {
    u64::try_from(since_epoch().as_nanos()).unwrap_or(u64::MAX)
}

fn since_epoch() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
