//! How a hypervisor process is confined: what this host offers, what a launch reserves of it, what holds then.
//!
//! A guest that breaks out of its machine finds itself in the hypervisor's process. Each [`Measure`] takes something
//! from that process before it runs. A mandatory one that can't be had refuses the launch; a best-effort one that the
//! kernel lacks is told, so that a policy may ask for it.
//!
//! ```text
//! Host::look ──► Host::reserve ──► Reservation ── restrict ──► Restrictions (to the child) + Protections (to the record)
//! (no effects)   (user, cgroup)    (lives as long as the machine)
//! ```

mod cgroup;
mod directory;
mod helper;
mod host;
mod landlock;
mod measure;
mod program;
mod reservation;
mod user;

pub use cgroup::CgroupError;
pub(crate) use helper::HelperConfinement;
pub use host::Host;
pub use landlock::LandlockError;
pub use measure::{Measure, Protection};
pub use reservation::{ConfinementError, Reservation, Task};
pub use user::{FIRST_USER, USERS, UserError};

use std::path::PathBuf;

/// Removes what supervisors that are gone left on the host: their control groups, and the locks of their hypervisors'
/// users. Returns what it was, in order; a dry run removes nothing.
pub fn sweep(dry_run: bool) -> Result<Vec<PathBuf>, ConfinementError> {
    let mut left = cgroup::sweep(dry_run);
    left.extend(user::sweep(dry_run)?);
    Ok(left)
}
