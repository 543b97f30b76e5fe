//! Restrictions of the plan itself, wherever its image comes from.

use super::{Change, mount_volume, run_as};
use crate::admit::Isolation;
use crate::policy::Rule;

/// What restricts the plan itself, wherever its image comes from.
pub(super) const LIMITS: &[(&str, Change, &[Rule])] = {
    use Rule::*;
    &[
        ("max-validity = \"24h\"", |_| (), &[]),
        ("max-validity = \"23h\"", |_| (), &[ValidityLength]),
        ("max-plan-age = \"100s\"", |_| (), &[]),
        ("max-plan-age = \"99s\"", |_| (), &[PlanAge]),
        ("isolation = \"kvm\"", |_| (), &[]),
        ("isolation = \"kvm\"", |c| c.isolation = Isolation::Emulated, &[HardwareIsolation]),
        ("isolation = \"any\"", |c| c.isolation = Isolation::Emulated, &[]),
        ("required-confinement = [\"seccomp\"]", |_| (), &[]),
        ("required-confinement = [\"seccomp\", \"cgroup\"]", |_| (), &[Rule::RequiredConfinement]),
        ("max-cpus = 2", |_| (), &[]),
        ("max-cpus = 1", |_| (), &[MaxCpus]),
        ("max-memory = \"512m\"", |_| (), &[]),
        ("max-memory = \"511m\"", |_| (), &[MaxMemory]),
        ("max-scratch = \"8g\"", |_| (), &[]),
        ("max-scratch = \"7g\"", |_| (), &[MaxScratch]),
        ("root-user = false", |_| (), &[]),
        ("root-user = true", |c| run_as(c, ""), &[]),
        ("root-user = false", |c| run_as(c, ""), &[NonRootUser]),
        ("root-user = false", |c| run_as(c, "0:1000"), &[NonRootUser]),
        ("root-user = false", |c| run_as(c, "000"), &[NonRootUser]),
        ("root-user = false", |c| run_as(c, "app"), &[NonRootUser]),
        ("root-user = false", |c| run_as(c, "+0"), &[NonRootUser]),
        ("root-user = false", |c| run_as(c, "4294967296"), &[NonRootUser]),
        ("mounts = []", |_| (), &[]),
        ("mounts = [\"tmpfs\"]", mount_volume, &[AllowedMounts]),
        ("networks = [\"none\"]", |_| (), &[]),
        ("networks = []", |_| (), &[AllowedNetwork]),
    ]
};
