use super::*;
use crate::audit_log::tests::{log, rotate_at};
use mvm_plan::audit::{Outcome, Subject};
use mvm_ref::{Digest, ScopeName, VmName};

fn event(number: usize) -> Event {
    Event::Delete { subject: Subject::Vm { name: format!("m{number}").parse().unwrap() } }
}

fn write(log: &AuditLog, numbers: std::ops::Range<usize>) {
    for number in numbers {
        log.append(&ScopeName::default(), vec![event(number)]).unwrap();
    }
}

/// The numbers of lines, which count from 0 in a whole log.
fn numbers(lines: &[u8]) -> Vec<u64> {
    lines.split_inclusive(|&byte| byte == b'\n').map(|line| Entry::parse(line).unwrap().seq).collect()
}

#[test]
fn the_tail_reaches_over_files() {
    let (_directory, log) = log();
    rotate_at(&log, 4096);
    write(&log, 0..100);
    let all = numbers(&log.tail(usize::MAX).unwrap());
    assert_eq!(all, (0..all.len() as u64).collect::<Vec<_>>());
    assert!(log.rotated_files().unwrap().len() > 3);
    for count in [0, 1, 5, 20, 50, all.len(), all.len() + 1] {
        let expected = &all[all.len().saturating_sub(count)..];
        assert_eq!(numbers(&log.tail(count).unwrap()), expected, "{count}");
    }
    let mut seen = Vec::new();
    let ended = log.lines(&mut |line| {
        seen.extend(numbers(line));
        ControlFlow::Continue(())
    });
    ended.unwrap();
    assert_eq!(seen, all);
    let mut count = 0;
    let ended = log.lines(&mut |_| {
        count += 1;
        if count == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    ended.unwrap();
    assert_eq!(count, 3);
}

#[test]
fn a_long_file_is_read_from_its_end() {
    let (_directory, log) = log();
    let events = (0..2500).map(event).collect();
    log.append(&ScopeName::default(), events).unwrap();
    let all = log.tail(usize::MAX).unwrap();
    assert!(all.len() > 512 * 1024);
    let ends: Vec<usize> =
        all.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at).collect();
    for count in [1, 100, 250, 300, 1500, 2499] {
        let start = ends[ends.len() - count - 1] + 1;
        assert!(log.tail(count).unwrap() == all[start..], "{count}");
    }
}

#[test]
fn a_follower_goes_from_file_to_file() {
    let (_directory, log) = log();
    let (before, mut follower) = log.follow(10).unwrap();
    assert_eq!((before, follower.poll().unwrap()), (Vec::new(), Vec::new()));
    rotate_at(&log, 4096);
    let mut seen = Vec::new();
    let mut next = 0;
    for batch in [1, 3, 40, 0, 100, 2] {
        write(&log, next..next + batch);
        next += batch;
        seen.extend(numbers(&follower.poll().unwrap()));
        assert_eq!(seen, numbers(&log.tail(usize::MAX).unwrap()));
    }
    assert_eq!(follower.poll().unwrap(), b"");
    // From the middle of a log on.
    let (before, mut follower) = log.follow(2).unwrap();
    write(&log, 0..1);
    let all = numbers(&log.tail(3).unwrap());
    assert_eq!([numbers(&before), numbers(&follower.poll().unwrap())].concat(), all);
    // A log that was taken away begins anew.
    std::fs::remove_dir_all(log.directory()).unwrap();
    assert_eq!(follower.poll().unwrap(), b"");
    write(&log, 0..1);
    assert!(!follower.poll().unwrap().is_empty());
}

#[test]
fn the_fate_of_a_launch_is_found_in_any_file() {
    let (_directory, log) = log();
    let nonce = |byte| LaunchNonce::from_bytes([byte; 16]);
    let vm: VmName = "web".parse().unwrap();
    let plan = Digest::of(b"plan");
    let launch = |byte| Event::Launch {
        vm: vm.clone(),
        plan,
        nonce: nonce(byte),
        guest_document: plan,
        confinement: Default::default(),
    };
    let stop = |byte| Event::Stop {
        vm: vm.clone(),
        plan,
        nonce: nonce(byte),
        outcome: Outcome::Exited,
        exit_code: Some(0),
    };
    let add = |event| log.append(&ScopeName::default(), vec![event]).unwrap();
    assert_eq!(log.fate(&nonce(1)).unwrap(), Fate::Unknown);
    rotate_at(&log, 4096);
    for byte in 1..=3 {
        add(launch(byte));
    }
    add(stop(1));
    write(&log, 0..50);
    add(stop(2));
    write(&log, 0..50);
    let fates: Vec<Fate> = (0..4).map(|byte| log.fate(&nonce(byte)).unwrap()).collect();
    assert_eq!(fates, [Fate::Unknown, Fate::Ended, Fate::Ended, Fate::Launched]);
}
