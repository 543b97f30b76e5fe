//! VMs with names: start, look, enter, stop, remove; and Ctrl-C.

use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use mvm_tests::fixtures;
use mvm_tests::process::holders;
use mvm_tests::sandbox::Sandbox;
use rustix::process::Signal;

use crate::{Case, GUEST, Outcome, ensure, ensure_eq};

pub const CASES: &[Case] = &[
    Case { name: "lifecycle::detached_vm", needs: GUEST, run: detached },
    Case { name: "lifecycle::names_are_taken_once", needs: GUEST, run: names },
    Case { name: "lifecycle::a_lost_supervisor_is_noticed", needs: GUEST, run: lost_supervisor },
    Case { name: "lifecycle::interrupt_ends_the_vm", needs: GUEST, run: interrupt },
    Case { name: "lifecycle::a_terminal_without_anyone", needs: GUEST, run: unattended_terminal },
    Case { name: "lifecycle::a_reader_that_leaves", needs: GUEST, run: leaving_reader },
];

fn detached() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let image = format!("oci:{}:latest", fixtures::busybox()?.display());
    let script = "trap 'exit 4' TERM; echo up; while :; do sleep 0.1; done";
    let started = sandbox.mvmctl(["run", "-d", "--name", "one", &image, "sh", "-c", script]).run()?.ok()?;
    ensure_eq!(started.out(), "one\n");
    ensure_eq!(sandbox.json(["vm", "ls", "--json"])?[0]["name"], "one");
    let is_running = || Ok(sandbox.json(["vm", "ls", "--json"])?[0]["phase"] == "running");
    ensure!(eventually(is_running)?, "it never runs");

    let inside =
        sandbox.mvmctl(["exec", "one", "sh", "-c", "echo in; echo err >&2; exit 6"]).run()?.exits(6)?;
    ensure_eq!(inside.out(), "in\n");
    ensure!(inside.err().ends_with("err\n"), "stderr is {:?}", inside.err());
    let fed = sandbox.mvmctl(["exec", "-i", "one", "cat"]).input("fed").run()?.ok()?;
    ensure_eq!(fed.out(), "fed");
    sandbox.mvmctl(["exec", "one", "no-such-program"]).run()?.exits(127)?;
    let user = sandbox
        .mvmctl(["exec", "-u", "guest", "-w", "/tmp", "one", "sh", "-c", "id -un; pwd"])
        .run()?
        .ok()?;
    ensure_eq!(user.out(), "guest\n/tmp\n");

    // What a running VM needs stays.
    sandbox.mvmctl(["gc"]).run()?.ok()?;
    sandbox.mvmctl(["exec", "one", "ls", "/bin"]).run()?.ok()?;
    ensure!(
        sandbox.mvmctl(["vm", "rm", "one"]).run()?.code() != 0,
        "a running VM was removed without --force"
    );

    sandbox.mvmctl(["vm", "stop", "one"]).run()?.ok()?;
    let list = sandbox.json(["vm", "ls", "--all", "--json"])?;
    ensure_eq!(list[0]["exit_code"], 4);
    sandbox.mvmctl(["exec", "one", "true"]).run()?.exits(125)?;
    sandbox.mvmctl(["vm", "rm", "one"]).run()?.ok()?;
    ensure_eq!(sandbox.vms()?, Vec::<String>::new());
    sandbox.mvmctl(["vm", "stop", "one"]).run()?.exits(3)?;
    Ok(())
}

/// A shell that waits for someone to come, as `run -dit` is used.
fn unattended_terminal() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let image = format!("oci:{}:latest", fixtures::busybox()?.display());
    sandbox.mvmctl(["run", "-dit", "--name", "shell", &image, "sh"]).run()?.ok()?;
    let inside = sandbox.mvmctl(["exec", "shell", "sh", "-c", "ls -l /dev/pts/0 | wc -l"]).run()?.ok()?;
    ensure_eq!(inside.out(), "1\n");
    sandbox.mvmctl(["vm", "rm", "--force", "shell"]).run()?.ok()?;
    Ok(())
}

