use super::super::{LogSettings, Note, WitnessError};
use super::*;
use crate::audit_log::tests::{log, rotate_at};
use mvm_plan::SigningKey;
use mvm_plan::audit::{Event, Record, Subject};
use mvm_ref::ScopeName;

fn write(log: &AuditLog, names: impl IntoIterator<Item = impl AsRef<str>>) {
    let note =
        |name: &str| Note::from(Event::Delete { subject: Subject::Vm { name: name.parse().unwrap() } });
    let notes = names.into_iter().map(|name| note(name.as_ref())).collect();
    log.append_notes(&ScopeName::default(), notes).unwrap();
}

/// A log of eight entries, the fourth and the last of which are checkpoints.
fn sample() -> (tempfile::TempDir, AuditLog) {
    let (directory, log) = log();
    write(&log, ["a", "b", "c"]);
    log.checkpoint(None).unwrap().unwrap();
    write(&log, ["d", "e", "f"]);
    log.checkpoint(None).unwrap().unwrap();
    (directory, log)
}

fn lines(log: &AuditLog) -> Vec<Vec<u8>> {
    let all = fs::read(log.current()).unwrap();
    all.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect()
}

fn put(log: &AuditLog, lines: &[Vec<u8>]) {
    fs::write(log.current(), lines.concat()).unwrap();
}

/// Why a log does not verify.
fn words(log: &AuditLog, request: &Verification) -> String {
    let error = log.verify(request).unwrap_err();
    let words = chain(&error);
    assert!(matches!(error, AuditError::Verify { .. }), "{words}");
    let start = format!("the audit log {} does not verify: ", log.current().display());
    words.strip_prefix(&start).unwrap_or(&words).to_owned()
}

fn plain(log: &AuditLog) -> String {
    words(log, &Verification::default())
}

fn with_witness(path: &Path) -> Verification {
    Verification { witness: Some(path.to_owned()), keys: Vec::new() }
}

/// Writes a log anew from an entry on, with other names and `key`'s checkpoints.
fn rewrite(lines: &[Vec<u8>], from: usize, key: &SigningKey) -> Vec<Vec<u8>> {
    let mut chain = Chain::start();
    let mut origin = None;
    let mut written = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Entry { time, uid, login, scope, mut event, detail, .. } = Entry::parse(line).unwrap();
        if index >= from {
            match &mut event {
                Event::Delete { subject: Subject::Vm { name } } => *name = "forged".parse().unwrap(),
                Event::Checkpoint { .. } => {
                    let (entries, head, origin) = (chain.entries(), chain.head(), origin.unwrap());
                    let statement = Statement { entries, head, origin, time };
                    event = Checkpoint::sign(statement, key).unwrap().0.event();
                }
                _ => {}
            }
        }
        written.push(chain.append(Record { time, uid, login, scope, event, detail }).unwrap());
        origin = origin.or(Some(chain.head()));
    }
    written
}

#[test]
fn a_whole_log_says_what_it_knows_and_what_not() {
    let (_directory, log) = sample();
    let report = log.verify(&Verification::default()).unwrap();
    let key = keys::local(&log.root).unwrap().public_key().id();
    assert_eq!((report.entries, report.files, report.checkpoints, report.signed_entries), (8, 1, 2, 7));
    assert_eq!((report.signers, report.head_recorded, report.clock_steps_back), (vec![key], true, 0));
    assert_eq!(
        report.cannot_know,
        ["whether somebody who has the signing key wrote the log anew: there is no witness"]
    );
    write(&log, ["g", "h"]);
    fs::remove_file(log.head_path()).unwrap();
    let report = log.verify(&Verification::default()).unwrap();
    assert_eq!(
        report.cannot_know,
        [
            "whether entries at the end were removed: no record of the log's end is there",
            "whether entries 8 to 9 were written anew: they are not signed yet",
            "whether somebody who has the signing key wrote the log anew: there is no witness",
        ]
    );
}

