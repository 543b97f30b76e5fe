//! VMs in time: a clock that goes on after a pause, a guest that answers nobody, and a service manager that starts and stops one.

use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use libtest_mimic::Failed;
use mvm_tests::fixtures;
use mvm_tests::process::holders;
use mvm_tests::sandbox::Sandbox;
use rustix::process::{Pid, Signal, kill_process};

use crate::{Case, GUEST, Outcome, ensure, ensure_eq};

pub const CASES: &[Case] = &[
    Case { name: "lifetimes::the_clock_follows_the_host", needs: GUEST, run: clock },
    Case { name: "lifetimes::a_guest_that_answers_nobody_is_ended", needs: GUEST, run: hung },
    Case { name: "lifetimes::a_service_manager_is_notified", needs: GUEST, run: notified },
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
