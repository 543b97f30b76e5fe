//! Scopes: partitions of a store that share nothing, each with a limit of its own.

use std::thread;

use mvm_tests::fixtures;
use mvm_tests::fixtures::scale;
use mvm_tests::need::Need;
use mvm_tests::registry::Registry;
use mvm_tests::sandbox::Sandbox;
use serde_json::Value;

use crate::bad_input::refused;
use crate::store::layout;
use crate::{Case, GUEST, Outcome, PULL, ensure, ensure_eq};

pub const CASES: &[Case] = &[
    Case { name: "scopes::share_nothing", needs: PULL, run: share_nothing },
    Case { name: "scopes::are_listed_inspected_and_removed", needs: &[Need::Mvmctl], run: verbs },
    Case { name: "scopes::keep_to_their_quota", needs: &[Need::Mvmctl], run: quota },
    Case { name: "scopes::with_a_running_vm_stay", needs: GUEST, run: in_use },
];

/// Returns the names of a registry's blobs that were asked for, with how often.
fn requests(registry: &Registry, image_layers: &[String]) -> Result<Vec<usize>, libtest_mimic::Failed> {
    Ok(image_layers.iter().map(|hex| registry.blob_requests(hex)).collect::<Result<_, _>>()?)
}

fn share_nothing() -> Outcome {
    let registry = Registry::start()?;
    let image = registry.push(&fixtures::busybox()?, "team/app:1", &[])?;
    let sandbox = Sandbox::new()?;
    sandbox.mvmctl(["--scope", "a", "pull", &image]).run()?.ok()?;
    let blobs: Vec<String> = std::fs::read_dir(sandbox.store().join("scopes/a/documents"))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<std::io::Result<_>>()?;
    let before = requests(&registry, &blobs)?;
    sandbox.mvmctl(["scope", "set", "b", "--quota", "1GiB"]).run()?.ok()?;
    // None of its names or digests means anything in another scope.
    let row = &sandbox.json(["--scope", "a", "image", "ls", "--json"])?[0];
    for name in
        ["reference", "manifest", "config", "root_hash"].map(|key| row[key].as_str().unwrap_or_default())
    {
        sandbox.mvmctl(["--scope", "a", "image", "inspect", name]).run()?.ok()?;
        // A scope that isn't there is not made by asking it for something, and one that is has none of that.
        let table: [&[&str]; 5] = [
            &["image", "inspect", name],
            &["image", "verify", name],
            &["image", "rm", name],
            &["image", "pin", name],
            &["image", "tag", name, "example.com/x:1"],
        ];
        for words in table {
            refused(&sandbox.mvmctl(["--scope", "typo"]).args(words).run()?, 3, &["no scope typo"])?;
            refused(&sandbox.mvmctl(["--scope", "b"]).args(words).run()?, 3, &["no image"])?;
        }
    }
    for words in [
        &["image", "ls"][..],
        &["df"],
        &["gc"],
        &["gc", "--dry-run"],
        &["image", "verify", "--all"],
        &["vm", "ls"],
        &["audit", "tail"],
        &["audit", "verify"],
        &["image", "push", "x"],
        &["image", "save", "-o", "x", "x"],
    ] {
        let words = words.iter().copied();
        refused(&sandbox.mvmctl(["--scope", "typo"]).args(words).run()?, 3, &["no scope typo"])?;
    }
    ensure!(!sandbox.store().join("scopes/typo").exists(), "a look made a scope");
    refused(&sandbox.mvmctl(["--scope", "b", "pull", "--offline", &image]).run()?, 3, &["not in the store"])?;
    ensure_eq!(sandbox.json(["--scope", "b", "image", "ls", "--json"])?, Value::Array(Vec::new()));
    ensure_eq!(requests(&registry, &blobs)?, before);
    // What a scope has it has asked for itself: everything is resolved and fetched once more.
    sandbox.mvmctl(["--scope", "b", "pull", &image]).run()?.ok()?;
    let after = requests(&registry, &blobs)?;
    ensure!(after.iter().sum::<usize>() > before.iter().sum(), "{before:?} {after:?}");
    let other = &sandbox.json(["--scope", "b", "image", "ls", "--json"])?[0];
    ensure_eq!(other["root_hash"], row["root_hash"]);
    sandbox.mvmctl(["--scope", "a", "image", "rm", &image]).run()?.ok()?;
    sandbox.mvmctl(["--scope", "b", "image", "verify", &image]).run()?.ok()?;
    Ok(())
}

