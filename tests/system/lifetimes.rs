//! VMs in time: a clock that goes on after a pause, a guest that answers nobody, and a service manager that starts and stops one.

use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use libtest_mimic::Failed;
use mvm_tests::fixtures;
use mvm_tests::need::Need;
use mvm_tests::process::{Program, holders};
use mvm_tests::sandbox::Sandbox;
use rustix::process::{Pid, Signal, kill_process};

use crate::{BUSYBOX, Case, GUEST, Outcome, UMOCI, ensure, ensure_eq};

pub const CASES: &[Case] = &[
    Case { name: "lifetimes::the_clock_follows_the_host", needs: GUEST, run: clock },
    Case { name: "lifetimes::a_guest_that_answers_nobody_is_ended", needs: GUEST, run: hung },
    Case { name: "lifetimes::a_service_manager_is_notified", needs: GUEST, run: notified },
    Case {
        name: "lifetimes::a_unit_is_what_systemd_takes",
        needs: &[Need::Mvmctl, Need::Guest, UMOCI, BUSYBOX, Need::Program("systemd-analyze", "systemd")],
        run: unit,
    },
    Case { name: "lifetimes::the_host_is_restarted", needs: GUEST, run: restarted },
    Case { name: "lifetimes::secrets_are_read_again", needs: GUEST, run: secrets },
];

fn image() -> Result<String, Failed> {
    Ok(format!("oci:{}:latest", fixtures::busybox()?.display()))
}

/// Returns the hypervisor's process of the one VM of a store.
fn hypervisor(sandbox: &Sandbox) -> Result<Pid, Failed> {
    let found = holders(&sandbox.store())?;
    let pid = found.iter().find(|(_, line)| line.contains("qemu-system")).map(|(pid, _)| *pid);
    let pid = pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    pid.ok_or_else(|| format!("no hypervisor among {found:?}").into())
}

fn clock() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    sandbox.mvmctl(["run", "-d", "--name", "vm", &image()?, "sleep", "1000"]).run()?.ok()?;
    // Seconds between the guest's clock and the host's; the guest's is read after the host's.
    let behind = || -> Result<f64, Failed> {
        let host = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
        let read = sandbox.mvmctl(["exec", "vm", "busybox", "date", "+%s"]).run()?.ok()?.out();
        let guest: f64 = read.trim().parse()?;
        Ok(host - guest)
    };
    let before = behind()?;
    ensure!(before < 3.0, "the guest's clock is {before} s behind when it starts");
    sandbox.mvmctl(["vm", "pause", "vm"]).run()?.ok()?;
    std::thread::sleep(Duration::from_secs(8));
    sandbox.mvmctl(["vm", "resume", "vm"]).run()?.ok()?;
    let after = behind()?;
    ensure!(after < 3.0, "the guest's clock is {after} s behind after a pause of 8 s");
    sandbox.mvmctl(["rm", "-f", "vm"]).run()?.ok()?;
    Ok(())
}

fn hung() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    sandbox.mvmctl(["run", "-d", "--name", "vm", &image()?, "sleep", "1000"]).run()?.ok()?;
    let pid = hypervisor(&sandbox)?;
    kill_process(pid, Signal::STOP)?;
    // It can't be asked anything, and is told as such.
    let status = sandbox.mvmctl(["vm", "status", "vm"]).run()?.ok()?.out();
    ensure!(status.contains("name:") && status.contains("vm"), "{status}");
    sandbox.mvmctl(["stop", "-t", "1", "vm"]).run()?.ok()?;
    let listed = sandbox.json(["vm", "inspect", "vm", "--json"])?;
    let message = listed["message"].as_str().unwrap_or_default();
    ensure!(message.contains("did not stop within"), "{listed}");
    let left = holders(&sandbox.store())?;
    ensure!(left.is_empty(), "{left:?}");
    ensure_eq!(sandbox.mvmctl(["audit", "verify"]).run()?.ok()?.code(), 0);
    Ok(())
}

