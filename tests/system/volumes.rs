//! Volumes: made, grown, given out, removed; and used by VMs.

use mvm_tests::need::Need;
use mvm_tests::process::{Output, ProcessError, Program};
use mvm_tests::sandbox::Sandbox;
use serde_json::Value;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use mvm_tests::fixtures;

use crate::{Case, GUEST, MKE2FS, Outcome, ensure, ensure_eq};

pub const CASES: &[Case] = &[
    Case { name: "volumes::verbs", needs: &[Need::Mvmctl, MKE2FS], run: verbs },
    Case { name: "volumes::data_survives", needs: GUEST, run: data_survives },
    Case { name: "volumes::full_and_grown", needs: GUEST, run: full_and_grown },
    Case { name: "volumes::damaged", needs: GUEST, run: damaged },
    Case { name: "volumes::secrets", needs: GUEST, run: secrets },
    Case { name: "volumes::copies", needs: GUEST, run: copies },
    Case { name: "volumes::read_only_root", needs: GUEST, run: read_only_root },
];

/// A store and the image that its VMs run.
struct Machines {
    sandbox: Sandbox,
    image: String,
}

impl Machines {
    fn new() -> Result<Self, libtest_mimic::Failed> {
        let image = format!("oci:{}:latest", fixtures::busybox()?.display());
        Ok(Self { sandbox: Sandbox::with_kernel()?, image })
    }

    /// Runs a shell's script in a VM of its own.
    fn sh(&self, options: &[&str], script: &str) -> Result<Output, ProcessError> {
        let command = [self.image.as_str(), "sh", "-c", script];
        let arguments = ["run", "--rm"].iter().chain(options).chain(&command);
        self.sandbox.mvmctl(arguments).run()
    }
}

