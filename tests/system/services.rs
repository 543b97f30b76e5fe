//! Services in real guests: what runs as whom, what is restarted, what is given up and why, what can't do harm.

use std::fs;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mvm_tests::fixtures;
use mvm_tests::need::Need;
use mvm_tests::process::Program;
use mvm_tests::sandbox::Sandbox;
use serde_json::{Value, json};

use crate::{Case, GUEST, MMDEBSTRAP, Outcome, UMOCI, ensure, ensure_eq};

pub const CASES: &[Case] = &[
    Case { name: "services::confined_ordered_and_told_apart", needs: GUEST, run: confined },
    Case { name: "services::what_goes_wrong_is_told", needs: GUEST, run: wrong },
    Case { name: "services::what_runs_wild_is_bounded", needs: GUEST, run: wild },
    Case { name: "services::an_endless_pre_start_is_told_and_stopped", needs: GUEST, run: endless_pre_start },
    Case { name: "services::a_limit_that_cannot_be_set_is_told", needs: GUEST, run: unlimited },
    Case {
        name: "services::a_killed_server_comes_back",
        needs: &[Need::Mvmctl, Need::Guest, UMOCI, MMDEBSTRAP],
        run: server,
    },
];

type Failed = libtest_mimic::Failed;

/// Signs the plan of a command in an image again after a change, launches it and returns the VM's name.
pub fn launch(
    sandbox: &Sandbox,
    image: &str,
    command: &[&str],
    change: impl FnOnce(&mut Value),
) -> Result<String, Failed> {
    let plan = signed_plan(sandbox, image, command, change)?;
    Ok(launch_plan(sandbox, &plan).run()?.ok()?.out().trim().to_owned())
}

/// Describes the launch of a plan.
pub fn launch_plan(sandbox: &Sandbox, file: &str) -> Program {
    sandbox.mvmctl(["launch", "-d", file])
}

/// Signs the plan of a command in an image again after a change, and returns its file. The VM is called `vm`.
pub fn signed_plan(
    sandbox: &Sandbox,
    image: &str,
    command: &[&str],
    change: impl FnOnce(&mut Value),
) -> Result<String, Failed> {
    let path = sandbox.path().join("changed.plan");
    if path.exists() {
        fs::remove_file(&path)?;
    }
    let file = path.display().to_string();
    sandbox.mvmctl(["plan", "create", "-o", &file, "--name", "vm", image]).args(command).run()?.ok()?;
    let mut envelope: Value = serde_json::from_slice(&fs::read(&path)?)?;
    let payload = STANDARD.decode(envelope["payload"].as_str().unwrap_or_default())?;
    let mut plan: Value = serde_json::from_slice(&payload)?;
    change(&mut plan);
    envelope["payload"] = STANDARD.encode(serde_json::to_vec(&plan)?).into();
    // The signature of what it was counts no more, and its key may sign what it is.
    envelope["signatures"][0]["keyid"] = "0".repeat(64).into();
    fs::write(&path, serde_json::to_vec(&envelope)?)?;
    sandbox.mvmctl(["plan", "sign", &file]).run()?.ok()?;
    Ok(file)
}

/// Returns a process of a plan: a script of busybox's shell.
pub fn process(user: &str, script: &str) -> Value {
    json!({"argv": ["/bin/sh", "-c", script], "env": ["PATH=/bin"], "working_dir": "/", "user": user,
        "stop_signal": "SIGTERM", "tty": false, "stdin": false})
}

/// Returns a service of a plan that is always restarted.
pub fn service(name: &str, user: &str, script: &str) -> Value {
    json!({"name": name, "process": process(user, script), "restart": "always", "stop_grace_secs": 5})
}

/// Returns what the VM's state has for a service or a check, by name.
pub fn told(sandbox: &Sandbox, vm: &str, list: &str, name: &str) -> Result<Value, Failed> {
    let state = sandbox.store().join("vms").join(vm).join("state.json");
    let state: Value = serde_json::from_slice(&fs::read(state)?)?;
    let entries = state[list].as_array().cloned().unwrap_or_default();
    Ok(entries.into_iter().find(|entry| entry["name"] == name).unwrap_or(Value::Null))
}

