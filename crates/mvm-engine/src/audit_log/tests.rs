use super::*;
use crate::error::chain;
use crate::keys;
use mvm_launch::exec::{Invocation, Limits};
use mvm_plan::audit::{Entry, MAX_LINE, Subject};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub(super) fn log() -> (tempfile::TempDir, AuditLog) {
    let directory = tempfile::tempdir().unwrap();
    let log = AuditLog::new(directory.path());
    // The key that signs, which is otherwise made with the first plan.
    keys::local(directory.path()).unwrap();
    (directory, log)
}

fn event(name: &str) -> Event {
    Event::Delete { subject: Subject::Vm { name: name.parse().unwrap() } }
}

fn append(log: &AuditLog, names: &[&str]) -> Result<(), AuditError> {
    log.append(&ScopeName::default(), names.iter().map(|name| event(name)).collect())
}

fn bytes(log: &AuditLog) -> Vec<u8> {
    fs::read(log.current()).unwrap()
}

fn entries(log: &AuditLog) -> Vec<Entry> {
    let all = log.tail(usize::MAX).unwrap();
    all.split_inclusive(|&byte| byte == b'\n').map(|line| Entry::parse(line).unwrap()).collect()
}

/// The names of the machines that the log tells of, and what it tells of itself.
fn names(log: &AuditLog) -> Vec<String> {
    let name = |entry: Entry| match entry.event {
        Event::Delete { subject: Subject::Vm { name } } | Event::Stop { vm: name, .. } => name.to_string(),
        Event::Recover { subject: Subject::AuditLog } => "-".to_owned(),
        Event::Recover { subject: Subject::AuditHead } => "head".to_owned(),
        Event::Damage { subject: Subject::AuditLog } => "damage".to_owned(),
        Event::Gap { expected, found } => format!("gap {expected} {found}"),
        Event::Rotate { first } => format!("rotate {first}"),
        Event::Checkpoint { entries, .. } => format!("signed {entries}"),
        Event::Unwitnessed => "unwitnessed".to_owned(),
        other => panic!("{other:?}"),
    };
    entries(log).into_iter().map(name).collect()
}

/// All lines of the log, with what is kept of it.
fn verified(log: &AuditLog) -> Result<AuditReport, AuditError> {
    log.verify(&Verification::default())
}

#[test]
fn entries_follow_each_other_over_many_openings() {
    let (directory, log) = log();
    assert_eq!(verified(&log).unwrap().entries, 0);
    assert_eq!(log.tail(5).unwrap(), b"");
    append(&log, &[]).unwrap();
    assert!(!log.current().exists());

    append(&log, &["a"]).unwrap();
    append(&AuditLog::new(directory.path()), &["b", "c"]).unwrap();
    let other: ScopeName = "other".parse().unwrap();
    log.append(&other, vec![event("d")]).unwrap();
    assert_eq!(names(&log), ["a", "b", "c", "d"]);
    let written = entries(&log);
    assert_eq!(written.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [0, 1, 2, 3]);
    let scopes: Vec<_> = written.iter().map(|entry| entry.scope.clone().unwrap()).collect();
    let default = ScopeName::default();
    assert_eq!(scopes, [default.clone(), default.clone(), default, other]);
    assert!(written.iter().all(|entry| entry.uid == rustix::process::getuid().as_raw()));
    assert_eq!(verified(&log).unwrap().entries, 4);

    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&log.current()), 0o600);
    assert_eq!(mode(&log.directory()), 0o700);
}

#[test]
fn the_tail_is_whole_lines() {
    let (_directory, log) = log();
    append(&log, &["a", "b", "c"]).unwrap();
    let all = bytes(&log);
    let lines: Vec<&[u8]> = all.split_inclusive(|&byte| byte == b'\n').collect();
    for (count, expected) in
        [(0, vec![]), (1, lines[2].to_vec()), (2, lines[1..].concat()), (3, all.clone()), (4, all.clone())]
    {
        assert_eq!(log.tail(count).unwrap(), expected, "{count}");
    }
}

