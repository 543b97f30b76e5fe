//! How the hypervisor of a running VM is confined, as the kernel tells it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use libtest_mimic::Failed;
use mvm_tests::fixtures;
use mvm_tests::need::Need;
use mvm_tests::process::Program;
use mvm_tests::sandbox::Sandbox;
use mvm_tests::workspace;
use serde_json::Value;

use crate::unprivileged::of_user;
use crate::{BUSYBOX, Case, GUEST, Outcome, UMOCI, ensure, ensure_eq};

/// A user without a name, groups or home.
const USER: u32 = 54_322;
/// The first user that a hypervisor started by root may have, and how many there are.
const FIRST_USER: u32 = 1_900_000_000;
const USERS: u32 = 65_536;

pub const CASES: &[Case] = &[
    Case { name: "confinement::of_a_hypervisor", needs: GUEST, run: of_the_caller },
    Case {
        name: "confinement::of_a_hypervisor_of_an_ordinary_user",
        needs: &[Need::Mvmctl, Need::Guest, Need::Root, UMOCI, BUSYBOX],
        run: of_a_user,
    },
    Case { name: "confinement::two_vms_have_two_users", needs: ROOT_GUEST, run: two_users },
    Case { name: "confinement::what_cannot_be_had_refuses_the_launch", needs: ROOT_GUEST, run: refused },
];

const ROOT_GUEST: &[Need] = &[Need::Mvmctl, Need::Guest, Need::Root, UMOCI, BUSYBOX];

/// Runs a VM whose creator leaves a descriptor and variables lying about, and looks at its hypervisor.
fn of_the_caller() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let image = format!("oci:{}:latest", fixtures::busybox()?.display());
    looked_at(&sandbox, &image)
}

fn of_a_user() -> Outcome {
    let (sandbox, image) = of_user(USER)?;
    looked_at(&sandbox, &image)
}

fn looked_at(sandbox: &Sandbox, image: &str) -> Outcome {
    // What the hypervisor must not get: a descriptor that is not closed on exec, and a variable.
    let secret = tempfile::NamedTempFile::new()?;
    let leaked = OwnedFd::from(secret.reopen()?);
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty())?;
    sandbox
        .mvmctl(["run", "-d", "--name", "held", image, "sleep", "1000"])
        .env("SECRET", "s3cret")
        .run()?
        .ok()?;
    drop(leaked);
    let told = sandbox.json(["vm", "inspect", "--json", "held"])?;
    ensure_eq!(told["phase"], "running");
    let pid = told["hypervisor_pid"].as_u64().ok_or("no hypervisor")?;
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let listed = sandbox.json(["vm", "ls", "--json"])?;
    for key in ["image", "root_hash", "plan", "isolation"] {
        ensure_eq!(told[key], listed[0][key]);
    }
    ensure_eq!(told["resources"]["memory_mib"], 512);

    let status = fs::read_to_string(proc.join("status"))?;
    ensure_eq!(field(&status, "NoNewPrivs:"), ["1"]);
    ensure_eq!(field(&status, "Seccomp:"), ["2"]);
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        ensure_eq!(field(&status, set), ["0000000000000000"]);
    }
    // Each thread, those of the emulator among them.
    for thread in fs::read_dir(proc.join("task"))? {
        let status = fs::read_to_string(thread?.path().join("status"))?;
        ensure_eq!(field(&status, "Seccomp:"), ["2"]);
        ensure_eq!(field(&status, "NoNewPrivs:"), ["1"]);
    }
    ensure_eq!(fs::read(proc.join("environ"))?, b"");
    let limits = fs::read_to_string(proc.join("limits"))?;
    ensure_eq!(field(&limits, "Max core file size"), ["0", "0", "bytes"]);
    ensure_eq!(field(&limits, "Max open files"), ["264", "264", "files"]);
    let scratch = (16_u64 << 30).to_string();
    ensure_eq!(field(&limits, "Max file size")[..2], [scratch.clone(), scratch]);
    descriptors(&proc, &sandbox.store(), secret.path())?;
    ensure_eq!(fs::read_link(proc.join("cwd"))?, Path::new("/"));

    let measures = measures(&told)?;
    let own = &measures["own-user"];
    let uid: u32 = field(&status, "Uid:")[0].parse()?;
    let caller = fs::metadata(sandbox.store())?;
    let caller = std::os::unix::fs::MetadataExt::uid(&caller);
    if caller == 0 && own["active"] == true {
        ensure!((FIRST_USER..FIRST_USER + USERS).contains(&uid), "uid {uid}");
        ensure_eq!(own["mandatory"], true);
        ensure_eq!(own["detail"], format!("uid {uid}"));
        ensure_eq!(field(&status, "Gid:"), vec![uid.to_string(); 4]);
        ensure_eq!(field(&status, "Groups:"), Vec::<String>::new());
    } else {
        ensure_eq!(uid, caller);
        ensure_eq!(own["mandatory"], false);
    }
    for (name, measure) in &measures {
        ensure!(measure["active"] == true || measure["mandatory"] == false, "{name} is lacking: {measure}");
    }
    // The log says the same.
    let log = sandbox.mvmctl(["audit", "tail", "-n", "1000"]).run()?.ok()?.out();
    let launches = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let launch = launches.map(|entry| entry["event"].clone()).find(|event| event["kind"] == "launch");
    let launch = launch.ok_or_else(|| format!("no launch in the log:\n{log}"))?;
    let logged: BTreeSet<&str> =
        launch["confinement"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let active: BTreeSet<&str> = measures
        .iter()
        .filter(|(_, measure)| measure["active"] == true)
        .map(|(name, _)| name.as_str())
        .collect();
    ensure_eq!(logged, active);
    // And a person is told.
    let text = sandbox.mvmctl(["vm", "inspect", "held"]).run()?.ok()?.out();
    for (name, measure) in &measures {
        let detail = measure["detail"].as_str().unwrap_or_default();
        ensure!(
            text.lines().any(|line| line.contains(name) && line.contains(detail)),
            "no {name} in:\n{text}"
        );
    }

    sandbox.mvmctl(["vm", "stop", "-t", "0", "held"]).run()?.ok()?;
    let told = sandbox.json(["vm", "inspect", "--json", "held"])?;
    ensure_eq!(told["hypervisor_pid"], Value::Null);
    ensure_eq!(told["supervisor_pid"], Value::Null);
    ensure!(told["finished_at"].is_i64(), "{told}");
    ensure!(!Path::new("/run/mvm/uids").join(uid.to_string()).exists(), "user {uid} is still reserved");
    sandbox.mvmctl(["vm", "inspect", "other"]).run()?.exits(3)?;
    Ok(())
}

