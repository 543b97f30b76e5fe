//! The verbs on VMs: what they wrote and what happened to them, start and stop, pause and rename, restarts, attaching.

use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use mvm_tests::fixtures;
use mvm_tests::process::{Program, holders};
use mvm_tests::sandbox::Sandbox;
use mvm_tests::terminal::Terminal;

use crate::{Case, GUEST, Outcome, ensure, ensure_eq};

pub const CASES: &[Case] = &[
    Case { name: "vms::logs_and_verbs", needs: GUEST, run: logs_and_verbs },
    Case { name: "vms::restart_policies", needs: GUEST, run: restart_policies },
    Case { name: "vms::attach_joins_input_and_output", needs: GUEST, run: attach },
    Case { name: "vms::keys_leave_a_command_running", needs: GUEST, run: keys },
    Case { name: "vms::stop_is_heard_between_two_launches", needs: GUEST, run: between },
    Case { name: "vms::ends_that_nobody_asked_for", needs: GUEST, run: ends },
    Case { name: "vms::update_and_rollback", needs: GUEST, run: update },
    Case { name: "vms::an_image_stays_with_its_vm", needs: GUEST, run: image_stays },
    Case { name: "vms::completion_knows_names", needs: GUEST, run: completion },
    Case { name: "vms::twenty_at_once_leave_nothing", needs: GUEST, run: twenty },
];

fn image() -> Result<String, Failed> {
    Ok(format!("oci:{}:latest", fixtures::busybox()?.display()))
}