#[test]
fn a_torn_last_line_is_set_aside_and_that_is_recorded() {
    let (_directory, log) = log();
    append(&log, &["a"]).unwrap();
    let first = bytes(&log).len();
    let head = fs::read(log.head_path()).unwrap();
    append(&log, &["b"]).unwrap();
    let whole = bytes(&log);
    for left in 0..=whole.len() {
        fs::write(log.current(), &whole[..left]).unwrap();
        // The record is of the last time that all went well.
        fs::write(log.head_path(), if left >= first { &head[..] } else { b"" }).unwrap();
        append(&log, &["c"]).unwrap();
        let (kept, mut expected) = match left {
            left if left == whole.len() => (left, vec!["a", "b"]),
            left if left >= first => (first, vec!["a"]),
            _ => (0, vec![]),
        };
        if left > kept {
            expected.push("-");
            let recovery = entries(&log)[expected.len() - 1].clone();
            let name = format!("torn-at-{kept}");
            assert_eq!(recovery.detail, BTreeMap::from([("set-aside".to_owned(), name.clone())]));
            let aside = log.directory().join(name);
            assert_eq!(fs::read(&aside).unwrap(), &whole[kept..left]);
            assert_eq!(aside.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        expected.push("c");
        assert_eq!(names(&log), expected, "{left} bytes left");
        assert_eq!(verified(&log).unwrap().entries, expected.len() as u64);
    }
}

#[test]
fn nothing_is_appended_to_a_log_whose_end_is_not_one() {
    let (_directory, log) = log();
    append(&log, &["a", "b"]).unwrap();
    let whole = bytes(&log);
    let table = [
        ("an edited last line", whole.iter().map(|&byte| if byte == b',' { b';' } else { byte }).collect()),
        ("an empty last line", [whole.as_slice(), b"\n"].concat()),
        ("a line that is too long", [whole.as_slice(), &vec![b'x'; MAX_LINE + 1], b"\n"].concat()),
        ("more zeros than a torn line can have", [whole.as_slice(), &vec![0; 3 * MAX_LINE]].concat()),
    ];
    for (case, content) in table {
        fs::write(log.current(), &content).unwrap();
        let error = append(&log, &["c"]).unwrap_err();
        assert!(matches!(error, AuditError::Damaged { .. }), "{case}: {error:?}");
        assert_eq!(bytes(&log), content, "{case}");
        assert!(matches!(verified(&log).unwrap_err(), AuditError::Verify { .. }), "{case}");
    }
}

#[test]
fn an_entry_that_is_too_long_leaves_the_log_as_it_was() {
    let (_directory, log) = log();
    append(&log, &["a"]).unwrap();
    let before = bytes(&log);
    let long =
        Event::Refuse { plan: Some(mvm_ref::Digest::of(b"")), policy: "p".repeat(MAX_LINE), rules: vec![] };
    let error = log.append(&ScopeName::default(), vec![event("b"), long]).unwrap_err();
    assert!(matches!(error, AuditError::Entry(EntryError::Length { .. })), "{error:?}");
    assert_eq!(bytes(&log), before);
}

#[test]
fn writers_wait_for_each_other() {
    const WRITERS: usize = 8;
    const BATCHES: usize = 12;
    let (directory, log) = log();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let log = AuditLog::new(directory.path());
            scope.spawn(move || {
                for batch in 0..BATCHES {
                    append(&log, &[&format!("w{writer}.{batch}.0"), &format!("w{writer}.{batch}.1")])
                        .unwrap();
                }
            });
        }
    });
    let report = verified(&log).unwrap();
    assert_eq!(report.entries - report.checkpoints, (2 * WRITERS * BATCHES) as u64);
    let written: Vec<_> = names(&log).into_iter().filter(|name| !name.starts_with("signed")).collect();
    for pair in written.chunks(2) {
        assert_eq!(pair[0].strip_suffix(".0").unwrap(), pair[1].strip_suffix(".1").unwrap());
    }
    for writer in 0..WRITERS {
        let prefix = format!("w{writer}.");
        let own: Vec<_> = written.iter().filter(|name| name.starts_with(&prefix)).cloned().collect();
        let expected: Vec<_> = (0..BATCHES)
            .flat_map(|batch| [format!("w{writer}.{batch}.0"), format!("w{writer}.{batch}.1")])
            .collect();
        assert_eq!(own, expected);
    }
}