fn verbs() -> Outcome {
    let sandbox = Sandbox::new()?;
    let image = layout(&sandbox.path().join("image"), "base", "own")?;
    for scope in ["a", "team.b"] {
        sandbox.mvmctl(["--scope", scope, "pull", &image]).run()?.ok()?;
    }
    let names = || -> Result<Vec<String>, libtest_mimic::Failed> {
        let list = sandbox.json(["scope", "ls", "--json"])?;
        Ok(list.as_array().into_iter().flatten().map(|scope| scope["name"].to_string()).collect())
    };
    ensure_eq!(names()?, ["\"a\"", "\"team.b\""]);
    let details = sandbox.json(["scope", "inspect", "a", "--json"])?;
    ensure_eq!(
        (&details["images"], &details["pinned"], &details["quota"]),
        (&1.into(), &0.into(), &Value::Null)
    );
    ensure_eq!(sandbox.json(["scope", "inspect", "--scope", "a", "--json"])?, details);
    let words = sandbox.mvmctl(["scope", "inspect", "a"]).run()?.ok()?.out();
    ensure!(words.starts_with("scope      a\n") && words.contains("images     1 (0 pinned)"), "{words}");
    refused(&sandbox.mvmctl(["scope", "inspect", "c"]).run()?, 3, &["no scope c", "mvmctl scope ls"])?;
    refused(&sandbox.mvmctl(["scope", "rm", "c"]).run()?, 3, &["no scope c"])?;
    ensure_eq!(sandbox.mvmctl(["scope", "rm", "../a"]).run()?.code(), 2);
    let removed = sandbox.json(["scope", "rm", "a", "--json"])?;
    ensure_eq!(removed[0]["untagged"], Value::from(vec![image.clone()]));
    ensure!(removed[0]["freed"].as_u64() > Some(0), "{removed:#}");
    ensure_eq!(names()?, ["\"team.b\""]);
    let log = sandbox.mvmctl(["audit", "tail", "-n", "100"]).run()?.ok()?.out();
    ensure!(log.lines().any(|line| line.contains("delete") && line.contains("\"scope\":\"a\"")), "{log}");
    sandbox.mvmctl(["--scope", "team.b", "image", "verify", &image]).run()?.ok()?;
    // Twenty that remove it while others pull into it: each is told that it is in use, or removes it.
    let runs: Vec<_> = (0..20)
        .map(|number| match number % 2 {
            0 => sandbox.mvmctl(["--scope", "x", "pull", &image]),
            _ => sandbox.mvmctl(["scope", "rm", "x"]),
        })
        .collect();
    let codes: Vec<Result<(i32, String), String>> = thread::scope(|scope| {
        let running: Vec<_> = runs.into_iter().map(|run| scope.spawn(|| run.run())).collect();
        let ended = running.into_iter().map(|run| run.join().map_err(|_| "a thread panicked".to_owned()));
        ended.map(|run| run?.map(|output| (output.code(), output.err())).map_err(|e| e.to_string())).collect()
    });
    for (number, run) in codes.into_iter().enumerate() {
        let (code, words) = run?;
        let allowed = if number % 2 == 0 { &[0][..] } else { &[0, 3, 7] };
        ensure!(allowed.contains(&code), "command {number}: exit code {code}: {words}");
    }
    Ok(())
}

