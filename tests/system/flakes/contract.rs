//! What mkGuest promises, seen from inside a guest that was built from a flake.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mvm_tests::fixtures::nix::stand_in;
use mvm_tests::sandbox::Sandbox;
use mvm_tests::workspace;
use serde_json::{Value, json};

use crate::services::{told, until};
use crate::{Outcome, ensure, ensure_eq};

type Failed = libtest_mimic::Failed;

/// Emulation on a busy machine is slow.
const LIMIT: Duration = Duration::from_secs(900);

/// Makes a store with a builder, as its default is: of Debian's packages.
pub fn with_builder() -> Result<Sandbox, Failed> {
    let sandbox = Sandbox::with_kernel()?;
    sandbox.mvmctl(["builder", "init"]).limit(LIMIT).run()?.ok()?;
    Ok(sandbox)
}

/// Builds a flake of packages that need no network.
pub fn build(sandbox: &Sandbox, flake: &Path, tag: &str) -> Outcome {
    let packages = format!("path:{}", stand_in()?.display());
    let flake = flake.display().to_string();
    sandbox
        .mvmctl([
            "build",
            "--offline",
            "--flake",
            &flake,
            "--override-input",
            "nixpkgs",
            &packages,
            "-t",
            tag,
        ])
        .limit(LIMIT)
        .run()?
        .ok()?;
    Ok(())
}

pub fn run() -> Outcome {
    let sandbox = with_builder()?;
    build(&sandbox, &workspace::root().join("tests/flakes/contract"), "contract")?;
    defaults(&sandbox)?;

    let token = sandbox.path().join("token");
    std::fs::write(&token, "open sesame\n")?;
    let token = format!("token={}", token.display());
    sandbox.mvmctl(["volume", "create", "--size", "64m", "config"]).run()?.ok()?;
    let mounts = ["-v", "data:/mnt/data", "-v", "config:/mnt/config", "--secret", &token];
    sandbox.mvmctl(["run", "-d", "--name", "vm"]).args(mounts).arg("contract").run()?.ok()?;
    for service in ["defaults", "twice", "file", "secret"] {
        until(|| told(&sandbox, "vm", "services", service), |told| told["state"] == "running")?;
    }
    services(&sandbox)?;
    accounts(&sandbox)?;
    root(&sandbox)?;
    health(&sandbox)?;
    sandbox.mvmctl(["vm", "stop", "vm"]).run()?.ok()?;
    Ok(())
}

fn exec(sandbox: &Sandbox, script: &str) -> Result<String, Failed> {
    Ok(sandbox.mvmctl(["exec", "-u", "0", "vm", "sh", "-c", script]).run()?.ok()?.out())
}

/// Waits for the log of a service to end in a line, and returns its lines.
fn log(sandbox: &Sandbox, service: &str, last: &str) -> Result<Vec<String>, Failed> {
    let read = || Ok(Value::String(sandbox.mvmctl(["logs", "--service", service, "vm"]).run()?.ok()?.out()));
    let text = until(read, |text| text.as_str().is_some_and(|text| text.lines().any(|line| line == last)))?;
    Ok(text.as_str().unwrap_or_default().lines().map(str::to_owned).collect())
}

/// Defaults are those of the contract, in the plan that is signed.
fn defaults(sandbox: &Sandbox) -> Outcome {
    let file = sandbox.path().join("contract.plan").display().to_string();
    sandbox.mvmctl(["plan", "create", "-o", &file, "contract"]).run()?.ok()?;
    let envelope: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    let plan: Value =
        serde_json::from_slice(&STANDARD.decode(envelope["payload"].as_str().unwrap_or_default())?)?;
    let named = |list: &str, name: &str| -> Value {
        let all = plan[list].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|entry| entry["name"] == name).unwrap_or(Value::Null)
    };
    ensure_eq!(plan["hostname"], "contract");
    ensure_eq!(plan["service_group"], json!({"name": "mvm", "gid": 900}));
    let check = named("health_checks", "defaults");
    ensure_eq!(
        (&check["interval_secs"], &check["timeout_secs"], &check["start_period_secs"]),
        (&json!(30), &json!(10), &json!(0))
    );
    ensure_eq!(check["service"], "defaults");
    ensure_eq!(named("health_checks", "late")["start_period_secs"], 3600);
    let service = named("services", "defaults");
    ensure_eq!((&service["process"]["user"], &service["restart"]), (&json!("mvm"), &json!("always")));
    ensure_eq!(service.get("log_file").filter(|file| !file.is_null()), None);
    ensure_eq!(named("services", "twice")["after"], json!(["defaults"]));
    Ok(())
}