#[test]
fn what_was_done_to_a_log_is_told_as_far_as_the_evidence_goes() {
    type Tamper = fn(&mut Vec<Vec<u8>>);
    let table: [(&str, Tamper, &str); 10] = [
        ("edited", |l| renamed(&mut l[1]), "entry 1 (line 2) was edited"),
        ("the last but one edited", |l| renamed(&mut l[6]), "entry 6 (line 7) was edited"),
        (
            "the last edited",
            |l| l[7] = String::from_utf8(l[7].clone()).unwrap().replace("\"uid\":", "\"uid\":9").into_bytes(),
            "entry 7, the last one, was edited, or written anew: the record of the log's end knows another one",
        ),
        (
            "exchanged",
            |l| l.swap(1, 2),
            "entry 2 stands on line 2, where entry 1 belongs, which comes later: they were reordered",
        ),
        ("one removed", |l| drop(l.remove(2)), "entry 2 was removed before line 3, which is entry 3"),
        (
            "a copy put in",
            |l| l.insert(3, l[1].clone()),
            "line 4 was put in: it is entry 1 a second time, expected entry 3",
        ),
        (
            "the end removed",
            |l| l.truncate(5),
            "its end was removed: it has 5 entries, the record of the log's end knows of 8",
        ),
        (
            "all removed",
            |l| l.clear(),
            "all 8 entries were removed: the record of the log's end knows of them",
        ),
        (
            "the last cut",
            |l| l[7].truncate(10),
            "its end was removed: it has 7 entries, the record of the log's end knows of 8",
        ),
        (
            "written anew",
            |l| *l = rewrite(l, 2, &SigningKey::from_seed(&[9; 32])),
            "the checkpoint in entry 3 is signed by no key that is known here (it names key ID)",
        ),
    ];
    for (case, tamper, expected) in table {
        let (_directory, log) = sample();
        let mut changed = lines(&log);
        tamper(&mut changed);
        put(&log, &changed);
        let stranger = SigningKey::from_seed(&[9; 32]).public_key().id().to_string();
        assert_eq!(plain(&log).replace(&stranger, "ID"), expected, "{case}");
    }
}

/// Changes a machine's name in a line.
fn renamed(line: &mut Vec<u8>) {
    let text = String::from_utf8(line.clone()).unwrap();
    let changed = text.replacen("\"name\":\"", "\"name\":\"x", 1);
    assert_ne!(changed, text);
    *line = changed.into_bytes();
}

#[test]
fn without_a_record_of_the_end_a_shorter_log_is_whole() {
    let (_directory, log) = sample();
    put(&log, &lines(&log)[..5]);
    fs::remove_file(log.head_path()).unwrap();
    let report = log.verify(&Verification::default()).unwrap();
    assert_eq!((report.entries, report.head_recorded), (5, false));
    assert!(report.cannot_know[0].starts_with("whether entries at the end were removed"), "{report:?}");
}

#[test]
fn a_missing_file_is_noticed() {
    let (_directory, log) = log();
    rotate_at(&log, 4096);
    for number in 0..60 {
        write(&log, [format!("m{number}")]);
    }
    let files = log.rotated_files().unwrap();
    assert!(files.len() > 2, "{files:?}");
    let report = log.verify(&Verification::default()).unwrap();
    assert_eq!(report.files, files.len() + 1);
    for (index, (first, path)) in files.iter().enumerate() {
        let content = fs::read(path).unwrap();
        fs::remove_file(path).unwrap();
        let last = files.get(index + 1).map_or_else(
            || {
                Entry::parse(fs::read(log.current()).unwrap().split(|&b| b == b'\n').next().unwrap())
                    .unwrap()
                    .seq
            },
            |(next, _)| *next,
        ) - 1;
        let got = plain(&log);
        let expected =
            format!("entries {first} to {last} were removed before line 1, which is entry {}", last + 1);
        assert!(got.ends_with(&expected), "{got}");
        fs::write(path, content).unwrap();
    }
    // The file that is named holds the line.
    let (_, path) = &files[1];
    let whole = fs::read(path).unwrap();
    let mut changed = String::from_utf8(whole).unwrap();
    changed = changed.replacen("\"name\":\"", "\"name\":\"x", 1);
    fs::write(path, changed).unwrap();
    let got = plain(&log);
    assert!(got.starts_with(&format!("the audit log {} does not verify: entry ", path.display())), "{got}");
    assert!(got.ends_with(" was edited"), "{got}");
}