/// Tells the child, which is this same test, that it may spoil its own limits; a limit holds for a whole process.
const CHILD: &str = "MVM_TEST_FULL_DISK";

#[test]
fn on_a_full_disk_the_log_ends_with_a_whole_line() {
    let Some(root) = std::env::var_os(CHILD) else {
        let directory = tempfile::tempdir().unwrap();
        let output = Invocation::new(std::env::current_exe().unwrap())
            .args(["--exact", "audit_log::tests::on_a_full_disk_the_log_ends_with_a_whole_line"])
            .env(CHILD, directory.path())
            .run(Limits { time: std::time::Duration::from_secs(60), output: 1 << 20 })
            .unwrap()
            .success()
            .unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(stdout.contains("1 passed"), "{stdout}");
        return;
    };
    // A handled SIGXFSZ doesn't end the process, and the write fails with EFBIG.
    signal_hook::flag::register(25, Arc::new(AtomicBool::new(false))).unwrap();
    let log = AuditLog::new(Path::new(&root));
    append(&log, &["a"]).unwrap();
    let before = bytes(&log);
    let limits = getrlimit(Resource::Fsize);
    for room in [0, 1, before.len(), before.len() + 1] {
        setrlimit(Resource::Fsize, Rlimit { current: Some((before.len() + room) as u64), ..limits }).unwrap();
        let error = append(&log, &["b", "c"]).unwrap_err();
        setrlimit(Resource::Fsize, limits).unwrap();
        assert!(matches!(error, AuditError::Io { act: "write", .. }), "{error:?}");
        assert_eq!(bytes(&log), before, "with room for {room} bytes");
    }
    append(&log, &["b"]).unwrap();
    assert_eq!(names(&log), ["a", "b"]);
    assert_eq!(verified(&log).unwrap().entries, 2);
}

#[test]
fn what_fails_names_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().display();
    fs::write(directory.path().join("audit"), b"").unwrap();
    let log = AuditLog::new(directory.path());
    let error = append(&log, &["a"]).unwrap_err();
    assert_eq!(error.to_string(), format!("open the audit log {place}/audit/audit.jsonl"));
    assert_eq!(log.tail(1).unwrap_err().to_string(), format!("list the audit log {place}/audit"));
    assert_eq!(verified(&log).unwrap_err().to_string(), format!("list the audit log {place}/audit"));
}

#[test]
fn links_are_not_followed() {
    for name in ["audit.head", "audit/audit.jsonl", "audit.toml"] {
        let (directory, log) = log();
        append(&log, &["a"]).unwrap();
        let path = directory.path().join(name);
        let moved = directory.path().join("elsewhere");
        if path.exists() {
            fs::rename(&path, &moved).unwrap();
        } else {
            fs::write(&moved, b"").unwrap();
        }
        std::os::unix::fs::symlink(&moved, &path).unwrap();
        let before = fs::read(&moved).unwrap();
        let error = append(&log, &["b"]).unwrap_err();
        assert!(matches!(error, AuditError::Io { .. }), "{name}: {error:?}");
        assert_eq!(fs::read(&moved).unwrap(), before, "{name}");
    }
}

