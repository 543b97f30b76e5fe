//! From a guest's description to the parts of a plan.

use super::ClosureManifest;
use super::glue::SERVICE_ID;
use crate::error::EngineError;
use crate::run::Surroundings;
use mvm_plan::plan::{AccountName, Group, HealthCheck, Process, Restart, Service, ServiceLimits, User};
use mvm_ref::{GuestCheck, GuestDefinition, GuestRestart, GuestService};

/// Failures in a row that make a check unhealthy.
const RETRIES: u32 = 3;

/// Says whether the guest has services and no main process of its own.
pub(crate) fn is_service_only(manifest: &ClosureManifest) -> bool {
    manifest.guest.command.is_none() && !manifest.guest.services.is_empty()
}

/// Adds what a guest's description says to what was asked for beside it.
///
/// What was asked for wins: a service, check or user of a name that is there is not added again.
pub(crate) fn surroundings(
    asked: Surroundings,
    manifest: &ClosureManifest,
) -> Result<Surroundings, EngineError> {
    let guest = &manifest.guest;
    let mut all = asked;
    let group = Group { name: account(&guest.service_group)?, gid: SERVICE_ID };
    for (name, service) in &guest.services {
        if all.services.iter().all(|known| known.name != *name) {
            all.services.push(plan_service(guest, name.clone(), service));
        }
    }
    for (name, check) in &guest.health_checks {
        if all.health_checks.iter().all(|known| known.name != *name) {
            all.health_checks.push(plan_check(guest, name.clone(), check));
        }
    }
    for (name, user) in &guest.users {
        let name = account(name)?;
        if all.users.iter().all(|known| known.name != name) {
            let group = Group { name: account(&user.group)?, gid: user.gid.unwrap_or(user.uid) };
            all.users.push(User { name, uid: user.uid, group, home: user.home.clone() });
        }
    }
    all.service_group.get_or_insert(group);
    Ok(all)
}

fn account(name: &str) -> Result<AccountName, EngineError> {
    name.parse().map_err(|source: mvm_plan::plan::AccountNameError| EngineError::Plan {
        act: "make",
        source: source.into(),
    })
}

fn plan_service(guest: &GuestDefinition, name: mvm_ref::ServiceName, service: &GuestService) -> Service {
    let env = service.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Service {
        name,
        process: process(guest.argv(&service.command), env, service.user.clone()),
        pre_start: service.pre_start.as_ref().map(|command| guest.argv(command)).unwrap_or_default(),
        after: service.after.clone(),
        restart: match service.restart {
            GuestRestart::Always => Restart::Always,
            GuestRestart::OnFailure => Restart::OnFailure,
            GuestRestart::Never => Restart::Never,
        },
        log_file: (service.log_file != "/dev/console").then(|| service.log_file.clone()),
        stop_grace_secs: service.stop_grace_secs.unwrap_or(Service::STOP_GRACE_SECS),
        limits: ServiceLimits {
            memory_mib: service.limits.memory_mib,
            pids: service.limits.pids,
            cpu_percent: service.limits.cpu_percent,
        },
    }
}

fn plan_check(guest: &GuestDefinition, name: mvm_ref::CheckName, check: &GuestCheck) -> HealthCheck {
    // As its service's user, who sees what the service sees.
    let service = check.service.as_ref().and_then(|name| guest.services.get(name));
    let user = service.map_or(&guest.service_group, |service| &service.user).clone();
    HealthCheck {
        name,
        service: check.service.clone(),
        process: process(guest.argv(&check.health_cmd), Vec::new(), user),
        interval_secs: check.health_interval_secs,
        timeout_secs: check.health_timeout_secs,
        start_period_secs: check.startup_grace_secs,
        retries: RETRIES,
    }
}

fn process(argv: Vec<String>, env: Vec<String>, user: String) -> Process {
    Process {
        argv,
        env,
        working_dir: String::new(),
        user,
        stop_signal: Service::STOP_SIGNAL,
        tty: false,
        stdin: false,
    }
}
