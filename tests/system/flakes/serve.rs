//! Examples and templates, built and run: what they serve, as their users, and that they say that they are well.

use std::path::Path;

use mvm_tests::sandbox::Sandbox;
use mvm_tests::workspace;

use super::contract;
use crate::services::until;
use crate::{Outcome, ensure, ensure_eq};

pub fn run() -> Outcome {
    let sandbox = contract::with_builder()?;
    let example = |name: &str| workspace::root().join("examples").join(name);
    let token = sandbox.path().join("token");
    std::fs::write(&token, "open sesame")?;
    let secret = format!("token={}", token.display());

    let said = served(&sandbox, &example("http"), "http", &[], "")?;
    ensure_eq!(said, "hello from http, as user 900\n");

    // The count is in a volume, so that it goes on where it was.
    let multi = ["--secret", secret.as_str(), "-v", "count:/mnt/data"];
    let known = "--header 'Authorization: Bearer open sesame'";
    ensure_eq!(served(&sandbox, &example("multi"), "multi", &multi, known)?, "visit 1\n");
    ensure_eq!(served(&sandbox, &example("multi"), "multi", &multi, known)?, "visit 2\n");
    let unknown = served(&sandbox, &example("multi"), "multi", &multi, "");
    ensure!(unknown.is_err_and(|error| format!("{error:?}").contains("401")), "it is told to everyone");

    for (template, expected) in
        [("static", "<p>It works.</p>"), ("python", "hello from app"), ("services", " 20")]
    {
        let directory = sandbox.path().join(template);
        std::fs::create_dir(&directory)?;
        sandbox.mvmctl(["flake", "init", template]).directory(&directory).run()?.ok()?;
        let said = served(&sandbox, &directory, template, &[], "")?;
        ensure!(said.contains(expected), "{template}: {said}");
    }
    Ok(())
}

/// Builds a flake, runs it until its checks are well, and returns what it serves inside.
fn served(
    sandbox: &Sandbox,
    flake: &Path,
    name: &str,
    options: &[&str],
    header: &str,
) -> Result<String, libtest_mimic::Failed> {
    contract::build(sandbox, flake, name)?;
    sandbox.mvmctl(["run", "-d", "--name", name]).args(options).arg(name).run()?.ok()?;
    let state = || Ok(sandbox.json(["vm", "status", "--json", name])?);
    until(state, |state| state["health"] == "healthy")?;
    let fetch = format!("wget -q -O - {header} http://127.0.0.1:8080/ 2>&1");
    let output = sandbox.mvmctl(["exec", name, "sh", "-c", &fetch]).run()?;
    // What it wrote last is in the volume once it has stopped.
    sandbox.mvmctl(["stop", name]).run()?.ok()?;
    sandbox.mvmctl(["rm", name]).run()?.ok()?;
    match output.code() {
        0 => Ok(output.out()),
        code => Err(format!("{name}: exit code {code}: {}{}", output.out(), output.err()).into()),
    }
}
