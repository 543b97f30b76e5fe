//! How far the VMs of a project have come, by their own account.

use super::bring::ProjectError;
use super::model::Until;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::progress::Cancel;
use crate::supervisor::MAIN;
use crate::vm::{Phase, State};
use crate::vms::stored_plan;
use mvm_plan::plan::{HealthCheck, Service};
use mvm_ref::VmName;
use mvm_wire::{Health, HealthStatus, Reply, Request, ServiceState, ServiceStatus};
use std::time::{Duration, Instant};

/// How often a VM's state is looked at while somebody waits for it.
const LOOK: Duration = Duration::from_millis(100);

/// How long a guest may take to say what runs.
const ANSWER: Duration = Duration::from_secs(5);

/// What stands between a VM and what somebody waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// In words, what comes from the guest escaped.
    pub why: String,
    /// The service that it is about.
    pub service: Option<String>,
}

/// How a VM stands to what somebody waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    Reached,
    /// It may still come.
    NotYet(Trouble),
    /// It won't come by itself.
    Never(Trouble),
}

impl Engine {
    /// Waits until a VM has come so far; a VM without health checks is healthy once it has started.
    pub fn wait_until(
        &self,
        name: &VmName,
        until: Until,
        limit: Duration,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        let directory = self.vms.get(name)?;
        let plan = stored_plan(&directory)?;
        let end = Instant::now().checked_add(limit);
        loop {
            if cancel.requested() {
                return Err(EngineError::Interrupted);
            }
            let late = end.is_some_and(|end| Instant::now() >= end);
            let state = directory.state()?;
            let mut standing = standing(&state, &plan.services, &plan.health_checks, until);
            let has_main = plan.process.is_some() && state.phase == Phase::Running;
            if standing == Standing::Reached && has_main && !self.main_runs(name) {
                let why = "its command has not started".to_owned();
                standing = Standing::NotYet(Trouble { why, service: None });
            }
            let name = name.clone();
            match standing {
                Standing::Reached => return Ok(()),
                Standing::Never(trouble) => {
                    return Err(ProjectError::NotReady { name, until, trouble }.into());
                }
                Standing::NotYet(trouble) if late => {
                    return Err(ProjectError::Late { name, until, limit, trouble }.into());
                }
                Standing::NotYet(_) => std::thread::sleep(LOOK),
            }
        }
    }
}

impl Engine {
    /// Says whether the main process of a VM has been started, as far as the guest can be asked.
    fn main_runs(&self, name: &VmName) -> bool {
        // A VM that ends just now, or a guest that doesn't answer, is looked at again.
        match self.ask(name, Request::Status {}, ANSWER) {
            Ok(Reply::Status { processes, .. }) => processes.iter().any(|process| process.name == MAIN),
            Ok(_) | Err(_) => false,
        }
    }
}

fn standing(state: &State, services: &[Service], checks: &[HealthCheck], until: Until) -> Standing {
    let whole = |why: String| Trouble { why, service: None };
    match state.phase {
        Phase::Failed => {
            return Standing::Never(whole(state.message.clone().unwrap_or_else(|| "it failed".to_owned())));
        }
        Phase::Exited => {
            return match (until, state.exit_code) {
                (Until::Started, Some(0)) => Standing::Reached,
                (_, Some(code)) => Standing::Never(whole(format!("it ended with exit code {code}"))),
                (_, None) => Standing::Never(whole("it was stopped".to_owned())),
            };
        }
        Phase::Running => {}
        phase => return Standing::NotYet(whole(format!("it is {phase}"))),
    }
    if let Some(failed) = state.services.iter().find(|service| service.state == ServiceState::Failed) {
        return Standing::Never(of_service(failed));
    }
    let told = |name: &str| state.services.iter().find(|service| service.name == name);
    for service in services {
        match told(service.name.as_str()) {
            None => {
                return Standing::NotYet(whole(format!("it has said nothing of service {}", service.name)));
            }
            Some(told) if matches!(told.state, ServiceState::Waiting | ServiceState::Starting) => {
                return Standing::NotYet(of_service(told));
            }
            Some(_) => {}
        }
    }
    match until {
        Until::Started => Standing::Reached,
        Until::Healthy => health(state, checks),
    }
}

fn health(state: &State, checks: &[HealthCheck]) -> Standing {
    let bad = |wanted| state.health.iter().find(|check| check.health == wanted);
    if let Some(check) = bad(Health::Unhealthy) {
        return Standing::Never(of_check(check));
    }
    if let Some(check) = bad(Health::Starting) {
        return Standing::NotYet(of_check(check));
    }
    let unheard = |name: &str| !state.health.iter().any(|check| check.name == name);
    match checks.iter().find(|check| unheard(check.name.as_str())) {
        Some(check) => Standing::NotYet(Trouble {
            why: format!("it has said nothing of health check {}", check.name),
            service: check.service.as_ref().map(ToString::to_string),
        }),
        None => Standing::Reached,
    }
}

fn of_service(service: &ServiceStatus) -> Trouble {
    let (name, state) = (service.name.escape_debug(), service.state);
    let why = match &service.reason {
        Some(reason) => format!("service {name} is {state}: {}", reason.escape_debug()),
        None => format!("service {name} is {state}"),
    };
    Trouble { why, service: Some(service.name.clone()) }
}

fn of_check(check: &HealthStatus) -> Trouble {
    let name = check.name.escape_debug();
    let of = check
        .service
        .as_ref()
        .map_or_else(String::new, |service| format!(" of service {}", service.escape_debug()));
    let why = match check.failing {
        0 => format!("health check {name}{of} has not succeeded yet"),
        1 => format!("health check {name}{of} failed"),
        times => format!("health check {name}{of} failed {times} times in a row"),
    };
    Trouble { why, service: check.service.clone() }
}

#[cfg(test)]
#[path = "ready_tests.rs"]
mod tests;