#[test]
fn an_end_that_is_not_the_one_that_was_written_is_recorded() {
    type Change = fn(&AuditLog);
    let table: [(&str, Change, &[&str]); 8] = [
        ("nothing", |_| {}, &["a", "b", "c", "d"]),
        ("the end removed", |log| lines_kept(log, 1), &["a", "gap 3 1", "d"]),
        ("all removed", |log| lines_kept(log, 0), &["gap 3 0", "d"]),
        ("the file removed", |log| fs::remove_file(log.current()).unwrap(), &["gap 3 0", "d"]),
        ("the directory removed", |log| fs::remove_dir_all(log.directory()).unwrap(), &["gap 3 0", "d"]),
        (
            "another log",
            |log| {
                let (_directory, other) = self::log();
                append(&other, &["x", "y", "z", "w"]).unwrap();
                fs::write(log.current(), bytes(&other)).unwrap();
            },
            &["x", "y", "z", "w", "gap 3 4", "d"],
        ),
        (
            "the record removed",
            |log| fs::remove_file(log.head_path()).unwrap(),
            &["a", "b", "c", "head", "d"],
        ),
        (
            "the record overwritten",
            |log| fs::write(log.head_path(), [b'x'; 1000]).unwrap(),
            &["a", "b", "c", "head", "d"],
        ),
    ];
    for (case, change, expected) in table {
        let (_directory, log) = log();
        append(&log, &["a", "b", "c"]).unwrap();
        change(&log);
        append(&log, &["d"]).unwrap();
        assert_eq!(names(&log), expected, "{case}");
        let whole = !expected.iter().any(|name| name.starts_with("gap"));
        assert_eq!(verified(&log).is_ok(), whole, "{case}");
        // Once told, it is not told again.
        append(&log, &["e"]).unwrap();
        assert_eq!(names(&log), [expected, &["e"]].concat(), "{case}");
    }
}

/// Cuts a log to its first lines.
fn lines_kept(log: &AuditLog, keep: usize) {
    let all = bytes(log);
    let lines: Vec<&[u8]> = all.split_inclusive(|&byte| byte == b'\n').collect();
    fs::write(log.current(), lines[..keep].concat()).unwrap();
}

#[test]
fn entries_that_a_killed_process_did_not_record_are_taken_as_they_are() {
    let (_directory, log) = log();
    rotate_at(&log, 4096);
    append(&log, &["a"]).unwrap();
    let mut expected = vec!["a".to_owned()];
    for round in 0..40 {
        let head = fs::read(log.head_path()).unwrap();
        append(&log, &["b", "c"]).unwrap();
        fs::write(log.head_path(), head).unwrap();
        append(&log, &["d"]).unwrap();
        expected.extend(["b", "c", "d"].map(str::to_owned));
        let told: Vec<String> = names(&log).into_iter().filter(|name| !name.contains(' ')).collect();
        assert_eq!(told, expected, "{round}");
    }
    let report = verified(&log).unwrap();
    assert!(report.files > 3, "{report:?}");
}

pub(super) fn rotate_at(log: &AuditLog, bytes: u64) {
    let settings = log.settings().unwrap();
    log.set_settings(LogSettings { rotate_at: bytes, ..settings }).unwrap();
}

#[test]
fn a_damaged_end_is_put_aside_by_hand() {
    let (_directory, log) = log();
    append(&log, &["a", "b"]).unwrap();
    fs::write(log.current(), [&bytes(&log)[..], b"x\n"].concat()).unwrap();
    assert!(matches!(append(&log, &["c"]), Err(AuditError::Damaged { .. })));
    assert_eq!(log.rotate().unwrap(), Some(log.rotated(0)));
    append(&log, &["c"]).unwrap();
    let told = String::from_utf8(bytes(&log)).unwrap();
    let events: Vec<Event> = told.lines().map(|line| Entry::parse(line.as_bytes()).unwrap().event).collect();
    assert_eq!(events[0], Event::Damage { subject: Subject::AuditLog });
    assert_eq!(events[1], Event::Rotate { first: 0 });
    assert!(matches!(events[2], Event::Checkpoint { entries: 4, .. }));
    assert_eq!(events[3], event("c"));
    let error = chain(&verified(&log).unwrap_err());
    assert!(error.contains("line 3, in place of entry 2, is not an entry"), "{error}");
    // Without a record of the end there is nothing to go on from.
    fs::write(log.current(), b"x\n").unwrap();
    fs::remove_file(log.head_path()).unwrap();
    assert!(matches!(log.rotate(), Err(AuditError::Damaged { .. })));
}