/// Waits until a condition holds; gives up long after it should.
fn eventually(mut condition: impl FnMut() -> Result<bool, Failed>) -> Result<bool, Failed> {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(90) {
        if condition()? {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(false)
}

/// Returns what happened to a VM, by the names of the events.
fn events(sandbox: &Sandbox, vm: &str) -> Result<Vec<String>, Failed> {
    let text = sandbox.mvmctl(["events", "--vm", vm, "--json"]).run()?.ok()?.out();
    let mut names = Vec::new();
    for line in text.lines() {
        let event: serde_json::Value = serde_json::from_str(line)?;
        names.push(event["event"].as_str().ok_or("an event without a name")?.to_owned());
    }
    Ok(names)
}

fn phase(sandbox: &Sandbox, vm: &str) -> Result<String, Failed> {
    let list = sandbox.json(["vm", "ls", "--all", "--json"])?;
    let found = list.as_array().into_iter().flatten().find(|listed| listed["name"] == vm);
    Ok(found.and_then(|vm| vm["phase"].as_str()).unwrap_or("none").to_owned())
}

fn logs_and_verbs() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let script = "trap 'exit 4' TERM; ls /mark 2>/dev/null; touch /mark; echo err >&2; sleep 1; echo up; \
                  printf '\\033[2J\\n'; while :; do sleep 0.1; done";
    sandbox.mvmctl(["run", "-d", "--name", "one", &image()?, "sh", "-c", script]).run()?.ok()?;
    let logged = |vm: &str, lines| {
        let text = sandbox.mvmctl(["logs", vm]).run()?.ok()?;
        Ok::<bool, Failed>(text.out().lines().count() + text.err().lines().count() >= lines)
    };
    ensure!(eventually(|| logged("one", 3))?, "it writes nothing");
    let text = sandbox.mvmctl(["logs", "one"]).run()?.ok()?;
    ensure_eq!((text.out(), text.err()), ("up\n\u{1b}[2J\n".to_owned(), "err\n".to_owned()));
    let last = sandbox.mvmctl(["logs", "--tail", "1", "--service", "main", "-t", "one"]).run()?.ok()?;
    let last = last.out();
    let (time, rest) = last.split_once(' ').ok_or("no time")?;
    ensure!(time.ends_with('Z') && time.len() == 24, "{time:?} is no time");
    ensure_eq!(rest, "\u{1b}[2J\n");
    ensure_eq!(sandbox.mvmctl(["logs", "-s", "other", "one"]).run()?.ok()?.out(), "");
    let console = sandbox.mvmctl(["logs", "--console", "one"]).run()?.ok()?;
    ensure!(console.err().is_empty(), "{}", console.err());

    sandbox.mvmctl(["vm", "pause", "one"]).run()?.ok()?;
    ensure_eq!(phase(&sandbox, "one")?, "paused");
    let paused = sandbox.mvmctl(["exec", "one", "true"]).run()?.exits(125)?;
    ensure!(paused.err().contains("paused"), "{}", paused.err());
    sandbox.mvmctl(["vm", "pause", "one"]).run()?.exits(1)?;
    sandbox.mvmctl(["vm", "resume", "one"]).run()?.ok()?;

    sandbox.mvmctl(["vm", "rename", "one", "two"]).run()?.ok()?;
    sandbox.mvmctl(["logs", "one"]).run()?.exits(3)?;
    sandbox.mvmctl(["exec", "two", "true"]).run()?.ok()?;
    sandbox.mvmctl(["gc"]).run()?.ok()?;
    sandbox.mvmctl(["vm", "kill", "-s", "TERM", "two"]).run()?.ok()?;
    ensure_eq!(sandbox.mvmctl(["vm", "wait", "two"]).run()?.ok()?.out(), "4\n");
    ensure_eq!(events(&sandbox, "one")?, ["started", "ready", "paused", "resumed"]);
    ensure_eq!(events(&sandbox, "two")?, ["renamed", "exited"]);

    // Started again: a new scratch disk, the log goes on.
    sandbox.mvmctl(["vm", "start", "two"]).run()?.ok()?;
    ensure!(eventually(|| logged("two", 6))?, "it writes nothing after its second start");
    ensure_eq!(sandbox.mvmctl(["logs", "two"]).run()?.ok()?.out(), "up\n\u{1b}[2J\nup\n\u{1b}[2J\n");
    let mut follower =
        sandbox.mvmctl(["logs", "-f", "--tail", "0", "two"]).spawn(Stdio::piped(), Stdio::null())?;
    sandbox.mvmctl(["vm", "start", "two"]).run()?.exits(7)?;
    sandbox.mvmctl(["stop", "two"]).run()?.ok()?;
    ensure!(eventually(|| Ok(follower.try_wait()?.is_some()))?, "logs -f outlives its VM");
    sandbox.mvmctl(["vm", "rename", "two", "three"]).run()?.ok()?;
    sandbox.mvmctl(["rm", "three"]).run()?.ok()?;
    ensure_eq!(events(&sandbox, "three")?, ["renamed", "removed"]);
    ensure_eq!(sandbox.mvmctl(["audit", "verify"]).run()?.ok()?.code(), 0);
    Ok(())
}

fn restart_policies() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let failing = ["run", "-d", "--restart", "on-failure:2", "--name", "fails"];
    sandbox.mvmctl(failing).args([&image()?, "sh", "-c", "echo once; exit 3"]).run()?.ok()?;
    ensure!(eventually(|| Ok(phase(&sandbox, "fails")? == "exited"))?, "it never ends for good");
    ensure_eq!(sandbox.mvmctl(["wait", "fails"]).run()?.ok()?.out(), "3\n");
    ensure_eq!(sandbox.mvmctl(["logs", "fails"]).run()?.ok()?.out(), "once\nonce\nonce\n");
    let launch = ["started", "ready", "exited"];
    let expected = [&launch[..], &["restarting"], &launch, &["restarting"], &launch].concat();
    ensure_eq!(events(&sandbox, "fails")?, expected);
    let launches = sandbox.mvmctl(["audit", "tail", "-n", "100", "--json"]).run()?.ok()?.out();
    ensure_eq!(launches.matches("\"guest_document\":").count(), 3);

    let always = ["run", "-d", "--restart", "always", "--name", "always"];
    sandbox.mvmctl(always).args([&image()?, "true"]).run()?.ok()?;
    let often = || Ok(events(&sandbox, "always")?.iter().filter(|name| *name == "restarting").count() >= 3);
    ensure!(eventually(often)?, "it is not restarted");
    sandbox.mvmctl(["stop", "always"]).run()?.ok()?;
    ensure_eq!(phase(&sandbox, "always")?, "exited");
    let over = eventually(|| Ok(holders(&sandbox.store())?.is_empty()))?;
    ensure!(over, "it still runs: {:?}", holders(&sandbox.store())?);
    sandbox.mvmctl(["run", "--rm", "-d", "--restart", "always", &image()?, "true"]).run()?.exits(125)?;
    sandbox.mvmctl(["run", "--restart", "always", &image()?, "true"]).run()?.exits(125)?;
    Ok(())
}