#[test]
fn signatures_are_held_against_the_keys() {
    let (directory, log) = sample();
    let local = keys::local(&log.root).unwrap();
    // With the key a log can be written anew, and only a copy of its end elsewhere tells.
    put(&log, &rewrite(&lines(&log), 5, &local));
    let got = plain(&log);
    assert!(got.starts_with("entry 7, the last one, was edited, or written anew"), "{got}");
    fs::remove_file(log.head_path()).unwrap();
    assert_eq!(log.verify(&Verification::default()).unwrap().checkpoints, 2);

    let (_directory, log) = sample();
    let mut all = lines(&log);
    let text = String::from_utf8(all[7].clone()).unwrap();
    let at = text.find("\"sig\":\"").unwrap() + 8;
    let mut changed = text.into_bytes();
    changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
    all[7] = changed;
    put(&log, &all);
    fs::remove_file(log.head_path()).unwrap();
    let id = keys::local(&log.root).unwrap().public_key().id();
    assert_eq!(plain(&log), format!("the checkpoint in entry 7 is not signed by key {id}, which it names"));

    // A checkpoint of another log.
    let (_directory, other) = sample();
    let mut all = lines(&log)[..7].to_vec();
    let mut chain = Chain::resume(&all[6]).unwrap();
    let taken = Entry::parse(&lines(&other)[7]).unwrap();
    let Entry { time, uid, login, scope, event, detail, .. } = taken;
    all.push(chain.append(Record { time, uid, login, scope, event, detail }).unwrap());
    put(&log, &all);
    assert_eq!(plain(&log), "the checkpoint in entry 7 is of another place or another log");

    // A log that is looked at elsewhere.
    let (elsewhere, copy) = crate::audit_log::tests::log();
    fs::create_dir(copy.directory()).unwrap();
    let (_directory, log) = sample();
    fs::copy(log.current(), copy.current()).unwrap();
    assert!(
        plain(&copy)
            .starts_with("the checkpoint in entry 3 is signed by no key that is known here (it names")
    );
    let key = elsewhere.path().join("key.pem");
    let public = keys::local(&log.root).unwrap().public_key();
    fs::write(&key, public.to_pem().unwrap()).unwrap();
    let request = Verification { witness: None, keys: vec![key.clone()] };
    assert_eq!(copy.verify(&request).unwrap().signers, [public.id()]);
    fs::write(&key, "no key").unwrap();
    assert!(matches!(copy.verify(&request), Err(AuditError::Key { .. })));
    drop(directory);
}