#[test]
fn the_log_is_signed_now_and_then_and_at_each_end() {
    let (_directory, log) = log();
    assert_eq!(log.checkpoint(None).unwrap(), None);
    let many: Vec<String> = (0..70).map(|number| format!("m{number}")).collect();
    for name in &many {
        append(&log, &[name]).unwrap();
    }
    let told = names(&log);
    assert_eq!((told.len(), told[64].as_str()), (71, "signed 64"));
    let stop = Event::Stop {
        vm: "z".parse().unwrap(),
        plan: Digest::of(b""),
        nonce: mvm_plan::LaunchNonce::from_bytes([1; 16]),
        outcome: mvm_plan::audit::Outcome::Killed,
        exit_code: None,
    };
    log.append(&ScopeName::default(), vec![stop]).unwrap();
    assert_eq!(names(&log)[71..], ["z", "signed 72"]);
    let signed = log.checkpoint(None).unwrap().unwrap();
    assert_eq!(signed.entries, 73);
    let report = verified(&log).unwrap();
    assert_eq!((report.entries, report.checkpoints, report.signed_entries), (74, 3, 73));
    assert_eq!(report.signers, [keys::local(&log.root).unwrap().public_key().id()]);
    // The log's own entries are in no scope.
    assert_eq!(entries(&log)[64].scope, None);
}

#[test]
fn without_a_key_entries_say_that_they_are_not_signed() {
    let (directory, log) = log();
    let key = directory.path().join("keys/local.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    for number in 0..65 {
        append(&log, &[&format!("m{number}")]).unwrap();
    }
    let last = entries(&log).pop().unwrap();
    assert!(last.detail["not-signed"].contains("has mode 0644"), "{last:?}");
    assert_eq!(verified(&log).unwrap().checkpoints, 0);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    append(&log, &["late"]).unwrap();
    assert_eq!(names(&log)[65..], ["late", "signed 66"]);
}

#[test]
fn a_clock_that_stepped_back_is_told_and_breaks_nothing() {
    let (_directory, log) = log();
    append(&log, &["a"]).unwrap();
    let line = bytes(&log);
    let mut entry = Entry::parse(&line).unwrap();
    entry.time = "2999-01-01T00:00:00.000Z".parse().unwrap();
    let text = [mvm_plan::canonical::to_vec(&entry).unwrap(), b"\n".to_vec()].concat();
    fs::write(log.current(), text).unwrap();
    fs::remove_file(log.head_path()).unwrap();
    append(&log, &["b"]).unwrap();
    let told = entries(&log).swap_remove(1).detail;
    let expected = ("clock-stepped-back-from".to_owned(), "2999-01-01T00:00:00.000Z".to_owned());
    assert_eq!(told, BTreeMap::from([expected]));
    append(&log, &["c"]).unwrap();
    assert_eq!(entries(&log)[3].detail, BTreeMap::new());
    assert_eq!(verified(&log).unwrap().clock_steps_back, 1);
}

#[test]
fn logs_of_earlier_versions_go_on() {
    let (_directory, log) = log();
    fs::create_dir(log.directory()).unwrap();
    let old = include_bytes!("../../../mvm-plan/src/audit/golden-v1.jsonl");
    fs::write(log.current(), old).unwrap();
    let report = verified(&log).unwrap();
    assert_eq!((report.entries, report.head_recorded), (18, false));
    append(&log, &["a"]).unwrap();
    log.checkpoint(None).unwrap().unwrap();
    log.rotate().unwrap().unwrap();
    append(&log, &["b"]).unwrap();
    let report = verified(&log).unwrap();
    assert_eq!((report.entries, report.head_recorded, report.checkpoints), (24, true, 2));
    assert!(fs::read(log.rotated(0)).unwrap().starts_with(old));
}

#[test]
fn what_is_said_for_people_is_cut_to_what_fits() {
    let (_directory, log) = log();
    let long = "\u{1b}ü".repeat(100_000);
    let note = Note::from(event("a")).with("error", &long);
    log.append_notes(&ScopeName::default(), vec![note]).unwrap();
    let told = entries(&log).remove(0).detail.remove("error").unwrap();
    assert!(told.len() < 5000 && long.starts_with(told.strip_suffix('…').unwrap()), "{}", told.len());
}
