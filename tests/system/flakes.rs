//! Guests that flakes describe: what the library refuses and in which words, and what becomes of what it takes.

mod contract;
mod serve;

use std::collections::BTreeMap;
use std::path::Path;

use mvm_tests::fixtures::nix::{Nix, stand_in};
use mvm_tests::need::Need;
use mvm_tests::process::Output;
use mvm_tests::workspace;
use serde_json::{Value, json};

use crate::{Case, Outcome, ensure, ensure_eq};

/// Debian's packages, wherever they come from.
pub const DEBIAN: &[Need] = &[Need::Program("apt-get", "apt"), Need::Program("dpkg-deb", "dpkg")];

/// What it takes to build a flake and to run what comes of it.
const BUILDER: &[Need] =
    &[Need::Mvmctl, Need::Guest, Need::Program("apt-get", "apt"), Need::Program("dpkg-deb", "dpkg")];

pub const CASES: &[Case] = &[
    Case { name: "flakes::library_with_nix_2_8", needs: DEBIAN, run: || library("bookworm", "2.8.") },
    Case { name: "flakes::library_with_nix_2_26", needs: DEBIAN, run: || library("trixie", "2.26.") },
    Case { name: "flakes::contract_inside_a_guest", needs: BUILDER, run: contract::run },
    Case { name: "flakes::examples_and_templates_serve", needs: BUILDER, run: serve::run },
    Case { name: "flakes::examples_and_templates_evaluate", needs: DEBIAN, run: examples },
];

type Failed = libtest_mimic::Failed;

/// Runs a Nix and returns how it ended.
fn nix(nix: &Nix, home: &Path, arguments: &[&str]) -> Result<Output, Failed> {
    Ok(nix.program(home, arguments)?.directory(workspace::root()).run()?)
}

fn evaluated(with: &Nix, home: &Path, arguments: &[&str]) -> Result<Value, Failed> {
    let mut all = vec!["eval", "--json"];
    all.extend(arguments);
    Ok(serde_json::from_slice(&nix(with, home, &all)?.ok()?.stdout)?)
}

fn library(release: &str, version: &str) -> Outcome {
    let (with, home) = (Nix::of(release)?, tempfile::tempdir()?);
    let home = home.path();
    let said = nix(&with, home, &["--version"])?.ok()?.out();
    ensure!(said.contains(version), "{said} is not {version}");

    let file = workspace::root().join("nix/tests/cases.nix");
    let file = file.to_str().ok_or("the workspace's path is not text")?;
    ensure_eq!(evaluated(&with, home, &["-f", file, "documents"])?, json!([]));

    let words = ["-f", file, "errors", "--apply", "builtins.mapAttrs (_: case: case.says)"];
    let words: BTreeMap<String, String> = serde_json::from_value(evaluated(&with, home, &words)?)?;
    ensure!(words.len() > 50, "only {} cases", words.len());
    for (case, says) in words {
        let output = nix(&with, home, &["eval", "--json", "-f", file, &format!("errors.{case}.value")])?;
        let (code, err) = (output.code(), output.err());
        ensure!(code == 1, "{case}: exit code {code}\n{}", output.out());
        let expected = format!("error: {says}");
        ensure!(err.lines().any(|line| line.trim() == expected), "{case}: no line {expected:?} in\n{err}");
    }
    Ok(())
}

/// Each guest of the examples and templates evaluates with both versions, to the same derivation, without a network.
fn examples() -> Outcome {
    let root = workspace::root();
    let library = format!("path:{}", root.join("nix").display());
    let packages = format!("path:{}", stand_in()?.display());
    let system = format!("{}-linux", std::env::consts::ARCH);
    let versions = [Nix::of("bookworm")?, Nix::of("trixie")?];
    let table = [
        ("examples/hello", &["default"][..]),
        ("examples/http", &["default"]),
        ("examples/multi", &["default"]),
        ("examples/profiles", &["default", "dev", "prod", "tenant-blue"]),
        ("nix/templates/static", &["default"]),
        ("nix/templates/python", &["default"]),
        ("nix/templates/services", &["default"]),
    ];
    for (directory, names) in table {
        let mut results = Vec::new();
        for with in &versions {
            let home = tempfile::tempdir()?;
            let installable = format!("path:{}#packages.{system}", root.join(directory).display());
            let apply = "builtins.mapAttrs (_: guest: { inherit (guest) drvPath guest; })";
            let arguments = ["--no-write-lock-file", "--offline", "--override-input", "mvm", &library];
            let arguments = [&arguments[..], &["--override-input", "nixpkgs", &packages]].concat();
            let arguments = [&arguments[..], &[&installable, "--apply", apply]].concat();
            results.push(evaluated(with, home.path(), &arguments)?);
        }
        ensure_eq!(results[0], results[1]);
        let found: Vec<&str> =
            results[0].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        ensure_eq!(found, names);
        for name in names {
            let guest = &results[0][name]["guest"];
            ensure_eq!(guest["schema"], "mvm.guest.v1");
            ensure!(guest["services"].as_object().is_some_and(|all| !all.is_empty()), "{directory} {name}");
        }
    }
    Ok(())
}
