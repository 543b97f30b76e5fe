//! Closures of a real builder: what Nix says of the same paths, and what can be known of an image that was built.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use libtest_mimic::Failed;
use mvm_tests::fixtures::nix::stand_in;
use mvm_tests::need::Need;
use mvm_tests::sandbox::Sandbox;
use mvm_tests::workspace;
use serde_json::Value;

use crate::flakes::DEBIAN;
use crate::{Case, Outcome, ensure, ensure_eq};

const BUILDER: &[Need] = &[Need::Mvmctl, Need::Guest, DEBIAN[0], DEBIAN[1]];

pub const CASES: &[Case] =
    &[Case { name: "closures::as_nix_has_them", needs: BUILDER, run: as_nix_has_them }];

/// Emulation on a busy machine is slow.
const LIMIT: Duration = Duration::from_secs(900);

/// A signature key that signs nothing.
const KEY: &str = "nobody-1:kw2LRcXyMkYqWcP+Qm0kIakJwPcpVWtl5uRgAssOjxY=";

/// Returns hash and size of the NAR of each path that an output needs, as the builder's Nix has them.
fn in_the_builder(sandbox: &Sandbox, output: &str) -> Result<BTreeMap<String, (String, u64)>, Failed> {
    let asked = ["builder", "shell", "--offline", "nix", "path-info", "--json", "-r", output];
    let infos = sandbox.mvmctl(asked).limit(LIMIT).run()?.ok()?.out();
    let infos: BTreeMap<String, Value> = serde_json::from_str(&infos)?;
    let known = |(path, info): (String, Value)| {
        let hash = info["narHash"].as_str().unwrap_or_default().to_owned();
        (path, (hash, info["narSize"].as_u64().unwrap_or(0)))
    };
    Ok(infos.into_iter().map(known).collect())
}

/// Every path of an image has the hash and size that Nix gives it: what the guest packs is what Nix would.
fn as_nix_has_them() -> Outcome {
    let sandbox = &Sandbox::with_kernel()?;
    sandbox.mvmctl(["builder", "init"]).limit(LIMIT).run()?.ok()?;
    let hello = format!("path:{}", workspace::root().join("examples/hello").display());
    let packages = format!("path:{}", stand_in()?.display());
    let inputs = ["--override-input", "nixpkgs", &packages];
    let build = [&["build", "--offline", "--tag", "hello:1", "--flake", &hello][..], &inputs].concat();
    sandbox.mvmctl(&build).limit(LIMIT).run()?.ok()?;
    let inspected: Value =
        serde_json::from_str(&sandbox.mvmctl(["image", "inspect", "hello:1"]).run()?.ok()?.out())?;
    ensure_eq!(inspected["posture"], "reproducible");
    let paths = inspected["build"]["paths"].as_array().ok_or("no paths")?;
    let here: BTreeMap<String, (String, u64)> = paths
        .iter()
        .map(|path| {
            let text = |name: &str| path[name].as_str().unwrap_or_default().to_owned();
            (text("path"), (text("nar_hash"), path["nar_size"].as_u64().unwrap_or(0)))
        })
        .collect();
    ensure!(here.len() > 1, "{here:?}");
    let output = inspected["build"]["output"].as_str().ok_or("no output")?;
    ensure_eq!(here, in_the_builder(sandbox, output)?);

    // What comes back is what the image says of itself, from inside too.
    sandbox.mvmctl(["image", "verify", "hello:1"]).run()?.ok()?;
    let provenance =
        sandbox.mvmctl(["image", "provenance", "--verify", "--json", "hello:1"]).run()?.ok()?.out();
    let statement: Value = serde_json::from_str(&provenance)?;
    ensure_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    let root = inspected["root"]["root_hash"].as_str().unwrap_or_default().trim_start_matches("sha256:");
    ensure_eq!(statement["subject"][0]["digest"]["dmVeritySha256"], root);

    // No key signed these paths, and no registry has the image.
    let policy = sandbox.path().join("signed.toml");
    fs::write(&policy, format!("signed-paths = [\"{KEY}\"]\n"))?;
    let policy = policy.display().to_string();
    let refused =
        sandbox.mvmctl(["run", "--policy", &policy, "--pull", "never", "hello:1"]).run()?.exits(125)?;
    ensure!(refused.err().contains("have no signature that counts"), "{}", refused.err());
    let archive = sandbox.path().join("hello.tar").display().to_string();
    let saved = sandbox.mvmctl(["image", "save", "-o", &archive, "hello:1"]).run()?.exits(2)?;
    ensure!(saved.err().contains("not supported for what was built of a flake"), "{}", saved.err());
    Ok(())
}
