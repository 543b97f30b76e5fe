use super::*;
use std::path::Path;

fn stdout() -> Origin {
    Origin::new("main", OutputStream::Stdout)
}

fn rest(reader: &mut OutputReader) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| reader.next_output().unwrap()).map(|line| line.bytes).collect()
}

fn kept(vm: &Path) -> Vec<Vec<u8>> {
    rest(&mut OutputReader::new(vm, None))
}

#[test]
fn output_is_kept_line_by_line() {
    let table: [(&[u8], &[&[u8]]); 6] = [
        (b"", &[]),
        (b"one\n", &[b"one\n"]),
        (b"one\ntwo", &[b"one\n", b"two"]),
        (b"\n\n", &[b"\n", b"\n"]),
        (b"\xff\0\x1b[2J\r\n", &[b"\xff\0\x1b[2J\r\n"]),
        ("é\u{202e}\n".as_bytes(), &["é\u{202e}\n".as_bytes()]),
    ];
    for (bytes, expected) in table {
        let vm = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(vm.path()).unwrap();
        journal.append(&stdout(), bytes);
        assert_eq!(kept(vm.path()), expected);
        assert_eq!(journal.failure(), None);
    }
}

#[test]
fn a_long_line_is_kept_in_pieces_that_are_text() {
    let vm = tempfile::tempdir().unwrap();
    let text = format!("x{}\n", "é".repeat(20_000));
    Journal::open(vm.path()).unwrap().append(&stdout(), text.as_bytes());
    let pieces = kept(vm.path());
    assert!(pieces.len() == 3 && pieces.iter().all(|piece| piece.len() <= 16 << 10));
    assert!(pieces.iter().all(|piece| std::str::from_utf8(piece).is_ok()));
    assert_eq!(pieces.concat(), text.as_bytes());
}

#[test]
fn the_form_of_a_line_is_as_documented() {
    let time: UtcTime = "2026-01-31T12:00:00.125Z".parse().unwrap();
    let table: [(Origin, &[u8], &str); 2] = [
        (
            stdout(),
            b"a\n",
            r#"{"time":"2026-01-31T12:00:00.125Z","source":"main","stream":"stdout","text":"a\n"}"#,
        ),
        (
            Origin::new("web", OutputStream::Output),
            b"\xff\n",
            r#"{"time":"2026-01-31T12:00:00.125Z","source":"web","stream":"output","base64":"/wo="}"#,
        ),
    ];
    for (origin, bytes, expected) in table {
        let line = LogLine::line(time, &origin, bytes);
        assert_eq!(String::from_utf8(line.clone()).unwrap(), format!("{expected}\n"));
        assert_eq!(LogLine::parse(&line), Some(LogLine { time, origin, bytes: bytes.to_vec() }));
    }
}

#[test]
fn files_are_bounded_and_followed_over_rotations() {
    let vm = tempfile::tempdir().unwrap();
    let mut journal = Journal::with_limit(vm.path(), 1000).unwrap();
    let mut follower = OutputReader::new(vm.path(), None);
    let mut seen = Vec::new();
    for number in 0..500 {
        journal.append(&stdout(), format!("{number}\n").as_bytes());
        // Now and then, as a reader comes that sleeps meanwhile.
        if number % 7 == 0 {
            seen.extend(rest(&mut follower));
        }
    }
    seen.extend(rest(&mut follower));
    let all: Vec<Vec<u8>> = (0..500).map(|number| format!("{number}\n").into_bytes()).collect();
    assert_eq!(seen, all);
    let files: Vec<u64> = std::fs::read_dir(vm.path().join(LOGS))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .collect();
    assert!(files.len() == 3 && files.iter().all(|&length| length < 1100), "{files:?}");
    assert!(all.ends_with(&kept(vm.path())));
    // One that sleeps too long goes on with what there is.
    for number in 0..100 {
        journal.append(&stdout(), format!("late {number}\n").as_bytes());
    }
    let late = rest(&mut follower);
    assert_eq!(late.last().unwrap(), b"late 99\n");
    // The end of the file that it had open, and what is kept.
    assert!(late.ends_with(&kept(vm.path())));
}

#[test]
fn one_that_floods_pushes_out_its_own_lines_only() {
    let vm = tempfile::tempdir().unwrap();
    let mut journal = Journal::with_limit(vm.path(), 1000).unwrap();
    let [loud, quiet] = ["loud", "quiet"].map(|name| Origin::new(name, OutputStream::Output));
    let mut follower = OutputReader::new(vm.path(), None);
    let mut seen = Vec::new();
    journal.append(&quiet, b"first\n");
    journal.append(&stdout(), b"begun\n");
    for number in 0..500 {
        journal.append(&loud, format!("{number}\n").as_bytes());
        if number % 7 == 0 {
            seen.extend(rest(&mut follower));
        }
    }
    journal.append(&quiet, b"last\n");
    seen.extend(rest(&mut follower));
    assert_eq!(seen.len(), 503);
    // What was read at another time than its neighbours is in order all the same.
    assert_eq!(seen.last().unwrap(), b"last\n");
    let of = |source| rest(&mut OutputReader::new(vm.path(), Some(source)));
    assert_eq!(
        (of("quiet"), of("main")),
        (vec![b"first\n".to_vec(), b"last\n".to_vec()], vec![b"begun\n".to_vec()])
    );
    assert!(of("other").is_empty());
    let files = std::fs::read_dir(vm.path().join(LOGS).join(SERVICES).join("loud")).unwrap();
    let lengths: Vec<u64> = files.map(|entry| entry.unwrap().metadata().unwrap().len()).collect();
    assert!(lengths.len() == 3 && lengths.iter().all(|&length| length < 1100), "{lengths:?}");
    // Merged by the time of each line: all of it is there, those that came first at the beginning.
    let all = kept(vm.path());
    assert_eq!(all.len(), of("loud").len() + 3);
    assert!(all[..2].contains(&b"first\n".to_vec()) && all[..2].contains(&b"begun\n".to_vec()));
}

