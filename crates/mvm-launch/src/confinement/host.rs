//! What this host offers for confinement, found out without changing anything.

use super::cgroup::{self, Tree};
use super::measure::{Measure, Protection};
use super::reservation::{ConfinementError, Reservation};
use super::{landlock, user};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What this host and the caller's rights offer.
#[derive(Debug)]
pub struct Host {
    pub(super) kvm: PathBuf,
    /// Whether the caller may give a process a user of its own, and if not, why it need not.
    pub(super) own_user: Result<(), String>,
    /// The version of Landlock's interface.
    pub(super) landlock: Option<u8>,
    /// Where groups for hypervisors can be made, or what is missing.
    pub(super) cgroup: Result<Tree, String>,
}

impl Host {
    /// Looks at the kernel and at what the caller may do. `kvm` is the device that hypervisors may open.
    pub fn look(kvm: &Path) -> Self {
        Self {
            kvm: kvm.to_owned(),
            own_user: user::available(),
            landlock: landlock::version(),
            cgroup: cgroup::find(),
        }
    }

    /// Returns every measure as it would hold for a hypervisor started now.
    pub fn protections(&self) -> Vec<Protection> {
        Measure::ALL.into_iter().map(|measure| self.protection(measure)).collect()
    }

    /// Returns the names of the measures that would hold.
    pub fn active(&self) -> BTreeSet<String> {
        let protections = self.protections();
        protections.iter().filter(|known| known.active).map(|known| known.measure.to_string()).collect()
    }

    /// Reserves what one hypervisor needs for itself: a user and a control group, where they are to be had.
    pub fn reserve(self) -> Result<Reservation, ConfinementError> {
        Reservation::new(self)
    }

    pub(super) fn protection(&self, measure: Measure) -> Protection {
        let holds =
            |detail: &str| Protection { measure, mandatory: true, active: true, detail: detail.to_owned() };
        let optional = |active, detail| Protection { measure, mandatory: false, active, detail };
        match measure {
            Measure::Descriptors => {
                holds("0 to 2 and those of its disks, kernel, initramfs, agent and console")
            }
            Measure::Environment => holds("empty"),
            Measure::DiesWithSupervisor => holds("killed by the kernel when its supervisor ends"),
            Measure::NoNewPrivs => holds("set before it starts"),
            Measure::NoCapabilities => holds("none, and none to gain"),
            Measure::Seccomp => {
                holds("QEMU's sandbox: no programs, no change of user or limits, nothing obsolete")
            }
            Measure::ResourceLimits => holds("core files, open files and the size of files"),
            Measure::OwnUser => match &self.own_user {
                Ok(()) => holds(&format!("a uid from {} to {}", user::FIRST_USER, user::last_user())),
                Err(why) => optional(false, why.clone()),
            },
            Measure::Landlock => match self.landlock {
                Some(version) => optional(true, landlock::describe(version)),
                None => optional(false, landlock::LACKING.to_owned()),
            },
            Measure::Cgroup => match &self.cgroup {
                Ok(tree) => optional(true, tree.describe()),
                Err(why) => optional(false, why.clone()),
            },
        }
    }
}
