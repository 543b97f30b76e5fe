use super::*;
use crate::engine::tests::{Fixture, fixture};
use crate::keys::Signers;
use crate::policies::PolicySource;
use crate::progress::Silent;
use crate::vm::VmError;
use mvm_plan::plan::RequiredIsolation;
use mvm_ref::ImageSource;
use serde_json::json;
use std::io::Write as _;
use std::sync::Mutex;

fn request(image: &ImageSource) -> RunRequest {
    RunRequest {
        name: Some("web".parse().unwrap()),
        image: image.clone(),
        platform: Platform::host(),
        pull: PullPolicy::Missing,
        workload: Workload::default(),
        surroundings: Surroundings::default(),
        cpus: 1,
        memory_mib: 256,
        kernel: None,
        scratch_mib: 64,
        policy: vec![],
        isolation: RequiredIsolation::Any,
        valid_for: 900,
        single_use: false,
        signers: Signers::default(),
        image_keys: vec![],
        remove_at_end: false,
        secrets: Vec::new(),
        restart: crate::vm::RestartPolicy::No,
        detached: false,
    }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn config(process: &serde_json::Value) -> ImageConfig {
    let text = json!({
        "architecture": "amd64", "os": "linux", "config": process, "rootfs": {"type": "layers", "diff_ids": []},
    });
    ImageConfig::parse(text.to_string().as_bytes()).unwrap()
}

#[test]
fn entry_point_and_command_combine_as_in_docker() {
    let (both, cmd_only, neither) =
        (json!({"Entrypoint": ["/e", "x"], "Cmd": ["c", "d"]}), json!({"Cmd": ["c"]}), json!({}));
    let entry_only = json!({"Entrypoint": ["/e"]});
    type Case<'a> = (&'a serde_json::Value, Option<&'a [&'a str]>, &'a [&'a str], Option<&'a [&'a str]>);
    let table: [Case<'_>; 16] = [
        (&both, None, &[], Some(&["/e", "x", "c", "d"])),
        (&both, None, &["z"], Some(&["/e", "x", "z"])),
        (&both, Some(&["/n"]), &[], Some(&["/n"])),
        (&both, Some(&["/n"]), &["z", "--y"], Some(&["/n", "z", "--y"])),
        (&both, Some(&[]), &["z"], Some(&["z"])),
        (&both, Some(&[]), &[], None),
        (&cmd_only, None, &[], Some(&["c"])),
        (&cmd_only, None, &["z"], Some(&["z"])),
        (&cmd_only, Some(&["/n"]), &[], Some(&["/n"])),
        (&cmd_only, Some(&[]), &[], None),
        (&entry_only, None, &[], Some(&["/e"])),
        (&entry_only, None, &["z"], Some(&["/e", "z"])),
        (&neither, None, &[], None),
        (&neither, None, &["z"], Some(&["z"])),
        (&neither, Some(&["/n"]), &[], Some(&["/n"])),
        (&neither, None, &[""], None),
    ];
    for (image, entrypoint, command, expected) in table {
        let workload = Workload {
            entrypoint: entrypoint.map(strings),
            command: strings(command),
            ..Workload::default()
        };
        let case = format!("{image} {entrypoint:?} {command:?}");
        match (process(&workload, &config(image), "debian:12"), expected) {
            (Ok(process), Some(expected)) => assert_eq!(process.argv, strings(expected), "{case}"),
            (Err(error), None) => {
                let words =
                    "image debian:12 has neither entry point nor command; say what to run after its name";
                assert_eq!(error.to_string(), words, "{case}");
            }
            (got, expected) => panic!("{case}: {got:?}, expected {expected:?}"),
        }
    }
}

