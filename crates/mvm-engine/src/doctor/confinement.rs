//! How hypervisors would be confined here.

use super::Check;
use mvm_launch::confinement::{Host, Measure, Protection};
use std::path::Path;

/// Tells of each measure whether it would hold.
pub(super) fn checks(kvm: &Path) -> Vec<Check> {
    Host::look(kvm).protections().into_iter().map(check).collect()
}

fn check(protection: Protection) -> Check {
    let Protection { measure, mandatory, active, detail } = protection;
    let (why, remedy) = words(measure);
    // Who is not root has no users to hand out, and misses nothing.
    let needless = measure == Measure::OwnUser && !rustix::process::geteuid().is_root();
    Check {
        name: measure.as_str(),
        ok: active || needless,
        required: mandatory,
        found: detail,
        why,
        remedy: remedy.to_owned(),
    }
}

fn words(measure: Measure) -> (&'static str, &'static str) {
    match measure {
        Measure::Descriptors => ("a hypervisor must not reach what its caller has open", ""),
        Measure::Environment => ("a hypervisor must not see its caller's environment", ""),
        Measure::DiesWithSupervisor => ("no hypervisor may run on unattended", ""),
        Measure::NoNewPrivs => ("a hypervisor that is taken over must not gain rights", ""),
        Measure::NoCapabilities => ("a hypervisor that is taken over must have no rights", ""),
        Measure::Seccomp => ("a hypervisor that is taken over must not start programs", ""),
        Measure::ResourceLimits => ("a hypervisor must not fill the disk or dump its guest's memory", ""),
        Measure::OwnUser => (
            "a hypervisor that root starts must not run as root",
            "start mvmctl outside of a user namespace, or as an ordinary user",
        ),
        Measure::Landlock => (
            "without it a hypervisor that is taken over can read what its user can",
            "boot a kernel with CONFIG_SECURITY_LANDLOCK=y and landlock in its lsm= parameter",
        ),
        Measure::Cgroup => (
            "without it a VM's memory and processor time are limited by its guest's size only",
            "as root: mount cgroup v2 with the memory and pids controllers; else run mvmctl in a unit with Delegate=yes \
             and DelegateSubgroup=",
        ),
    }
}
