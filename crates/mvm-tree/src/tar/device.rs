//! Which device numbers there are.

use super::error::Refusal;
use crate::Device;

/// Largest numbers that Linux can store (`MINORBITS` is 20 of 32).
const MAX_MAJOR: u32 = 0xfff;
const MAX_MINOR: u32 = 0xf_ffff;

/// Checks that a device's number is one, and none that overlayfs takes for a whiteout.
pub(super) fn check(is_block: bool, device: Device) -> Result<(), Refusal> {
    let Device { major, minor } = device;
    for (field, value, limit) in [("major number", major, MAX_MAJOR), ("minor number", minor, MAX_MINOR)] {
        if value > limit {
            return Err(Refusal::Range { field, value: value.into(), limit: limit.into() });
        }
    }
    if !is_block && (major, minor) == (0, 0) {
        return Err(Refusal::OverlayWhiteout);
    }
    Ok(())
}
