use super::*;
use mvm_launch::exec::{Invocation, Limits};
use mvm_plan::audit::{Entry, MAX_LINE};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

fn log() -> (tempfile::TempDir, AuditLog) {
    let directory = tempfile::tempdir().unwrap();
    let log = AuditLog::new(directory.path());
    (directory, log)
}

fn event(name: &str) -> Event {
    Event::Delete { subject: Subject::Vm { name: name.parse().unwrap() } }
}

fn append(log: &AuditLog, names: &[&str]) -> Result<(), AuditError> {
    log.append(&ScopeName::default(), names.iter().map(|name| event(name)).collect())
}

fn bytes(log: &AuditLog) -> Vec<u8> {
    fs::read(&log.path).unwrap()
}

fn entries(log: &AuditLog) -> Vec<Entry> {
    bytes(log).split_inclusive(|&byte| byte == b'\n').map(|line| Entry::parse(line).unwrap()).collect()
}

/// The names of the machines that the log tells of; `-` for its own repairs.
fn names(log: &AuditLog) -> Vec<String> {
    let name = |entry: Entry| match entry.event {
        Event::Delete { subject: Subject::Vm { name } } => name.to_string(),
        Event::Recover { subject: Subject::AuditLog } => "-".to_owned(),
        other => panic!("{other:?}"),
    };
    entries(log).into_iter().map(name).collect()
}

#[test]
fn entries_follow_each_other_over_many_openings() {
    let (directory, log) = log();
    assert_eq!(log.verify().unwrap().entries, 0);
    assert_eq!(log.tail(5).unwrap(), b"");
    append(&log, &[]).unwrap();
    assert!(!log.path.exists());

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
    let summary = log.verify().unwrap();
    assert_eq!((summary.entries, summary.bytes), (4, bytes(&log).len() as u64));

    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&log.path), 0o600);
    assert_eq!(mode(log.path.parent().unwrap()), 0o700);
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
    append(&log, &["a", "b"]).unwrap();
    let whole = bytes(&log);
    let first = whole.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    for left in 0..=whole.len() {
        fs::write(&log.path, &whole[..left]).unwrap();
        append(&log, &["c"]).unwrap();
        let kept = if left == whole.len() {
            whole.len()
        } else if left >= first {
            first
        } else {
            0
        };
        let mut expected: Vec<&str> =
            ["a", "b"][..[0, first, whole.len()].iter().position(|&k| k == kept).unwrap()].to_vec();
        if left > kept {
            expected.push("-");
            let recovery = entries(&log)[expected.len() - 1].clone();
            let name = format!("torn-at-{kept}");
            assert_eq!(recovery.detail, BTreeMap::from([("set-aside".to_owned(), name.clone())]));
            let aside = log.path.with_file_name(name);
            assert_eq!(fs::read(&aside).unwrap(), &whole[kept..left]);
            assert_eq!(aside.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        expected.push("c");
        assert_eq!(names(&log), expected, "{left} bytes left");
        assert_eq!(log.verify().unwrap().entries, expected.len() as u64);
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
        fs::write(&log.path, &content).unwrap();
        let error = append(&log, &["c"]).unwrap_err();
        assert!(matches!(error, AuditError::Damaged { .. }), "{case}: {error:?}");
        assert_eq!(bytes(&log), content, "{case}");
        assert!(matches!(log.verify().unwrap_err(), AuditError::Verify { .. }), "{case}");
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
    assert_eq!(log.verify().unwrap().entries, (2 * WRITERS * BATCHES) as u64);
    let written = names(&log);
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
    assert_eq!(log.verify().unwrap().entries, 2);
}

#[test]
fn what_fails_names_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().display();
    fs::write(directory.path().join("audit"), b"").unwrap();
    let log = AuditLog::new(directory.path());
    let error = append(&log, &["a"]).unwrap_err();
    assert_eq!(error.to_string(), format!("open the audit log {place}/audit/audit.jsonl"));
    assert_eq!(log.tail(1).unwrap_err().to_string(), format!("read the audit log {place}/audit/audit.jsonl"));
    assert_eq!(
        log.verify().unwrap_err().to_string(),
        format!("read the audit log {place}/audit/audit.jsonl")
    );
}
