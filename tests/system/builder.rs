//! The builder: made of Debian's packages and of images, used by one command at a time, and what it survives.

use mvm_tests::fixtures;
use mvm_tests::need::Need;
use mvm_tests::process::{Output, ProcessError, Program, holders};
use mvm_tests::sandbox::Sandbox;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::{BUSYBOX, Case, Outcome, UMOCI, ensure, ensure_eq};

const APT: Need = Need::Program("apt-get", "apt");
/// What it takes to make a builder of Debian's packages.
const BUILDER: &[Need] = &[Need::Mvmctl, Need::Guest, APT];

pub const CASES: &[Case] = &[
    Case { name: "builder::of_debian", needs: BUILDER, run: of_debian },
    Case { name: "builder::apt_ends_with_the_command", needs: BUILDER, run: apt_ends },
    Case { name: "builder::builds_with_either_nix", needs: BUILDER, run: builds_with_either_nix },
    Case { name: "builder::one_at_a_time", needs: BUILDER, run: one_at_a_time },
    Case { name: "builder::killed", needs: BUILDER, run: killed },
    Case { name: "builder::collected", needs: BUILDER, run: collected },
    Case {
        name: "builder::nix_in_its_own_store",
        needs: &[Need::Mvmctl, Need::Guest, UMOCI, BUSYBOX],
        run: nix_in_its_own_store,
    },
    Case {
        name: "builder::what_is_refused",
        needs: &[Need::Mvmctl, Need::Guest, UMOCI, BUSYBOX],
        run: what_is_refused,
    },
];

/// Emulation on a busy machine is slow, and so is a mirror far away.
const LIMIT: Duration = Duration::from_secs(900);
/// A derivation of nothing but a shell: `NAME` says what it is and `SCRIPT` what it does.
const DERIVATION: &str = r#"derivation { name = "NAME"; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" "SCRIPT" ]; }"#;

/// A store with a builder.
struct Builder {
    sandbox: Sandbox,
}

impl Builder {
    fn of(release: &str) -> Result<Self, libtest_mimic::Failed> {
        let archive = fixtures::builder(release)?;
        let sandbox = Sandbox::with_kernel()?;
        let image = format!("oci-archive:{}", archive.display());
        sandbox.mvmctl(["builder", "init", "--image", &image]).limit(LIMIT).run()?.ok()?;
        Ok(Self { sandbox })
    }

    /// Describes a command in the builder, which has no network.
    fn command(&self, command: &[&str]) -> Program {
        let options = ["builder", "shell", "--offline", "--"];
        self.sandbox.mvmctl(options.iter().chain(command)).limit(LIMIT)
    }

    fn sh(&self, script: &str) -> Result<Output, ProcessError> {
        self.command(&["/bin/sh", "-c", script]).run()
    }

    /// Describes a build.
    fn build(&self, name: &str, script: &str) -> Program {
        let text = DERIVATION.replace("NAME", name).replace("SCRIPT", script);
        self.command(&["nix", "build", "--impure", "--no-link", "--json", "--expr", &text])
    }
}

/// Returns the store path that a build has printed.
fn output(built: &Output) -> Result<String, libtest_mimic::Failed> {
    let text = built.out();
    let value: Value = serde_json::from_str(text.trim()).map_err(|error| format!("{error}: {text}"))?;
    let path = value[0]["outputs"]["out"].as_str().ok_or_else(|| format!("no output in {text}"))?;
    Ok(path.to_owned())
}