#[test]
fn the_image_says_what_the_user_does_not() {
    let image = config(&json!({
        "Cmd": ["sh"], "Env": ["PATH=/bin", "A=1"], "WorkingDir": "srv", "User": "app", "StopSignal": "SIGINT",
    }));
    let all_default = process(&Workload::default(), &image, "i").unwrap();
    let expected = Process {
        argv: strings(&["sh"]),
        env: strings(&["PATH=/bin", "A=1"]),
        working_dir: "/srv".to_owned(),
        user: "app".to_owned(),
        stop_signal: "SIGINT".parse().unwrap(),
        tty: false,
        stdin: false,
    };
    assert_eq!(all_default, expected);
    let workload = Workload {
        env: strings(&["A=2", "B=3"]),
        working_dir: Some("/tmp".to_owned()),
        user: Some("0:0".to_owned()),
        terminal: true,
        stdin: true,
        ..Workload::default()
    };
    let expected = Process {
        env: strings(&["PATH=/bin", "A=2", "B=3"]),
        working_dir: "/tmp".to_owned(),
        user: "0:0".to_owned(),
        tty: true,
        stdin: true,
        ..expected
    };
    assert_eq!(process(&workload, &image, "i").unwrap(), expected);

    let nothing =
        process(&Workload { command: strings(&["sh"]), ..Workload::default() }, &config(&json!({})), "i");
    let nothing = nothing.unwrap();
    assert_eq!(
        (nothing.working_dir.as_str(), nothing.user.as_str(), nothing.stop_signal.number()),
        ("/", "", 15)
    );
    let odd = config(&json!({"Cmd": ["sh"], "StopSignal": "SIGNOSUCH"}));
    assert_eq!(process(&Workload::default(), &odd, "i").unwrap_err().kind(), ErrorKind::Usage);
}

#[test]
fn a_variable_is_set_once() {
    let table: [(&[&str], &[&str], &[&str]); 7] = [
        (&[], &[], &[]),
        (&["A=1", "B=2"], &[], &["A=1", "B=2"]),
        (&["A=1", "B=2"], &["A=3"], &["A=3", "B=2"]),
        (&["A=1"], &["AA=2", "A=", "A=x=y"], &["A=x=y", "AA=2"]),
        (&["A=1", "A=2"], &[], &["A=2"]),
        (&["A"], &["A=1"], &["A=1"]),
        (&[], &["B=1", "A=1"], &["B=1", "A=1"]),
    ];
    for (base, changes, expected) in table {
        assert_eq!(merge_env(&strings(base), &strings(changes)), strings(expected), "{base:?} {changes:?}");
    }
}

#[test]
fn working_directories_are_absolute() {
    for (given, expected) in [("", "/"), ("/", "/"), ("srv", "/srv"), ("/a/b", "/a/b"), ("./a", "/./a")] {
        assert_eq!(absolute(given), expected);
    }
}

/// What comes of a supervisor that prints `text` and ends.
fn handshake(text: &[u8], cancel: &Cancel) -> io::Result<Option<Handshake>> {
    let (reader, mut writer) = io::pipe().unwrap();
    std::thread::scope(|scope| {
        // Who has read enough closes the pipe, and the rest can't be written.
        scope.spawn(move || writer.write_all(text).ok());
        read_handshake(reader, cancel)
    })
}

#[test]
fn a_handshake_is_one_line_of_a_supervisor() {
    let read = |text: &[u8]| handshake(text, &Cancel::default());
    let started = read(b"{\"started\":{\"notice\":null}}\n");
    assert!(matches!(started, Ok(Some(Handshake::Started { notice: None }))), "{started:?}");
    let notice = read(b"{\"started\":{\"notice\":\"emulating\"}}\n").unwrap();
    assert!(matches!(notice, Some(Handshake::Started { notice: Some(words) }) if words == "emulating"));
    let failed = read(b"{\"failed\":{\"message\":\"m\",\"kind\":\"refused\",\"hint\":\"h\"}}\n").unwrap();
    assert!(matches!(failed, Some(Handshake::Failed { message, .. }) if message == "m"));
    let table: [(&[u8], io::ErrorKind); 6] = [
        (b"", io::ErrorKind::UnexpectedEof),
        (b"\n", io::ErrorKind::UnexpectedEof),
        (b"Segmentation fault\n", io::ErrorKind::InvalidData),
        (b"{\"started\":", io::ErrorKind::UnexpectedEof),
        (b"\xff\n", io::ErrorKind::InvalidData),
        (&[b'"'; 200_000], io::ErrorKind::InvalidData),
    ];
    for (text, kind) in table {
        let error = read(text).unwrap_err();
        assert_eq!(error.kind(), kind, "{:?}: {error}", &text[..text.len().min(20)]);
    }
}