fn notified() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let options = ["run", "-d", "--name", "vm", "--health-cmd", "test -e /well", "--health-interval", "1s"];
    let script = "sleep 1; touch /well; exec sleep 1000";
    sandbox.mvmctl(options).args([&image()?, "sh", "-c", script]).run()?.ok()?;
    sandbox.mvmctl(["stop", "-t", "0", "vm"]).run()?.ok()?;
    let unit = sandbox.mvmctl(["systemd", "vm"]).run()?.ok()?.out();
    for line in ["[Unit]", "[Service]", "Type=notify", "[Install]"] {
        ensure!(unit.lines().any(|found| found == line), "no {line} in {unit}");
    }
    ensure!(unit.contains(" vm start --foreground vm\n"), "{unit}");

    let path = sandbox.path().join("notify");
    let socket = UnixDatagram::bind(&path)?;
    socket.set_read_timeout(Some(Duration::from_secs(120)))?;
    let heard = || -> Result<String, Failed> {
        let mut buffer = [0; 4096];
        let count = socket.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..count]).into_owned())
    };
    let mut manager = sandbox
        .mvmctl(["vm", "start", "--foreground", "vm"])
        .env("NOTIFY_SOCKET", &path)
        .spawn(Stdio::null(), Stdio::null())?;
    let mut said = heard()?;
    while !said.contains("READY=1") {
        said = heard()?;
    }
    ensure_eq!(sandbox.mvmctl(["exec", "vm", "test", "-e", "/well"]).run()?.ok()?.code(), 0);
    let pid = Pid::from_raw(i32::try_from(manager.id())?).ok_or("no process")?;
    kill_process(pid, Signal::TERM)?;
    while !said.contains("STOPPING=1") {
        said = heard()?;
    }
    ensure!(manager.wait()?.success(), "what a manager stops ends well");
    let left = holders(&sandbox.store())?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

fn unit() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    sandbox.mvmctl(["run", "-d", "--name", "vm", &image()?, "sleep", "1000"]).run()?.ok()?;
    sandbox.mvmctl(["stop", "-t", "0", "vm"]).run()?.ok()?;
    let text = sandbox.mvmctl(["systemd", "vm"]).run()?.ok()?.out();
    let path = sandbox.path().join("mvm-vm.service");
    std::fs::write(&path, &text)?;
    let verify = || {
        let analyze = Program::new("systemd-analyze").args(["verify", "--user", "--man=no"]);
        analyze.arg(&path).env("XDG_RUNTIME_DIR", sandbox.path()).run()
    };
    let verified = verify()?;
    // It complains of other units too, which are the machine's.
    let about = |line: &&str| line.contains("mvm-vm");
    let complaints: Vec<String> = verified.err().lines().filter(about).map(str::to_owned).collect();
    ensure!(complaints.is_empty(), "{complaints:?}");
    // It does look at this one.
    std::fs::write(&path, text.replace("KillMode=mixed", "KillMode=gentle"))?;
    let verified = verify()?;
    ensure!(verified.err().contains("gentle"), "{}", verified.err());
    Ok(())
}

