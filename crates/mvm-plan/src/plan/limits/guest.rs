//! Limits of what a guest does beside its main process.

use super::{MAX_PATH, PlanError, count_of, form, no_nul, number, process, root, text};
use crate::plan::{EgressRule, Group, HealthCheck, Mount, MountSource, Network, Plan, Port, Service, User};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::Path;

/// Services, health checks, users, mounts, secrets, rules: each at most.
const MAX_ITEMS: usize = 64;
/// Forwarded ports.
const MAX_PORTS: usize = 256;
/// Addresses that one name may stand for.
const MAX_ADDRESSES: usize = 64;
/// Longest name in the domain name system (RFC 1035 section 2.3.4).
const MAX_HOST: usize = 253;
const SECONDS: RangeInclusive<u64> = 1..=24 * 60 * 60;
const IDS: RangeInclusive<u64> = 1..=u32::MAX as u64 - 1;

pub(super) fn validate(plan: &Plan) -> Result<(), PlanError> {
    if let Some(main) = &plan.process {
        process("process", main)?;
    } else if plan.services.is_empty() {
        return Err(form("process", "", "there, or a service in its place"));
    }
    services(&plan.services)?;
    health_checks(&plan.health_checks, &plan.services)?;
    users(&plan.users, plan.service_group.as_ref())?;
    mounts(&plan.mounts)?;
    if plan.mounts.iter().any(|mount| mount.read_only && plan.is_overlay(mount)) {
        return Err(form("mounts.read_only", "true", "false where a writable store is on the volume"));
    }
    count_of("secrets", plan.secrets.len(), 0, MAX_ITEMS)?;
    distinct("secrets", plan.secrets.iter().map(|name| name.as_str()))?;
    network(&plan.network)?;
    ports(&plan.ports)
}

fn services(services: &[Service]) -> Result<(), PlanError> {
    count_of("services", services.len(), 0, MAX_ITEMS)?;
    distinct("services.name", services.iter().map(|service| service.name.as_str()))?;
    for service in services {
        process("services.process", &service.process)?;
        let user = service.process.user.split(':').next().unwrap_or_default();
        let root = user.is_empty() || user == "root" || user.parse() == Ok(0u32);
        if root || service.process.tty || service.process.stdin {
            let expected = "a user that is not root, with neither terminal nor input";
            return Err(form("services.process", service.name.as_str(), expected));
        }
        count_of("services.pre_start", service.pre_start.len(), 0, 4096)?;
        for argument in &service.pre_start {
            no_nul("services.pre_start", argument, 0..=super::MAX_STRING)?;
        }
        if service.pre_start.first().is_some_and(String::is_empty) {
            return Err(form("services.pre_start", "", "a list that starts with a program"));
        }
        if let Some(path) = &service.log_file {
            absolute("services.log_file", path)?;
        }
        number("services.stop_grace_secs", service.stop_grace_secs.into(), 0..=*SECONDS.end())?;
        let limits = service.limits;
        for (field, limit, range) in [
            ("services.limits.memory_mib", limits.memory_mib, 1..=16 * 1024 * 1024),
            ("services.limits.pids", limits.pids, 1..=4_194_304),
            ("services.limits.cpu_percent", limits.cpu_percent, 1..=102_400),
        ] {
            limit.map_or(Ok(()), |limit| number(field, limit.into(), range))?;
        }
    }
    order(services)
}

/// Checks that services start after services that exist, and none after itself by any way round.
fn order(services: &[Service]) -> Result<(), PlanError> {
    let mut placed: BTreeSet<&str> = BTreeSet::new();
    for service in services {
        count_of("services.after", service.after.len(), 0, MAX_ITEMS)?;
        if let Some(name) =
            service.after.iter().find(|&name| services.iter().all(|other| other.name != *name))
        {
            return Err(form("services.after", name.as_str(), "the name of a service"));
        }
    }
    while placed.len() < services.len() {
        let next = services.iter().find(|service| {
            let ready = service.after.iter().all(|name| placed.contains(name.as_str()));
            !placed.contains(service.name.as_str()) && ready
        });
        match next {
            Some(service) => placed.insert(service.name.as_str()),
            None => {
                let stuck = services.iter().find(|service| !placed.contains(service.name.as_str()));
                let name = stuck.map_or("", |service| service.name.as_str());
                return Err(form("services.after", name, "an order: it leads back to itself"));
            }
        };
    }
    Ok(())
}

