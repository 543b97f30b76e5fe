//! Programs that are confined like a hypervisor, looked at from inside and outside.

use super::*;
use crate::exec::{ExecError, Invocation, Limits, Output, RestrictionStep, Running};
use rustix::fd::{AsFd as _, OwnedFd};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::time::Duration;

const LIMITS: Limits = Limits { time: Duration::from_secs(60), output: 1 << 20 };

fn host() -> Host {
    Host::look(Path::new("/dev/kvm"))
}

fn task<'a>(program: &'a Path, readable: &'a [BorrowedFd<'a>]) -> Task<'a> {
    let (cpus, memory_mib) = (2, 256);
    Task { program, cpus, memory_mib, accelerator: Accelerator::Tcg, readable, largest_file: 8192 }
}

fn confined(program: &Path, readable: &[BorrowedFd<'_>]) -> (Invocation, Vec<Protection>, Reservation) {
    let reservation = host().reserve().unwrap();
    let (restrictions, protections) = reservation.restrict(&task(program, readable)).unwrap();
    (
        Invocation::new(program).directory("/").die_with_parent().restrict(restrictions),
        protections,
        reservation,
    )
}

fn run(program: &str, arguments: &[&str]) -> Output {
    let (invocation, _, _held) = confined(Path::new(program), &[]);
    invocation.args(arguments).env("LC_ALL", "C").run(LIMITS).unwrap()
}

/// Starts a confined program that waits to be killed.
fn sleeper() -> (Running, Vec<Protection>, Reservation) {
    let (invocation, protections, held) = confined(Path::new("/usr/bin/sleep"), &[]);
    let running = invocation.arg("1000").start(Stdio::null(), Stdio::null()).unwrap();
    (running, protections, held)
}

fn field(text: &str, name: &str) -> Vec<String> {
    let line =
        text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {text}"));
    line.split_ascii_whitespace().map(str::to_owned).collect()
}

#[test]
fn what_the_kernel_says_of_a_confined_process_is_what_was_told() {
    let (running, protections, held) = sleeper();
    let proc = PathBuf::from(format!("/proc/{}", running.pid()));
    let status = fs::read_to_string(proc.join("status")).unwrap();
    assert_eq!(field(&status, "NoNewPrivs:"), ["1"]);
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(&status, set), ["0000000000000000"], "{set}");
    }
    assert_eq!(field(&status, "Umask:"), ["0077"]);
    let limits = fs::read_to_string(proc.join("limits")).unwrap();
    assert_eq!(field(&limits, "Max core file size"), ["0", "0", "bytes"]);
    assert_eq!(field(&limits, "Max open files"), ["272", "272", "files"]);
    assert_eq!(field(&limits, "Max file size"), ["8192", "8192", "bytes"]);
    assert_eq!(fs::read(proc.join("environ")).unwrap(), b"");
    let descriptors: BTreeSet<String> = fs::read_dir(proc.join("fd"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(descriptors, BTreeSet::from(["0", "1", "2"].map(str::to_owned)));

    let detail = |measure| protections.iter().find(|known| known.measure == measure).unwrap();
    let told = &detail(Measure::ResourceLimits).detail;
    assert!(told.starts_with("core files 0 bytes, open files 272, files 8192 bytes"), "{told}");
    let own = detail(Measure::OwnUser);
    let uids = field(&status, "Uid:");
    if own.active {
        let uid = held.user.as_ref().unwrap().uid().as_raw();
        assert!(own.mandatory);
        assert_eq!(own.detail, format!("uid {uid}"));
        assert_eq!(uids, [uid.to_string(), uid.to_string(), uid.to_string(), uid.to_string()]);
        assert_eq!(field(&status, "Gid:"), uids);
        assert_eq!(field(&status, "Groups:"), Vec::<String>::new());
        assert_eq!(field(&limits, "Max processes")[..2], ["132", "132"]);
    } else {
        assert_eq!(uids[0], rustix::process::getuid().as_raw().to_string());
    }
    let active: BTreeSet<String> =
        protections.iter().filter(|known| known.active).map(|known| known.measure.to_string()).collect();
    assert_eq!(active, held.active());
    assert!(protections.iter().all(|known| known.active || !known.mandatory), "{protections:?}");
    let told: Vec<Measure> = protections.iter().map(|known| known.measure).collect();
    assert_eq!(told, Measure::ALL);
}

#[test]
fn two_hypervisors_have_two_users() {
    let (first, second) = (host().reserve().unwrap(), host().reserve().unwrap());
    if let (Some(first), Some(second)) = (&first.user, &second.user) {
        assert_ne!(first.uid(), second.uid());
    }
}

#[test]
fn a_confined_program_opens_nothing_but_what_it_was_given() {
    if host().landlock.is_none() {
        eprintln!("SKIP a_confined_program_opens_nothing_but_what_it_was_given: no Landlock");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let other = directory.path().join("other");
    fs::write(&other, "secret").unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o666)).unwrap();
    let other = other.to_str().unwrap();
    let new = directory.path().join("new");
    for (program, arguments) in [
        ("/usr/bin/cat", vec![other]),
        ("/usr/bin/cat", vec!["/etc/passwd"]),
        ("/usr/bin/cat", vec!["/proc/self/status"]),
        ("/usr/bin/ls", vec![directory.path().to_str().unwrap()]),
        ("/usr/bin/truncate", vec!["-s", "0", other]),
        ("/usr/bin/rm", vec!["-f", other]),
        ("/usr/bin/touch", vec![new.to_str().unwrap()]),
        ("/usr/bin/env", vec!["/usr/bin/true"]),
    ] {
        let output = run(program, &arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && said.contains("Permission denied"),
            "{program} {arguments:?}: {said}"
        );
    }
    assert_eq!(fs::read(other).unwrap(), b"secret");
    assert!(!new.exists());

    // What it is given it opens again, whoever may reach it by name.
    let given = directory.path().join("given");
    fs::write(&given, "kernel").unwrap();
    fs::set_permissions(&given, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let file = OwnedFd::from(File::open(&given).unwrap());
    let (mut invocation, _, _held) = confined(Path::new("/usr/bin/cat"), &[file.as_fd()]);
    let number = invocation.inherit(file);
    let output = invocation.arg(format!("/dev/fd/{number}")).run(LIMITS).unwrap().success().unwrap();
    assert_eq!(output.stdout, b"kernel");
}

#[test]
fn a_file_that_grows_past_its_limit_ends_the_program() {
    let file = tempfile::tempfile().unwrap();
    let reservation = host().reserve().unwrap();
    let (restrictions, _) = reservation.restrict(&task(Path::new("/usr/bin/dd"), &[])).unwrap();
    let invocation =
        Invocation::new("/usr/bin/dd").args(["if=/dev/stdin", "bs=4096", "count=3"]).directory("/");
    let source = File::open("/dev/zero").unwrap();
    let invocation = invocation.input(source).restrict(Restrictions { ruleset: None, ..restrictions });
    let mut running = invocation.start(Stdio::from(file.try_clone().unwrap()), Stdio::null()).unwrap();
    assert!(!running.wait().unwrap().success());
    assert_eq!(file.metadata().unwrap().len(), 8192);
}

#[test]
fn a_step_that_fails_is_named_and_nothing_starts() {
    // What is not a ruleset can't be enforced.
    let ruleset = Some(OwnedFd::from(File::open("/dev/null").unwrap()));
    let restrictions = Restrictions { ruleset, ..Restrictions::default() };
    let error = Invocation::new("/bin/true").restrict(restrictions).run(LIMITS).unwrap_err();
    assert!(matches!(error, ExecError::Confine { step: RestrictionStep::Ruleset, .. }), "{error:?}");
    assert_eq!(error.to_string(), "cannot start /bin/true: it cannot be put under a Landlock ruleset");
    let restrictions =
        Restrictions { cgroup: Some(File::open("/dev/null").unwrap()), ..Restrictions::default() };
    let error = Invocation::new("/bin/true").restrict(restrictions).run(LIMITS).unwrap_err();
    assert!(matches!(error, ExecError::Confine { step: RestrictionStep::Cgroup, .. }), "{error:?}");
}

#[test]
fn the_kvm_device_is_opened_by_the_group_that_may() {
    let directory = tempfile::tempdir().unwrap();
    let device = directory.path().join("kvm");
    fs::write(&device, b"").unwrap();
    let reservation = |mode| {
        fs::set_permissions(&device, fs::Permissions::from_mode(mode)).unwrap();
        Host::look(&device).reserve().unwrap()
    };
    let ask = |mode| {
        let task = Task { accelerator: Accelerator::Kvm, ..task(Path::new("/bin/true"), &[]) };
        reservation(mode).kvm_group(&task).map_err(|error| error.to_string())
    };
    assert_eq!(ask(0o666), Ok(None));
    let refused = format!("{} cannot be opened by the hypervisor's own user (mode 600)", device.display());
    assert_eq!(ask(0o600), Err(refused));
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&device, None, Some(4321)).unwrap();
        assert_eq!(ask(0o660), Ok(Some(Gid::from_raw(4321))));
    }
}

#[test]
fn what_a_host_lacks_is_told_and_not_promised() {
    let lacking = Host {
        landlock: None,
        own_user: Err("not started by root".to_owned()),
        cgroup: Err("cgroup v2 is not mounted".to_owned()),
        ..host()
    };
    let inactive: Vec<(Measure, bool, String)> = lacking
        .protections()
        .into_iter()
        .filter(|known| !known.active)
        .map(|known| (known.measure, known.mandatory, known.detail))
        .collect();
    assert_eq!(
        inactive,
        [
            (Measure::OwnUser, false, "not started by root".to_owned()),
            (Measure::Landlock, false, landlock::LACKING.to_owned()),
            (Measure::Cgroup, false, "cgroup v2 is not mounted".to_owned()),
        ]
    );
    let reservation = lacking.reserve().unwrap();
    let expected = [
        "descriptors",
        "dies-with-supervisor",
        "environment",
        "no-capabilities",
        "no-new-privs",
        "resource-limits",
        "seccomp",
    ];
    assert_eq!(reservation.active(), BTreeSet::from(expected.map(str::to_owned)));
}