#[test]
fn lines_of_several_sources_come_in_the_order_of_time() {
    let vm = tempfile::tempdir().unwrap();
    let put = |source: &str, lines: &[(i64, &str)]| {
        let directory = match source {
            "main" => vm.path().join(LOGS),
            service => vm.path().join(LOGS).join(SERVICES).join(service),
        };
        std::fs::create_dir_all(&directory).unwrap();
        let origin = Origin::new(source, OutputStream::Output);
        let time = |millis| UtcTime::from_unix_millis(millis).unwrap();
        let text = lines.iter().flat_map(|&(at, text)| LogLine::line(time(at), &origin, text.as_bytes()));
        std::fs::write(directory.join(OUTPUT), text.collect::<Vec<u8>>()).unwrap();
    };
    put("main", &[(10, "a"), (30, "d"), (31, "e")]);
    put("web", &[(20, "b"), (29, "c"), (40, "g")]);
    put("db", &[(39, "f")]);
    assert_eq!(kept(vm.path()).concat(), b"abcdefg");
}

#[test]
fn what_was_cut_off_is_left_out_and_the_rest_is_read() {
    let vm = tempfile::tempdir().unwrap();
    Journal::open(vm.path()).unwrap().append(&stdout(), b"first\n");
    let path = vm.path().join(LOGS).join(OUTPUT);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, [whole.as_slice(), &whole[..20]].concat()).unwrap();
    let mut follower = OutputReader::new(vm.path(), None);
    assert_eq!(rest(&mut follower), [b"first\n"]);
    Journal::open(vm.path()).unwrap().append(&stdout(), b"second\n");
    assert_eq!(rest(&mut follower), [b"second\n"]);
    assert_eq!(kept(vm.path()), [b"first\n".as_slice(), b"second\n"]);
}

#[test]
fn hostile_files_are_read_in_bounded_pieces() {
    let vm = tempfile::tempdir().unwrap();
    std::fs::create_dir(vm.path().join(LOGS)).unwrap();
    let path = vm.path().join(LOGS).join(OUTPUT);
    std::fs::write(&path, [vec![b'['; 3 << 20], b"\n{}\n\xff\n".to_vec()].concat()).unwrap();
    assert_eq!(kept(vm.path()), Vec::<Vec<u8>>::new());
}

#[test]
fn what_can_not_be_written_is_noted_once_and_tried_again() {
    let vm = tempfile::tempdir().unwrap();
    let mut journal = Journal::with_limit(vm.path(), 10).unwrap();
    journal.append(&stdout(), b"kept\n");
    // A directory in the way of the oldest file.
    let in_the_way = vm.path().join(LOGS).join("output.jsonl.2");
    std::fs::create_dir(&in_the_way).unwrap();
    std::fs::write(vm.path().join(LOGS).join("output.jsonl.1"), b"\n").unwrap();
    journal.append(&stdout(), b"lost\n");
    assert!(journal.failure().is_some_and(|words| words.contains("output.jsonl is incomplete: ")));
    std::fs::remove_dir(&in_the_way).unwrap();
    journal.append(&stdout(), b"kept again\n");
    assert_eq!(kept(vm.path()), [b"kept\n".as_slice(), b"kept again\n"]);
}

#[test]
fn events_of_several_writers_are_in_one_file() {
    let root = tempfile::tempdir().unwrap();
    let mut reader = LineReader::of_events(root.path());
    assert_eq!(reader.next_event().unwrap(), None);
    let names: Vec<mvm_ref::VmName> = ["one", "two"].map(|name| name.parse().unwrap()).to_vec();
    std::thread::scope(|scope| {
        for name in &names {
            scope.spawn(|| {
                let mut log = EventLog::new(root.path());
                (0..50).for_each(|_| log.tell(name, Happening::Ready {}));
                assert_eq!(log.failure(), None);
            });
        }
    });
    let events: Vec<VmEvent> = std::iter::from_fn(|| reader.next_event().unwrap()).collect();
    for name in names {
        let of_one = events.iter().filter(|event| event.vm == name && event.what == Happening::Ready {});
        assert_eq!(of_one.count(), 50);
    }
    let mut log = EventLog::new(root.path());
    log.tell(&"web".parse().unwrap(), Happening::Exited { exit_code: Some(3) });
    let text = std::fs::read_to_string(root.path().join(EVENTS)).unwrap();
    let (_, last) = text.trim_end().rsplit_once(r#","vm""#).unwrap();
    assert_eq!(last, r#":"web","event":"exited","exit_code":3}"#);
}

#[test]
fn a_flood_of_events_is_cut_off() {
    let root = tempfile::tempdir().unwrap();
    let mut log = EventLog::new(root.path());
    let name = "web".parse().unwrap();
    let message = "x".repeat(5000);
    for _ in 0..1000 {
        log.tell(&name, Happening::Died { message: message.clone() });
    }
    let mut reader = LineReader::of_events(root.path());
    let events: Vec<VmEvent> = std::iter::from_fn(|| reader.next_event().unwrap()).collect();
    assert!((200..300).contains(&events.len()), "{}", events.len());
    assert_eq!(events[0].what, Happening::Died { message: "x".repeat(1024) });
}
