use super::*;
use mvm_engine::{GuestReport, Health, HealthResult, ServiceState, VmListing, VmResources, VmUsage};

fn status() -> VmStatus {
    VmStatus {
        listing: VmListing {
            name: "web".parse().unwrap(),
            image: "docker.io/library/debian:12".to_owned(),
            root_hash: format!("sha256:{}", "1".repeat(64)).parse().unwrap(),
            plan: format!("sha256:{}", "2".repeat(64)).parse().unwrap(),
            phase: Phase::Running,
            isolation: Some("emulated".to_owned()),
            exit_code: None,
            message: None,
            health: None,
            ports: Vec::new(),
            command: vec!["sh".to_owned()],
            created_at: 1000,
            started_at: Some(1010),
            finished_at: None,
        },
        restart: "no".to_owned(),
        restarts: 0,
        resources: VmResources { cpus: 2, memory_mib: 512, scratch_mib: 16384 },
        usage: Some(VmUsage { cpu_ms: 12_340, memory_bytes: 181_000_000, disk: None }),
        guest: Some(GuestReport {
            uptime_ms: 61_000,
            total_kib: 480_000,
            available_kib: 400_000,
            processes: 1,
        }),
        services: Vec::new(),
        health_checks: Vec::new(),
    }
}

#[test]
fn a_running_vm_with_services() {
    let result = HealthResult {
        ago_ms: 10,
        took_ms: 5,
        outcome: HealthOutcome::Ended(ExitStatus::Code(7)),
        output: "refused\x1b[2J\nmore".to_owned(),
    };
    let mut vm = status();
    vm.listing.health = Some(Health::Unhealthy);
    vm.listing.ports = vec!["127.0.0.1:8080->80/tcp".to_owned()];
    (vm.restart, vm.restarts) = ("on-failure:3".to_owned(), 2);
    vm.services = vec![ServiceStatus {
        name: "web".to_owned(),
        state: ServiceState::Backoff,
        pid: None,
        restarts: 4,
        last_exit: Some(ExitStatus::Signal(9)),
        reason: Some("killed\x07".to_owned()),
        since_ms: 100,
        memory_kib: Some(1000),
        cpu_ms: Some(1500),
    }];
    vm.health_checks = vec![HealthStatus {
        name: "http".to_owned(),
        service: Some("web".to_owned()),
        health: Health::Unhealthy,
        failing: 3,
        results: vec![result],
    }];
    let expected = "\
name:       web
state:      running 1 minute
health:     unhealthy, as the guest says
image:      docker.io/library/debian:12
isolation:  emulated
ports:      127.0.0.1:8080->80/tcp
restarts:   2 so far, policy on-failure:3
cpu:        12.3s used, 2 CPUs
memory:     181MB held, 537MB given
guest says: 81.9MB of 492MB in use, up 1 minute, 1 process of the agent's

SERVICE   STATE     PID   RESTARTS   LAST EXIT   CPU    MEMORY   REASON
web       backoff   -     4          signal 9    1.5s   1.02MB   killed\\x07

HEALTH CHECK   SERVICE   HEALTH      FAILING   LAST RESULT
http           web       unhealthy   3         7 refused\\x1b[2J
";
    assert_eq!(text(&vm, 1080), expected);
}

#[test]
fn what_an_end_left() {
    let table = [
        (
            Phase::Failed,
            None,
            Some("its supervisor died"),
            "name:       web\nstate:      failed 5 seconds ago\nreason:     its supervisor died\n\
             image:      docker.io/library/debian:12\nisolation:  emulated\n",
        ),
        (
            Phase::Exited,
            Some(3),
            None,
            "name:       web\nstate:      exited (3) 5 seconds ago\nimage:      docker.io/library/debian:12\n\
             isolation:  emulated\n",
        ),
    ];
    for (phase, exit_code, message, expected) in table {
        let mut vm = VmStatus { usage: None, guest: None, ..status() };
        (vm.listing.phase, vm.listing.exit_code) = (phase, exit_code);
        (vm.listing.message, vm.listing.finished_at) = (message.map(str::to_owned), Some(1075));
        assert_eq!(text(&vm, 1080), expected);
    }
    let silent = VmStatus { guest: None, ..status() };
    assert!(text(&silent, 1080).ends_with("guest says: nothing: it does not answer\n"));
}
