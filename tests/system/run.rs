//! What `run` promises of a command: output, input, exit code, environment, directory, user, signals.

use mvm_tests::fixtures;
use mvm_tests::need::Need;
use mvm_tests::process::Program;
use mvm_tests::sandbox::Sandbox;
use mvm_tests::workspace;
use rustix::process::Signal;

use crate::{BUILDAH, BUSYBOX, Case, GCC, GUEST, MMDEBSTRAP, Outcome, UMOCI, ensure, ensure_eq};

pub const CASES: &[Case] = &[
    Case { name: "run::streams_are_apart_and_whole", needs: GUEST, run: streams },
    Case { name: "run::exit_codes", needs: GUEST, run: exit_codes },
    Case { name: "run::a_changed_layout_is_noticed", needs: GUEST, run: changed_layout },
    Case { name: "run::options_reach_the_command", needs: GUEST, run: options },
    Case { name: "run::signals_are_forwarded", needs: GUEST, run: signals },
    Case {
        name: "run::a_terminal_of_the_same_size",
        needs: &[Need::Mvmctl, Need::Guest, UMOCI, BUSYBOX, Need::Program("script", "bsdutils")],
        run: terminal,
    },
    Case { name: "run::the_root_is_writable_and_new_each_time", needs: GUEST, run: overlay },
    Case { name: "run::the_guest_is_a_whole_system", needs: GUEST, run: system },
    Case {
        name: "run::one_static_binary",
        needs: &[Need::Mvmctl, Need::Guest, UMOCI, GCC],
        run: single_static,
    },
    Case { name: "run::sixty_layers", needs: &[Need::Mvmctl, Need::Guest, UMOCI, GCC], run: sixty_layers },
    Case {
        name: "run::debian_with_python",
        needs: &[Need::Mvmctl, Need::Guest, UMOCI, MMDEBSTRAP],
        run: debian,
    },
    Case {
        name: "run::buildah_image",
        needs: &[Need::Mvmctl, Need::Guest, Need::Root, BUILDAH, BUSYBOX],
        run: buildah,
    },
];

/// Returns a store with a kernel, and the name of the busybox image.
fn prepare() -> Result<(Sandbox, String), libtest_mimic::Failed> {
    Ok((Sandbox::with_kernel()?, format!("oci:{}:latest", fixtures::busybox()?.display())))
}

fn streams() -> Outcome {
    let (sandbox, image) = prepare()?;
    let output = sandbox.mvmctl(["run", "--rm", &image, "sh", "-c", "echo out; echo err >&2"]).run()?.ok()?;
    ensure_eq!(output.out(), "out\n");
    ensure!(output.err().lines().any(|line| line == "err"), "stderr is {:?}", output.err());

    let quiet = sandbox.mvmctl(["--quiet", "run", "--rm", &image, "sh", "-c", "echo err >&2"]).run()?.ok()?;
    ensure_eq!(quiet.err(), "err\n");

    // More than every buffer on the way.
    let input: Vec<u8> = (0..3_000_000_u32).flat_map(|n| n.to_le_bytes()).collect();
    let echoed = sandbox.mvmctl(["run", "--rm", "-i", &image, "cat"]).input(input.clone()).run()?.ok()?;
    ensure!(echoed.stdout == input, "{} bytes went in, {} came back", input.len(), echoed.stdout.len());

    // Without -i the command sees an empty input.
    let empty = sandbox.mvmctl(["run", "--rm", &image, "wc", "-c"]).input("unseen").run()?.ok()?;
    ensure_eq!(empty.out().trim(), "0");
    Ok(())
}

/// A layout whose tag was moved is another image, under the same name.
fn changed_layout() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let layout = sandbox.path().join("layout");
    Program::new("cp").args(["-r"]).arg(fixtures::busybox()?).arg(&layout).run()?.ok()?;
    let image = format!("{}:latest", layout.display());
    for value in ["one", "two"] {
        Program::new("umoci")
            .args(["config", "--image", &image, "--config.env", &format!("WHICH={value}")])
            .run()?
            .ok()?;
        let output = sandbox
            .mvmctl(["run", "--rm", &format!("oci:{image}"), "sh", "-c", "echo $WHICH"])
            .run()?
            .ok()?;
        ensure_eq!(output.out(), format!("{value}\n"));
    }
    Ok(())
}