/// Waits for something to be so, and fails with its last value otherwise.
pub fn until(
    mut value: impl FnMut() -> Result<Value, Failed>,
    so: impl Fn(&Value) -> bool,
) -> Result<Value, Failed> {
    let begin = Instant::now();
    loop {
        let last = value()?;
        if so(&last) {
            return Ok(last);
        }
        if begin.elapsed() > Duration::from_secs(60) {
            return Err(format!("it never came to be: {last}").into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn in_state(sandbox: &Sandbox, vm: &str, service: &str, state: &str) -> Result<Value, Failed> {
    until(|| told(sandbox, vm, "services", service), |service| service["state"] == state)
}

fn busybox() -> Result<String, Failed> {
    Ok(format!("oci:{}:latest", fixtures::busybox()?.display()))
}

fn exec(sandbox: &Sandbox, vm: &str, script: &str) -> Result<String, Failed> {
    Ok(sandbox.mvmctl(["exec", "-u", "0", vm, "sh", "-c", script]).run()?.ok()?.out())
}

fn confined() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let vm = launch(&sandbox, &busybox()?, &["sleep", "1000"], |plan| {
        let mut web = service("web", "web", "id; cat /prepared; cat /proc/self/status; exec sleep 1000");
        web["pre_start"] = json!(["/bin/sh", "-c", "id -u > /prepared; echo preparing"]);
        web["after"] = json!(["db"]);
        web["limits"] = json!({"memory_mib": 64, "pids": 30, "cpu_percent": 50});
        let mut file = service("file", "mvm", "echo to the file; exec sleep 1000");
        file["log_file"] = json!("/etc/file.log");
        let db = service("db", "mvm", "trap 'exit 0' TERM; while :; do sleep 0.1; done");
        plan["services"] = json!([web, db, file]);
        plan["users"] =
            json!([{"name": "web", "uid": 1234, "group": {"name": "web", "gid": 1234}, "home": "/home/web"}]);
    })?;
    for name in ["web", "db", "file"] {
        in_state(&sandbox, &vm, name, "running")?;
    }
    let log = || Ok(Value::String(sandbox.mvmctl(["logs", "--service", "web", &vm]).run()?.ok()?.out()));
    let log = until(log, |log| log.as_str().is_some_and(|log| log.contains("nonvoluntary_ctxt_switches")))?;
    let log = log.as_str().unwrap_or_default();
    for line in [
        "preparing",
        "uid=1234(web) gid=1234(web) groups=900(mvm)",
        "0",
        "CapInh:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t1",
    ] {
        ensure!(log.lines().any(|got| got == line), "no line {line:?} in\n{log}");
    }
    let groups =
        "cd /sys/fs/cgroup/services/web.service; cat memory.max pids.max cpu.max; wc -l < cgroup.procs";
    ensure_eq!(exec(&sandbox, &vm, groups)?, "67108864\n30\n50000 100000\n1\n");
    let said = exec(&sandbox, &vm, "cat /etc/file.log; ls -l /etc/file.log; ls -ld /home/web; id mvm")?;
    let lines: Vec<&str> = said.lines().collect();
    ensure_eq!(lines[0], "to the file");
    ensure!(lines[1].starts_with("-rw-r----- ") && lines[1].contains(" mvm "), "{said}");
    ensure!(lines[2].starts_with("drwxr-xr-x ") && lines[2].contains(" web "), "{said}");
    ensure_eq!(lines[3], "uid=900(mvm) gid=900(mvm) groups=900(mvm)");
    // The main process is in a group of its own; one that is started beside it too.
    ensure_eq!(
        exec(&sandbox, &vm, "cat /proc/self/cgroup; wc -l < /sys/fs/cgroup/main/cgroup.procs")?,
        "0::/exec\n1\n"
    );

    sandbox.mvmctl(["vm", "stop", &vm]).run()?.ok()?;
    let stopped = told(&sandbox, &vm, "services", "db")?;
    ensure_eq!((&stopped["state"], &stopped["last_exit"]), (&json!("stopped"), &json!({"code": 0})));
    // What comes after another one is stopped before it.
    let events = sandbox.mvmctl(["events", "--json"]).run()?.ok()?.out();
    let at = |service: &str| {
        events
            .lines()
            .position(|line| line.contains(&format!("\"{service}\"")) && line.contains("\"stopped\""))
    };
    ensure!(at("web").is_some() && at("web") < at("db"), "in another order:\n{events}");
    Ok(())
}

/// What runs before a service may take as long as it likes; who waits sees it, and a stop does not wait.
fn endless_pre_start() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let vm = launch(&sandbox, &busybox()?, &["sleep", "1000"], |plan| {
        let mut slow = service("slow", "mvm", "exit 0");
        slow["pre_start"] = json!(["/bin/sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1; done"]);
        slow["stop_grace_secs"] = json!(1);
        let mut after = service("after", "mvm", "exit 0");
        after["after"] = json!(["slow"]);
        plan["services"] = json!([slow, after]);
    })?;
    ensure_eq!(in_state(&sandbox, &vm, "slow", "starting")?["reason"], "pre-start runs");
    ensure_eq!(in_state(&sandbox, &vm, "after", "waiting")?["reason"], Value::Null);
    let logged = || Ok(json!(sandbox.mvmctl(["logs", "--service", "slow", &vm]).run()?.ok()?.out()));
    until(logged, |log| log == "deaf\n")?;
    let status = sandbox.mvmctl(["vm", "status", &vm]).run()?.ok()?.out();
    let line = status.lines().find(|line| line.contains("slow")).unwrap_or_default();
    ensure!(line.contains("starting") && line.contains("pre-start runs"), "{status}");
    sandbox.mvmctl(["stop", "-t", "20", &vm]).run()?.ok()?;
    let slow = told(&sandbox, &vm, "services", "slow")?;
    let killed = "killed: it did not end within 1s when asked to";
    ensure_eq!((&slow["state"], &slow["reason"]), (&json!("stopped"), &json!(killed)));
    let listed = sandbox.json(["vm", "inspect", &vm, "--json"])?;
    // It ended by itself: nobody had to kill the machine.
    ensure_eq!((&listed["phase"], &listed["message"]), (&json!("exited"), &Value::Null));
    Ok(())
}

/// A service does not run without the limit that it is to have.
fn unlimited() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let vm = launch(&sandbox, &busybox()?, &["sleep", "1000"], |plan| {
        let mut web = service("web", "mvm", "echo up; exec sleep 1000");
        web["limits"] = json!({"cpu_percent": 50});
        plan["services"] = json!([web]);
    })?;
    in_state(&sandbox, &vm, "web", "running")?;
    // Root in the guest takes away what the kernel limits with, then has the service started again.
    let root = "cd /sys/fs/cgroup/services";
    exec(
        &sandbox,
        &vm,
        &format!("{root} && echo -cpu > cgroup.subtree_control && kill $(cat web.service/cgroup.procs)"),
    )?;
    let web = in_state(&sandbox, &vm, "web", "backoff")?;
    let web = until(
        || told(&sandbox, &vm, "services", "web"),
        |web| web["reason"].as_str().is_some_and(|reason| !reason.contains("signal")),
    )
    .map_err(|_| format!("it is {web}"))?;
    ensure_eq!(
        web["reason"],
        "writing \"max\" to cpu.max of control group \"web.service\" failed: No such file or directory (os error 2)"
    );
    exec(&sandbox, &vm, &format!("{root} && echo +cpu > cgroup.subtree_control"))?;
    in_state(&sandbox, &vm, "web", "running")?;
    ensure_eq!(exec(&sandbox, &vm, &format!("{root} && cat web.service/cpu.max"))?, "50000 100000\n");
    sandbox.mvmctl(["vm", "stop", &vm]).run()?.ok()?;
    Ok(())
}

fn wrong() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let vm = launch(&sandbox, &busybox()?, &["sleep", "1000"], |plan| {
        let mut missing = service("missing", "mvm", "");
        missing["process"]["argv"] = json!(["/no/such/server"]);
        let mut waiting = service("waiting", "mvm", "exit 0");
        waiting["after"] = json!(["missing"]);
        let mut unprepared = service("unprepared", "mvm", "exit 0");
        unprepared["pre_start"] = json!(["/bin/sh", "-c", "echo not today; exit 7"]);
        let mut once = service("once", "mvm", "exit 0");
        once["restart"] = json!("on-failure");
        let mut never = service("never", "mvm", "exit 5");
        never["restart"] = json!("never");
        let mut unlogged = service("unlogged", "mvm", "exit 0");
        unlogged["log_file"] = json!("/etc/passwd");
        unlogged["restart"] = json!("never");
        let flapping = service("flapping", "mvm", "exit 3");
        let (ghost, root) = (service("ghost", "ghost", "exit 0"), service("root", "-0", "exit 0"));
        plan["services"] =
            json!([missing, waiting, unprepared, once, never, unlogged, flapping, ghost, root]);
    })?;
    for (name, state, reason) in [
        ("missing", "failed", "executing /no/such/server failed: No such file or directory (os error 2)"),
        ("waiting", "waiting", "service \"missing\", which it comes after, failed"),
        ("unprepared", "failed", "pre-start exited with code 7"),
        ("never", "failed", "exited with code 5"),
        (
            "unlogged",
            "failed",
            "opening log file /etc/passwd as the process's user failed: Permission denied (os error 13)",
        ),
        ("ghost", "failed", "user \"ghost\" is not in the image's /etc/passwd"),
        ("root", "failed", "user \"-0\" is root in the image, and services never run as root"),
    ] {
        let told = until(
            || told(&sandbox, &vm, "services", name),
            |told| told["state"] == state && !told["reason"].is_null(),
        )?;
        ensure_eq!(told["reason"], reason);
    }
    ensure_eq!(in_state(&sandbox, &vm, "once", "stopped")?["reason"], Value::Null);
    let flapping = until(
        || told(&sandbox, &vm, "services", "flapping"),
        |told| told["restarts"].as_u64() >= Some(3) && told["state"] == "backoff",
    )?;
    ensure_eq!(
        (&flapping["reason"], &flapping["last_exit"]),
        (&json!("exited with code 3"), &json!({"code": 3}))
    );
    let log = sandbox.mvmctl(["logs", "--service", "unprepared", &vm]).run()?.ok()?.out();
    ensure_eq!(log, "not today\n");
    sandbox.mvmctl(["vm", "stop", &vm]).run()?.ok()?;
    Ok(())
}