#[test]
fn nobody_waits_for_a_handshake_after_an_interrupt() {
    let (reader, _writer) = io::pipe().unwrap();
    let cancel = Cancel::default();
    cancel.flag().store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(matches!(read_handshake(reader, &cancel), Ok(None)));
}

fn error(fixture: &Fixture, request: RunRequest) -> EngineError {
    fixture.engine.run(request, &Silent, &Cancel::default()).unwrap_err()
}

#[test]
fn what_cannot_run_is_refused_before_a_vm_is_made() {
    let fixture = fixture();
    let absent: ImageSource = format!("oci:{}", fixture.path("absent").display()).parse().unwrap();
    let base = request(&absent);
    let unknown = RunRequest { policy: vec![PolicySource::Named("nosuch".to_owned())], ..base.clone() };
    assert_eq!(error(&fixture, unknown).kind(), ErrorKind::Usage);
    assert!(matches!(error(&fixture, base.clone()), EngineError::NoKernel));
    fixture.kernel("6.1.0");
    assert_eq!(
        error(&fixture, RunRequest { kernel: Some("ffff".to_owned()), ..base.clone() }).kind(),
        ErrorKind::NotFound
    );
    assert_eq!(error(&fixture, base.clone()).kind(), ErrorKind::NotFound);
    let never = error(&fixture, RunRequest { pull: PullPolicy::Never, ..base.clone() });
    let platform = Platform::host();
    assert_eq!(never.to_string(), format!("image {absent} for {platform} is not in the store"));
    assert_eq!(never.hint().unwrap(), format!("mvmctl pull {absent}, or run without --pull never"));

    let image = fixture.layout("layout", "hello\n", &json!({}));
    assert!(matches!(error(&fixture, request(&image)), EngineError::NoCommand(_)));
    let workload = Workload { command: strings(&["/bin/sh"]), ..Workload::default() };
    let base = RunRequest { workload, ..request(&image) };
    for (cpus, memory_mib) in [(0, 256), (1, 0), (100_000, 256)] {
        let error = error(&fixture, RunRequest { cpus, memory_mib, ..base.clone() });
        assert!(matches!(error, EngineError::Option { .. }), "{error:?}");
        assert!(error.to_string().starts_with("--"), "{error}");
        assert_eq!(error.kind(), ErrorKind::Usage);
    }
    let cancel = Cancel::default();
    cancel.flag().store(true, std::sync::atomic::Ordering::Relaxed);
    let interrupted = fixture.engine.run(base, &Silent, &cancel).unwrap_err();
    assert_eq!(interrupted.kind(), ErrorKind::Interrupted);
    assert!(fixture.engine.vms().unwrap().0.is_empty());
}

#[test]
fn an_image_for_another_machine_is_refused() {
    let fixture = fixture();
    fixture.kernel("6.1.0");
    let image = fixture.layout_for("layout", "hello\n", &json!({"Cmd": ["/hello"]}), "riscv64");
    let platform: Platform = "linux/riscv64".parse().unwrap();
    let error = error(&fixture, RunRequest { platform, ..request(&image) });
    assert_eq!(
        error.to_string(),
        format!("image {image} is for linux/riscv64; this machine runs {}", Platform::host())
    );
    assert_eq!(error.kind(), ErrorKind::Usage);
}

