use super::*;
use crate::admit::{Isolation, LaunchNonce};
use crate::key::tests::signing_key;
use crate::plan::tests::digest;
use crate::policy::Rule;
use mvm_ref::Platform;
use std::collections::BTreeSet;
use std::io::{self, Read};

const NONCE: LaunchNonce = LaunchNonce::from_bytes([7; 16]);

/// The lines of [`events`], frozen: a change to one is another log format.
const GOLDEN: &str = include_str!("golden-v1.jsonl");

/// The same of [`later_events`], of a user who had used sudo; they follow the lines of the first.
const LATER: &str = include_str!("golden-v2.jsonl");

/// One event of every kind, with every subject.
fn events() -> Vec<Event> {
    let requested = || "debian:12".parse().unwrap();
    let (plan, vm) = (digest(9), || "web".parse().unwrap());
    let signers = || vec![signing_key(1).public_key().id()];
    vec![
        Event::Resolve {
            requested: requested(),
            manifest: digest(1),
            platform: Platform::new("linux", "amd64", None),
        },
        Event::Fetch { digest: digest(2), size: 1234 },
        Event::CacheHit { subject: Subject::Segment { diff_id: digest(3) } },
        Event::Verify { digest: digest(2), diff_id: Some(digest(3)), passed: true },
        Event::Verify { digest: digest(1), diff_id: None, passed: false },
        Event::Materialize { manifest: digest(1), root_hash: digest(4), generation: 1, size: 20_480 },
        Event::Sign { plan, signers: signers() },
        Event::Admit {
            plan,
            policy: "development".to_owned(),
            signers: signers(),
            isolation: Isolation::Emulated,
            nonce: NONCE,
        },
        Event::Refuse {
            plan: Some(plan),
            policy: "production".to_owned(),
            rules: vec![Rule::ReleaseKey, Rule::HardwareIsolation],
        },
        Event::Launch {
            vm: vm(),
            plan,
            nonce: NONCE,
            guest_document: digest(5),
            confinement: BTreeSet::new(),
        },
        Event::Stop { vm: vm(), plan, nonce: NONCE, outcome: Outcome::Exited, exit_code: Some(3) },
        Event::Stop { vm: vm(), plan, nonce: NONCE, outcome: Outcome::Killed, exit_code: None },
        Event::Delete { subject: Subject::Vm { name: vm() } },
        Event::Delete { subject: Subject::Image { root_hash: digest(4) } },
        Event::Delete { subject: Subject::Blob { digest: digest(2) } },
        Event::Delete { subject: Subject::Kernel { digest: digest(6) } },
        Event::Delete { subject: Subject::Reference { requested: requested() } },
        Event::Recover { subject: Subject::AuditLog },
    ]
}

/// One event of every kind that came after the first version, with every subject.
fn later_events() -> Vec<Event> {
    let requested = || "debian:12".parse().unwrap();
    let (plan, vm) = (digest(9), || "web".parse().unwrap());
    let id = signing_key(1).public_key().id();
    vec![
        Event::Tag {
            requested: requested(),
            manifest: digest(1),
            platform: Platform::new("linux", "amd64", None),
        },
        Event::Push { requested: requested(), manifest: digest(1), config: digest(2) },
        Event::Import { subject: Subject::Kernel { digest: digest(6) } },
        Event::Export { subject: Subject::Plan { digest: plan } },
        Event::Set {
            subject: Subject::Scope { name: ScopeName::default() },
            setting: "quota".to_owned(),
            value: "1GB".to_owned(),
        },
        Event::Key { act: KeyAct::Generate, id },
        Event::Key { act: KeyAct::Import, id },
        Event::Key { act: KeyAct::Export, id },
        Event::Key { act: KeyAct::Trust, id },
        Event::Key { act: KeyAct::Revoke, id },
        Event::Key { act: KeyAct::Rotate, id },
        Event::Exec { vm: vm(), plan, program: "sh".to_owned(), command: digest(7) },
        Event::Fail { vm: vm(), plan },
        Event::Damage { subject: Subject::Image { root_hash: digest(4) } },
        Event::Recover { subject: Subject::AuditHead },
        Event::Gap { expected: 19, found: 3 },
        Event::Rotate { first: 7 },
        Event::Checkpoint {
            entries: 35,
            head: digest(8),
            origin: digest(1),
            signatures: vec![Seal { keyid: id, sig: "c2lnbmF0dXJl".to_owned() }],
        },
        Event::Unwitnessed,
        Event::Deny { vm: vm(), plan, nonce: LaunchNonce::from_bytes([3; 16]), count: 9 },
    ]
}

