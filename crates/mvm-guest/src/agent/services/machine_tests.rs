use super::*;

const CODE: fn(u8) -> End = |code| End { status: ExitStatus::Code(code), out_of_memory: false };
const KILLED: End = End { status: ExitStatus::Signal(9), out_of_memory: true };

fn machine(restart: Restart, prepares: bool) -> (Machine, Instant) {
    let now = Instant::now();
    (Machine::new(restart, prepares, now), now)
}

/// Starts a machine that is due.
fn start(machine: &mut Machine, now: Instant) {
    assert_eq!(machine.due(now, &Before::Ready), Some(Act::Start));
    machine.did(Act::Start, now);
}

#[test]
fn an_end_leads_to_what_its_policy_says() {
    use Restart::{Always, Never, OnFailure};
    use ServiceState::{Backoff, Failed, Stopped};
    for (restart, end, state, reason) in [
        (Always, CODE(0), Backoff, Some("exited with code 0")),
        (Always, CODE(1), Backoff, Some("exited with code 1")),
        (Always, KILLED, Backoff, Some("out of memory: ended by signal 9 (SIGKILL)")),
        (OnFailure, CODE(0), Stopped, None),
        (OnFailure, CODE(7), Backoff, Some("exited with code 7")),
        (Never, CODE(0), Stopped, None),
        (Never, CODE(7), Failed, Some("exited with code 7")),
    ] {
        let (mut machine, now) = machine(restart, false);
        start(&mut machine, now);
        assert_eq!((machine.state(), machine.has_run()), (ServiceState::Running, true));
        machine.ended(now, end, 0);
        assert_eq!((machine.state(), machine.reason()), (state, reason), "{restart:?} {end:?}");
        assert_eq!(machine.last_exit(), Some(end.status));
        assert_eq!(machine.has_run(), state == Stopped);
    }
}

#[test]
fn attempts_in_vain_are_further_and_further_apart_until_one_does_well() {
    let (mut machine, mut now) = machine(Restart::Always, false);
    start(&mut machine, now);
    let mut waits = Vec::new();
    let ended = |machine: &mut Machine, now: Instant| {
        machine.ended(now, CODE(1), 0);
        machine.wakes().unwrap() - now
    };
    for _ in 0..3 {
        let wait = ended(&mut machine, now);
        assert_eq!(machine.due(now + wait - Duration::from_millis(1), &Before::Ready), None);
        now += wait;
        waits.push(wait.as_millis());
        start(&mut machine, now);
    }
    assert_eq!((waits, machine.restarts()), (vec![100, 200, 400], 3));

    // Long, but never well.
    now += Duration::from_secs(600);
    assert_eq!(ended(&mut machine, now).as_millis(), 800);
    now += Duration::from_secs(1);
    start(&mut machine, now);
    machine.found(true, now);
    now += Duration::from_secs(59);
    assert_eq!(ended(&mut machine, now).as_millis(), 1_600);
    now += Duration::from_secs(2);
    start(&mut machine, now);
    machine.found(true, now);
    now += Duration::from_secs(60);
    machine.found(false, now);
    machine.found(true, now);
    assert_eq!(ended(&mut machine, now).as_millis(), 100, "well for a minute, if not up to its end");
}

#[test]
fn what_runs_before_it_runs_once_and_must_succeed() {
    let (mut service, now) = machine(Restart::Always, true);
    assert_eq!(service.due(now, &Before::Waits), None);
    assert_eq!(service.due(now, &Before::Ready), Some(Act::Prepare));
    service.did(Act::Prepare, now);
    assert_eq!((service.state(), service.has_run()), (ServiceState::Starting, false));
    assert_eq!(service.reason(), Some("pre-start runs"));
    service.ended(now, CODE(0), 0);
    assert_eq!((service.state(), service.last_exit()), (ServiceState::Starting, None));
    assert_eq!(service.reason(), None);
    start(&mut service, now);
    service.ended(now, CODE(1), 0);
    let later = service.wakes().unwrap();
    assert_eq!(service.due(later, &Before::Ready), Some(Act::Start), "not what runs before it");

    for (end, reason) in [
        (CODE(3), "pre-start exited with code 3"),
        (KILLED, "pre-start out of memory: ended by signal 9 (SIGKILL)"),
    ] {
        let (mut service, now) = machine(Restart::Always, true);
        service.did(Act::Prepare, now);
        service.ended(now, end, 0);
        assert_eq!((service.state(), service.reason()), (ServiceState::Failed, Some(reason)));
        assert_eq!(service.due(now + WELL, &Before::Ready), None);
    }
}

#[test]
fn what_can_not_start_fails_or_tries_again() {
    for (restart, act, for_good, state, reason) in [
        (Restart::Always, Act::Start, true, ServiceState::Failed, "no"),
        (Restart::Always, Act::Start, false, ServiceState::Backoff, "no"),
        (Restart::Never, Act::Start, false, ServiceState::Failed, "no"),
        (Restart::Always, Act::Prepare, false, ServiceState::Failed, "pre-start: no"),
    ] {
        let (mut machine, now) = machine(restart, false);
        machine.could_not(act, now, "no".to_owned(), for_good, 0);
        assert_eq!((machine.state(), machine.reason()), (state, Some(reason)), "{restart:?} {act:?}");
    }
}

#[test]
fn a_service_after_one_that_failed_waits_and_says_why() {
    let (mut machine, now) = machine(Restart::Always, false);
    assert_eq!(machine.due(now, &Before::Never("db failed".to_owned())), None);
    assert_eq!((machine.state(), machine.reason()), (ServiceState::Waiting, Some("db failed")));
}

#[test]
fn stopping_is_asked_then_forced() {
    let grace = Duration::from_secs(3);
    let (mut service, now) = machine(Restart::Always, false);
    start(&mut service, now);
    assert!(service.stop(now, grace));
    assert!(!service.stop(now, grace), "asked once");
    assert_eq!(service.wakes(), Some(now + grace));
    assert!(!service.is_to_be_killed(now + grace - Duration::from_millis(1)));
    assert!(service.is_to_be_killed(now + grace));
    assert!(!service.is_to_be_killed(now + grace), "killed once");
    service.ended(now + grace, KILLED, 0);
    assert_eq!(
        (service.state(), service.reason()),
        (ServiceState::Stopped, Some("killed: it did not end within 3s when asked to"))
    );

    let (mut service, now) = machine(Restart::Always, false);
    start(&mut service, now);
    service.stop(now, grace);
    service.ended(now, End { status: ExitStatus::Signal(15), out_of_memory: false }, 0);
    assert_eq!((service.state(), service.reason(), service.is_over()), (ServiceState::Stopped, None, true));

    let (mut service, now) = machine(Restart::Always, false);
    start(&mut service, now);
    service.ended(now, CODE(1), 0);
    assert!(!service.stop(now, grace), "it has no process");
    assert_eq!((service.state(), service.due(now + WELL, &Before::Ready)), (ServiceState::Stopped, None));
}