fn attach() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    sandbox.mvmctl(["run", "-di", "--name", "cat", &image()?, "sh", "-c", "cat; exit 6"]).run()?.ok()?;
    let mut watcher = sandbox.mvmctl(["attach", "--no-stdin", "cat"]).spawn(Stdio::piped(), Stdio::null())?;
    // Joined before anything is written: `attach` says nothing, so it is asked of the output.
    std::thread::sleep(Duration::from_secs(2));
    let joined = sandbox.mvmctl(["attach", "cat"]).input("fed\n").run()?.exits(6)?;
    ensure_eq!(joined.out(), "fed\n");
    ensure_eq!(watcher.wait()?.code(), Some(6));
    let mut seen = String::new();
    std::io::Read::read_to_string(&mut watcher.stdout.take().ok_or("no pipe")?, &mut seen)?;
    ensure_eq!(seen, "fed\n");
    ensure_eq!(sandbox.mvmctl(["logs", "cat"]).run()?.ok()?.out(), "fed\n");
    Ok(())
}

/// Docker's keys, and others that were asked for, from `run` and from `attach`.
fn keys() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    // The second time it is the guest that shows it, to which the keys go then as they are.
    let typed = |terminal: &Terminal, line: &str| -> Outcome {
        terminal.type_text(&format!("{line}\n"))?;
        ensure!(terminal.shows(&format!("{line}\r\n{line}"))?, "{line:?} does not show");
        Ok(())
    };
    let left = |terminal: &Terminal, words: &[&str], line: &str, keys: &str| -> Outcome {
        let mut client = terminal.start(sandbox.mvmctl(words))?;
        typed(terminal, line)?;
        if keys == "\u{18}d" {
            // Docker's own first key is for the command then, and `cat` gives it back; the terminal shows ^P.
            terminal.type_text("\u{10}more\n")?;
            ensure!(terminal.shows("\u{10}more")?, "the command doesn't get the key");
        }
        terminal.type_text(keys)?;
        ensure!(eventually(|| Ok(client.try_wait()?.is_some()))?, "{words:?} is not left");
        ensure_eq!(client.wait()?.code(), Some(0));
        ensure_eq!(phase(&sandbox, "cat")?, "running");
        Ok(())
    };
    let terminal = Terminal::new()?;
    let image = image()?;
    left(&terminal, &["run", "-it", "--name", "cat", &image, "cat"], "one", "\u{10}\u{11}")?;
    left(&terminal, &["attach", "cat"], "two", "\u{10}\u{11}")?;
    left(&terminal, &["attach", "--detach-keys", "ctrl-x,d", "cat"], "three", "\u{18}d")?;
    sandbox.mvmctl(["attach", "--detach-keys", "ctrl-ä", "cat"]).run()?.exits(125)?;
    let mut last = terminal.start(sandbox.mvmctl(["attach", "--detach-keys", "", "cat"]))?;
    typed(&terminal, "four")?;
    // The end of a terminal's input is the end of the command.
    terminal.type_text("\u{4}")?;
    ensure!(eventually(|| Ok(last.try_wait()?.is_some()))?, "the command goes on");
    ensure_eq!((last.wait()?.code(), phase(&sandbox, "cat")?), (Some(0), "exited".to_owned()));
    Ok(())
}