fn exit_codes() -> Outcome {
    let (sandbox, image) = prepare()?;
    let table: [(&[&str], i32); 7] = [
        (&["true"], 0),
        (&["sh", "-c", "exit 42"], 42),
        (&["sh", "-c", "exit 255"], 255),
        (&["sh", "-c", "kill -9 $$"], 137),
        (&["no-such-program"], 127),
        (&["/etc/not-a-program"], 126),
        (&["/etc"], 126),
    ];
    for (command, code) in table {
        sandbox.mvmctl(["run", "--rm", &image]).args(command).run()?.exits(code)?;
    }
    sandbox.mvmctl(["run", "--rm", "--memory", "1", &image, "true"]).run()?.exits(125)?;
    // Also where nobody is attached, the caller hears that there is no such program.
    sandbox.mvmctl(["run", "--detach", &image, "no-such-program"]).run()?.exits(127)?;
    ensure_eq!(sandbox.vms()?, Vec::<String>::new());
    Ok(())
}

fn options() -> Outcome {
    let (sandbox, image) = prepare()?;
    let file = sandbox.path().join("variables");
    std::fs::write(&file, "# words\nA=from file\nB=file\n")?;
    let output = sandbox
        .mvmctl([
            "run",
            "--rm",
            "-e",
            "B=option",
            "-e",
            "PASSED",
            "-w",
            "/home/guest",
            "-u",
            "guest",
            "--env-file",
        ])
        .arg(&file)
        .args([
            &image,
            "sh",
            "-c",
            "echo $FROM_IMAGE,$A,$B,$PASSED; pwd; id -u; id -g; id -G; echo $HOME; hostname",
        ])
        .env("PASSED", "through")
        .run()?
        .ok()?;
    let lines: Vec<String> = output.out().lines().map(str::to_owned).collect();
    ensure_eq!(
        lines[..6],
        ["yes,from file,option,through", "/home/guest", "1000", "1000", "1000 29 44", "/home/guest"]
    );
    ensure!(!lines[6].is_empty(), "no hostname");

    let output =
        sandbox.mvmctl(["run", "--rm", "-u", "4242:29", &image, "sh", "-c", "id -u; id -g"]).run()?.ok()?;
    ensure_eq!(output.out(), "4242\n29\n");
    let output =
        sandbox.mvmctl(["run", "--rm", "--entrypoint", "/bin/echo", &image, "-n", "a b"]).run()?.ok()?;
    ensure_eq!(output.out(), "a b");
    let output = sandbox.mvmctl([
        "run",
        "--rm",
        "--cpus",
        "2",
        &image,
        "sh",
        "-c",
        "ls -d /sys/devices/system/cpu/cpu1",
    ]);
    output.run()?.ok()?;
    sandbox.mvmctl(["run", "--rm", "-u", "nobody-here", &image, "true"]).run()?.exits(125)?;
    Ok(())
}

fn signals() -> Outcome {
    let (sandbox, image) = prepare()?;
    let script = "trap 'echo got term; exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    let output = sandbox
        .mvmctl(["run", "--rm", &image, "sh", "-c", script])
        .signal_when("ready", Signal::TERM)
        .run()?
        .exits(3)?;
    ensure_eq!(output.out(), "ready\ngot term\n");
    Ok(())
}

fn terminal() -> Outcome {
    let (sandbox, image) = prepare()?;
    let program = workspace::mvmctl();
    // script(1) gives its command a terminal, and takes the command as one string.
    let command = format!(
        "stty rows 33 cols 77; exec {} --root {} --quiet run --rm -it {image} sh -c 'test -t 0 && stty size; echo $TERM; exit 5'",
        program.display(),
        sandbox.store().display()
    );
    let output =
        Program::new("script").args(["-qec", &command, "/dev/null"]).env("TERM", "xterm").run()?.exits(5)?;
    // At the end of its own input script(1) types a character that is echoed.
    ensure_eq!(output.out().trim_start_matches("^@"), "33 77\r\nxterm\r\n");
    // A terminal in the guest alone: both streams are one, lines end as on a terminal.
    let output =
        sandbox.mvmctl(["run", "--rm", "-t", &image, "sh", "-c", "echo out; echo err >&2"]).run()?.ok()?;
    ensure_eq!(output.out(), "out\r\nerr\r\n");
    Ok(())
}