/// Checks what a hypervisor has open: its own files, and nothing of its creator's.
fn descriptors(proc: &Path, store: &Path, secret: &Path) -> Outcome {
    let store = store.canonicalize()?;
    for entry in fs::read_dir(proc.join("fd"))? {
        let entry = entry?;
        let target = fs::read_link(entry.path())?;
        let text = target.to_string_lossy().into_owned();
        ensure!(target != secret, "it has the descriptor of another file");
        let own = target.strip_prefix(&store).is_ok_and(|path| {
            ["vms/held/scratch.img", "vms/held/initrd.cpio"].iter().any(|own| path == Path::new(own))
                || path.starts_with("scopes/default/images")
                || path.starts_with("kernels")
        });
        let plain = text == "/dev/null" || text == "/dev/kvm";
        let unnamed =
            ["socket:", "pipe:", "anon_inode:", "/memfd:"].iter().any(|kind| text.starts_with(kind));
        ensure!(own || plain || unnamed, "it has {text} open as {:?}", entry.file_name());
    }
    Ok(())
}

fn two_users() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let image = format!("oci:{}:latest", fixtures::busybox()?.display());
    let mut users = BTreeSet::new();
    for name in ["one", "two"] {
        sandbox.mvmctl(["run", "-d", "--name", name, &image, "sleep", "1000"]).run()?.ok()?;
        let told = sandbox.json(["vm", "inspect", "--json", name])?;
        let measures = measures(&told)?;
        if measures["own-user"]["active"] == false {
            return Ok(());
        }
        users.insert(measures["own-user"]["detail"].to_string());
    }
    ensure_eq!(users.len(), 2);
    // Its user is free again although the supervisor had no time to say so.
    let told = sandbox.json(["vm", "inspect", "--json", "one"])?;
    let supervisor = told["supervisor_pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    let supervisor = supervisor.and_then(rustix::process::Pid::from_raw).ok_or("no supervisor")?;
    rustix::process::kill_process(supervisor, rustix::process::Signal::KILL)?;
    sandbox.mvmctl(["run", "--rm", &image, "true"]).run()?.ok()?;
    Ok(())
}

/// A mandatory measure that can't be had: the users' locks can't be made.
fn refused() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let image = format!("oci:{}:latest", fixtures::busybox()?.display());
    sandbox.mvmctl(["pull", &image]).run()?.ok()?;
    let own = sandbox.json(["doctor", "--json"])?;
    let own = own.as_array().into_iter().flatten().find(|check| check["name"] == "own-user").cloned();
    if own.is_none_or(|check| check["required"] == false) {
        return Ok(());
    }
    let run = |program: Program| program.arg(workspace::mvmctl()).arg("--root").arg(sandbox.store());
    let output = run(Program::new("unshare").args(["--mount", "--propagation", "private", "--"]).args([
        "busybox",
        "sh",
        "-c",
        "mount -t tmpfs -o ro none /run && exec \"$@\"",
        "sh",
    ]))
    .args(["run", "--rm", &image, "true"])
    .run()?
    .exits(125)?;
    ensure!(
        output.err().contains("cannot give the hypervisor a user of its own"),
        "it says: {}",
        output.err()
    );
    ensure!(output.err().contains("hint: mvmctl doctor"), "no hint: {}", output.err());
    ensure_eq!(sandbox.vms()?, Vec::<String>::new());
    Ok(())
}

fn measures(told: &Value) -> Result<BTreeMap<String, Value>, Failed> {
    let list = told["confinement"].as_array().ok_or("no list of measures")?;
    let named =
        list.iter().filter_map(|measure| Some((measure["measure"].as_str()?.to_owned(), measure.clone())));
    let measures: BTreeMap<String, Value> = named.collect();
    ensure!(measures.contains_key("own-user"), "no own-user in {told}");
    Ok(measures)
}

fn field(text: &str, name: &str) -> Vec<String> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_ascii_whitespace().map(str::to_owned).collect()
}
