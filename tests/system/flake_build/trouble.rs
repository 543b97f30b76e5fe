//! Builds that end before their time: killed at each stage, by the command or by the hypervisor, out of disk, out of memory.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;

use mvm_tests::process::holders;

use super::{Failed, Outcome, Place, Signal, Value, built, ensure, ensure_eq, fixtures, words};
use crate::builder::until;

/// What is in a builder's store is what Nix believes to be there.
const VERIFY: [&str; 8] = ["builder", "shell", "--offline", "nix", "store", "verify", "--all", "--no-trust"];

/// A guest with data of its own, from a script that makes it.
fn guest_of(name: &str, script: &str) -> String {
    format!(
        r#"{name} = mvm.lib.x86_64-linux.mkGuest {{ name = "d"; env.A = "${{nixpkgs.legacyPackages.x86_64-linux.runCommand "{name}" {{ }} "{script}"}}"; }};"#
    )
}

/// Builds, and kills the hypervisor when the build has come to an event.
fn kill_hypervisor_at(place: &Place, flake: &Path, event: &str) -> Outcome {
    let mut build = place.verb(&["build", "--json"], flake, &[]).spawn(Stdio::piped(), Stdio::null())?;
    let out = build.stdout.take().ok_or("no output")?;
    for line in BufReader::new(out).lines() {
        let said: Value = serde_json::from_str(&line?)?;
        if said["event"] == event {
            let there = holders(&place.sandbox.store())?;
            let found = there.iter().find(|(_, command)| command.contains("qemu-system"));
            let (pid, _) = found.ok_or_else(|| format!("no hypervisor in {there:?}"))?;
            let pid = rustix::process::Pid::from_raw(i32::try_from(*pid)?).ok_or("no process")?;
            rustix::process::kill_process(pid, Signal::KILL)?;
            ensure!(!build.wait()?.success(), "a build whose builder was killed succeeded");
            return Ok(());
        }
    }
    Err(format!("the build has not come to {event}").into())
}

/// Whatever is killed, and when: nothing runs on, nothing half-made is left, and the next build goes on with what there is.
pub fn killed() -> Outcome {
    let place = Place::new()?;
    let sandbox = &place.sandbox;
    let packages = [guest_of("one", "seq 100000 > $out"), guest_of("two", "seq 200000 > $out")];
    let flake = place.flake("killed", &packages.join("\n"))?;
    let (one, two) = (format!("{}#one", flake.display()), format!("{}#two", flake.display()));
    let (one, two) = (Path::new(&one), Path::new(&two));
    let kill_at = |stage: &str, flake: &Path| -> Outcome {
        let killed = place.verb(&["build", "--json"], flake, &[]).signal_when(stage, Signal::KILL).run()?;
        killed.exits(128 + 9).map_err(|error| Failed::from(format!("killed at {stage}: {error}")))?;
        until(|| Ok(holders(&sandbox.store())?.is_empty()))?;
        ensure_eq!(sandbox.vms()?, Vec::<String>::new());
        Ok(())
    };
    kill_at("builder-starting", one)?;
    // All of it was built a moment ago, and what Nix believes to be there has to be there.
    kill_hypervisor_at(&place, one, "closure")?;
    kill_at("derivations will be built", two)?;
    kill_at("\"closure\"", two)?;
    let build = place.verb(&["build", "--json"], two, &[]).run()?.ok()?;
    ensure!(!build.err().contains("left behind"), "{}", build.err());
    let events = super::events(&build)?;
    ensure_eq!(built(&events)?["derivations"], 0);
    let verified = sandbox.mvmctl(VERIFY).limit(super::LIMIT).run()?.ok()?;
    ensure!(!verified.err().contains("was modified"), "{}", verified.err());
    sandbox.mvmctl(["image", "verify", "--all"]).run()?.ok()?;
    sandbox.mvmctl(["audit", "verify"]).run()?.ok()?;
    sandbox.mvmctl(["gc"]).run()?.ok()?;
    ensure_eq!(std::fs::read_dir(sandbox.store().join("scopes/default/staging"))?.count(), 0);
    Ok(())
}

/// A builder with too little of something says so, and the next build finds it well.
pub fn runs_out() -> Outcome {
    let place = Place::without_builder()?;
    let image = format!("oci-archive:{}", fixtures::builder("trixie")?.display());
    let init = ["builder", "init", "--store-size", "96m", "--memory", "288", "--image", &image];
    place.sandbox.mvmctl(init).limit(super::LIMIT).run()?.ok()?;
    let packages = [
        guest_of("disk", "dd if=/dev/zero of=$out bs=1M count=1000"),
        guest_of("memory", "x=0123456789abcdef; while :; do x=$x$x; done"),
        guest_of("little", "echo little > $out"),
    ];
    let flake = place.flake("hungry", &packages.join("\n"))?;
    let build = |name: &str| {
        let flake = format!("{}#{name}", flake.display());
        place.verb(&["build"], Path::new(&flake), &[]).run()
    };
    words(build("memory")?, 11, &["the builder ran out of memory", "builder init --memory SIZE"])?;
    words(
        build("disk")?,
        11,
        &["the builder's disk is full", "mvmctl builder gc", "mvmctl builder grow --size SIZE"],
    )?;
    let log = place.sandbox.mvmctl(["build", "log"]).run()?.ok()?.out();
    ensure!(log.contains("disk> dd: "), "{log}");
    place.sandbox.mvmctl(["builder", "gc"]).limit(super::LIMIT).run()?.ok()?;
    build("little")?.ok()?;
    Ok(())
}