fn overlay() -> Outcome {
    let (sandbox, image) = prepare()?;
    for _ in 0..2 {
        let script = "test ! -e /etc/mark && echo x > /etc/mark && mkdir /new && dd if=/dev/zero of=/new/f bs=1M count=64 2>/dev/null && sync && ls /new";
        let output = sandbox.mvmctl(["run", "--rm", &image, "sh", "-c", script]).run()?.ok()?;
        ensure_eq!(output.out(), "f\n");
    }
    Ok(())
}

fn system() -> Outcome {
    let (sandbox, image) = prepare()?;
    let checks = [
        ("proc", "test -d /proc/self"),
        ("sys", "test -d /sys/class"),
        ("null", "test -c /dev/null"),
        ("descriptors", "test -e /dev/fd/0"),
        ("pts", "test -c /dev/ptmx"),
        ("shared memory", "touch /dev/shm/x"),
        ("cgroups", "test -e /sys/fs/cgroup/cgroup.controllers"),
        ("loopback", "test \"$(cat /sys/class/net/lo/operstate)\" != down"),
        ("hosts", "test -s /etc/hosts"),
        ("root is read-only below", "! echo x > /proc/sys/kernel/nothing 2>/dev/null"),
        ("first process is not the command", "test $$ != 1"),
    ];
    let script: String =
        checks.iter().map(|(name, check)| format!("if ! {{ {check}; }}; then echo '{name}'; fi\n")).collect();
    let output = sandbox.mvmctl(["run", "--rm", &image, "sh", "-c", &script]).run()?.ok()?;
    ensure_eq!(output.out(), "");
    Ok(())
}

fn single_static() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let image = format!("oci:{}:latest", fixtures::single_static()?.display());
    let run =
        |arguments: &[&str]| sandbox.mvmctl(["run", "--rm", "-i", &image]).args(arguments).input("fed").run();
    ensure_eq!(run(&[])?.ok()?.out(), "hello from one static binary\n");
    ensure_eq!(run(&["args", "a b", "", "\u{e4}"])?.ok()?.out(), "[a b]\n[]\n[\u{e4}]\n");
    ensure_eq!(run(&["cat"])?.ok()?.out(), "fed");
    ensure_eq!(run(&["ids"])?.ok()?.out(), "0 0\n");
    ensure_eq!(run(&["exists", "/proc/self/status"])?.code(), 0);
    ensure_eq!(run(&["exit", "9"])?.code(), 9);
    Ok(())
}

fn sixty_layers() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let image = format!("oci:{}:latest", fixtures::sixty_layers()?.display());
    let output = sandbox.mvmctl(["run", "--rm", &image]).run()?.ok()?;
    ensure_eq!(output.out(), "hello from one static binary\n");
    Ok(())
}

fn debian() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let image = format!("oci:{}:latest", fixtures::debian_python()?.display());
    let script = "import sys, os; print(6 * 7, os.getpid() > 1); sys.exit(5)";
    let output = sandbox.mvmctl(["run", "--rm", &image, "python3", "-c", script]).run()?.exits(5)?;
    ensure_eq!(output.out(), "42 True\n");
    let output =
        sandbox.mvmctl(["run", "--rm", &image, "sh", "-c", "dpkg --verify && . /etc/os-release && echo $ID"]);
    ensure_eq!(output.run()?.ok()?.out(), "debian\n");
    Ok(())
}

fn buildah() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let image = format!("oci:{}:latest", fixtures::buildah()?.display());
    let output = sandbox.mvmctl(["run", "--rm", &image]).run()?.ok()?;
    ensure_eq!(output.out(), "built\n");
    let script = "test ! -e /etc/removed && echo $MADE_BY $(pwd) $(id -un)";
    let output = sandbox.mvmctl(["run", "--rm", &image, script]).run()?.ok()?;
    ensure_eq!(output.out(), "buildah /home/guest guest\n");
    Ok(())
}