/// Runs an image whose VM is supervised by a script, and returns what came of it.
fn supervised_by(script: &str) -> (Fixture, EngineError, Vec<Step>) {
    struct Steps(Mutex<Vec<Step>>);
    impl Progress for Steps {
        fn step(&self, step: Step) {
            self.0.lock().unwrap().push(step);
        }
    }
    let mut fixture = fixture();
    fixture.kernel("6.1.0");
    let image = fixture.layout("layout", "hello\n", &json!({"Cmd": ["/hello"]}));
    fixture.pull(&image);
    fixture.engine.settings.program = fixture.program("mvmctl", script);
    let steps = Steps(Mutex::default());
    let error = fixture.engine.run(request(&image), &steps, &Cancel::default()).unwrap_err();
    (fixture, error, steps.0.into_inner().unwrap())
}

#[test]
fn a_vm_that_cannot_start_is_gone_and_its_supervisor_says_why() {
    let refused =
        r#"{"failed":{"message":"policy production refuses","kind":"refused","hint":"use a release key"}}"#;
    let table = [
        (
            format!("echo '{refused}'"),
            "policy production refuses",
            ErrorKind::Refused,
            Some("use a release key"),
        ),
        (
            "echo oh no >&2; exit 1".to_owned(),
            "the VM's supervisor ended without a word (unexpected end of file): oh no",
            ErrorKind::Failure,
            None,
        ),
        (
            "echo 'thread panicked' >&2; echo '{'".to_owned(),
            "the VM's supervisor ended without a word (EOF while parsing an object at line 2 column 0): thread panicked",
            ErrorKind::Failure,
            None,
        ),
    ];
    for (script, words, kind, hint) in table {
        let (fixture, error, _) = supervised_by(&script);
        assert_eq!(error.to_string(), words);
        assert_eq!((error.kind(), error.hint().as_deref()), (kind, hint), "{words}");
        assert!(fixture.engine.vms().unwrap().0.is_empty());
        assert!(!fixture.engine.settings.root.join("vms/web").exists());
        let signed = fixture.events().iter().filter(|event| matches!(event, Event::Sign { .. })).count();
        assert_eq!(signed, 1, "what was signed was signed");
    }
}

#[test]
fn a_supervisor_is_told_where_and_what() {
    let script = r#"for word; do echo "$word"; done > "$0.words"; cat < /dev/stdin > "$0.input"
        set > "$0.environment"; pwd > "$0.directory"; echo '{"started":{"notice":"emulating"}}'"#;
    // It claims to run and doesn't listen.
    let (fixture, error, steps) = supervised_by(script);
    assert!(matches!(&error, EngineError::Vm(VmError::NotRunning { .. })), "{error:?}");
    assert_eq!(steps, [Step::Notice("emulating".to_owned())]);
    let read =
        |name: &str| std::fs::read_to_string(fixture.path("bin").join(format!("mvmctl.{name}"))).unwrap();
    let root = fixture.engine.settings.root.display();
    assert_eq!(read("words"), format!("--root\n{root}\n--scope\ndefault\nsupervise\n{root}/vms/web\n"));
    assert_eq!((read("input"), read("directory")), (String::new(), "/\n".to_owned()));
    assert!(read("environment").contains(&format!("PATH='{}'", fixture.path("bin").display())));
    assert!(!fixture.engine.settings.root.join("vms/web").exists());
}

#[test]
fn made_up_names_are_names_and_differ() {
    let fixture = fixture();
    let names: std::collections::BTreeSet<VmName> =
        (0..20).map(|_| fixture.engine.invent_name().unwrap()).collect();
    assert_eq!(names.len(), 20);
    assert!(names.iter().all(|name| name.as_str().len() == 11 && name.as_str().starts_with("vm-")));
}
