use super::*;
use mvm_wire::Process;

const SECOND: Duration = Duration::from_secs(1);

fn monitor(interval: u64, start_period: u64, retries: u32) -> (Monitor, Instant) {
    let process = Process {
        name: "http".to_owned(),
        root: "root".to_owned(),
        argv: vec!["/check".to_owned()],
        env: vec![],
        working_dir: String::new(),
        user: String::new(),
        stop_signal: 15,
        terminal: false,
    };
    let check = HealthCheck {
        process,
        service: None,
        interval_ms: interval * 1000,
        timeout_ms: 10_000,
        start_period_ms: start_period * 1000,
        retries,
    };
    (Monitor::new(&check), Instant::now())
}

fn run(started: Instant, code: u8, output: &str) -> Run {
    let outcome = HealthOutcome::Ended(ExitStatus::Code(code));
    Run { started, took: Duration::ZERO, outcome, output: output.into() }
}

/// Runs the check as it is due, which takes no time; returns when that was, in milliseconds from `begun`.
fn due(monitor: &mut Monitor, begun: Instant, code: u8) -> u128 {
    let at = monitor.next().unwrap();
    monitor.started();
    assert_eq!(monitor.next(), None, "never two at a time");
    monitor.finished(at, run(at, code, ""));
    (at - begun).as_millis()
}

#[test]
fn runs_are_close_at_first_and_an_interval_apart_after_a_success() {
    let (mut monitor, begun) = monitor(30, 0, 3);
    monitor.begin(begun);
    let times: Vec<u128> = (0..8).map(|_| due(&mut monitor, begun, 1)).collect();
    assert_eq!(times, [500, 1_500, 3_500, 7_500, 12_500, 17_500, 22_500, 27_500]);
    assert_eq!((monitor.health(), monitor.failing()), (Health::Starting, 0), "none of them counts");
    let times: Vec<u128> = (0..2).map(|_| due(&mut monitor, begun, 1)).collect();
    assert_eq!((times, monitor.health(), monitor.failing()), (vec![30_000, 60_000], Health::Starting, 2));
    assert_eq!(due(&mut monitor, begun, 1), 90_000);
    assert_eq!((monitor.health(), monitor.failing()), (Health::Unhealthy, 3));
    assert_eq!(due(&mut monitor, begun, 0), 120_000);
    assert_eq!((monitor.health(), monitor.failing()), (Health::Healthy, 0));
    assert_eq!(due(&mut monitor, begun, 1), 150_000);
    assert_eq!((monitor.health(), monitor.failing()), (Health::Healthy, 1));

    let (mut monitor, begun) = monitor_of_quick(1);
    monitor.begin(begun);
    let times: Vec<u128> = (0..4).map(|_| due(&mut monitor, begun, 0)).collect();
    assert_eq!(times, [500, 1_500, 2_500, 3_500]);
}

fn monitor_of_quick(retries: u32) -> (Monitor, Instant) {
    monitor(1, 0, retries)
}

#[test]
fn failures_in_the_start_period_do_not_count_but_those_after_a_success_do() {
    let (mut monitor, begun) = monitor(1, 60, 1);
    monitor.begin(begun);
    while monitor.next().unwrap() < begun + 59 * SECOND {
        due(&mut monitor, begun, 1);
        assert_eq!(monitor.health(), Health::Starting);
    }
    due(&mut monitor, begun, 1);
    while monitor.next().unwrap() < begun + 61 * SECOND {
        due(&mut monitor, begun, 1);
    }
    assert_eq!(monitor.health(), Health::Unhealthy);

    let (mut monitor, begun) = self::monitor(1, 60, 1);
    monitor.begin(begun);
    due(&mut monitor, begun, 0);
    assert_eq!(monitor.health(), Health::Healthy);
    due(&mut monitor, begun, 1);
    assert_eq!(monitor.health(), Health::Unhealthy);
}

#[test]
fn what_does_not_run_is_not_healthy_until_it_runs_and_succeeds_again() {
    let (mut monitor, begun) = monitor(30, 0, 3);
    monitor.begin(begun);
    due(&mut monitor, begun, 0);
    let down = begun + 10 * SECOND;
    monitor.cease(down, "it does not run");
    assert_eq!((monitor.health(), monitor.next()), (Health::Unhealthy, None));
    monitor.cease(down + SECOND, "it does not run");
    let results = monitor.results(down, 20, MAX_OUTPUT);
    assert_eq!(results.len(), 2, "told once");
    assert_eq!(results[1].outcome, HealthOutcome::NotStarted("it does not run".to_owned()));
    let up = down + 2 * SECOND;
    monitor.begin(up);
    monitor.begin(up);
    assert_eq!((due(&mut monitor, up, 1), monitor.health()), (500, Health::Unhealthy));
    assert_eq!((due(&mut monitor, up, 0), monitor.health()), (1_500, Health::Healthy));

    // A run that was under way counts no more.
    monitor.cease(up, "gone");
    monitor.finished(up, run(up, 0, ""));
    assert_eq!((monitor.health(), monitor.next()), (Health::Unhealthy, None));
}

#[test]
fn the_last_results_are_kept_and_cut() {
    let (mut monitor, begun) = monitor(1, 0, 1);
    monitor.begin(begun);
    for second in 0..30 {
        let at = begun + second * SECOND;
        monitor.finished(at, run(at, 0, &format!("{second} {}", "\x1b".repeat(5000))));
    }
    let now = begun + 30 * SECOND;
    let results = monitor.results(now, KEPT, MAX_OUTPUT);
    assert_eq!(results.len(), 20);
    assert_eq!((results[0].ago_ms, results[19].ago_ms), (20_000, 1_000));
    assert!(results.iter().all(|result| (4090..=4096).contains(&result.output.len())));
    assert!(results[19].output.starts_with("29 \u{fffd}"));
    assert_eq!(monitor.results(now, 1, 2)[0].output, "29");
    assert_eq!(monitor.results(now, 0, 2), []);
}
