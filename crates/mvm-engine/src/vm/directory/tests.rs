use super::*;
use mvm_launch::exec::{Invocation, Running};
use mvm_ref::{Digest, ScopeName};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

fn registry() -> (tempfile::TempDir, VmRegistry) {
    let directory = tempfile::tempdir().unwrap();
    let registry = VmRegistry::new(directory.path());
    (directory, registry)
}

fn record(name: &str) -> Record {
    Record {
        name: name.parse().unwrap(),
        scope: ScopeName::default(),
        image: "docker.io/library/debian:12".to_owned(),
        root_hash: Digest::of(b"root"),
        plan: Digest::of(b"plan"),
        policy: vec![],
        command: vec!["sh".to_owned()],
        created_at: 1_700_000_000,
        remove_at_end: false,
        secrets: Vec::new(),
        restart: crate::vm::RestartPolicy::No,
        project: None,
        generation: 1,
    }
}

fn sleeper() -> Running {
    Invocation::new("/bin/sleep").arg("1000").start(Stdio::null(), Stdio::null()).unwrap()
}

/// A process that was there and is no more.
fn dead() -> ProcessIdentity {
    let mut sleeper = sleeper();
    let identity = ProcessIdentity::of(sleeper.pid()).unwrap();
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    identity
}

fn state(phase: Phase, supervisor: ProcessIdentity) -> State {
    State { phase, ..State::created(supervisor) }
}

fn names(registry: &VmRegistry) -> Vec<String> {
    registry.list().unwrap().iter().map(|vm| vm.name.to_string()).collect()
}

fn age(path: &Path, seconds: u64) {
    let time = SystemTime::now() - Duration::from_secs(seconds);
    File::open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn pipes_and_links_in_place_of_records_are_refused() {
    let (_root, registry) = registry();
    let vm = registry.create(&record("web")).unwrap();
    assert!(!vm.is_over().unwrap());
    vm.write_state(&state(Phase::Running, dead())).unwrap();
    assert!(vm.is_over().unwrap());
    let path = vm.file(STATE);
    let moved = vm.file("moved");
    fs::rename(&path, &moved).unwrap();
    std::os::unix::fs::symlink(&moved, &path).unwrap();
    assert!(matches!(vm.is_over().unwrap_err(), VmError::Io { act: "read", .. }));
    fs::remove_file(&path).unwrap();
    // Opened as usual it would wait for a writer.
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert!(matches!(vm.is_over().unwrap_err(), VmError::Io { act: "read", .. }));
}

#[test]
fn a_vm_is_made_found_listed_and_removed() {
    let (_root, registry) = registry();
    assert!(names(&registry).is_empty());
    let name: VmName = "web".parse().unwrap();
    assert!(matches!(registry.get(&name), Err(VmError::NotFound(_))));
    let directory = registry.create(&record("web")).unwrap();
    registry.create(&record("api")).unwrap();
    assert_eq!(names(&registry), ["api", "web"]);

    let found = registry.get(&name).unwrap();
    assert_eq!(found.path(), directory.path());
    assert_eq!(found.record().unwrap(), record("web"));
    assert_eq!(found.state().unwrap(), State::created(ProcessIdentity::current().unwrap()));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(found.path()), mode(found.path().parent().unwrap())), (0o700, 0o700));
    assert_eq!((mode(&found.file(RECORD)), mode(&found.file(STATE))), (0o600, 0o600));
    assert_eq!(VmDirectory::open(found.path()).unwrap().record().unwrap(), record("web"));

    found.write_state(&state(Phase::Exited, ProcessIdentity::current().unwrap())).unwrap();
    found.remove().unwrap();
    assert_eq!(names(&registry), ["api"]);
    assert!(matches!(found.record(), Err(VmError::NotFound(_))));
    assert!(matches!(found.remove(), Err(VmError::NotFound(_))));
}

#[test]
fn what_a_loss_of_power_leaves_has_ended() {
    let (_root, registry) = registry();
    let vm = registry.create(&record("web")).unwrap();
    for garbage in [Some(&b""[..]), Some(b"\0\0\0"), Some(b"{\"phase\":\"running\"}"), None] {
        match garbage {
            Some(bytes) => fs::write(vm.file(STATE), bytes).unwrap(),
            None => fs::remove_file(vm.file(STATE)).unwrap(),
        }
        // Who answers for it will say how it fares.
        let listener = vm.listen().unwrap();
        vm.state().unwrap_err();
        drop(listener);
        let state = vm.state().unwrap();
        assert_eq!((state.phase, state.message.unwrap().contains("can't be read")), (Phase::Failed, true));
        assert!(vm.is_over().unwrap());
        assert_eq!(names(&registry), ["web"]);
        vm.begin_again().unwrap();
        assert_eq!(vm.state().unwrap().phase, Phase::Created);
        vm.remove_socket().unwrap();
    }
    fs::write(vm.file(STATE), "").unwrap();
    fs::write(vm.file(RECORD), "").unwrap();
    assert!(matches!(vm.record(), Err(VmError::Record { .. })));
    registry.get(&vm.name()).unwrap().remove().unwrap();
    assert_eq!(names(&registry), [] as [&str; 0]);
}