/// What a restart of the host leaves: processes are gone, and those that are named belonged to another boot.
fn restarted() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let run = ["run", "-d", "--restart", "always", "--name", "vm"];
    sandbox.mvmctl(run).args([&image()?, "sleep", "1000"]).run()?.ok()?;
    let state = sandbox.store().join("vms/vm/state.json");
    let text = std::fs::read_to_string(&state)?;
    for (pid, _) in holders(&sandbox.store())? {
        kill_process(Pid::from_raw(i32::try_from(pid)?).ok_or("no process")?, Signal::KILL)?;
    }
    let this_boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let other_boot = text.replace(this_boot.trim(), "00000000-0000-4000-8000-000000000000");
    ensure!(other_boot != text, "no boot in {text}");
    // The numbers of its processes are those of others by now.
    let mut value: serde_json::Value = serde_json::from_str(&other_boot)?;
    for process in ["supervisor", "hypervisor"] {
        value[process]["pid"] = std::process::id().into();
    }
    std::fs::write(&state, value.to_string())?;

    let status = sandbox.mvmctl(["vm", "status", "vm"]).run()?.ok()?.out();
    ensure!(status.contains("the host was restarted while it ran"), "{status}");
    ensure_eq!(sandbox.json(["ps", "--json"])?, serde_json::json!([]));
    // Nobody is there who would launch it again.
    std::thread::sleep(Duration::from_secs(1));
    ensure!(holders(&sandbox.store())?.is_empty(), "something runs");
    let events = sandbox.mvmctl(["events", "--vm", "vm"]).run()?.ok()?.out();
    ensure!(events.trim_end().ends_with("died: the host was restarted while it ran"), "{events}");
    sandbox.mvmctl(["start", "vm"]).run()?.ok()?;
    // Its policy holds again from then on.
    sandbox.mvmctl(["vm", "kill", "-s", "KILL", "vm"]).run()?.ok()?;
    sandbox.mvmctl(["start", "vm"]).run()?.ok()?;
    kill_process(hypervisor(&sandbox)?, Signal::KILL)?;
    let again = crate::lifecycle::eventually(|| {
        Ok(sandbox.json(["vm", "inspect", "vm", "--json"])?["restarts"] == 1)
    })?;
    ensure!(again, "it is not launched again");
    sandbox.mvmctl(["rm", "-f", "vm"]).run()?.ok()?;
    sandbox.mvmctl(["audit", "verify"]).run()?.ok()?;
    Ok(())
}

/// Each start reads the values anew, from where they came; what can't be read again is told while the VM still runs.
fn secrets() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let token = sandbox.path().join("token");
    std::fs::write(&token, "first")?;
    let file = format!("file={}", token.display());
    let script = "cat /mnt/secrets/*; echo; exec sleep 1000";
    let run = ["run", "-d", "--name", "vm", "--secret", &file, "--secret", "var=env:MVM_TEST_TOKEN"];
    let with = |words: &[&str], value: &str| sandbox.mvmctl(words).env("MVM_TEST_TOKEN", value);
    let wrote = |expected: &str| -> Outcome {
        let logs = || sandbox.mvmctl(["logs", "vm"]).run()?.ok();
        ensure!(
            crate::lifecycle::eventually(|| Ok(logs()?.out() == expected))?,
            "it wrote {:?}",
            logs()?.out()
        );
        Ok(())
    };
    with(&run, "-one").args([&image()?, "sh", "-c", script]).run()?.ok()?;
    wrote("first-one\n")?;
    std::fs::write(&token, "second")?;
    // Without the variable it can't be started again, and goes on.
    let unset = sandbox.mvmctl(["restart", "-t", "0", "vm"]).run()?;
    ensure!(unset.code() != 0 && unset.err().contains("MVM_TEST_TOKEN"), "{}", unset.err());
    ensure_eq!(sandbox.json(["ps", "--json"])?[0]["phase"], "running");
    with(&["restart", "-t", "0", "vm"], "-two").run()?.ok()?;
    wrote("first-one\nsecond-two\n")?;
    sandbox.mvmctl(["stop", "-t", "0", "vm"]).run()?.ok()?;
    with(&["start", "vm"], "-three").run()?.ok()?;
    wrote("first-one\nsecond-two\nsecond-three\n")?;

    let once = ["run", "-d", "--name", "once", "--secret", "key=-"];
    sandbox.mvmctl(once).args([&image()?, "sleep", "1000"]).input("a key nobody keeps").run()?.ok()?;
    for stopped in [false, true] {
        let verb = if stopped { "start" } else { "restart" };
        let refused = sandbox.mvmctl([verb, "once"]).run()?;
        ensure!(
            refused.code() != 0 && refused.err().contains("came from standard input"),
            "{}",
            refused.err()
        );
        let phase = sandbox.json(["vm", "inspect", "once", "--json"])?["phase"].clone();
        ensure_eq!(phase == "running", !stopped);
        sandbox.mvmctl(["stop", "-t", "0", "once"]).run()?.ok()?;
    }
    // What the VMs wrote of it is in their logs; nothing else has it.
    let found = Program::new("grep").args(["-rl", "a key nobody keeps"]).arg(sandbox.store()).run()?;
    ensure_eq!((found.code(), found.out()), (1, String::new()));
    Ok(())
}
