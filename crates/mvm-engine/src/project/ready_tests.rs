//! What a VM's state means to somebody who waits for it.

use super::*;
use crate::project::Project;
use crate::vm::ProcessIdentity;
use std::path::Path;

fn state(phase: Phase) -> State {
    State { phase, ..State::created(ProcessIdentity::current().unwrap()) }
}

fn service(name: &str, state: ServiceState, reason: Option<&str>) -> ServiceStatus {
    ServiceStatus {
        name: name.to_owned(),
        state,
        pid: None,
        restarts: 0,
        last_exit: None,
        reason: reason.map(str::to_owned),
        since_ms: 0,
        memory_kib: None,
        cpu_ms: None,
    }
}

fn check(health: Health, failing: u32) -> HealthStatus {
    let (name, service) = ("ready".to_owned(), Some("db".to_owned()));
    HealthStatus { name, service, health, failing, results: Vec::new() }
}

/// What stands in the way of being started and of being healthy; `+` before what won't change by itself.
fn ways(state: &State, with_services: bool) -> [String; 2] {
    let text = "[vm.a]\nimage='i'\n[vm.a.services.db]\ncommand=['x']\n[vm.a.health.ready]\ncommand=['x']\nservice='db'\n";
    let project = Project::parse(text.as_bytes(), Path::new("/p/mvm.toml"), Path::new("mvm.toml")).unwrap();
    let (services, checks) = match with_services {
        true => (&project.vms[0].services[..], &project.vms[0].health_checks[..]),
        false => (&[][..], &[][..]),
    };
    [Until::Started, Until::Healthy].map(|until| match standing(state, services, checks, until) {
        Standing::Reached => String::new(),
        Standing::NotYet(trouble) => trouble.why,
        Standing::Never(trouble) => format!("+{}", trouble.why),
    })
}

#[test]
fn states_of_the_vm_as_a_whole() {
    let ended = |code| State { exit_code: code, ..state(Phase::Exited) };
    let failed = State { message: Some("its supervisor died".to_owned()), ..state(Phase::Failed) };
    for (state, expected) in [
        (state(Phase::Created), ["it is created"; 2]),
        (state(Phase::Booting), ["it is booting"; 2]),
        (state(Phase::Running), [""; 2]),
        (state(Phase::Paused), ["it is paused"; 2]),
        (ended(Some(0)), ["", "+it ended with exit code 0"]),
        (ended(Some(3)), ["+it ended with exit code 3"; 2]),
        (ended(None), ["+it was stopped"; 2]),
        (failed, ["+its supervisor died"; 2]),
    ] {
        assert_eq!(ways(&state, false), expected, "{:?}", state.phase);
    }
}

#[test]
fn states_of_services_and_checks() {
    let unheard = "it has said nothing of service db";
    let no_check = "it has said nothing of health check ready";
    let with = |service: ServiceStatus, health: Option<HealthStatus>| State {
        services: vec![service],
        health: health.into_iter().collect(),
        ..state(Phase::Running)
    };
    let running = || service("db", ServiceState::Running, None);
    let failed = service("db", ServiceState::Failed, Some("no such \u{1b}[2Jfile"));
    for (state, expected) in [
        (state(Phase::Running), [unheard, unheard]),
        (with(service("db", ServiceState::Starting, None), None), ["service db is starting"; 2]),
        (with(running(), None), ["", no_check]),
        (
            with(running(), Some(check(Health::Starting, 0))),
            ["", "health check ready of service db has not succeeded yet"],
        ),
        (with(running(), Some(check(Health::Starting, 1))), ["", "health check ready of service db failed"]),
        (with(running(), Some(check(Health::Healthy, 0))), ["", ""]),
        (
            with(running(), Some(check(Health::Unhealthy, 3))),
            ["", "+health check ready of service db failed 3 times in a row"],
        ),
        (with(service("db", ServiceState::Backoff, None), Some(check(Health::Healthy, 0))), ["", ""]),
        (with(failed, Some(check(Health::Healthy, 0))), ["+service db is failed: no such \\u{1b}[2Jfile"; 2]),
    ] {
        assert_eq!(ways(&state, true), expected);
    }
}
