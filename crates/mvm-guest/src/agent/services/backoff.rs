//! How long to wait before something that ended is started again.

use std::time::Duration;

/// The longest wait.
const LONGEST: Duration = Duration::from_secs(30);
/// Twice the shortest wait.
const FIRST: Duration = Duration::from_millis(200);

/// Returns the wait before a new attempt after `attempts` in vain: its upper bound doubles from 200 ms to 30 s, and
/// `random` chooses in the upper half of what is below it, so that what failed together doesn't return together.
pub(crate) fn delay(attempts: u32, random: u32) -> Duration {
    let bound = FIRST.saturating_mul(1 << attempts.min(16)).min(LONGEST);
    let half = bound / 2;
    half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// Returns a number that nobody chose.
pub(crate) fn random() -> u32 {
    let mut bytes = [0; 4];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK) {
        Ok(_) => u32::from_ne_bytes(bytes),
        // Too early for the kernel to have any: the clock will do to spread attempts.
        Err(_) => rustix::time::clock_gettime(rustix::time::ClockId::Monotonic)
            .tv_nsec
            .unsigned_abs()
            .try_into()
            .unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_stay_within_their_bounds() {
        let bounds: Vec<(u128, u128)> = (0..10)
            .map(|attempts| (delay(attempts, 0).as_millis(), delay(attempts, u32::MAX).as_millis()))
            .collect();
        assert_eq!(
            bounds,
            [
                (100, 200),
                (200, 400),
                (400, 800),
                (800, 1_600),
                (1_600, 3_200),
                (3_200, 6_400),
                (6_400, 12_800),
                (12_800, 25_600),
                (15_000, 30_000),
                (15_000, 30_000)
            ]
        );
        assert_eq!(delay(u32::MAX, 0).as_millis(), 15_000);
        assert_eq!(delay(0, u32::MAX / 2 + 1).as_millis(), 150);
    }
}
