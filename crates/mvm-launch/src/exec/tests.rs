use super::*;
use std::io::{Read, Write};
use std::time::Duration;

const LIMITS: Limits = Limits { time: Duration::from_secs(20), output: 1 << 20 };

fn program(name: &str) -> Invocation {
    Invocation::new(find_program(name, OsStr::new("/usr/bin:/bin")).unwrap())
}

#[test]
fn output_status_and_environment_are_what_the_invocation_says() {
    let output = program("env").env("A", "1").env("B", "x y").run(LIMITS).unwrap();
    assert_eq!(output.stdout, b"A=1\nB=x y\n");
    assert_eq!(output.stderr, b"");
    assert_eq!(output.status.code(), Some(0));

    let output = program("pwd").directory("/usr").run(LIMITS).unwrap();
    assert_eq!(output.stdout, b"/usr\n");

    let output = program("cat").run(LIMITS).unwrap();
    assert_eq!(output.stdout, b"", "standard input is empty by default");
}

#[test]
fn failure_carries_the_end_of_standard_error() {
    let error =
        program("ls").arg("/no/such/file").env("LC_ALL", "C").run(LIMITS).unwrap().success().unwrap_err();
    let text = error.to_string();
    assert!(text.contains("ls failed with exit status: 2: "), "{text}");
    assert!(text.ends_with("No such file or directory"), "{text}");
}

#[test]
fn large_output_is_collected_whole_and_capped() {
    let output = program("head").args(["-c", "1000000", "/dev/zero"]).run(LIMITS).unwrap();
    assert_eq!(output.stdout.len(), 1_000_000);
    let error = program("cat").arg("/dev/zero").run(LIMITS).unwrap_err();
    assert!(matches!(error, ExecError::TooMuchOutput { limit: 1_048_576, .. }), "{error}");
}

#[test]
fn the_watcher_sees_both_streams() {
    let mut seen = (Vec::new(), Vec::new());
    program("ls")
        .args(["-d", "/usr", "/no/such/file"])
        .run_watched(LIMITS, &mut |stream, bytes| match stream {
            OutputStream::Stdout => seen.0.extend_from_slice(bytes),
            OutputStream::Stderr => seen.1.extend_from_slice(bytes),
        })
        .unwrap();
    assert_eq!(seen.0, b"/usr\n");
    assert!(!seen.1.is_empty());
}

#[test]
fn a_program_that_runs_too_long_is_killed() {
    let limits = Limits { time: Duration::from_millis(100), output: 0 };
    let error = program("sleep").arg("1000").run(limits).unwrap_err();
    assert!(matches!(error, ExecError::TimedOut { seconds: 0, .. }), "{error}");
}

#[test]
fn a_program_is_ended_when_nobody_wants_it() {
    let limits = Limits { time: Duration::from_secs(1000), output: 1 << 20 };
    let asked = std::cell::Cell::new(0);
    let third = || {
        asked.set(asked.get() + 1);
        asked.get() > 2
    };
    let error = program("sleep").arg("1000").run_unless(limits, &third).unwrap_err();
    assert!(matches!(error, ExecError::Stopped { .. }), "{error}");
    assert!(program("true").run_unless(limits, &|| false).unwrap().status.success());
}

#[test]
fn dropping_a_running_program_kills_and_reaps_it() {
    let running = program("sleep").arg("1000").start(Stdio::null(), Stdio::null()).unwrap();
    let pid = running.pid();
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    drop(running);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn kill_and_wait_may_be_repeated() {
    let mut running = program("sleep").arg("1000").start(Stdio::null(), Stdio::null()).unwrap();
    assert_eq!(running.try_wait().unwrap(), None);
    running.kill().unwrap();
    let status = running.wait().unwrap();
    assert!(!status.success());
    running.kill().unwrap();
    assert_eq!(running.try_wait().unwrap(), Some(status));
}

#[test]
fn an_inherited_descriptor_is_open_in_the_program_and_others_are_not() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut invocation = program("cat");
    let number = invocation.inherit(theirs.into());
    let output = {
        let invocation = invocation.arg(format!("/proc/self/fdinfo/{number}"));
        invocation.run(LIMITS).unwrap()
    };
    assert!(output.status.success());
    assert!(output.stdout.starts_with(b"pos:"));
    let closed = program("cat").arg(format!("/proc/self/fdinfo/{}", ours.as_raw_fd())).run(LIMITS).unwrap();
    assert!(!closed.status.success());
}

