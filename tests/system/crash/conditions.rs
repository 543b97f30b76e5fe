//! A full disk, a read-only one, no descriptors, a clock that steps back: clear errors, and all is well after.

use std::path::{Path, PathBuf};

use libtest_mimic::Failed;
use mvm_tests::process::{Output, Program};
use mvm_tests::sandbox::Sandbox;
use mvm_tests::workspace;

use super::busybox;
use crate::{Outcome, ensure, ensure_eq};

/// A file system in memory of a certain size, mounted until this goes.
pub struct Mounted(PathBuf);

impl Mounted {
    pub fn new(at: PathBuf, size: &str) -> Result<Self, Failed> {
        std::fs::create_dir_all(&at)?;
        let options = format!("size={size},mode=0700");
        Program::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(&at).run()?.ok()?;
        Ok(Self(at))
    }

    fn remount(&self, options: &str) -> Outcome {
        Program::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.0).run()?.ok()?;
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A test that failed has said why already.
        Program::new("umount").arg("-l").arg(&self.0).run().ok();
    }
}

/// Says what a command must not do, however little it has to work with.
fn fails_well(output: &Output) -> Outcome {
    let said = output.err();
    ensure!(
        (1..=130).contains(&output.code()) && output.code() != 101,
        "it ended with {}: {said}",
        output.code()
    );
    ensure!(!said.contains("panicked"), "it panics: {said}");
    ensure!(
        said.lines().any(|line| line.starts_with("mvmctl: ") || line.starts_with("error: ")),
        "no error: {said}"
    );
    Ok(())
}

fn root_hash(sandbox: &Sandbox, image: &str) -> Result<String, Failed> {
    Ok(sandbox.json(["image", "inspect", image])?["root"]["root_hash"].to_string())
}

pub fn full_disk() -> Outcome {
    let image = busybox()?;
    let whole = Sandbox::new()?;
    whole.mvmctl(["pull", &image]).run()?.ok()?;
    let expected = root_hash(&whole, &image)?;
    let mut failures = 0;
    for kibibytes in [16, 64, 128, 192, 256, 512, 1024, 1536, 2048, 3072, 4096] {
        let sandbox = Sandbox::new()?;
        let disk = Mounted::new(sandbox.store(), &format!("{kibibytes}k"))?;
        let output = sandbox.mvmctl(["pull", &image]).run()?;
        if output.code() != 0 {
            failures += 1;
            fails_well(&output).map_err(|failed| told(&failed, &format!("{kibibytes} KiB")))?;
            let words = ["no space left", "No space left", "database or disk is full"];
            let said = output.err();
            ensure!(words.iter().any(|word| said.contains(word)), "{kibibytes} KiB: {said}");
        }
        disk.remount("size=64m")?;
        sandbox.mvmctl(["gc"]).run()?.ok()?;
        sandbox.mvmctl(["pull", &image]).run()?.ok()?;
        ensure_eq!(root_hash(&sandbox, &image)?, expected);
        sandbox.mvmctl(["image", "verify", "--all"]).run()?.ok()?;
        sandbox.mvmctl(["audit", "verify"]).run()?.ok()?;
    }
    ensure!(failures >= 5, "only {failures} disks were too small");
    Ok(())
}

pub fn read_only() -> Outcome {
    let image = busybox()?;
    let sandbox = Sandbox::new()?;
    let disk = Mounted::new(sandbox.store(), "64m")?;
    sandbox.mvmctl(["pull", &image]).run()?.ok()?;
    let expected = root_hash(&sandbox, &image)?;
    disk.remount("ro")?;
    for arguments in
        [vec!["image", "rm", &image], vec!["image", "tag", &image, "other:1"], vec!["pull", &image]]
    {
        let output = sandbox.mvmctl(&arguments).run()?;
        fails_well(&output).map_err(|failed| told(&failed, &format!("{arguments:?}")))?;
        let said = output.err().to_lowercase();
        ensure!(said.contains("read-only") || said.contains("readonly"), "{arguments:?}: {said}");
    }
    disk.remount("rw")?;
    ensure_eq!(root_hash(&sandbox, &image)?, expected);
    sandbox.mvmctl(["image", "verify", "--all"]).run()?.ok()?;
    sandbox.mvmctl(["audit", "verify"]).run()?.ok()?;
    Ok(())
}

pub fn no_descriptors() -> Outcome {
    let image = busybox()?;
    let whole = Sandbox::new()?;
    whole.mvmctl(["pull", &image]).run()?.ok()?;
    let expected = root_hash(&whole, &image)?;
    let (mut failures, mut successes) = (0, 0);
    for descriptors in [4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 24, 28, 32, 48, 64] {
        let sandbox = Sandbox::new()?;
        let output = limited(&sandbox, descriptors, &["pull", &image])?;
        if output.code() == 0 {
            successes += 1;
        } else {
            failures += 1;
            // With so few the dynamic linker itself may give up.
            if output.code() != 127 {
                fails_well(&output).map_err(|failed| told(&failed, &format!("{descriptors} descriptors")))?;
            }
        }
        sandbox.mvmctl(["gc"]).run()?.ok()?;
        sandbox.mvmctl(["pull", &image]).run()?.ok()?;
        ensure_eq!(root_hash(&sandbox, &image)?, expected);
        sandbox.mvmctl(["audit", "verify"]).run()?.ok()?;
    }
    ensure!(failures > 2 && successes > 2, "{failures} failures, {successes} successes");
    Ok(())
}

fn limited(sandbox: &Sandbox, descriptors: u32, arguments: &[&str]) -> Result<Output, Failed> {
    let program = Program::new("prlimit").clean_env().arg(format!("--nofile={descriptors}"));
    Ok(on_store(program, &sandbox.store(), arguments).run()?)
}

fn on_store(program: Program, store: &Path, arguments: &[&str]) -> Program {
    program.arg(workspace::mvmctl()).arg("--root").arg(store).args(arguments)
}

/// Commands at a time before that of earlier ones.
pub fn clock() -> Outcome {
    let image = busybox()?;
    let sandbox = Sandbox::new()?;
    sandbox.mvmctl(["pull", &image]).run()?.ok()?;
    let expected = root_hash(&sandbox, &image)?;
    let yesterday = |arguments: &[&str]| {
        let program = Program::new("faketime").clean_env().args(["-f", "-1d"]);
        on_store(program, &sandbox.store(), arguments).run()
    };
    yesterday(&["image", "tag", &image, "example.com/app:1"])?.ok()?;
    yesterday(&["image", "rm", &image])?.ok()?;
    yesterday(&["gc"])?.ok()?;
    yesterday(&["audit", "verify"])?.ok()?;
    yesterday(&["pull", &image])?.ok()?;
    ensure_eq!(root_hash(&sandbox, &image)?, expected);
    sandbox.mvmctl(["audit", "verify"]).run()?.ok()?;
    let log = sandbox.mvmctl(["audit", "tail", "-n", "1000"]).run()?.ok()?.out();
    let times: Vec<String> = log
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|entry| entry["time"].as_str().map(str::to_owned))
        .collect();
    ensure!(times.windows(2).any(|pair| pair[1] < pair[0]), "no time in the log steps back: {times:?}");
    sandbox.mvmctl(["gc"]).run()?.ok()?;
    sandbox.mvmctl(["image", "verify", "--all"]).run()?.ok()?;
    Ok(())
}

fn told(failed: &Failed, place: &str) -> Failed {
    format!("{place}: {}", failed.message().unwrap_or_default()).into()
}