fn health_checks(checks: &[HealthCheck], services: &[Service]) -> Result<(), PlanError> {
    count_of("health_checks", checks.len(), 0, MAX_ITEMS)?;
    distinct("health_checks.name", checks.iter().map(|check| check.name.as_str()))?;
    for check in checks {
        process("health_checks.process", &check.process)?;
        if let Some(name) = &check.service
            && services.iter().all(|service| service.name != *name)
        {
            return Err(form("health_checks.service", name.as_str(), "the name of a service"));
        }
        number("health_checks.interval_secs", check.interval_secs.into(), SECONDS)?;
        number("health_checks.timeout_secs", check.timeout_secs.into(), SECONDS)?;
        number("health_checks.start_period_secs", check.start_period_secs.into(), 0..=*SECONDS.end())?;
        number("health_checks.retries", check.retries.into(), 1..=1000)?;
    }
    Ok(())
}

fn users(users: &[User], service_group: Option<&Group>) -> Result<(), PlanError> {
    count_of("users", users.len(), 0, MAX_ITEMS)?;
    distinct("users.name", users.iter().map(|user| user.name.as_str()))?;
    for user in users {
        number("users.uid", user.uid.into(), IDS)?;
        number("users.group.gid", user.group.gid.into(), IDS)?;
        absolute("users.home", &user.home)?;
        if user.home.contains(':') || user.home.contains(char::is_control) {
            return Err(form("users.home", &user.home, "a path without ':' and control characters"));
        }
    }
    if let Some(group) = service_group {
        number("service_group.gid", group.gid.into(), IDS)?;
    }
    Ok(())
}

fn mounts(mounts: &[Mount]) -> Result<(), PlanError> {
    count_of("mounts", mounts.len(), 0, MAX_ITEMS)?;
    distinct("mounts.target", mounts.iter().map(|mount| mount.target.as_str()))?;
    for Mount { target, source, read_only } in mounts {
        absolute("mounts.target", target)?;
        if !is_plain(target) || is_below(target, &["/proc", "/sys", "/dev", "/mnt/secrets"]) {
            let expected = "a path of plain names below /, outside /proc, /sys, /dev and /mnt/secrets";
            return Err(form("mounts.target", target, expected));
        }
        match source {
            MountSource::Volume { .. } => {}
            MountSource::HostDirectory { path } => {
                absolute("mounts.source.path", path)?;
                if !is_plain(path) || is_below(path, &["/proc", "/sys", "/dev"]) {
                    let expected = "a path of plain names below /, outside /proc, /sys and /dev";
                    return Err(form("mounts.source.path", path, expected));
                }
            }
            MountSource::Tmpfs { size_mib } => {
                number("mounts.source.size_mib", (*size_mib).into(), 1..=16 * 1024 * 1024)?;
            }
            MountSource::Image { root: image } => {
                root("mounts.source.root", image)?;
                if !read_only {
                    return Err(form("mounts.source", "image", "something that can be written"));
                }
            }
        }
    }
    let volumes = mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Volume { name } => Some(name.as_str()),
        MountSource::HostDirectory { .. } | MountSource::Tmpfs { .. } | MountSource::Image { .. } => None,
    });
    distinct("mounts.source.name", volumes)
}

/// Says whether an absolute path is of names below the root, so that two texts mean two places.
fn is_plain(path: &str) -> bool {
    path != "/" && path[1..].split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn is_below(path: &str, directories: &[&str]) -> bool {
    directories.iter().any(|directory| Path::new(path).starts_with(directory))
}

fn network(network: &Network) -> Result<(), PlanError> {
    let Network::User { egress, host } = network else { return Ok(()) };
    for (field, rules) in [("network.egress", egress.as_deref().unwrap_or_default()), ("network.host", host)]
    {
        count_of(field, rules.len(), 0, MAX_ITEMS)?;
        for EgressRule { host, port, addresses } in rules {
            text(field, host, 1..=MAX_HOST)?;
            if *port == Some(0) {
                return Err(form(field, host, "a name with a port of at least 1"));
            }
            count_of(field, addresses.len(), 1, MAX_ADDRESSES)?;
        }
    }
    Ok(())
}

fn ports(ports: &[Port]) -> Result<(), PlanError> {
    count_of("ports", ports.len(), 0, MAX_PORTS)?;
    let mut taken = BTreeSet::new();
    for port in ports {
        number("ports.guest", port.guest.into(), 1..=u64::from(u16::MAX))?;
        if port.host != 0 && !taken.insert((port.address, port.host, port.protocol)) {
            return Err(form("ports.host", &port.host.to_string(), "a port that is used once"));
        }
    }
    Ok(())
}

fn distinct<'a>(field: &'static str, names: impl Iterator<Item = &'a str>) -> Result<(), PlanError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(form(field, name, "used once only"));
        }
    }
    Ok(())
}

fn absolute(field: &'static str, path: &str) -> Result<(), PlanError> {
    no_nul(field, path, 1..=MAX_PATH)?;
    if path.starts_with('/') { Ok(()) } else { Err(form(field, path, "an absolute path")) }
}