#[test]
fn a_name_is_given_once() {
    let (_root, registry) = registry();
    let first = registry.create(&record("web")).unwrap();
    let error = registry.create(&Record { command: vec!["other".to_owned()], ..record("web") }).unwrap_err();
    assert_eq!(error.to_string(), "a VM named web exists");
    assert_eq!(first.record().unwrap(), record("web"));

    let start = std::sync::Barrier::new(8);
    let made: Vec<bool> = std::thread::scope(|scope| {
        let creators: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    match registry.create(&record("race")) {
                        Ok(_) => true,
                        Err(VmError::NameTaken(_)) => false,
                        Err(error) => panic!("{error:?}"),
                    }
                })
            })
            .collect();
        creators.into_iter().map(|creator| creator.join().unwrap()).collect()
    });
    assert_eq!(made.iter().filter(|made| **made).count(), 1);
}

#[test]
fn a_creator_that_died_on_the_way_has_taken_no_name() {
    let (_root, registry) = registry();
    registry.create(&record("sound")).unwrap();
    let [dead, live] =
        [u32::MAX - 1, std::process::id()].map(|pid| registry.root.join(format!("{NEW}{pid}-7")));
    for path in [&dead, &live, &registry.root.join(format!("{NEW}x"))] {
        fs::create_dir(path).unwrap();
        fs::write(path.join(RECORD), "half").unwrap();
    }
    assert_eq!(names(&registry), ["sound"]);
    assert_eq!((dead.exists(), live.exists()), (false, true));
    fs::remove_dir_all(&live).unwrap();
    // One whose name is taken leaves nothing either.
    assert!(matches!(registry.create(&record("sound")), Err(VmError::NameTaken(_))));
    assert_eq!(fs::read_dir(&registry.root).unwrap().count(), 1);
}

#[test]
fn what_a_dead_creator_left_is_removed_by_the_next_list() {
    let (_root, registry) = registry();
    registry.create(&record("sound")).unwrap();
    // It died before the record: the state says who it was.
    let half = registry.create(&record("half")).unwrap();
    fs::remove_file(half.file(RECORD)).unwrap();
    half.write_state(&State::created(dead())).unwrap();
    // It is at work just now.
    let busy = registry.create(&record("busy")).unwrap();
    fs::remove_file(busy.file(RECORD)).unwrap();
    // It died, or is, between the directory and the first file.
    let (old, young) = (registry.root.join("old"), registry.root.join("young"));
    fs::create_dir(&old).unwrap();
    fs::create_dir(&young).unwrap();
    age(&old, 60);

    assert_eq!(names(&registry), ["sound"]);
    let left = |path: &Path| path.exists();
    assert!(!left(half.path()) && !left(&old));
    assert!(left(busy.path()) && left(&young));
    // None of them is a VM, and none keeps its name.
    assert!(matches!(registry.get(&"busy".parse().unwrap()), Err(VmError::NotFound(_))));
    registry.create(&record("half")).unwrap();
}

#[test]
fn what_is_not_ours_among_the_vms_is_named() {
    let (_root, registry) = registry();
    registry.create(&record("web")).unwrap();
    let stray = registry.root.join(".DS_Store");
    fs::write(&stray, b"").unwrap();
    let error = registry.list().unwrap_err();
    assert_eq!(error.to_string(), format!("{} is not a VM's directory", stray.display()));
    assert!(stray.exists());
    assert!(VmDirectory::open(&stray).is_err());
    assert!(VmDirectory::open(Path::new("/")).is_err());
}

#[test]
fn a_vm_whose_supervisor_died_has_failed_and_its_hypervisor_is_ended() {
    for phase in [Phase::Created, Phase::Booting, Phase::Running] {
        let (_root, registry) = registry();
        let directory = registry.create(&record("web")).unwrap();
        let mut hypervisor = sleeper();
        let before = State {
            hypervisor: Some(ProcessIdentity::of(hypervisor.pid()).unwrap()),
            isolation: Some("emulated".to_owned()),
            started_at: Some(1_700_000_001),
            ..state(phase, dead())
        };
        directory.write_state(&before).unwrap();
        for name in [SCRATCH, INITRD, CONTROL, CONSOLE, PLAN] {
            fs::write(directory.file(name), b"x").unwrap();
        }
        let after = directory.state().unwrap();
        let finished_at = after.finished_at;
        assert!(finished_at.is_some());
        let message = Some("its supervisor died".to_owned());
        assert_eq!(after, State { phase: Phase::Failed, message, finished_at, ..before });
        use std::os::unix::process::ExitStatusExt as _;
        assert_eq!(hypervisor.wait().unwrap().signal(), Some(9));
        let left: Vec<bool> =
            [SCRATCH, INITRD, CONTROL, CONSOLE, PLAN].map(|name| directory.file(name).exists()).to_vec();
        assert_eq!(left, [false, false, false, true, true]);
        assert_eq!(directory.state().unwrap(), after, "repaired once");
        directory.remove().unwrap();
        assert!(!directory.path().exists());
    }
}