fn record(index: usize, event: Event) -> Record {
    Record {
        time: UtcTime::from_unix_millis(1_700_000_000_000 + index as i64).unwrap(),
        uid: 1000,
        login: None,
        scope: index.is_multiple_of(2).then(ScopeName::default),
        event,
        detail: [("line", index.to_string()), ("note", "ü\n".to_owned())]
            .into_iter()
            .skip(index % 2)
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
    }
}

/// The lines of a log, with their newlines.
fn log() -> Vec<Vec<u8>> {
    let mut chain = Chain::start();
    let append = |(index, event)| chain.append(record(index, event)).unwrap();
    events().into_iter().enumerate().map(append).collect()
}

fn check(lines: &[Vec<u8>]) -> Result<ChainSummary, VerifyError> {
    verify(lines.concat().as_slice())
}

#[test]
fn a_launch_tells_how_its_hypervisor_is_confined() {
    let confinement = BTreeSet::from(["seccomp", "landlock"].map(str::to_owned));
    let (vm, plan) = ("web".parse().unwrap(), digest(9));
    let event = Event::Launch { vm, plan, nonce: NONCE, guest_document: digest(5), confinement };
    let text = serde_json::to_string(&event).unwrap();
    assert!(text.ends_with(r#","confinement":["landlock","seccomp"]}"#), "{text}");
    assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
}

#[test]
fn the_golden_log_is_the_sample() {
    assert_eq!(String::from_utf8(log().concat()).unwrap(), GOLDEN);
}

#[test]
fn later_events_follow_in_their_golden_log() {
    let mut chain = Chain::resume(log().last().unwrap()).unwrap();
    let mut lines = Vec::new();
    for (index, event) in later_events().into_iter().enumerate() {
        let login = index.is_multiple_of(2).then_some(1001);
        let record = Record { uid: 0, login, ..record(events().len() + index, event) };
        lines.push(chain.append(record).unwrap());
    }
    let text = String::from_utf8(lines.concat()).unwrap();
    assert_eq!(text, LATER);
    for (line, event) in lines.iter().zip(later_events()) {
        assert_eq!(Entry::parse(line).unwrap().event, event);
    }
    let summary = verify([GOLDEN, LATER].concat().as_bytes()).unwrap();
    assert_eq!((summary.entries, summary.head), (chain.entries(), chain.head()));
}

#[test]
fn a_walk_shows_each_line_in_place() {
    let lines = log();
    let mut seen = Vec::new();
    let rest = lines[5..].concat();
    let from = Chain::resume(&lines[4]).unwrap();
    let summary = walk(rest.as_slice(), from, None, &mut |line| {
        assert_eq!(line.digest, line_digest(line.text));
        assert_eq!(line.time, Some(record(line.seq as usize, Event::Unwitnessed).time));
        seen.push((line.seq, line.text.to_vec()));
    });
    let all = check(&lines).unwrap();
    assert_eq!(summary.unwrap(), ChainSummary { bytes: rest.len() as u64, ..all });
    assert_eq!(seen, (5..).zip(lines[5..].iter().cloned()).collect::<Vec<_>>());
    let other = walk(rest.as_slice(), Chain::start(), None, &mut |_| {}).unwrap_err();
    assert_eq!(other.to_string(), "entries 0 to 4 were removed before line 1, which is entry 5");
    assert_eq!((other.line(), other.entry()), (1, Some(0)));
    assert_eq!(other.in_file(0).line(), 1);
}

#[test]
fn what_is_known_of_the_last_entry_tells_which_of_two_was_edited() {
    let known = check(&log()).unwrap();
    let known = Some((known.entries - 1, known.head));
    let table: [(Tamper, &str, &str); 2] = [
        (
            |l| replace(&mut l[16], ":12", ":13"),
            "entry 16 (line 17) was edited",
            "entry 16 (line 17) or the one after it was edited",
        ),
        (
            |l| {
                let prev = Entry::parse(&l[17]).unwrap().prev.to_string();
                replace(&mut l[17], &prev, &digest(0).to_string());
            },
            "entry 17 (line 18) was edited",
            "entry 16 (line 17) or the one after it was edited",
        ),
    ];
    for (tamper, with, without) in table {
        let mut lines = log();
        tamper(&mut lines);
        let text = lines.concat();
        let got = |known| walk(text.as_slice(), Chain::start(), known, &mut |_| {}).unwrap_err().to_string();
        assert_eq!((got(known).as_str(), got(None).as_str()), (with, without));
    }
}

#[test]
fn entries_read_back_from_their_lines() {
    let mut prev = ORIGIN;
    for (index, (line, event)) in log().iter().zip(events()).enumerate() {
        let Record { time, uid, login, scope, event, detail } = record(index, event);
        assert_eq!(
            Entry::parse(line).unwrap(),
            Entry { seq: index as u64, prev, time, uid, login, scope, event, detail }
        );
        assert_eq!(Entry::parse(without_newline(line)).unwrap().seq, index as u64);
        prev = line_digest(line);
    }
}

#[test]
fn a_whole_log_is_summed_up() {
    let lines = log();
    for count in 0..=lines.len() {
        let head = lines[..count].last().map_or(ORIGIN, |line| line_digest(line));
        let bytes = lines[..count].concat().len() as u64;
        assert_eq!(check(&lines[..count]).unwrap(), ChainSummary { entries: count as u64, head, bytes });
    }
}

#[test]
fn a_chain_resumes_after_any_line() {
    let lines = log();
    let all = check(&lines).unwrap();
    for count in 1..lines.len() {
        for last in [&lines[count - 1][..], without_newline(&lines[count - 1])] {
            let mut chain = Chain::resume(last).unwrap();
            let mut resumed = lines[..count].to_vec();
            for (index, event) in events().into_iter().enumerate().skip(count) {
                resumed.push(chain.append(record(index, event)).unwrap());
            }
            assert_eq!(resumed, lines);
            assert_eq!((chain.head(), chain.entries()), (all.head, all.entries));
        }
    }
}

type Tamper = fn(&mut Vec<Vec<u8>>);

fn replace(line: &mut Vec<u8>, from: &str, to: &str) {
    let text = String::from_utf8(line.clone()).unwrap();
    let changed = text.replacen(from, to, 1);
    assert_ne!(changed, text);
    *line = changed.into_bytes();
}

#[test]
fn tampering_is_found_and_named() {
    let table: &[(&str, Tamper, &str)] = &[
        (
            "first line edited",
            |l| replace(&mut l[0], "\"uid\":1000", "\"uid\":0"),
            "entry 0 (line 1) was edited",
        ),
        ("a line edited", |l| replace(&mut l[8], "release-key", "not-after"), "entry 8 (line 9) was edited"),
        ("white space added", |l| replace(&mut l[8], ",", ", "), "entry 8 (line 9) was edited"),
        (
            "last but one edited",
            |l| replace(&mut l[16], ":12", ":13"),
            "entry 16 (line 17) or the one after it was edited",
        ),
        ("a number edited", |l| replace(&mut l[8], "\"seq\":8", "\"seq\":7"), "entry 8 (line 9) was edited"),
        (
            "a link edited",
            |l| {
                let prev = Entry::parse(&l[8]).unwrap().prev.to_string();
                replace(&mut l[8], &prev, &digest(0).to_string());
            },
            "entry 8 (line 9) was edited",
        ),
        (
            "the first link edited",
            |l| replace(&mut l[0], &digest(0).to_string(), &digest(1).to_string()),
            "entry 0 (line 1) was edited",
        ),
        (
            "the last link edited",
            |l| {
                let prev = Entry::parse(&l[17]).unwrap().prev.to_string();
                replace(&mut l[17], &prev, &digest(0).to_string());
            },
            "entry 16 (line 17) or the one after it was edited",
        ),
        ("a line removed", |l| drop(l.remove(8)), "entry 8 was removed before line 9, which is entry 9"),
        (
            "three lines removed",
            |l| drop(l.drain(8..11)),
            "entries 8 to 10 were removed before line 9, which is entry 11",
        ),
        (
            "the first line removed",
            |l| drop(l.remove(0)),
            "entry 0 was removed before line 1, which is entry 1",
        ),
        (
            "two lines exchanged",
            |l| l.swap(8, 9),
            "entry 9 stands on line 9, where entry 8 belongs, which comes later: they were reordered",
        ),
        (
            "a line repeated",
            |l| l.insert(9, l[8].clone()),
            "line 10 was put in: it is entry 8 a second time, expected entry 9",
        ),
        (
            "a log appended to itself",
            |l| l.extend_from_within(..),
            "line 19 was put in: it is entry 0 a second time, expected entry 18",
        ),
        (
            "a line overwritten",
            |l| l[8] = b"\n".to_vec(),
            "line 9, in place of entry 8, is not an entry: it was overwritten",
        ),
        (
            "zeros",
            |l| l[8] = b"\0\0\0\n".to_vec(),
            "line 9, in place of entry 8, is not an entry: it was overwritten",
        ),
        (
            "two lines joined",
            |l| assert_eq!(l[8].pop(), Some(b'\n')),
            "line 9, in place of entry 8, is not an entry: it was overwritten",
        ),
        (
            "a link twice",
            |l| replace(&mut l[8], "{", "{\"seq\":8,"),
            "line 9, in place of entry 8, is not an entry: it was overwritten",
        ),
        (
            "a long line",
            |l| l[8] = vec![b' '; MAX_LINE + 1],
            "line 9, in place of entry 8, has more than 65536 bytes: it was overwritten",
        ),
        (
            "a long last line",
            |l| l.push(vec![b' '; MAX_LINE + 1]),
            "line 19, in place of entry 18, has more than 65536 bytes: it was overwritten",
        ),
    ];
    for (name, tamper, expected) in table {
        let mut lines = log();
        tamper(&mut lines);
        let got = check(&lines).map_err(|error| error.to_string());
        assert_eq!(got, Err((*expected).to_owned()), "{name}");
    }
}

#[test]
fn a_line_put_in_with_its_neighbours_numbers_breaks_the_chain() {
    let mut lines = log();
    let mut chain = Chain::resume(&lines[7]).unwrap();
    lines[8] = chain.append(record(8, Event::Recover { subject: Subject::AuditLog })).unwrap();
    assert!(matches!(check(&lines), Err(VerifyError::Edited { line: 9, entry: 8 })));
}

#[test]
fn every_changed_byte_before_the_last_line_is_found() {
    let lines = log();
    let text = lines.concat();
    let last = text.len() - lines[lines.len() - 1].len();
    for position in 0..last {
        let mut changed = text.clone();
        changed[position] ^= 1;
        assert!(verify(changed.as_slice()).is_err(), "byte {position}");
        changed = text.clone();
        changed.remove(position);
        assert!(verify(changed.as_slice()).is_err(), "byte {position} removed");
    }
}

#[test]
fn a_log_cut_anywhere_is_whole_or_torn() {
    let lines = log();
    let text = lines.concat();
    let mut ends = vec![0];
    for line in &lines {
        ends.push(ends[ends.len() - 1] + line.len());
    }
    for cut in 0..=text.len() {
        let count = ends.iter().filter(|end| **end <= cut).count() - 1;
        let expected = check(&lines[..count]).unwrap();
        match verify(&text[..cut]) {
            Ok(whole) => assert_eq!((whole, ends[count]), (expected, cut)),
            Err(VerifyError::Torn { line, whole }) => {
                assert_eq!((line, whole, ends[count] < cut), (count as u64 + 1, expected, true));
            }
            Err(error) => panic!("{cut}: {error}"),
        }
    }
}

#[test]
fn events_of_a_later_version_do_not_break_the_check() {
    let mut lines = log();
    let mut later = lines.pop().unwrap();
    replace(&mut later, "\"kind\":\"recover\"", "\"kind\":\"teleport\"");
    assert!(matches!(Entry::parse(&later), Err(EntryError::Read(_))));
    lines.push(later);
    assert_eq!(check(&lines).unwrap().entries, 18);
}

#[test]
fn what_is_no_entry_is_not_resumed_from() {
    let line = log().remove(3);
    let changed = |from: &str, to: &str| {
        let mut line = line.clone();
        replace(&mut line, from, to);
        line
    };
    let table = [
        Vec::new(),
        b"\n".to_vec(),
        line[..line.len() / 2].to_vec(),
        changed(",", ", "),
        changed("\"uid\":1000", "\"uid\":-1"),
        changed("2023-11-14T22:13:20.003Z", "2023-11-14T22:13:20Z"),
        changed("{", "{\"a\":1,"),
    ];
    for line in table {
        assert!(
            matches!(Chain::resume(&line), Err(EntryError::Read(_))),
            "{}",
            String::from_utf8_lossy(&line)
        );
    }
    assert!(matches!(Chain::resume(&vec![b' '; MAX_LINE + 1]), Err(EntryError::Length { got: 65_537 })));
}

#[test]
fn an_entry_that_is_too_long_leaves_the_chain_as_it_was() {
    let mut chain = Chain::start();
    let mut long = record(0, events().remove(0));
    long.detail.insert("note".to_owned(), "a".repeat(MAX_LINE));
    assert!(matches!(chain.append(long), Err(EntryError::Length { .. })));
    assert_eq!(chain, Chain::start());
    let mut large = record(0, Event::Fetch { digest: digest(0), size: 1 << 53 });
    large.detail.clear();
    assert!(matches!(chain.append(large), Err(EntryError::Write(CanonicalError::Number { .. }))));
    assert_eq!(chain, Chain::start());
    // The longest line that is written is also read.
    let line = chain.append(record(0, events().remove(0))).unwrap();
    let mut longest = record(0, events().remove(0));
    longest.detail.insert("a".to_owned(), "a".repeat(MAX_LINE - line.len() - r#""a":"","#.len()));
    let line = Chain::start().append(longest).unwrap();
    assert_eq!((line.len(), check(&[line]).unwrap().entries), (MAX_LINE, 1));
}

#[test]
fn a_failing_reader_is_told() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("broken"))
        }
    }
    let first = log().remove(0);
    let reader = io::BufReader::new(first.as_slice().chain(Broken));
    assert!(matches!(verify(reader), Err(VerifyError::Read { line: 2, .. })));
}
