//! Volumes: made, grown, given out, removed; and used by VMs.

use mvm_tests::need::Need;
use mvm_tests::process::Program;
use mvm_tests::sandbox::Sandbox;
use serde_json::Value;

use crate::{Case, MKE2FS, Outcome, ensure, ensure_eq};

pub const CASES: &[Case] = &[Case { name: "volumes::verbs", needs: &[Need::Mvmctl, MKE2FS], run: verbs }];

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