/// A VM that is launched again and again: whenever `stop` comes, it has ended afterwards and stays so; so it is with `rm -f`.
fn between() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let image = image()?;
    let again = ["run", "-d", "--restart", "always", "--name", "vm"];
    for (round, verb) in ["stop", "stop", "kill", "stop", "rm"].into_iter().enumerate() {
        match round {
            0 => sandbox.mvmctl(again).args([&image, "true"]).run()?.ok()?,
            _ => sandbox.mvmctl(["start", "vm"]).run()?.ok()?,
        };
        std::thread::sleep(Duration::from_millis(350) * u32::try_from(round)?);
        match verb {
            "rm" => sandbox.mvmctl(["rm", "-f", "vm"]).run()?.ok()?,
            verb => sandbox.mvmctl([verb, "vm"]).run()?.ok()?,
        };
        let expected = if verb == "rm" { "none" } else { "exited" };
        ensure_eq!(phase(&sandbox, "vm")?, expected);
        let over = eventually(|| Ok(holders(&sandbox.store())?.is_empty()))?;
        ensure!(over, "after {verb} it still runs: {:?}", holders(&sandbox.store())?);
        ensure_eq!(phase(&sandbox, "vm")?, expected);
    }
    sandbox.mvmctl(["audit", "verify"]).run()?.ok()?;
    Ok(())
}

fn ends() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let script = "echo 2 > /proc/sys/vm/panic_on_oom && exec tail /dev/zero";
    sandbox.mvmctl(["run", "-d", "--name", "panics", &image()?, "sh", "-c", script]).run()?.ok()?;
    ensure!(eventually(|| Ok(phase(&sandbox, "panics")? == "failed"))?, "a panic goes unnoticed");
    let message = sandbox.json(["vm", "inspect", "panics", "--json"])?["message"].clone();
    let message = message.as_str().unwrap_or_default();
    ensure!(message.starts_with("the guest's kernel panicked: "), "{message:?}");
    Ok(())
}

/// An image whose command changes: a VM goes over to it, back by itself where it fails, and back when asked.
fn update() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let layout = sandbox.path().join("layout");
    Program::new("cp").arg("-a").arg(fixtures::busybox()?).arg(&layout).run()?.ok()?;
    let command = |script: &str| -> Outcome {
        let image = format!("{}:latest", layout.display());
        let words =
            ["--config.cmd=sh".to_owned(), "--config.cmd=-c".to_owned(), format!("--config.cmd={script}")];
        Program::new("umoci").args(["config", "--image", &image]).args(words).run()?.ok()?;
        Ok(())
    };
    // What it wrote in each generation; a command that was just started may not have come to that.
    let written = |expected: &str| -> Outcome {
        let logs = || sandbox.mvmctl(["logs", "app"]).run()?.ok();
        ensure!(eventually(|| Ok(logs()?.out() == expected))?, "it wrote {:?}", logs()?.out());
        Ok(())
    };
    let image = format!("oci:{}:latest", layout.display());
    command("echo one; exec sleep 1000")?;
    sandbox.mvmctl(["run", "-d", "--name", "app", &image]).run()?.ok()?;
    written("one\n")?;
    ensure_eq!(sandbox.mvmctl(["vm", "update", "app"]).run()?.ok()?.out(), "app: nothing new\n");
    command("echo two; exec sleep 1000")?;
    let updated = sandbox.mvmctl(["vm", "update", "-t", "0", "app"]).run()?.ok()?;
    ensure_eq!(updated.out(), "app: generation 2\n");
    written("one\ntwo\n")?;
    command("echo three; exit 7")?;
    let failed = sandbox.mvmctl(["vm", "update", "-t", "0", "app"]).run()?.exits(1)?;
    let words = "VM app runs as before: its new generation was not up (it ended with 7)";
    ensure!(failed.err().contains(words), "{}", failed.err());
    ensure_eq!(phase(&sandbox, "app")?, "running");
    written("one\ntwo\nthree\ntwo\n")?;
    let back = sandbox.mvmctl(["vm", "rollback", "-t", "0", "app"]).run()?.ok()?;
    ensure_eq!(back.out(), "app: generation 3\n");
    written("one\ntwo\nthree\ntwo\none\n")?;
    let details = sandbox.json(["vm", "inspect", "app", "--json"])?;
    let kept: Vec<u64> = details["generations"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|kept| kept["generation"].as_u64())
        .collect();
    ensure_eq!((details["generation"].as_u64(), kept), (Some(3), vec![2, 1]));
    sandbox.mvmctl(["audit", "verify"]).run()?.ok()?;
    Ok(())
}