#[test]
fn input_comes_from_the_file_given() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"text").unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let mut running =
        program("cat").input(file).die_with_parent().start(Stdio::piped(), Stdio::null()).unwrap();
    let mut text = String::new();
    running.take_stdout().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "text");
    assert!(running.wait().unwrap().success());
}

#[test]
fn programs_are_found_by_absolute_directories_only() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("mvm-test-program");
    std::fs::write(&file, "").unwrap();
    let find = || find_program("mvm-test-program", directory.path().as_os_str());
    assert!(matches!(find().unwrap_err(), ExecError::NotFound { .. }), "not executable yet");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(find().unwrap(), file);
    let error = find_program("mvm-no-such-program", OsStr::new("relative:")).unwrap_err();
    assert_eq!(error.to_string(), "no program \"mvm-no-such-program\" in /usr/sbin:/sbin:/usr/bin:/bin");
    assert!(find_program("mke2fs-or-nothing", OsStr::new("")).is_err());
}

#[test]
fn a_program_that_cannot_start_is_named() {
    let error = Invocation::new("/no/such/program").run(LIMITS).unwrap_err();
    assert_eq!(error.to_string(), "cannot start /no/such/program");
}

#[test]
fn a_detached_program_outlives_its_handle() {
    let running = program("sleep").arg("1000").start(Stdio::null(), Stdio::null()).unwrap();
    let pid = Pid::from_raw(i32::try_from(running.pid()).unwrap()).unwrap();
    running.detach();
    rustix::process::test_kill_process(pid).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()).unwrap();
}

#[test]
fn a_descriptor_that_the_caller_itself_inherited_is_closed_too() {
    let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    rustix::io::fcntl_setfd(&ours, rustix::io::FdFlags::empty()).unwrap();
    let path = format!("/proc/self/fdinfo/{}", ours.as_raw_fd());
    assert!(!program("cat").arg(path).run(LIMITS).unwrap().status.success());
}

#[test]
fn a_program_is_root_of_namespaces_of_its_own_and_of_nothing_else() {
    use rustix::process::{Gid, Uid, getegid, geteuid};
    let map = |kind: &str, identity: Option<(Uid, Gid)>| {
        let (user, group) = identity.unwrap_or((geteuid(), getegid()));
        let restrictions = Restrictions {
            identity: identity.map(|_| Identity { user, group, groups: Vec::new() }),
            namespaces: Some(OwnNamespaces::of(user, group)),
            ..Restrictions::default()
        };
        let output = program("cat").arg(format!("/proc/self/{kind}")).restrict(restrictions).run(LIMITS).map(
            |output| String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" "),
        );
        match output {
            Err(ExecError::Confine { step: RestrictionStep::Namespaces, source, .. }) => {
                println!("skipped: no namespaces of users here ({source})");
                None
            }
            output => Some(output.unwrap()),
        }
    };
    let Some(own) = map("uid_map", None) else { return };
    assert_eq!(own, format!("0 {} 1", geteuid()));
    assert_eq!(map("gid_map", None).unwrap(), format!("0 {} 1", getegid()));
    assert_eq!(map("setgroups", None).unwrap(), "deny");
    assert!(!map("net/dev", None).unwrap().contains("eth"));
    if geteuid().is_root() {
        let other = Some((Uid::from_raw(4321), Gid::from_raw(4322)));
        assert_eq!(map("uid_map", other).unwrap(), "0 4321 1");
        assert_eq!(map("gid_map", other).unwrap(), "0 4322 1");
    }
}