fn wild() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let vm = launch(&sandbox, &busybox()?, &["sleep", "1000"], |plan| {
        let mut hungry =
            service("hungry", "mvm", "dd if=/dev/zero of=/dev/null bs=200M count=1; exec sleep 1000");
        hungry["limits"] = json!({"memory_mib": 16});
        let bomb = service("bomb", "mvm", "b() { b | b & }; b; while :; do sleep 1; done");
        let flood = service("flood", "mvm", "exec busybox yes");
        let quiet = service("quiet", "mvm", "echo first; exec sleep 1000");
        let mut full = service("full", "guest", "exec sleep 1000");
        full["pre_start"] = json!(["/bin/sh", "-c", "dd if=/dev/zero of=/fill bs=1M; exit 0"]);
        let mut stubborn = service("stubborn", "mvm", "trap '' TERM; while :; do sleep 1; done");
        stubborn["stop_grace_secs"] = json!(1);
        plan["services"] = json!([hungry, bomb, flood, quiet, full, stubborn]);
        plan["resources"]["scratch_mib"] = json!(64);
    })?;
    let hungry = until(
        || told(&sandbox, &vm, "services", "hungry"),
        |told| told["restarts"].as_u64() >= Some(1) && !told["reason"].is_null(),
    )?;
    ensure_eq!(hungry["reason"], "out of memory: ended by signal 9 (SIGKILL)");
    for name in ["bomb", "flood", "full", "stubborn"] {
        in_state(&sandbox, &vm, name, "running")?;
    }
    // One that writes what it can pushes nobody else's lines out.
    let rotated = sandbox.store().join(format!("vms/{vm}/logs/services/flood/output.jsonl.2"));
    until(|| Ok(json!(rotated.exists())), |rotated| rotated == true)?;
    ensure_eq!(sandbox.mvmctl(["logs", "--service", "quiet", &vm]).run()?.ok()?.out(), "first\n");
    // With all of that going on, a command is still started.
    ensure_eq!(exec(&sandbox, &vm, "echo x > /etc/more 2>/dev/null || echo full")?, "full\n");
    let begin = Instant::now();
    sandbox.mvmctl(["vm", "stop", &vm]).run()?.ok()?;
    ensure!(begin.elapsed() < Duration::from_secs(30), "stopping took {:?}", begin.elapsed());
    let stubborn = told(&sandbox, &vm, "services", "stubborn")?;
    ensure_eq!(stubborn["reason"], "killed: it did not end within 1s when asked to");
    ensure_eq!(stubborn["state"], "stopped");
    Ok(())
}

