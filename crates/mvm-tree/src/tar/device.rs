//! Which devices a layer may hold.

use super::error::Refusal;
use crate::{Device, Limits};

/// Character devices of a container's `/dev`: number and name (Linux, `Documentation/admin-guide/devices.txt`).
const USUAL: [(u32, u32, &str); 10] = [
    (1, 3, "null"),
    (1, 5, "zero"),
    (1, 7, "full"),
    (1, 8, "random"),
    (1, 9, "urandom"),
    (5, 0, "tty"),
    (5, 1, "console"),
    (5, 2, "ptmx"),
    (10, 200, "net/tun"),
    (10, 229, "fuse"),
];

/// Largest numbers that Linux can store (`MINORBITS` is 20 of 32).
const MAX_MAJOR: u32 = 0xfff;
const MAX_MINOR: u32 = 0xf_ffff;

/// Checks a device against the policy.
pub(super) fn check(is_block: bool, device: Device, limits: &Limits) -> Result<(), Refusal> {
    let Device { major, minor } = device;
    for (field, value, limit) in [("major number", major, MAX_MAJOR), ("minor number", minor, MAX_MINOR)] {
        if value > limit {
            return Err(Refusal::Range { field, value: value.into(), limit: limit.into() });
        }
    }
    if !is_block && (major, minor) == (0, 0) {
        return Err(Refusal::OverlayWhiteout);
    }
    let is_usual = !is_block && USUAL.iter().any(|usual| (usual.0, usual.1) == (major, minor));
    if !is_usual && !limits.allow_devices {
        let kind = if is_block { "block" } else { "character" };
        return Err(Refusal::Device { kind, major, minor });
    }
    Ok(())
}
