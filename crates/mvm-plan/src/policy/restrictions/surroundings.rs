//! What a guest may have beside its root: mounts and a network.

use super::{Claim, Judged, Policy, failure, judge, listed};
use crate::plan::MountSource;

pub(in crate::policy) fn allowed_mounts(policy: &Policy, claim: &Claim<'_>) -> Judged {
    allowed_directories(policy, claim)?;
    let mounted = claim.plan.mount_kinds();
    judge(
        policy,
        |layer| layer.mounts.as_ref(),
        "anything may be mounted",
        |allowed, _| match mounted.iter().find(|kind| !allowed.contains(kind)) {
            Some(kind) => failure(format!("the plan mounts a {kind}"), "leave out what is mounted"),
            None => Ok("nothing is mounted that is not allowed".to_owned()),
        },
    )
}

fn allowed_directories(policy: &Policy, claim: &Claim<'_>) -> Judged {
    let directories = claim.plan.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::HostDirectory { path } => Some(path.as_str()),
        MountSource::Volume { .. } | MountSource::Image { .. } | MountSource::Tmpfs { .. } => None,
    });
    let directories: Vec<&str> = directories.collect();
    judge(
        policy,
        |layer| layer.host_directories.as_ref(),
        "any directory of the host may be mounted",
        |allowed, _| {
            let outside = |path: &&&str| !allowed.iter().any(|directory| directory.holds(path));
            match directories.iter().find(outside) {
                Some(path) if allowed.is_empty() => failure(
                    format!("the plan mounts {path} of the host"),
                    "keep it in a volume, or copy it into the VM",
                ),
                Some(path) => failure(
                    format!("the plan mounts {path} of the host"),
                    format!("mount a directory that is allowed: {}", listed(allowed)),
                ),
                None => Ok("no directory of the host is mounted that is not allowed".to_owned()),
            }
        },
    )
}

pub(in crate::policy) fn allowed_network(policy: &Policy, claim: &Claim<'_>) -> Judged {
    let kind = claim.plan.network.kind();
    judge(
        policy,
        |layer| layer.networks.as_ref(),
        "any network may be used",
        |allowed, _| {
            if allowed.contains(&kind) {
                return Ok(format!("the guest's network is {kind}"));
            }
            failure(
                format!("the guest's network is {kind}"),
                format!("choose a network that is allowed: {}", listed(allowed)),
            )
        },
    )
}