/// What writes for ever ends when nobody reads any more, as it does in a pipe here.
fn leaving_reader() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let image = format!("oci:{}:latest", fixtures::busybox()?.display());
    let mut child =
        sandbox.mvmctl(["run", "--rm", &image, "busybox", "yes"]).spawn(Stdio::piped(), Stdio::null())?;
    let mut start = [0; 4096];
    child.stdout.take().ok_or("no pipe")?.read_exact(&mut start)?;
    let code = || Ok(child.try_wait()?.is_some());
    ensure!(eventually(code)?, "it goes on although nobody reads");
    ensure_eq!(child.wait()?.code(), Some(128 + 13));
    ensure_eq!(sandbox.vms()?, Vec::<String>::new());
    Ok(())
}

fn names() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let image = format!("oci:{}:latest", fixtures::busybox()?.display());
    sandbox.mvmctl(["run", "-d", "--name", "taken", &image, "sleep", "1000"]).run()?.ok()?;
    let again = sandbox.mvmctl(["run", "--name", "taken", &image, "true"]).run()?.exits(125)?;
    ensure!(again.err().contains("taken"), "the error does not name it: {}", again.err());
    sandbox.mvmctl(["vm", "rm", "--force", "taken"]).run()?.ok()?;
    sandbox.mvmctl(["run", "--rm", "--name", "taken", &image, "true"]).run()?.ok()?;
    Ok(())
}

fn lost_supervisor() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let image = format!("oci:{}:latest", fixtures::busybox()?.display());
    sandbox.mvmctl(["run", "-d", "--name", "lost", &image, "sleep", "1000"]).run()?.ok()?;
    let marks = format!("{}", sandbox.store().display());
    let supervisors = processes(&[&marks, "supervise"])?;
    ensure_eq!(supervisors.len(), 1);
    // The supervisor, its hypervisor and its network's helper: what is looked for below can be found.
    ensure_eq!(holders(&sandbox.store())?.len(), 3);
    rustix::process::kill_process(supervisors[0], Signal::KILL)?;
    let gone =
        eventually(|| Ok(sandbox.json(["vm", "ls", "--json"])?.as_array().is_some_and(Vec::is_empty)))?;
    ensure!(gone, "a VM without a supervisor is still listed as running");
    let machines = eventually(|| Ok(holders(&sandbox.store())?.is_empty()))?;
    ensure!(machines, "QEMU outlived its supervisor: {:?}", holders(&sandbox.store())?);
    sandbox.mvmctl(["vm", "rm", "lost"]).run()?.ok()?;
    Ok(())
}

fn interrupt() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let image = format!("oci:{}:latest", fixtures::busybox()?.display());
    let output = sandbox
        .mvmctl(["run", "--rm", &image, "sh", "-c", "echo ready; exec sleep 1000"])
        .signal_when("ready", Signal::INT)
        .run()?;
    ensure!(matches!(output.code(), 130), "exit code {}: {}", output.code(), output.err());
    let over = eventually(|| Ok(holders(&sandbox.store())?.is_empty()))?;
    ensure!(over, "QEMU still runs: {:?}", holders(&sandbox.store())?);
    ensure_eq!(sandbox.vms()?, Vec::<String>::new());
    Ok(())
}

/// Returns the processes whose command line has all these texts.
pub fn processes(texts: &[&str]) -> Result<Vec<rustix::process::Pid>, libtest_mimic::Failed> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
        let Some(pid) = number.and_then(rustix::process::Pid::from_raw) else { continue };
        // A process may end while we look.
        let line =
            String::from_utf8_lossy(&std::fs::read(path.join("cmdline")).unwrap_or_default()).into_owned();
        if texts.iter().all(|text| line.contains(text)) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Waits until a condition holds; gives up long after it should.
pub fn eventually(
    mut condition: impl FnMut() -> Result<bool, libtest_mimic::Failed>,
) -> Result<bool, libtest_mimic::Failed> {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(60) {
        if condition()? {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(false)
}