/// The packages that apt has now, read twice, make the same image; what it is made of can be looked at.
fn of_debian() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let made = sandbox.mvmctl(["builder", "init", "--json"]).limit(LIMIT).run()?.ok()?.out();
    let made: Value = serde_json::from_str(&made)?;
    ensure!(made["nix_version"].as_str().is_some_and(|version| version.starts_with("2.26.")), "{made}");
    let status = sandbox.json(["builder", "status", "--json"])?;
    ensure_eq!(status["root_hash"], made["root_hash"]);
    ensure_eq!(status["image_present"], true);
    ensure_eq!(status["store"]["name"], "mvm-builder-store");
    ensure_eq!(status["store"]["size"], 20_u64 << 30);
    ensure_eq!(status["holder"], Value::Null);
    let packages = status["origin"]["packages"].as_array().cloned().unwrap_or_default();
    let names: Vec<&str> = packages.iter().filter_map(|package| package["package"].as_str()).collect();
    ensure!(names.is_sorted() && names.contains(&"nix-bin") && !names.contains(&"perl"), "{names:?}");
    let text = sandbox.mvmctl(["builder", "status", "--packages"]).run()?.ok()?.out();
    for package in &packages {
        let digest = package["digest"].as_str().unwrap_or("no digest");
        ensure!(text.contains(digest), "{digest} is not in:\n{text}");
    }
    // It is an image like any other, and stays.
    let images = sandbox.json(["image", "ls", "--json"])?;
    ensure_eq!(images[0]["reference"], "mvm.local/builder:trixie");
    ensure_eq!(images[0]["pinned"], true);
    sandbox.mvmctl(["image", "verify", "mvm.local/builder:trixie"]).run()?.ok()?;

    let again = ["--scope", "other", "builder", "init", "--json"];
    let again: Value = serde_json::from_str(&sandbox.mvmctl(again).limit(LIMIT).run()?.ok()?.out())?;
    ensure_eq!(again["root_hash"], made["root_hash"]);
    ensure_eq!(again["manifest"], made["manifest"]);

    sandbox.mvmctl(["builder", "rm"]).run()?.ok()?;
    ensure_eq!(sandbox.json(["image", "ls", "--json"])?, Value::Array(Vec::new()));
    ensure_eq!(sandbox.json(["volume", "ls", "--json"])?, Value::Array(Vec::new()));
    sandbox.mvmctl(["builder", "rm"]).run()?.exits(3)?;
    Ok(())
}

/// An apt that takes for ever is ended with the command that asks it, however that ends; nothing of it is left.
fn apt_ends() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let programs = sandbox.path().join("programs");
    std::fs::create_dir(&programs)?;
    let apt = programs.join("apt-get");
    let begun = sandbox.path().join("begun");
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *indextargets*) echo 'Debian trixie http://nowhere.invalid/';;\n*) exec >{}; echo $$; exec sleep 1000;; esac\n",
        begun.display()
    );
    std::fs::write(&apt, script)?;
    std::fs::set_permissions(&apt, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let path = format!("{}:{}", programs.display(), std::env::var("PATH")?);
    for (signal, code) in [(Signal::INT, Some(130)), (Signal::KILL, None)] {
        let init = sandbox.mvmctl(["builder", "init"]).env("PATH", &path);
        let mut init = init.spawn(Stdio::null(), Stdio::null())?;
        until(|| Ok(std::fs::read_to_string(&begun).is_ok_and(|text| text.ends_with('\n'))))?;
        let apt = std::fs::read_to_string(&begun)?;
        std::fs::remove_file(&begun)?;
        kill_process(Pid::from_raw(i32::try_from(init.id())?).ok_or("no process")?, signal)?;
        let asked = Instant::now();
        ensure_eq!(init.wait()?.code(), code);
        until(|| Ok(!std::path::Path::new("/proc").join(apt.trim()).exists()))?;
        ensure!(asked.elapsed() < Duration::from_secs(10), "it took {:?}", asked.elapsed());
    }
    // What the killed one left is removed by the next one, which finds nobody in its way.
    let init = sandbox.mvmctl(["builder", "init"]).env("PATH", &path);
    let mut init = init.spawn(Stdio::null(), Stdio::null())?;
    until(|| Ok(begun.exists()))?;
    kill_process(Pid::from_raw(i32::try_from(init.id())?).ok_or("no process")?, Signal::INT)?;
    ensure_eq!(init.wait()?.code(), Some(130));
    ensure!(!sandbox.store().join("scopes/default/builder/making").exists(), "what apt fetched is left");
    ensure_eq!(sandbox.json(["image", "ls", "--json"])?, Value::Array(Vec::new()));
    Ok(())
}

/// Nix builds in its sandbox, as the only user and without a network; what it has built is there the next time.
fn builds_with_either_nix() -> Outcome {
    for (release, version) in [("trixie", "2.26."), ("bookworm", "2.8.")] {
        let builder = Builder::of(release)?;
        let status = builder.sandbox.json(["builder", "status", "--json"])?;
        let got = status["nix_version"].as_str().unwrap_or_default();
        ensure!(got.starts_with(version), "{release} has Nix {got}");
        let built = builder.build("first", "echo $PPID of $UID > $out").run()?.ok()?;
        let path = output(&built)?;
        let seen = builder.sh(&format!(
            "cat {path}; ls /sys/class/net; env; grep -c ' /nix ext4 ' /proc/mounts; nix store verify --all --no-trust"
        ))?;
        let seen = seen.ok()?.out();
        ensure!(seen.contains("\nlo\n") && !seen.contains("eth0"), "{seen}");
        ensure!(seen.contains("sandbox = true") && !seen.contains("SSH_"), "{seen}");
        // It is in a process namespace of its own.
        ensure!(seen.starts_with("0 of") || seen.starts_with("1 of"), "{seen}");
        let again = builder.build("first", "echo $PPID of $UID > $out").run()?.ok()?;
        ensure_eq!(output(&again)?, path);
        let failed = builder.build("failing", "echo told; exit 3").run()?.exits(1)?;
        ensure!(failed.err().contains("told"), "{}", failed.err());
    }
    Ok(())
}