/// What an ended VM is started from is there until the VM is removed, and what it can go back to.
fn image_stays() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let layout = sandbox.path().join("layout");
    Program::new("cp").arg("-a").arg(fixtures::busybox()?).arg(&layout).run()?.ok()?;
    let image = format!("oci:{}:latest", layout.display());
    let mvmctl = |words: &[&str]| sandbox.mvmctl(words).run();
    mvmctl(&["run", "-d", "--name", "app", &image, "sleep", "1000"])?.ok()?;
    mvmctl(&["stop", "-t", "0", "app"])?.ok()?;
    let used = mvmctl(&["image", "rm", &image])?.exits(7)?;
    ensure!(used.err().contains("is used by vm:app"), "{}", used.err());
    // Its name goes on to another image, and that to a third.
    for number in ["1", "2"] {
        let file = sandbox.path().join(number);
        std::fs::write(&file, number)?;
        let named = format!("{}:latest", layout.display());
        Program::new("umoci").args(["insert", "--image", &named]).arg(&file).arg("/number").run()?.ok()?;
        mvmctl(&["pull", &image])?.ok()?;
        mvmctl(&["gc"])?.ok()?;
        if number == "1" {
            ensure_eq!(sandbox.image_files()?.len(), 2);
            mvmctl(&["start", "app"])?.ok()?;
            ensure_eq!(mvmctl(&["vm", "update", "-t", "0", "app"])?.ok()?.out(), "app: generation 2\n");
            ensure_eq!(mvmctl(&["exec", "app", "cat", "/number"])?.ok()?.out(), "1");
            mvmctl(&["stop", "-t", "0", "app"])?.ok()?;
        }
    }
    ensure_eq!(sandbox.image_files()?.len(), 3);
    ensure_eq!(mvmctl(&["vm", "rollback", "-t", "0", "app"])?.ok()?.out(), "app: generation 3\n");
    mvmctl(&["start", "app"])?.ok()?;
    mvmctl(&["exec", "app", "cat", "/number"])?.exits(1)?;
    mvmctl(&["rm", "-f", "app"])?.ok()?;
    mvmctl(&["gc"])?.ok()?;
    ensure_eq!(sandbox.image_files()?.len(), 1);
    mvmctl(&["image", "rm", &image])?.ok()?;
    Ok(())
}

/// What a shell asks for when somebody presses Tab.
fn completion() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let image = image()?;
    sandbox.mvmctl(["run", "-d", "--name", "web-one", &image, "sleep", "1000"]).run()?.ok()?;
    let asked = |words: &[&str]| -> Result<String, Failed> {
        // As the registration script for bash does it: all words, and which of them is being typed.
        let index = (words.len() + 2).to_string();
        let program = sandbox
            .mvmctl(Vec::<&str>::new())
            .env("COMPLETE", "bash")
            .env("_CLAP_COMPLETE_INDEX", index)
            .env("_CLAP_IFS", "\n")
            .env("_CLAP_COMPLETE_SPACE", "true")
            .env("_CLAP_COMPLETE_COMP_TYPE", "9");
        let root = sandbox.store().display().to_string();
        let line = ["--", "mvmctl", "--root", &root].into_iter().chain(words.iter().copied());
        Ok(program.args(line).run()?.ok()?.out())
    };
    let table: [(&[&str], &str); 5] = [
        (&["vm", "status", ""], "web-one"),
        (&["stop", "web"], "web-one"),
        (&["stop", "other"], ""),
        (&["image", "rm", "oci:"], &image),
        (&["vm", "upd"], "update"),
    ];
    for (words, expected) in table {
        // Names come first; options follow where nothing was typed.
        ensure_eq!(asked(words)?.lines().next().unwrap_or_default(), expected);
    }
    let script = sandbox.mvmctl(["completions", "bash"]).run()?.ok()?.out();
    ensure!(script.contains("COMPLETE=") && script.contains("mvmctl"), "{script}");
    Ok(())
}

/// Returns how many leases there are on images.
fn leases(sandbox: &Sandbox) -> Result<usize, Failed> {
    let scope = sandbox.json(["scope", "inspect", "default", "--json"])?;
    Ok(scope["leases"].as_array().ok_or("no leases")?.len())
}

