use super::super::start::tests::{Vm, serve, vm};
use super::super::tests::{HANDLE, boot, end_of, exit, start, stop};
use super::*;
use crate::link::tests::Peer;
use crate::vm::State;
use mvm_plan::plan;
use mvm_wire::{HealthResult, ServiceState};

/// A VM whose plan has services of these names, in this order.
fn vm_with(names: &'static [&'static str]) -> Option<Vm> {
    vm(|plan, _| {
        let service = |name: &&str| plan::Service {
            name: name.parse().unwrap(),
            process: plan::Process { user: "mvm".to_owned(), ..plan.process.clone().unwrap() },
            pre_start: vec![],
            after: vec![],
            restart: plan::Restart::Always,
            log_file: None,
            stop_grace_secs: 10,
            limits: plan::ServiceLimits::default(),
        };
        plan.services = names.iter().map(service).collect();
    })
}

/// Takes the request that starts the services, and returns where their output goes.
fn start_services(guest: &mut Peer, answer: Result<Reply, Failure>) -> Vec<ServiceOutput> {
    let Request::StartServices { outputs } = guest.answer(|_| answer) else { panic!() };
    for output in &outputs {
        guest.link.wire.accept(output.stream, Direction::Send).unwrap();
    }
    outputs
}

fn service(name: &str, state: ServiceState, reason: &str) -> ServiceStatus {
    ServiceStatus {
        name: name.to_owned(),
        state,
        pid: Some(9),
        restarts: 1,
        last_exit: None,
        reason: Some(reason.to_owned()),
        since_ms: 5,
        memory_kib: None,
        cpu_ms: None,
    }
}

fn check(name: &str, health: Health, outputs: &[&str]) -> HealthStatus {
    let result = |output: &&str| HealthResult {
        ago_ms: 1,
        took_ms: 1,
        outcome: HealthOutcome::NotStarted((*output).to_owned()),
        output: (*output).to_owned(),
    };
    let results = outputs.iter().map(result).collect();
    HealthStatus { name: name.to_owned(), service: None, health, failing: 0, results }
}

fn tell(guest: &mut Peer, services: Vec<ServiceStatus>, health: Vec<HealthStatus>) {
    guest.send(&Message::Event { event: GuestEvent::Changed { services, health } });
}

/// Runs a VM with these services whose guest does `tells` between their start and its end, and returns its last state.
fn told(names: &'static [&'static str], tells: impl FnOnce(&mut Peer) + Send) -> Option<(Vm, State)> {
    let vm = vm_with(names)?;
    let error = serve(
        &vm,
        true,
        |guest, _| {
            boot(guest);
            let streams = start(guest, HANDLE);
            let outputs = start_services(guest, Ok(Reply::Done {}));
            assert_eq!(outputs.iter().map(|output| output.service.as_str()).collect::<Vec<_>>(), names);
            for ServiceOutput { service, stream } in &outputs {
                guest.send_data(*stream, format!("{service} says\n").as_bytes());
            }
            tells(guest);
            exit(guest, HANDLE, &streams, ExitStatus::Code(0));
            assert_eq!(stop(guest), 10_000, "services have time to end");
        },
        |_, _| {},
    );
    assert_eq!(error, None);
    assert_eq!(end_of(&vm).0, Phase::Exited);
    let state = vm.directory.state().unwrap();
    Some((vm, state))
}

#[test]
fn what_services_write_and_do_is_kept() {
    let Some((vm, state)) = told(&["web", "db"], |guest| {
        tell(guest, vec![service("db", ServiceState::Running, "")], vec![]);
        tell(
            guest,
            vec![service("web", ServiceState::Backoff, "why")],
            vec![check("http", Health::Healthy, &["a", "b"])],
        );
        tell(guest, vec![service("db", ServiceState::Failed, "gone")], vec![]);
    }) else {
        return;
    };
    assert_eq!(
        state.services,
        [service("web", ServiceState::Backoff, "why"), service("db", ServiceState::Failed, "gone")]
    );
    assert_eq!(state.health, [check("http", Health::Healthy, &["b"])]);
    for name in ["web", "db"] {
        let log = vm.directory.path().join(format!("logs/services/{name}/output.jsonl"));
        let log = std::fs::read_to_string(log).unwrap();
        let words = format!("\"source\":\"{name}\",\"stream\":\"output\",\"text\":\"{name} says\\n\"");
        assert!(log.contains(&words), "{log}");
    }
}

#[test]
fn a_guest_that_tells_too_much_is_kept_within_bounds() {
    let Some((vm, state)) = told(&["web"], |guest| {
        let long = "\u{e4}".repeat(20_000);
        tell(
            guest,
            vec![service("web", ServiceState::Running, &long), service("other", ServiceState::Running, "")],
            vec![check("long", Health::Unhealthy, &[&long]), check(&long, Health::Unhealthy, &[])],
        );
        for number in 0..1_000 {
            let health = if number % 2 == 0 { Health::Healthy } else { Health::Unhealthy };
            let checks = vec![check("flapping", health, &[]), check(&format!("c{number}"), health, &[])];
            tell(guest, vec![], checks);
        }
    }) else {
        return;
    };
    assert_eq!(state.services.len(), 1);
    assert_eq!(state.services[0].reason.as_ref().map(String::len), Some(1024));
    assert_eq!(state.health.len(), MAX_CHECKS);
    assert_eq!(state.health[0].results[0].output.len(), 4096);
    assert_eq!(state.health[0].results[0].outcome, HealthOutcome::NotStarted("\u{e4}".repeat(512)));
    let kept = std::fs::metadata(vm.directory.file("state.json")).unwrap().len();
    assert!(kept < 64 * 1024, "{kept}");
}

#[test]
fn what_cannot_be_written_ends_nothing_and_is_written_later() {
    let Some(vm) = vm_with(&["web"]) else { return };
    let (file, aside) = (vm.directory.file("state.json"), vm.directory.file("aside"));
    let error = serve(
        &vm,
        true,
        |guest, _| {
            boot(guest);
            let streams = start(guest, HANDLE);
            start_services(guest, Ok(Reply::Done {}));
            // No file can take the place of a directory.
            std::fs::rename(&file, &aside).unwrap();
            std::fs::create_dir(&file).unwrap();
            tell(guest, vec![service("web", ServiceState::Failed, "gone")], vec![]);
            std::thread::sleep(PERIOD + PERIOD / 2);
            std::fs::remove_dir(&file).unwrap();
            std::fs::rename(&aside, &file).unwrap();
            let written = || std::fs::read_to_string(&file).is_ok_and(|text| text.contains("gone"));
            let late = Instant::now() + 20 * PERIOD;
            while !written() && Instant::now() < late {
                std::thread::sleep(PERIOD / 100);
            }
            assert!(written());
            exit(guest, HANDLE, &streams, ExitStatus::Code(0));
            stop(guest);
        },
        |_, _| {},
    );
    assert_eq!(error, None);
    assert_eq!(end_of(&vm).0, Phase::Exited);
}

#[test]
fn a_guest_that_starts_no_services_is_ended() {
    let Some(vm) = vm_with(&["web"]) else { return };
    let error = serve(
        &vm,
        true,
        |guest, _| {
            boot(guest);
            start(guest, HANDLE);
            let message = "out of pipes".to_owned();
            start_services(guest, Err(Failure { kind: FailureKind::Internal, message }));
            while guest.next().is_some() {}
        },
        |_, _| {},
    );
    assert_eq!(error.unwrap(), "the guest can't boot (stage services): out of pipes");
    assert_eq!(end_of(&vm).0, Phase::Failed);
}
