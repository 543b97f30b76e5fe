//! Health checks in real guests: what they amount to, and that none of them can do harm.

use std::fs;
use std::path::Path;

use libtest_mimic::Failed;
use mvm_tests::fixtures;
use mvm_tests::process::Program;
use mvm_tests::sandbox::Sandbox;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::services::{launch, process, signed_plan, told, until};
use crate::{Case, GUEST, Outcome, ensure, ensure_eq};

pub const CASES: &[Case] = &[
    Case { name: "health::checks_of_all_kinds", needs: GUEST, run: kinds },
    Case { name: "health::the_image_brings_checks", needs: GUEST, run: brought },
    Case { name: "health::the_images_own_healthcheck", needs: GUEST, run: own },
];

fn kinds() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let image = format!("oci:{}:latest", fixtures::busybox()?.display());
    let vm = launch(&sandbox, &image, &["sleep", "1000"], |plan| {
        let check = |name: &str, user: &str, script: &str| {
            json!({"name": name, "process": process(user, script), "interval_secs": 1, "timeout_secs": 2,
                "start_period_secs": 0, "retries": 2})
        };
        plan["health_checks"] = json!([
            check("well", "guest", "id -u; exit 0"),
            check("ill", "", "echo no; exit 3"),
            check("hanging", "guest", "sleep 1000 & exec sleep 1000"),
            check("forking", "guest", "b() { b | b & }; b; sleep 1000"),
            check("talking", "guest", "busybox yes | head -c 1000000000"),
            check("nowhere", "ghost", "exit 0"),
        ]);
    })?;
    let becomes = |name: &'static str, health: &'static str| {
        until(|| told(&sandbox, &vm, "health", name), move |told| told["health"] == health)
    };
    let last = |told: &Value| told["results"][0].clone();
    ensure_eq!(last(&becomes("well", "healthy")?)["output"], "1000\n");
    let ill = last(&becomes("ill", "unhealthy")?);
    ensure_eq!((&ill["output"], &ill["outcome"]), (&json!("no\n"), &json!({"ended": {"code": 3}})));
    ensure_eq!(last(&becomes("hanging", "unhealthy")?)["outcome"], "timed-out");
    ensure_eq!(last(&becomes("forking", "unhealthy")?)["outcome"], "timed-out");
    let talking = last(&becomes("talking", "unhealthy")?);
    ensure_eq!(talking["output"].as_str().map(str::len), Some(4096));
    ensure_eq!(
        last(&becomes("nowhere", "unhealthy")?)["outcome"],
        json!({"not-started": "user \"ghost\" is not in the image's /etc/passwd"})
    );
    // None is left over, and the guest does what it is asked.
    let count = "for n in 2 3 4; do cat /sys/fs/cgroup/health/$n.check/pids.current; done";
    let counted = sandbox.mvmctl(["exec", &vm, "sh", "-c", count]).run()?.ok()?.out();
    ensure_eq!(counted.lines().count(), 3);
    sandbox.mvmctl(["vm", "stop", &vm]).run()?.ok()?;
    Ok(())
}

fn brought() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let layout = sandbox.path().join("layout");
    Program::new("cp").args(["-r"]).arg(fixtures::busybox()?).arg(&layout).run()?.ok()?;
    let files = sandbox.path().join("integrations");
    std::fs::create_dir(&files)?;
    std::fs::write(
        files.join("a.json"),
        r#"{"name": "mark", "health_cmd": "test -e /mark", "health_interval_secs": 1, "other": 1}"#,
    )?;
    std::fs::write(files.join("broken.json"), "{")?;
    let tag = format!("{}:latest", layout.display());
    Program::new("umoci")
        .args(["insert", "--image", &tag])
        .arg(&files)
        .arg("/etc/mvm/integrations.d")
        .run()?
        .ok()?;
    let image = format!("oci:{tag}");
    let options = ["--health-cmd", "test -e /own", "--health-interval", "1s", "--health-retries", "1"];
    sandbox
        .mvmctl(["run", "-d", "--name", "vm"])
        .args(options)
        .args([&image, "sh", "-c", "touch /own; exec sleep 1000"])
        .run()?
        .ok()?;
    let becomes = |name: &'static str, health: &'static str| {
        until(|| told(&sandbox, "vm", "health", name), move |told| told["health"] == health)
    };
    becomes("image", "healthy")?;
    becomes("mark", "unhealthy")?;
    let broken = becomes("broken", "unhealthy")?;
    let reason = broken["results"][0]["outcome"]["not-started"].as_str().unwrap_or_default().to_owned();
    ensure!(
        reason.starts_with("/etc/mvm/integrations.d/broken.json is not used: parsing it failed"),
        "{reason}"
    );
    sandbox.mvmctl(["exec", "vm", "touch", "/mark"]).run()?.ok()?;
    becomes("mark", "healthy")?;
    sandbox.mvmctl(["vm", "rm", "--force", "vm"]).run()?.ok()?;

    // Without any check of the plan the image's still run; without either there is nothing to tell.
    sandbox.mvmctl(["run", "-d", "--name", "vm", &image, "sleep", "1000"]).run()?.ok()?;
    becomes("mark", "unhealthy")?;
    let refused =
        sandbox.mvmctl(["run", "--rm", "--health-retries", "1", &image, "true"]).run()?.exits(125)?;
    ensure!(refused.err().contains("--health-retries"), "{}", refused.err());
    sandbox
        .mvmctl(["run", "--rm", "--health-cmd", "x", "--health-interval", "0s", &image])
        .run()?
        .exits(125)?;
    Ok(())
}