/// A second command waits for the first one and says for whom; what can't wait is refused.
fn one_at_a_time() -> Outcome {
    let builder = Builder::of("trixie")?;
    let first = ["builder", "shell", "--offline", "--", "/bin/sh", "-c", "echo up; sleep 8; echo done"];
    let mut first = builder.sandbox.mvmctl(first).spawn(Stdio::piped(), Stdio::null())?;
    until(|| Ok(builder.sandbox.vms()?.contains(&"mvm-builder".to_owned())))?;
    let holder = builder.sandbox.json(["builder", "status", "--json"])?["holder"].clone();
    let expected = format!("mvmctl builder shell (process {})", first.id());
    ensure_eq!(holder, Value::String(expected.clone()));
    for verb in [&["builder", "rm"][..], &["builder", "grow", "--size", "30g"]] {
        let refused = builder.sandbox.mvmctl(verb).run()?.exits(7)?;
        ensure!(refused.err().contains(&expected), "{}", refused.err());
    }
    let second = builder.sh("echo second")?.ok()?;
    ensure_eq!(second.out(), "second\n");
    let words = format!("the builder is in use by {expected}; waiting for it");
    ensure!(second.err().contains(&words), "{}", second.err());
    ensure!(first.wait()?.success(), "the first command failed");
    ensure_eq!(builder.sandbox.vms()?, Vec::<String>::new());
    builder.sandbox.mvmctl(["builder", "grow", "--size", "30g"]).run()?.ok()?;
    let size = builder.sh("df -P -k /nix | tail -n 1 | { read -r _ size _; echo $size; }")?.ok()?.out();
    ensure!(size.trim().parse::<u64>()? > 28 << 20, "{size}");
    Ok(())
}

/// What ends the hypervisor, or the command that uses the builder, leaves a store that the next build goes on with.
fn killed() -> Outcome {
    let builder = Builder::of("trixie")?;
    let before = output(&builder.build("before", "echo kept > $out").run()?.ok()?)?;
    // Caches outlive a builder that ended well, and no other.
    let known = "/nix/var/mvm/cache/known";
    for victim in ["qemu-system", "mvmctl"] {
        builder.sh(&format!("touch {known}"))?.ok()?;
        builder.sh(&format!("test -e {known}"))?.ok()?;
        let building = builder.build("during", "echo begun >&2; while :; do :; done");
        let mut building = building.spawn(Stdio::null(), Stdio::piped())?;
        until(|| Ok(builder.sandbox.vms()?.contains(&"mvm-builder".to_owned())))?;
        // It is held by the command that started it, and has no main process.
        until(|| {
            let attached = builder.sandbox.mvmctl(["attach", "mvm-builder"]).limit(LIMIT).run()?;
            ensure!(attached.code() != 0, "somebody is attached to it");
            Ok(attached.err().contains("main process"))
        })?;
        // Long enough for the build to have begun on most machines; whenever it is, it must not matter.
        std::thread::sleep(Duration::from_secs(4));
        let target = match victim {
            "mvmctl" => building.id(),
            _ => hypervisor(&builder.sandbox)?,
        };
        let pid = Pid::from_raw(i32::try_from(target)?).ok_or("no process")?;
        kill_process(pid, Signal::KILL)?;
        ensure!(!building.wait()?.success(), "a killed build succeeded");
        // By itself: the next command would end what is left.
        until(|| Ok(!builder.sandbox.vms()?.contains(&"mvm-builder".to_owned())))?;
        let script = format!("test ! -e {known} && cat {before} && nix store verify --all --no-trust 2>&1");
        let verified = builder.sh(&script)?.ok()?;
        ensure!(verified.out().starts_with("kept\n"), "{}", verified.out());
        output(&builder.build(&format!("after-{victim}"), "echo on > $out").run()?.ok()?)?;
    }
    Ok(())
}