/// What is written is there in the next VM, also in one that follows a VM that was killed; one VM at a time has a volume.
fn data_survives() -> Outcome {
    let machines = Machines::new()?;
    let sandbox = &machines.sandbox;
    let script =
        "set -e; ls -A /data; umask 077; echo kept > /data/f; chown 7:8 /data/f; grep ' /data ' /proc/mounts";
    let first = machines.sh(&["-v", "data:/data"], script)?.ok()?.out();
    ensure!(first.contains(" /data ext4 rw,nosuid,nodev,") && first.lines().count() == 1, "{first}");
    ensure_eq!(sandbox.json(["volume", "inspect", "--json", "data"])?["holder"], Value::Null);
    let second = machines.sh(
        &["-v", "data:/deep/er/place:ro"],
        "cd /deep/er/place && cat f && stat -c %u:%g:%a f && echo x > g",
    )?;
    let second = second.exits(1)?;
    ensure_eq!(second.out(), "kept\n7:8:600\n");
    ensure!(second.err().contains("Read-only file system"), "{}", second.err());

    // A volume that is in use is nobody else's.
    let write = "echo later > /data/g; sync; echo up; exec sleep 1000";
    sandbox
        .mvmctl(["run", "-d", "--name", "one", "-v", "data:/data", &machines.image, "sh", "-c", write])
        .run()?
        .ok()?;
    for (code, arguments) in [
        (125, &["run", "--rm", "-v", "data:/x:ro", &machines.image, "true"][..]),
        (7, &["volume", "rm", "data"]),
        (7, &["volume", "grow", "data", "--size", "11g"]),
        (7, &["volume", "export", "data", "-o", "/dev/null"]),
    ] {
        let refused = sandbox.mvmctl(arguments).run()?.exits(code)?;
        ensure!(refused.err().contains("volume data is in use by VM one"), "{}", refused.err());
    }
    ensure_eq!(sandbox.json(["volume", "inspect", "--json", "data"])?["holder"], "VM one");
    for _ in 0..200 {
        if sandbox.mvmctl(["exec", "one", "cat", "/data/g"]).run()?.out() == "later\n" {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // Killed at once: its journal has to be replayed, which a disk that can't be written doesn't take.
    sandbox.mvmctl(["vm", "rm", "--force", "one"]).run()?.ok()?;
    let unclean = machines.sh(&["-v", "data:/data:ro"], "true")?.exits(125)?;
    ensure!(unclean.err().contains("volume data for /data has to be mounted once"), "{}", unclean.err());
    let third = machines.sh(&["-v", "data:/data"], "cat /data/f /data/g")?.ok()?;
    ensure_eq!(third.out(), "kept\nlater\n");
    machines.sh(&["-v", "data:/data:ro"], "cat /data/g")?.ok()?;
    let disk = sandbox.store().join("scopes/default/volumes/data/disk.img");
    Program::new("e2fsck").args(["-f", "-n"]).arg(&disk).run()?.ok()?;

    sandbox.mvmctl(["volume", "rm", "data"]).run()?.ok()?;
    Ok(())
}

/// A full volume is the guest's to know; a grown one has room.
fn full_and_grown() -> Outcome {
    let machines = Machines::new()?;
    let sandbox = &machines.sandbox;
    sandbox.mvmctl(["volume", "create", "small", "--size", "16m"]).run()?.ok()?;
    let fill = "dd if=/dev/zero of=/data/big bs=1M count=40 2>&1; sync; stat -f -c %b /data";
    let full = machines.sh(&["-v", "small:/data"], fill)?.ok()?.out();
    ensure!(full.contains("No space left on device"), "{full}");
    sandbox.mvmctl(["volume", "grow", "small", "--size", "64m"]).run()?.ok()?;
    let grown = machines.sh(&["-v", "small:/data"], fill)?.ok()?.out();
    ensure!(!grown.contains("No space left"), "{grown}");
    let disk = sandbox.store().join("scopes/default/volumes/small/disk.img");
    Program::new("e2fsck").args(["-f", "-n"]).arg(&disk).run()?.ok()?;
    // What is deleted goes back to the host.
    let used =
        || Ok::<_, libtest_mimic::Failed>(sandbox.json(["volume", "ls", "--json"])?[0]["used"].as_u64());
    ensure!(used()? > Some(40 << 20), "{:?}", used()?);
    machines.sh(&["-v", "small:/data"], "rm /data/big; sync")?.ok()?;
    ensure!(used()? < Some(20 << 20), "{:?}", used()?);

    // What the image has at the place of an empty volume is in it: without that there would be no shell.
    let owner = "stat -c %u:%a /bin; ls /bin | wc -l";
    let image = machines.sh(&[], owner)?.ok()?.out();
    ensure_eq!(machines.sh(&["-v", "bins:/bin"], owner)?.ok()?.out(), image);
    Ok(())
}

/// A volume that can't be mounted ends the VM with words that name it.
fn damaged() -> Outcome {
    let machines = Machines::new()?;
    let sandbox = &machines.sandbox;
    let disk = sandbox.store().join("scopes/default/volumes/data/disk.img");
    type Breakage = (&'static str, fn(&File) -> std::io::Result<()>);
    let breakages: [Breakage; 2] = [
        ("garbage", |disk| disk.write_all_at(&[0xa5; 1 << 20], 0)),
        ("a flipped bit", |disk| {
            // In the volume's label, so that only the checksum tells.
            let mut byte = [0];
            disk.read_exact_at(&mut byte, 1024 + 0x7a)?;
            disk.write_all_at(&[byte[0] ^ 1], 1024 + 0x7a)
        }),
    ];
    for (what, damage) in breakages {
        sandbox.mvmctl(["volume", "create", "data", "--size", "32m"]).run()?.ok()?;
        damage(&File::options().read(true).write(true).open(&disk)?)?;
        let failed = machines.sh(&["-v", "data:/data"], "true")?.exits(125)?;
        for words in ["volume data on /data failed; it is damaged", "mvmctl volume export"] {
            ensure!(failed.err().contains(words), "{what}: {}", failed.err());
        }
        sandbox.mvmctl(["volume", "rm", "data"]).run()?.ok()?;
    }
    // Given out, brought back.
    machines.sh(&["-v", "data:/data"], "echo kept > /data/f")?.ok()?;
    let file = sandbox.path().join("data.img").display().to_string();
    sandbox.mvmctl(["volume", "export", "data", "-o", &file]).run()?.ok()?;
    sandbox.mvmctl(["volume", "create", "copy", "--from", &file]).run()?.ok()?;
    ensure_eq!(machines.sh(&["-v", "copy:/data"], "cat /data/f")?.ok()?.out(), "kept\n");
    std::fs::write(&file, vec![0; 16 << 20])?;
    sandbox.mvmctl(["volume", "create", "no", "--from", &file]).run()?.exits(2)?;
    Ok(())
}

/// Secrets are in the guest's memory, for the group of services, and nowhere on the host.
fn secrets() -> Outcome {
    const VALUES: [&str; 3] = ["open-sesame-file", "open-sesame-variable", "open-sesame-stdin"];
    let machines = Machines::new()?;
    let sandbox = &machines.sandbox;
    let file = sandbox.path().join("token");
    std::fs::write(&file, VALUES[0])?;
    let from_file = format!("one={}", file.display());
    let large = format!("large={}", sandbox.path().join("large").display());
    std::fs::write(sandbox.path().join("large"), vec![b'x'; 1 << 20])?;
    let options =
        ["--secret", &from_file, "--secret", "two=env:TOKEN", "--secret", "three=-", "--secret", &large];
    let arguments = ["run", "-d", "--name", "holder"].iter().chain(&options).copied();
    let arguments = arguments.chain([machines.image.as_str(), "sleep", "1000"]);
    sandbox.mvmctl(arguments).env("TOKEN", VALUES[1]).input(VALUES[2]).run()?.ok()?;
    let exec =
        |user: &str, script: &str| sandbox.mvmctl(["exec", "-u", user, "holder", "sh", "-c", script]).run();
    let shown =
        exec("root", "cd /mnt/secrets; cat one two three; wc -c < large; stat -c '%n %u:%g:%a' . *")?.ok()?;
    let listed = ". 0:900:750\nlarge 0:900:440\none 0:900:440\nthree 0:900:440\ntwo 0:900:440\n";
    ensure_eq!(shown.out(), format!("{}1048576\n{listed}", VALUES.concat()));
    ensure_eq!(exec("77:900", "cat /mnt/secrets/one")?.ok()?.out(), VALUES[0]);
    for (user, script) in [("77:77", "cat /mnt/secrets/one"), ("root", "echo x > /mnt/secrets/new")] {
        ensure!(exec(user, script)?.code() != 0, "{user}: {script}");
    }
    ensure_eq!(
        exec("root", "grep -c '/mnt/secrets tmpfs ro,nosuid,nodev,noexec' /proc/mounts")?.ok()?.out(),
        "1\n"
    );

    // The names are told, the values are nowhere: no file of the store, no argument, no environment.
    let record = std::fs::read_to_string(sandbox.store().join("vms/holder/vm.json"))?;
    ensure!(record.contains("\"one\"") && record.contains("TOKEN"), "{record}");
    ensure!(
        Program::new("grep").args(["-r", "-l", "-F", "TOKEN"]).arg(sandbox.store()).run()?.code() == 0,
        ""
    );
    for value in VALUES {
        let found = Program::new("grep").args(["-r", "-l", "-F", value]).arg(sandbox.store()).run()?;
        ensure_eq!(found.out(), "");
    }
    for (pid, _) in mvm_tests::process::holders(&sandbox.store())? {
        for name in ["cmdline", "environ"] {
            let text = std::fs::read(format!("/proc/{pid}/{name}"))?;
            let text = String::from_utf8_lossy(&text);
            ensure!(!VALUES.iter().any(|value| text.contains(value)), "{pid}: {name}: {text}");
        }
    }
    sandbox.mvmctl(["vm", "rm", "--force", "holder"]).run()?.ok()?;

    std::fs::write(sandbox.path().join("large"), vec![b'x'; (1 << 20) + 1])?;
    for (option, words) in [
        (large.as_str(), "secret large has more than 1048576 bytes"),
        ("x=/nowhere/at/all", "read secret x from /nowhere/at/all"),
        ("x=env:NOT_SET", "the variable NOT_SET for secret x is not set"),
        ("x", "is not NAME=FILE"),
    ] {
        let refused = machines.sh(&["--secret", option], "true")?.exits(125)?;
        ensure!(refused.err().contains(words), "{option}: {}", refused.err());
    }
    // A plan has the name; whoever launches it brings the value.
    let plan = sandbox.path().join("plan").display().to_string();
    let create =
        ["plan", "create", "-o", &plan, "--secret", &from_file, &machines.image, "cat", "/mnt/secrets/one"];
    sandbox.mvmctl(create).run()?.ok()?;
    ensure!(!std::fs::read_to_string(&plan)?.contains("token"), "the plan names the file");
    let refused = sandbox.mvmctl(["launch", "--rm", &plan]).run()?.exits(125)?;
    ensure!(refused.err().contains("the plan names secret one"), "{}", refused.err());
    let launched = sandbox.mvmctl(["launch", "--rm", "--secret", &from_file, &plan]).run()?.ok()?;
    ensure_eq!(launched.out(), VALUES[0]);
    Ok(())
}

/// Copies go both ways by docker's rules, and what comes out of a guest stays where it was to go.
fn copies() -> Outcome {
    let machines = Machines::new()?;
    let sandbox = &machines.sandbox;
    let here = |name: &str| sandbox.path().join(name).display().to_string();
    sandbox.mvmctl(["run", "-d", "--name", "box", &machines.image, "sleep", "1000"]).run()?.ok()?;
    let exec = |script: &str| sandbox.mvmctl(["exec", "box", "sh", "-c", script]).run();
    let cp = |source: &str, target: &str| sandbox.mvmctl(["cp", source, target]).run();
    std::fs::create_dir_all(here("dir/inner"))?;
    std::fs::write(here("dir/inner/file"), "text")?;
    std::fs::write(here("large"), (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>())?;
    std::os::unix::fs::symlink("inner/file", here("dir/link"))?;

    cp(&here("dir"), "box:/tmp")?.ok()?;
    cp(&here("dir"), "box:/tmp/new")?.ok()?;
    cp(&format!("{}/.", here("dir")), "box:/tmp/new")?.ok()?;
    cp(&here("dir/inner/file"), "box:/tmp/renamed")?.ok()?;
    cp(&here("large"), "box:/")?.ok()?;
    let inside = exec("cd /tmp; find dir new renamed | sort; cat renamed; readlink dir/link; stat -c %u /tmp/renamed; sha256sum < /large")?.ok()?;
    let sum = Program::new("sha256sum").arg(here("large")).run()?.ok()?.out();
    let sum = sum.split(' ').next().unwrap_or_default();
    ensure_eq!(
        inside.out(),
        format!(
            "dir\ndir/inner\ndir/inner/file\ndir/link\nnew\nnew/inner\nnew/inner/file\nnew/link\nrenamed\ntextinner/file\n0\n{sum}  -\n"
        )
    );
    cp("box:/large", &here("back"))?.ok()?;
    ensure!(std::fs::read(here("back"))? == std::fs::read(here("large"))?, "the copy differs");
    cp("box:/tmp/dir", &here("out"))?.ok()?;
    ensure_eq!(std::fs::read_to_string(here("out/inner/file"))?, "text");
    ensure_eq!(std::fs::read_link(here("out/link"))?, std::path::Path::new("inner/file"));
    // As archives, both ways.
    let archive = cp("box:/tmp/dir", "-")?.ok()?.stdout;
    exec("mkdir /again")?.ok()?;
    sandbox.mvmctl(["cp", "-", "box:/again"]).input(archive).run()?.ok()?;
    ensure_eq!(exec("cat /again/dir/inner/file")?.ok()?.out(), "text");

    // Set-id bits, devices and owners stay in the guest.
    exec("mkdir /odd; cd /odd; cp /bin/busybox set; chown 5:6 set; chmod 6755 set; mknod null c 1 3; mkfifo pipe")?.ok()?;
    let left = cp("box:/odd", &here("odd"))?.ok()?;
    ensure!(left.err().contains("left out 2 devices, pipes or sockets"), "{}", left.err());
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(here("odd/set"))?);
    ensure_eq!(mode & 0o7777, 0o755);
    ensure_eq!(std::fs::read_dir(here("odd"))?.count(), 1);
    exec("head -c 60000000 /dev/zero > /many")?.ok()?;
    for (code, source, target) in [
        (3, "box:/none", here("x")),
        (3, "none:/etc", here("x")),
        (7, "box:/tmp", here("large")),
        (1, "box:/many", "/proc/cannot".to_owned()),
        (1, "/proc/self/mem-of-nobody", "box:/".to_owned()),
        (3, here("large").as_str(), "box:/no/such/directory/x".to_owned()),
        (2, "a", "b".to_owned()),
        (2, "box:/a", "box:/b".to_owned()),
    ] {
        cp(source, &target)?.exits(code)?;
    }
    // A guest that is full says so.
    let full = sandbox.mvmctl([
        "run",
        "-d",
        "--name",
        "small",
        "--tmpfs",
        "/small:size=1m",
        &machines.image,
        "sleep",
        "1000",
    ]);
    full.run()?.ok()?;
    let full = cp(&here("large"), "small:/small/")?.exits(1)?;
    ensure!(full.err().contains("No space left on device"), "{}", full.err());
    ensure_eq!(sandbox.mvmctl(["exec", "small", "echo", "alive"]).run()?.ok()?.out(), "alive\n");
    sandbox.mvmctl(["vm", "rm", "--force", "box", "small"]).run()?.ok()?;
    cp("box:/etc", &here("x"))?.exits(3)?;
    Ok(())
}

/// Nothing of a read-only root can be written, and what is mounted beside it can.
fn read_only_root() -> Outcome {
    let machines = Machines::new()?;
    let script = "for place in / /etc /data /memory /kept; do
            if echo x > $place/f; then echo $place; fi; done; hostname; cat /etc/hostname; grep -c ' /memory tmpfs rw,nosuid,nodev' /proc/mounts";
    let options = [
        "--name",
        "ro",
        "--read-only",
        "-v",
        "data:/data",
        "--tmpfs",
        "/memory:size=1m",
        "--tmpfs",
        "/kept:ro",
    ];
    let output = machines.sh(&options, script)?.ok()?;
    ensure_eq!(output.out(), "/data\n/memory\nro\nro\n1\n");
    ensure_eq!(output.err().matches("Read-only file system").count(), 3);
    Ok(())
}

/// Makes, lists, grows, gives out and removes volumes, without any VM.
fn verbs() -> Outcome {
    let sandbox = Sandbox::new()?;
    let mvmctl = |arguments: &[&str]| sandbox.mvmctl(arguments).run();
    ensure_eq!(mvmctl(&["volume", "create", "data", "--size", "32m"])?.ok()?.out(), "data\n");
    mvmctl(&["volume", "create", "other"])?.ok()?;
    let listed = sandbox.json(["volume", "ls", "--json"])?;
    let of = |key: &str| -> Vec<Value> {
        listed.as_array().into_iter().flatten().map(|volume| volume[key].clone()).collect()
    };
    ensure_eq!(of("name"), [Value::from("data"), Value::from("other")]);
    ensure_eq!(of("size"), [Value::from(32 << 20), Value::from(10_u64 << 30)]);
    ensure_eq!(of("holder"), [Value::Null, Value::Null]);
    let table = mvmctl(&["volume", "ls"])?.ok()?.out();
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split("  ").map(str::trim).collect()).collect();
    ensure!(table.starts_with("VOLUME   SIZE     ON DISK   CREATED"), "{table}");
    ensure!(lines[1][0] == "data" && table.contains("33.6MB"), "{table}");

    ensure!(
        mvmctl(&["volume", "create", "data"])?.exits(7)?.err().contains("there is a volume data already"),
        ""
    );
    for wrong in ["../x", "", "A", ".x"] {
        mvmctl(&["volume", "create", wrong])?.exits(2)?;
    }
    for wrong in ["1", "17t", "-1", "many"] {
        mvmctl(&["volume", "create", "x", &format!("--size={wrong}")])?.exits(2)?;
    }
    mvmctl(&["volume", "grow", "data", "--size", "64m"])?.ok()?;
    ensure_eq!(sandbox.json(["volume", "inspect", "--json", "data"])?["size"], 64 << 20);
    mvmctl(&["volume", "grow", "data", "--size", "32m"])?.exits(2)?;
    mvmctl(&["volume", "grow", "none", "--size", "32m"])?.exits(3)?;

    // Nothing collects them, df and the scope count them, and a scope with them isn't removed by accident.
    mvmctl(&["gc", "--budget", "0"])?.ok()?;
    let usage = sandbox.json(["df", "--json"])?;
    let kinds = usage["kinds"].as_array().into_iter().flatten();
    let volumes: Vec<&Value> = kinds.filter(|kind| kind["kind"] == "volumes").collect();
    ensure!(volumes.len() == 1 && volumes[0]["count"] == 2, "{usage}");
    ensure!(volumes[0]["reclaimable"] == 0 && volumes[0]["size"].as_u64() > Some(1 << 20), "{usage}");
    mvmctl(&["scope", "rm", "default"])?.exits(7)?;

    let file = sandbox.path().join("data.img");
    let name = file.display().to_string();
    mvmctl(&["volume", "export", "data", "-o", &name])?.ok()?;
    let stream = mvmctl(&["volume", "export", "data", "-o", "-"])?.ok()?.stdout;
    let disk = sandbox.store().join("scopes/default/volumes/data/disk.img");
    ensure!(std::fs::read(&disk)? == std::fs::read(&file)?, "the file differs");
    ensure!(std::fs::read(&disk)? == stream, "the stream differs");
    Program::new("e2fsck").args(["-f", "-n", &name]).run()?.ok()?;

    ensure_eq!(mvmctl(&["volume", "rm", "data", "other"])?.ok()?.out(), "data\nother\n");
    mvmctl(&["volume", "rm", "data"])?.exits(3)?;
    ensure_eq!(sandbox.json(["volume", "ls", "--json"])?, Value::Array(Vec::new()));
    mvmctl(&["audit", "verify"])?.ok()?;
    let log = mvmctl(&["audit", "tail", "-n", "100"])?.ok()?.out();
    for told in ["set", "export", "delete"] {
        ensure!(log.lines().any(|line| line.contains(told) && line.contains("data")), "{told}: {log}");
    }
    mvmctl(&["scope", "rm", "default"])?.ok()?;
    Ok(())
}