/// Gives an image a `HEALTHCHECK`, as docker writes it into the config.
fn with_healthcheck(layout: &Path, check: &Value) -> Outcome {
    let blob = |digest: &str| layout.join("blobs").join(digest.replace(':', "/"));
    let read = |path: &Path| -> Result<Value, Failed> { Ok(serde_json::from_slice(&fs::read(path)?)?) };
    let write = |descriptor: &mut Value, document: &Value| -> Outcome {
        let bytes = serde_json::to_vec(document)?;
        let hex: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        descriptor["digest"] = format!("sha256:{hex}").into();
        descriptor["size"] = bytes.len().into();
        fs::write(blob(&format!("sha256:{hex}")), bytes)?;
        Ok(())
    };
    let mut index = read(&layout.join("index.json"))?;
    let entry = &mut index["manifests"][0];
    let mut manifest = read(&blob(entry["digest"].as_str().ok_or("no digest")?))?;
    let mut config = read(&blob(manifest["config"]["digest"].as_str().ok_or("no digest")?))?;
    config["config"]["Healthcheck"] = check.clone();
    write(&mut manifest["config"], &config)?;
    write(entry, &manifest)?;
    fs::write(layout.join("index.json"), serde_json::to_vec(&index)?)?;
    Ok(())
}

fn own() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let layout = sandbox.path().join("layout");
    Program::new("cp").args(["-r"]).arg(fixtures::busybox()?).arg(&layout).run()?.ok()?;
    let image = format!("oci:{}:latest", layout.display());
    // What a plan has of it: nanoseconds become whole seconds, what is not said docker's own.
    let planned = |check: Value| -> Result<Value, Failed> {
        with_healthcheck(&layout, &check)?;
        let mut checks = Value::Null;
        signed_plan(&sandbox, &image, &["sleep", "1000"], |plan| {
            checks = plan["health_checks"].clone();
            // What is signed must be something new.
            plan["hostname"] = json!("other");
        })?;
        Ok(checks)
    };
    let second = 1_000_000_000_u64;
    let all = planned(json!({"Test": ["CMD", "/bin/test", "-e", "/mark"], "Interval": 7 * second,
        "Timeout": 2 * second, "StartPeriod": 5 * second, "Retries": 4}))?;
    let times = |check: &Value| {
        ["interval_secs", "timeout_secs", "start_period_secs", "retries"].map(|field| check[field].as_u64())
    };
    ensure_eq!(times(&all[0]), [Some(7), Some(2), Some(5), Some(4)]);
    ensure_eq!(all[0]["process"]["argv"], json!(["/bin/test", "-e", "/mark"]));
    let least = planned(json!({"Test": ["CMD-SHELL", "test -e /mark"]}))?;
    ensure_eq!(times(&least[0]), [Some(30), Some(30), Some(0), Some(3)]);
    ensure_eq!(least[0]["process"]["argv"], json!(["/bin/sh", "-c", "test -e /mark"]));
    for none in [json!({"Test": ["NONE"]}), json!({"Test": []}), Value::Null] {
        let checks = planned(none)?;
        ensure!(checks.as_array().is_none_or(Vec::is_empty), "{checks}");
    }

    let start = |check: Value| -> Outcome {
        with_healthcheck(&layout, &check)?;
        sandbox.mvmctl(["run", "-d", "--name", "vm", &image, "sleep", "1000"]).run()?.ok()?;
        Ok(())
    };
    let becomes = |health: &'static str| {
        until(|| told(&sandbox, "vm", "health", "image"), move |told| told["health"] == health)
    };
    let check = |test: Value| json!({"Test": test, "Interval": second, "Retries": 1});
    start(check(json!(["CMD-SHELL", "test -e /mark && echo \"in a shell\""])))?;
    becomes("unhealthy")?;
    sandbox.mvmctl(["exec", "vm", "touch", "/mark"]).run()?.ok()?;
    ensure_eq!(becomes("healthy")?["results"][0]["output"], "in a shell\n");
    ensure_eq!(sandbox.json(["vm", "status", "--json", "vm"])?["health"], "healthy");
    sandbox.mvmctl(["vm", "rm", "--force", "vm"]).run()?.ok()?;

    start(check(json!(["CMD", "/bin/echo", "$HOME", "&&", "false"])))?;
    ensure_eq!(becomes("healthy")?["results"][0]["output"], "$HOME && false\n");
    sandbox.mvmctl(["vm", "rm", "--force", "vm"]).run()?.ok()?;

    start(check(json!(["CMD", "/no/such/check"])))?;
    let reason = becomes("unhealthy")?["results"][0]["outcome"]["not-started"].clone();
    ensure!(reason.as_str().is_some_and(|reason| reason.contains("/no/such/check")), "{reason}");
    Ok(())
}
