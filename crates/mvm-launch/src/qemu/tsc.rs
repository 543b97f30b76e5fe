//! The frequency of the host's time stamp counter, which an emulated guest sees as its own.
//!
//! Measured rather than read from `/proc/cpuinfo`, which tells the current clock of the core, not the counter's.
#![expect(unsafe_code, reason = "the counter is read by an instruction that the compiler calls unsafe")]

/// Returns the counter's frequency in kHz, or nothing on hosts without one.
#[cfg(target_arch = "x86_64")]
pub(super) fn frequency_khz() -> Option<u32> {
    use std::time::Duration;
    /// Long enough that reading both clocks, some 100 ns, is an error of 50 parts in a million.
    const SPAN: Duration = Duration::from_millis(2);

    let (start, first) = sample();
    loop {
        let (now, last) = sample();
        let nanoseconds = now.duration_since(start).as_nanos();
        if now.duration_since(start) >= SPAN {
            let khz = u128::from(last.checked_sub(first)?) * 1_000_000 / nanoseconds;
            return u32::try_from(khz).ok().filter(|khz| *khz > 0);
        }
    }
}

/// Reads both clocks, at moments as close together as a few tries give.
#[cfg(target_arch = "x86_64")]
fn sample() -> (std::time::Instant, u64) {
    use std::time::{Duration, Instant};
    let mut best: Option<(Duration, Instant, u64)> = None;
    for _ in 0..8 {
        let before = Instant::now();
        // SAFETY: every x86-64 processor has RDTSC, and reading the counter changes nothing.
        let count = unsafe { core::arch::x86_64::_rdtsc() };
        let gap = before.elapsed();
        if best.is_none_or(|(least, ..)| gap < least) {
            best = Some((gap, before, count));
        }
    }
    best.map_or_else(|| (Instant::now(), 0), |(gap, before, count)| (before + gap / 2, count))
}

/// Returns nothing: this host has no such counter, and the guest must find its own clock.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn frequency_khz() -> Option<u32> {
    None
}
