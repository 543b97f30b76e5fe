use super::*;
use std::fs;

fn like() -> Process {
    Process {
        name: "main".to_owned(),
        root: "root".to_owned(),
        argv: vec!["/server".to_owned()],
        env: vec!["A=1".to_owned()],
        working_dir: "/srv".to_owned(),
        user: "app".to_owned(),
        stop_signal: 15,
        terminal: true,
    }
}

#[test]
fn files_become_checks() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("b.json", r#"{"name": "db", "health_cmd": ["pg_isready", "-q"], "critical": true}"#);
    write(
        "a.json",
        r#"{"name": "http", "health_cmd": "curl -f x", "health_interval_secs": 5,
            "health_timeout_secs": 2, "startup_grace_secs": 7}"#,
    );
    write("README", "no check");
    let checks = read(dir.path(), &like());
    let check = |name: &str, argv: &[&str], times: [u64; 3]| Integration {
        check: HealthCheck {
            process: Process {
                name: name.to_owned(),
                argv: argv.iter().map(|argument| (*argument).to_owned()).collect(),
                terminal: false,
                ..like()
            },
            service: None,
            interval_ms: times[0],
            timeout_ms: times[1],
            start_period_ms: times[2],
            retries: 1,
        },
        broken: None,
    };
    assert_eq!(
        checks,
        [
            check("http", &["/bin/sh", "-c", "curl -f x"], [5_000, 2_000, 7_000]),
            check("db", &["pg_isready", "-q"], [30_000, 10_000, 0]),
        ]
    );
    assert_eq!(read(&dir.path().join("absent"), &like()), []);
}

#[test]
fn files_that_are_no_checks_say_why() {
    let dir = tempfile::tempdir().unwrap();
    for (content, expected) in [
        ("", "parsing it failed: EOF while parsing a value at line 1 column 0"),
        (r#"{"name": "x"}"#, "parsing it failed: missing field `health_cmd` at line 1 column 13"),
        (
            r#"{"name": "x", "health_cmd": 7}"#,
            "parsing it failed: expected a text or a list of texts at line 1 column 30",
        ),
        (
            r#"{"name": "x", "health_cmd": "y", "health_interval_secs": 0}"#,
            "health_interval_secs is 0, expected 1 second to a day",
        ),
        (
            r#"{"name": "x", "health_cmd": "y", "startup_grace_secs": 86401}"#,
            "startup_grace_secs is 86401, expected at most a day",
        ),
        (
            r#"{"name": "x", "health_cmd": []}"#,
            "name or health_cmd is argv of \"x\" is None, expected a program, expected a printable name and a program",
        ),
        (&" ".repeat(70_000), "it is no regular file of at most 65536 bytes"),
    ] {
        let path = dir.path().join("web\x1b.json");
        fs::write(&path, content).unwrap();
        let [integration] = &read(dir.path(), &like())[..] else { panic!() };
        assert_eq!(integration.check.process.name, "web\u{fffd}");
        let reason = integration.broken.as_ref().unwrap();
        assert_eq!(*reason, format!("{} is not used: {expected}", path.display()));
    }
    fs::remove_file(dir.path().join("web\x1b.json")).unwrap();
    fs::create_dir(dir.path().join("d.json")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join("f.json"), Mode::RUSR).unwrap();
    assert_eq!(read(dir.path(), &like()).iter().filter(|check| check.broken.is_some()).count(), 2);
    for number in 0..100 {
        fs::write(dir.path().join(format!("{number}.json")), "{}").unwrap();
    }
    assert_eq!(read(dir.path(), &like()).len(), MAX_FILES);
}