/// What was built is removed, and the host gets its space back.
fn collected() -> Outcome {
    let builder = Builder::of("trixie")?;
    let big = "printf '%016777216d' 7 > $out";
    let path = output(&builder.build("big", big).run()?.ok()?)?;
    let used = || -> Result<u64, libtest_mimic::Failed> {
        let status = builder.sandbox.json(["builder", "status", "--json"])?;
        Ok(status["store"]["used"].as_u64().unwrap_or(0))
    };
    let before = used()?;
    ensure!(before > 16 << 20, "the store holds {before} bytes");
    let freed = builder.sandbox.mvmctl(["builder", "gc", "--json"]).limit(LIMIT).run()?.ok()?.out();
    let freed: Value = serde_json::from_str(&freed)?;
    ensure_eq!(freed["after"], used()?);
    ensure!(used()? + (14 << 20) < before, "{} of {before} bytes are left", used()?);
    builder.sh(&format!("test ! -e {path}"))?.ok()?;
    Ok(())
}

/// An image whose Nix lives in its store fills a new volume, and is refused on one that another image began.
fn nix_in_its_own_store() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let (one, other) = (fixtures::nix_in_store("2.91.0")?, fixtures::nix_in_store("2.92.0")?);
    let image = |layout: &std::path::Path| format!("oci:{}:latest", layout.display());
    let init = |layout| sandbox.mvmctl(["builder", "init", "--image", &image(layout)]).limit(LIMIT);
    let made = init(&one).run()?.ok()?;
    ensure!(made.out().ends_with("with Nix 2.91.0\n"), "{}", made.out());
    let shell = ["builder", "shell", "--offline", "--", "nix", "--version"];
    ensure_eq!(sandbox.mvmctl(shell).limit(LIMIT).run()?.ok()?.out(), "nix (Nix) 2.91.0\n");
    // Made anew of the same image.
    init(&one).run()?.ok()?;
    let refused = init(&other).run()?.exits(7)?;
    ensure!(refused.err().contains("mvmctl builder rm"), "{}", refused.err());
    sandbox.mvmctl(["builder", "rm"]).run()?.ok()?;
    let made = init(&other).run()?.ok()?;
    ensure!(made.out().ends_with("with Nix 2.92.0\n"), "{}", made.out());
    Ok(())
}

fn what_is_refused() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    for verb in [&["gc"][..], &["rm"], &["shell"], &["grow", "--size", "30g"]] {
        let none = sandbox.mvmctl(["builder"].iter().chain(verb)).run()?.exits(3)?;
        ensure!(none.err().contains("scope default has no builder"), "{}", none.err());
    }
    let status = sandbox.mvmctl(["builder", "status"]).run()?.ok()?.out();
    ensure!(status.contains("mvmctl builder init"), "{status}");
    let image = format!("oci:{}:latest", fixtures::busybox()?.display());
    let without = sandbox.mvmctl(["builder", "init", "--image", &image]).limit(LIMIT).run()?.exits(2)?;
    ensure!(without.err().contains("there is no program nix in its PATH"), "{}", without.err());
    ensure_eq!(sandbox.json(["builder", "status", "--json"])?["image_present"], false);
    // A policy has a say in it.
    let policy = sandbox.path().join("policy.toml");
    std::fs::write(&policy, "root-user = false\n")?;
    let layout = fixtures::nix_in_store("2.91.0")?;
    let image = format!("oci:{}:latest", layout.display());
    let init = ["builder", "init", "--image", &image, "--policy"];
    let refused = sandbox.mvmctl(init).arg(&policy).limit(LIMIT).run()?.exits(5)?;
    ensure!(refused.err().contains("root"), "{}", refused.err());
    std::fs::write(sandbox.store().join("settings.toml"), "[builder]\nsubstituters = [\"a b\"]\n")?;
    let wrong = sandbox.mvmctl(["builder", "init", "--image", &image]).limit(LIMIT).run()?.exits(2)?;
    ensure!(wrong.err().contains("settings.toml"), "{}", wrong.err());
    Ok(())
}

/// Returns the hypervisor's process.
fn hypervisor(sandbox: &Sandbox) -> Result<u32, libtest_mimic::Failed> {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(60) {
        let found = holders(&sandbox.store())?;
        if let Some((pid, _)) = found.iter().find(|(_, command)| command.contains("qemu-system")) {
            return Ok(*pid);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err("no hypervisor".into())
}

/// Waits until something is so, a minute at most.
pub fn until(holds: impl Fn() -> Result<bool, libtest_mimic::Failed>) -> Outcome {
    let started = Instant::now();
    while !holds()? {
        ensure!(started.elapsed() < Duration::from_secs(60), "it does not come to that within a minute");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