#[test]
fn a_vm_that_ended_keeps_its_last_state() {
    let (_root, registry) = registry();
    let directory = registry.create(&record("web")).unwrap();
    for phase in [Phase::Exited, Phase::Failed] {
        let last = State { exit_code: Some(3), ..state(phase, dead()) };
        directory.write_state(&last).unwrap();
        assert_eq!(directory.state().unwrap(), last);
    }
}

#[test]
fn nobody_takes_a_vm_before_what_it_had_is_removed() {
    let (_root, registry) = registry();
    let directory = registry.create(&record("web")).unwrap();
    directory.write_state(&state(Phase::Running, ProcessIdentity::current().unwrap())).unwrap();
    fs::write(directory.file(CONTROL), b"x").unwrap();
    let last = state(Phase::Exited, ProcessIdentity::current().unwrap());
    let turn = directory.turn().unwrap();
    std::thread::scope(|scope| {
        let ending = scope.spawn(|| directory.end(&last));
        std::thread::sleep(std::time::Duration::from_millis(100));
        // Who takes it meanwhile finds it running, and its files are its own.
        assert!(!directory.stored_state().unwrap().ended());
        assert!(directory.file(CONTROL).exists());
        drop(turn);
        ending.join().unwrap().unwrap();
    });
    assert_eq!(directory.stored_state().unwrap(), last);
    assert!(!directory.file(CONTROL).exists());
}

#[test]
fn a_running_vm_cannot_be_removed() {
    let (_root, registry) = registry();
    let directory = registry.create(&record("web")).unwrap();
    let mut supervisor = sleeper();
    for phase in [Phase::Created, Phase::Booting, Phase::Running] {
        directory.write_state(&state(phase, ProcessIdentity::of(supervisor.pid()).unwrap())).unwrap();
        assert_eq!(directory.remove().unwrap_err().to_string(), "VM web is running");
    }
    supervisor.kill().unwrap();
    supervisor.wait().unwrap();
    directory.remove().unwrap();
}

#[test]
fn damaged_files_are_named() {
    let (_root, registry) = registry();
    let directory = registry.create(&record("web")).unwrap();
    // Somebody answers for it, so that its state is not just taken for lost.
    let _listener = directory.listen().unwrap();
    for (file, text) in [(RECORD, "{"), (RECORD, "{}"), (STATE, ""), (STATE, r#"{"phase":"dreaming"}"#)] {
        let path = directory.file(file);
        let before = fs::read(&path).unwrap();
        fs::write(&path, text).unwrap();
        let error =
            if file == RECORD { directory.record().unwrap_err() } else { directory.state().unwrap_err() };
        assert_eq!(error.to_string(), format!("{} is not a valid record", path.display()));
        fs::write(&path, before).unwrap();
    }
}

#[test]
fn a_connection_needs_a_running_vm_and_no_short_path() {
    let root = tempfile::tempdir().unwrap();
    let deep = root.path().join("d".repeat(100)).join("e".repeat(100));
    fs::create_dir_all(&deep).unwrap();
    let registry = VmRegistry::new(&deep);
    let directory = registry.create(&record("web")).unwrap();
    let current = || ProcessIdentity::current().unwrap();
    for phase in [Phase::Created, Phase::Exited, Phase::Failed] {
        directory.write_state(&state(phase, current())).unwrap();
        let error = directory.connect().unwrap_err();
        assert_eq!(error.to_string(), format!("VM web is not running (it is {phase})"));
    }
    for phase in [Phase::Booting, Phase::Running] {
        directory.write_state(&state(phase, current())).unwrap();
        let error = directory.connect().unwrap_err();
        assert_eq!(error.to_string(), format!("connect to {}", directory.file(CONTROL).display()));
        let listener = directory.listen().unwrap();
        let mut ours = directory.connect().unwrap();
        ours.write_all(b"hello").unwrap();
        let (mut theirs, _) = listener.accept().unwrap();
        drop(ours);
        let mut said = String::new();
        io::Read::read_to_string(&mut theirs, &mut said).unwrap();
        assert_eq!(said, "hello");
        assert_eq!(
            directory.listen().unwrap_err().to_string(),
            format!("listen on {}", directory.file(CONTROL).display())
        );
        fs::remove_file(directory.file(CONTROL)).unwrap();
    }
    directory.write_state(&state(Phase::Running, dead())).unwrap();
    let error = directory.connect().unwrap_err();
    assert_eq!(error.to_string(), format!("VM web is not running (it is {})", Phase::Failed));
}

#[test]
fn a_reader_sees_the_old_file_or_the_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.json");
    let texts = ["a".repeat(100_000), "b".repeat(50_000), "c".repeat(10)];
    write_atomically(&path, texts[0].as_bytes()).unwrap();
    std::thread::scope(|scope| {
        for text in &texts {
            let path = &path;
            scope.spawn(move || {
                for _ in 0..50 {
                    write_atomically(path, text.as_bytes()).unwrap();
                }
            });
        }
        for _ in 0..200 {
            let read = fs::read_to_string(&path).unwrap();
            assert!(texts.contains(&read), "{} bytes", read.len());
        }
    });
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file is left");
}