#[test]
fn a_witness_knows_what_a_key_can_hide() {
    let (directory, log) = log();
    let witness = directory.path().join("witness.jsonl");
    log.set_settings(LogSettings { witness: Some(witness.clone()), ..log.settings().unwrap() }).unwrap();
    write(&log, ["a", "b", "c"]);
    log.checkpoint(None).unwrap().unwrap();
    write(&log, ["d", "e", "f"]);
    log.checkpoint(None).unwrap().unwrap();
    let seen = fs::read(&witness).unwrap();
    let local = keys::local(&log.root).unwrap();
    let whole = lines(&log);

    let report = log.verify(&Verification::default()).unwrap().witness.unwrap();
    assert_eq!((report.checkpoints, report.signed_entries, report.of_others, report.torn), (2, 7, 0, 0));
    write(&log, ["g"]);
    let report = log.verify(&Verification::default()).unwrap();
    assert_eq!(report.cannot_know.len(), 2, "{report:?}");

    // Whoever has the key and can write beside the log, but not to the witness.
    let table: [(&str, Vec<Vec<u8>>, &str); 4] = [
        (
            "written anew",
            rewrite(&whole, 5, &local),
            "entry 6 or one before it, but after entry 2, was edited and all after it were written anew: line 2 of \
             the witness knows another entry 6",
        ),
        (
            "cut at a checkpoint",
            whole[..4].to_vec(),
            "its end was removed: it has 4 entries, line 2 of the witness knows of 7",
        ),
        ("written anew from the start", rewrite(&whole, 0, &local), "has no checkpoint of this log"),
        ("all removed", Vec::new(), "has no checkpoint of this log"),
    ];
    for (case, changed, expected) in table {
        put(&log, &changed);
        fs::remove_file(log.head_path()).ok();
        let got = plain(&log);
        assert!(got.contains(expected), "{case}: {got}");
    }
    put(&log, &whole);

    // The witness itself.
    let line = seen.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    fs::write(&witness, [&seen[..], &seen[..line / 2]].concat()).unwrap();
    log.checkpoint(None).unwrap().unwrap();
    let report = log.verify(&Verification::default()).unwrap().witness.unwrap();
    assert_eq!(
        (report.checkpoints, report.torn),
        (3, 1),
        "a torn line stays, and what comes after it counts"
    );
    let other = tempfile::tempdir().unwrap();
    let stranger = SigningKey::from_seed(&[9; 32]);
    let statement = Statement {
        entries: 1,
        head: Digest::of(b""),
        origin: Digest::of(b""),
        time: UtcTime::from_unix_seconds(0).unwrap(),
    };
    let strange = Checkpoint::sign(statement, &stranger).unwrap().1;
    let path = other.path().join("w");
    fs::write(&path, &strange).unwrap();
    assert!(words(&log, &with_witness(&path)).contains("line 1 of the witness"));
    fs::write(&path, b"{}\n").unwrap();
    let error = log.verify(&with_witness(&path)).unwrap_err();
    assert!(matches!(error, AuditError::Witness(WitnessError::Line { line: 1, .. })), "{error:?}");
    let error = log.verify(&with_witness(Path::new("/nonexistent/w"))).unwrap_err();
    assert!(matches!(error, AuditError::Witness(WitnessError::Io { .. })), "{error:?}");
    fs::write(&path, vec![b'x'; 70_000]).unwrap();
    let error = log.verify(&with_witness(&path)).unwrap_err();
    assert!(matches!(error, AuditError::Witness(WitnessError::Length { line: 1, .. })), "{error:?}");
}

#[test]
fn one_witness_serves_several_logs() {
    let shared = tempfile::tempdir().unwrap();
    let witness = shared.path().join("w");
    let logs = [sample(), sample()];
    for (_, log) in &logs {
        log.checkpoint(Some(&witness)).unwrap().unwrap();
    }
    let id = |log: &AuditLog| keys::local(&log.root).unwrap().public_key();
    let key = shared.path().join("key.pem");
    fs::write(&key, id(&logs[1].1).to_pem().unwrap()).unwrap();
    let request = Verification { witness: Some(witness), keys: vec![key] };
    let report = logs[0].1.verify(&request).unwrap().witness.unwrap();
    assert_eq!((report.checkpoints, report.of_others, report.signed_entries), (1, 1, 8));
}

#[test]
fn a_witness_that_cannot_be_written_is_told_of() {
    let (directory, log) = log();
    let witness = directory.path().join("not there/w");
    log.set_settings(LogSettings { witness: Some(witness.clone()), ..log.settings().unwrap() }).unwrap();
    for number in 0..64 {
        write(&log, [format!("m{number}")]);
    }
    let last = lines(&log).pop().unwrap();
    let entry = Entry::parse(&last).unwrap();
    assert_eq!((entry.seq, entry.event), (65, Event::Unwitnessed));
    assert!(entry.detail["error"].starts_with("open the witness"), "{:?}", entry.detail);
    assert!(matches!(log.checkpoint(None), Err(AuditError::Witness(_))));
    // What is no file is not waited on.
    let pipe = directory.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
    assert!(log.checkpoint(Some(&pipe)).is_err());
    assert!(log.verify(&with_witness(&pipe)).is_err());
}