fn quota() -> Outcome {
    let sandbox = Sandbox::new()?;
    let large = sandbox.path().join("large");
    scale::bytes(&large, 8 << 20)?;
    let large = format!("oci:{}:latest", large.display());
    let small = layout(&sandbox.path().join("small"), "base", "own")?;
    for size in ["lots", "-1", ""] {
        ensure_eq!(
            sandbox.mvmctl(["scope".to_owned(), "set".to_owned(), format!("--quota={size}")]).run()?.code(),
            2
        );
    }
    sandbox.mvmctl(["scope", "set", "a", "--quota", "2MiB"]).run()?.ok()?;
    ensure_eq!(sandbox.json(["scope", "ls", "--json"])?[0]["quota"], 2 << 20);
    sandbox.mvmctl(["--scope", "a", "pull", &small]).run()?.ok()?;
    let size = |scope: &str| -> Result<Value, libtest_mimic::Failed> {
        Ok(sandbox.json(["scope", "inspect", scope, "--json"])?["usage"]["total"].clone())
    };
    let before = size("a")?;
    // A repetition finds nothing of the first attempt.
    for _ in 0..2 {
        let run = sandbox.mvmctl(["--scope", "a", "pull", &large]).run()?;
        refused(&run, 5, &["scope a may hold 2097152 bytes", "mvmctl scope set a --quota SIZE"])?;
        ensure_eq!(size("a")?, before);
    }
    // Other scopes have limits of their own, and one that is lifted binds no longer.
    sandbox.mvmctl(["--scope", "b", "pull", &large]).run()?.ok()?;
    sandbox.mvmctl(["scope", "set", "--scope", "a", "--quota", "none"]).run()?.ok()?;
    sandbox.mvmctl(["--scope", "a", "pull", &large]).run()?.ok()?;
    sandbox.mvmctl(["scope", "rm", "a"]).run()?.ok()?;
    let log = sandbox.mvmctl(["audit", "tail", "-n", "1000"]).run()?.ok()?.out();
    for (kind, more) in [
        ("set", "\"setting\":\"quota\""),
        ("set", "\"value\":\"2097152\""),
        ("set", "\"value\":\"none\""),
        ("delete", "\"name\":\"a\""),
    ] {
        let kind = format!("\"kind\":\"{kind}\"");
        ensure!(log.lines().any(|line| line.contains(&kind) && line.contains(more)), "{kind} {more}: {log}");
    }
    Ok(())
}

fn in_use() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let image = format!("oci:{}:latest", fixtures::busybox()?.display());
    sandbox.mvmctl(["--scope", "a", "run", "-d", "--name", "web", &image, "sleep", "1000"]).run()?.ok()?;
    refused(
        &sandbox.mvmctl(["scope", "rm", "--force", "a"]).run()?,
        7,
        &["scope a is in use", "mvmctl vm ls"],
    )?;
    refused(&sandbox.mvmctl(["--scope", "a", "image", "rm", &image]).run()?, 7, &["vm:web"])?;
    let usage = sandbox.json(["--scope", "a", "df", "--json"])?;
    let count = |name: &str| {
        let kinds = usage["kinds"].as_array().cloned().unwrap_or_default();
        kinds.into_iter().find(|kind| kind["kind"] == name).map(|kind| kind["count"].clone())
    };
    ensure_eq!((count("vms"), count("scratch")), (Some(1.into()), Some(1.into())));
    let scope = sandbox.json(["scope", "inspect", "a", "--json"])?;
    ensure_eq!(scope["leases"][0]["holder"], "vm:web");
    sandbox.mvmctl(["vm", "stop", "-t", "1", "web"]).run()?.ok()?;
    sandbox.mvmctl(["vm", "rm", "web"]).run()?.ok()?;
    sandbox.mvmctl(["scope", "rm", "a"]).run()?.ok()?;
    let list = sandbox.json(["scope", "ls", "--json"])?;
    ensure!(list.as_array().into_iter().flatten().all(|scope| scope["name"] != "a"), "{list:#}");
    Ok(())
}