/// An HTTP service as people run it: killed inside it is unhealthy, is started again, and is healthy again.
fn server() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let image = format!("oci:{}:latest", fixtures::debian_python()?.display());
    let serve = "import socket\ns = socket.create_server(('127.0.0.1', 8000))\nprint('serving', flush=True)\n\
        while True:\n c, _ = s.accept(); c.recv(999); c.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\nhello'); c.close()";
    let ask = "import socket\ns = socket.create_connection(('127.0.0.1', 8000)); s.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')\n\
        assert s.recv(999).startswith(b'HTTP/1.0 200'), 'no'\nprint('well')";
    let vm = launch(&sandbox, &image, &["sleep", "1000"], |plan| {
        let mut web = service("web", "mvm", "");
        let mut check = process("mvm", "");
        (web["process"]["argv"], check["argv"]) =
            (json!(["python3", "-c", serve]), json!(["python3", "-c", ask]));
        for process in [&mut web["process"], &mut check] {
            process["env"] = json!(["PATH=/usr/bin:/bin"]);
        }
        plan["services"] = json!([web]);
        plan["health_checks"] = json!([{"name": "http", "service": "web", "process": check, "interval_secs": 1,
            "timeout_secs": 20, "start_period_secs": 30, "retries": 3}]);
        plan["process"] = Value::Null;
        plan.as_object_mut().map(|plan| plan.remove("process"));
    })?;
    let health = |wanted: &'static str| {
        until(|| told(&sandbox, &vm, "health", "http"), move |told| told["health"] == wanted)
    };
    ensure_eq!(health("healthy")?["results"][0]["output"], "well\n");
    let pid = in_state(&sandbox, &vm, "web", "running")?["pid"].clone();
    exec(&sandbox, &vm, &format!("kill -9 {pid}"))?;
    // It is back within moments: that it was unhealthy meanwhile is read from the events, which keep it.
    let back = |web: &Value| web["state"] == "running" && web["restarts"] == 1;
    let web = until(|| told(&sandbox, &vm, "services", "web"), back)?;
    ensure_eq!(web["last_exit"], json!({"signal": 9}));
    health("healthy")?;
    let events = sandbox.mvmctl(["events", "--json"]).run()?.ok()?.out();
    for word in ["backoff", "unhealthy"] {
        ensure!(events.contains(word), "no {word} in {events}");
    }
    sandbox.mvmctl(["vm", "stop", &vm]).run()?.ok()?;
    Ok(())
}