fn services(sandbox: &Sandbox) -> Outcome {
    let lines = log(sandbox, "defaults", "yes in /")?;
    ensure_eq!(lines, ["uid=900(mvm) gid=900(mvm) groups=900(mvm)", "greetings from a package", "yes in /"]);

    let lines = log(sandbox, "twice", "N=7")?;
    ensure_eq!(lines[0], "uid=1000(alice) gid=1000(alice) groups=900(mvm)");
    for variable in ["A=b c", "EVERYWHERE=yes"] {
        ensure!(lines.iter().any(|line| line == variable), "no {variable} in {lines:?}");
    }
    // Once, as root, though the service was started again.
    ensure_eq!(exec(sandbox, "cat /var/prepared")?, "as 0\n");
    ensure_eq!(told(sandbox, "vm", "services", "twice")?["restarts"], 1);

    let said = exec(sandbox, "cat /var/log/file.log; stat -c %U /var/log/file.log")?;
    ensure_eq!(said, "words for the file\nbob\n");
    let logged = sandbox.mvmctl(["logs", "--service", "file", "vm"]).run()?.ok()?.out();
    ensure_eq!(logged, "");

    let lines = log(sandbox, "secret", "configuration is read-only")?;
    ensure_eq!(lines, ["open sesame", "secrets are read-only", "configuration is read-only"]);
    Ok(())
}

fn accounts(sandbox: &Sandbox) -> Outcome {
    let said = exec(sandbox, "for n in alice bob carol mvm; do id -u $n; id -g $n; id -G $n; done")?;
    let ids: Vec<Vec<&str>> = said.lines().map(|line| line.split(' ').collect()).collect();
    for (user, uid, gid) in [(0, "1000", "1000"), (1, "2000", "2000"), (2, "1001", "2000"), (3, "900", "900")]
    {
        ensure_eq!((&ids[3 * user], &ids[3 * user + 1]), (&vec![uid], &vec![gid]));
        ensure!(ids[3 * user + 2].contains(&"900"), "not in the service group: {said}");
    }
    let homes = "stat -c '%U:%G %n' /home/alice /srv/bob /home/carol";
    ensure_eq!(exec(sandbox, homes)?, "alice:alice /home/alice\nbob:bob /srv/bob\ncarol:bob /home/carol\n");
    Ok(())
}

fn root(sandbox: &Sandbox) -> Outcome {
    let said = exec(sandbox, "hostname; ls /nix; readlink /bin/sh; /usr/bin/env echo found; cat /etc/hosts")?;
    let lines: Vec<&str> = said.lines().collect();
    ensure_eq!(lines[..2], ["contract", "store"]);
    ensure!(lines[2].starts_with("/nix/store/") && lines[2].ends_with("/bin/ash"), "{said}");
    ensure_eq!(lines[3], "found");
    ensure!(lines.iter().any(|line| line.contains("127.0.0.1") && line.contains("localhost")), "{said}");
    let certificates = exec(sandbox, "grep -c BEGIN /etc/ssl/certs/ca-certificates.crt")?;
    ensure!(certificates.trim().parse::<u32>()? > 50, "{certificates}");

    // A read-only image under a layer that takes writes.
    ensure_eq!(
        exec(sandbox, "echo written > /etc/new; cat /etc/new; grep -c ' / overlay ' /proc/mounts")?,
        "written\n1\n"
    );

    let secret = "stat -c '%U:%G %a' /mnt/secrets/token; echo kept > /mnt/data/file; cat /mnt/data/file";
    ensure_eq!(exec(sandbox, secret)?, "root:mvm 440\nkept\n");
    for (mount, access) in [("/mnt/secrets", "ro"), ("/mnt/config", "ro"), ("/mnt/data", "rw")] {
        let found = exec(sandbox, &format!("grep ' {mount} ' /proc/mounts"))?;
        let options: Vec<&str> = found.split(' ').nth(3).unwrap_or_default().split(',').collect();
        for option in [access, "nosuid", "nodev"] {
            ensure!(options.contains(&option), "{mount} is not {option}: {found}");
        }
    }
    ensure_eq!(
        exec(sandbox, "test -e /sys/class/net/eth0 && cat /sys/class/net/eth0/operstate")?.trim(),
        "up"
    );
    Ok(())
}

fn health(sandbox: &Sandbox) -> Outcome {
    let becomes = |name: &'static str, health: &'static str| {
        until(|| told(sandbox, "vm", "health", name), move |told| told["health"] == health)
    };
    let well = becomes("defaults", "healthy")?;
    ensure_eq!(well["results"][0]["output"], "mvm\n");
    ensure_eq!(becomes("never", "unhealthy")?["results"][0]["outcome"], json!({"ended": {"code": 5}}));
    ensure_eq!(becomes("slow", "unhealthy")?["results"][0]["outcome"], "timed-out");
    // What has failed as often by now, within the time that it was given.
    ensure_eq!(told(sandbox, "vm", "health", "late")?["health"], "starting");
    ensure!(exec(sandbox, "wc -l < /tmp/late")?.trim().parse::<u32>()? >= 3, "it has hardly run");
    // What was killed is gone: no more than one run's processes.
    let left = exec(sandbox, "ps | grep -c '[s]leep 1000$'; true")?;
    ensure!(left.trim().parse::<u32>()? <= 2, "{left} processes of a check");
    Ok(())
}