/// Returns all files and sockets of a store, but for its log and its events, which grow and are rotated.
fn files(sandbox: &Sandbox) -> Result<Vec<String>, Failed> {
    let found = Program::new("find").arg(".").directory(&sandbox.store()).run()?.ok()?.out();
    let grows = |line: &&str| !line.starts_with("./audit/") && !line.contains("/events.jsonl");
    let mut lines: Vec<String> = found.lines().filter(grows).map(str::to_owned).collect();
    lines.sort();
    Ok(lines)
}

fn twenty() -> Outcome {
    const COUNT: usize = 20;
    let sandbox = Sandbox::with_kernel()?;
    let image = image()?;
    // The image is there before, so that what is counted is VMs.
    sandbox.mvmctl(["run", "--rm", &image, "true"]).run()?.ok()?;
    let on_disk = || {
        let usage = sandbox.json(["df", "--json"])?;
        let kinds = usage["kinds"].as_array().cloned().unwrap_or_default();
        // The audit log grows, and what a launch keeps for the next one is kept once.
        let counted = |kind: &&serde_json::Value| {
            ["images", "layers", "staging", "vms", "scratch"].iter().any(|name| kind["kind"] == *name)
        };
        let counts = kinds.iter().filter(counted).map(|kind| kind["count"].clone());
        Ok::<Vec<serde_json::Value>, Failed>(counts.collect())
    };
    let (before, files_before) = (on_disk()?, files(&sandbox)?);
    let names: Vec<String> = (0..COUNT).map(|number| format!("vm{number:02}")).collect();
    let all = |verb: &[&str], tail: &[&str]| -> Outcome {
        std::thread::scope(|scope| {
            let threads: Vec<_> = names
                .iter()
                .map(|name| {
                    let words: Vec<&str> = verb.iter().chain([&name.as_str()]).chain(tail).copied().collect();
                    let program = sandbox.mvmctl(words);
                    scope.spawn(move || program.run()?.ok().map(drop))
                })
                .collect();
            for thread in threads {
                thread.join().map_err(|_| "a thread panicked")??;
            }
            Ok(())
        })
    };
    let small = ["--memory", "128m"];
    let published = ["run", "-d", small[0], small[1], "-p", "80", "--name"];
    all(&published, &[&image, "sleep", "1000"])?;
    let running = || {
        let list = sandbox.json(["ps", "--json"])?;
        let list = list.as_array().cloned().unwrap_or_default();
        Ok(list.iter().filter(|vm| vm["phase"] == "running").count() == COUNT)
    };
    ensure!(eventually(running)?, "not all of them run");
    let listed = sandbox.json(["ps", "--json"])?;
    let ports = listed.as_array().into_iter().flatten().filter_map(|vm| {
        let port = vm["ports"][0].as_str()?.strip_prefix("127.0.0.1:")?.split_once("->")?.0;
        port.parse().ok()
    });
    let ports: std::collections::BTreeSet<u16> = ports.collect();
    ensure_eq!(ports.len(), COUNT);
    ensure_eq!(leases(&sandbox)?, COUNT);
    all(&["stop", "-t", "0"], &[])?;
    ensure_eq!(sandbox.json(["ps", "--json"])?, serde_json::json!([]));
    all(&["rm"], &[])?;
    let over = eventually(|| Ok(holders(&sandbox.store())?.is_empty()))?;
    ensure!(over, "processes are left: {:?}", holders(&sandbox.store())?);
    ensure_eq!(std::fs::read_dir(sandbox.store().join("vms"))?.count(), 0);
    ensure_eq!(on_disk()?, before);
    ensure_eq!(leases(&sandbox)?, 0);
    for port in ports {
        TcpListener::bind(("127.0.0.1", port)).map_err(|error| format!("port {port} is left: {error}"))?;
    }
    ensure_eq!(files(&sandbox)?, files_before);
    // Nothing holds the image any more.
    sandbox.mvmctl(["image", "rm", &image]).run()?.ok()?;
    sandbox.mvmctl(["audit", "verify"]).run()?.ok()?;
    Ok(())
}
