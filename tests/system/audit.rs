//! The audit log tells the whole story, and an edited one is found out.

use std::fs;
use std::path::PathBuf;

use mvm_tests::fixtures;
use mvm_tests::sandbox::Sandbox;

use crate::{Case, GUEST, Outcome, ensure};

pub const CASES: &[Case] = &[Case { name: "audit::tells_and_notices", needs: GUEST, run: tells_and_notices }];

fn tells_and_notices() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let image = format!("oci:{}:latest", fixtures::busybox()?.display());
    sandbox.mvmctl(["run", "--rm", &image, "true"]).run()?.ok()?;
    sandbox.mvmctl(["run", "--rm", &image, "true"]).run()?.ok()?;
    let log = sandbox.mvmctl(["audit", "tail", "-n", "1000"]).run()?.ok()?.out();
    for event in ["resolve", "fetch", "verify", "materialize", "sign", "admit", "launch", "stop"] {
        ensure!(log.contains(&format!("\"{event}\"")), "no {event} in the log:\n{log}");
    }
    sandbox.mvmctl(["audit", "verify"]).run()?.ok()?;

    let file = log_file(&sandbox.store().join("audit"))?;
    let text = fs::read_to_string(&file)?;
    let lines: Vec<&str> = text.lines().collect();
    ensure!(lines.len() > 4, "only {} lines", lines.len());
    let middle = lines.len() / 2;
    let mut dropped = lines.clone();
    dropped.remove(middle);
    let mut swapped = lines.clone();
    swapped.swap(middle, middle + 1);
    let edited = text.replacen("true", "false", 1).replacen("\"launch\"", "\"lunch\"", 1);
    for (what, changed) in
        [("dropped", dropped.join("\n") + "\n"), ("swapped", swapped.join("\n") + "\n"), ("edited", edited)]
    {
        fs::write(&file, changed)?;
        let output = sandbox.mvmctl(["audit", "verify"]).run()?;
        ensure!(output.code() == 4, "{what}: exit code {}: {}", output.code(), output.out());
    }
    fs::write(&file, &text)?;
    sandbox.mvmctl(["audit", "verify"]).run()?.ok()?;
    Ok(())
}

fn log_file(directory: &std::path::Path) -> Result<PathBuf, libtest_mimic::Failed> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "jsonl" || extension == "log") {
            files.push(path);
        }
    }
    files.sort();
    files.pop().ok_or_else(|| format!("no log in {}", directory.display()).into())
}
