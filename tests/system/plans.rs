//! Plans: made here or elsewhere, signed, compared, launched as often as they allow.

use std::fs;

use mvm_tests::fixtures;
use mvm_tests::need::Need;
use mvm_tests::process::Program;
use mvm_tests::registry::Registry;
use mvm_tests::sandbox::Sandbox;
use serde_json::Value;

use crate::{BUSYBOX, Case, GUEST, Outcome, SKOPEO, UMOCI, ensure, ensure_eq};

pub const CASES: &[Case] = &[
    Case { name: "plans::one_plan_many_launches", needs: GUEST, run: many_launches },
    Case { name: "plans::single_use_holds_after_a_kill", needs: GUEST, run: single_use },
    Case { name: "plans::signatures_and_differences", needs: GUEST, run: signatures },
    Case {
        name: "plans::a_registry_has_what_a_plan_names",
        needs: &[Need::Mvmctl, Need::Guest, Need::Registry, UMOCI, SKOPEO, BUSYBOX],
        run: from_a_registry,
    },
    Case { name: "plans::bundles_carry_a_machine", needs: GUEST, run: bundles },
    Case { name: "plans::tampered_bundles_are_refused", needs: GUEST, run: tampered_bundles },
    Case { name: "plans::options_are_named", needs: GUEST, run: options },
];

type Failed = libtest_mimic::Failed;

fn prepare() -> Result<(Sandbox, String, String), Failed> {
    let sandbox = Sandbox::with_kernel()?;
    let image = format!("oci:{}:latest", fixtures::busybox()?.display());
    let plan = sandbox.path().join("web.plan").display().to_string();
    Ok((sandbox, image, plan))
}

/// Returns the events of a kind in the audit log.
fn events(sandbox: &Sandbox, kind: &str) -> Result<Vec<Value>, Failed> {
    let log = sandbox.mvmctl(["audit", "tail", "-n", "1000"]).run()?.ok()?.out();
    let mut events = Vec::new();
    for line in log.lines() {
        let entry: Value = serde_json::from_str(line)?;
        if entry["event"]["kind"] == kind {
            events.push(entry["event"].clone());
        }
    }
    Ok(events)
}

fn many_launches() -> Outcome {
    let (sandbox, image, plan) = prepare()?;
    let create = ["plan", "create", "-o", &plan, "--name", "web", "-e", "WORD=planned", &image];
    sandbox.mvmctl(create).args(["sh", "-c", "echo $WORD $(hostname)"]).run()?.ok()?;
    ensure_eq!(sandbox.vms()?, Vec::<String>::new());
    for _ in 0..2 {
        let output = sandbox.mvmctl(["launch", "--rm", &plan]).run()?.ok()?;
        ensure_eq!(output.out(), "planned web\n");
    }
    // From stdin, detached, beside one that has the name.
    let first = sandbox.mvmctl(["launch", "-d", &plan]).run()?.ok()?.out();
    let second = sandbox.mvmctl(["launch", "-d", "-"]).input(fs::read(&plan)?).run()?.ok()?.out();
    ensure_eq!(first, "web\n");
    ensure!(second.starts_with("web-") && second.len() == "web-01234567\n".len(), "{second:?}");
    let taken = sandbox.mvmctl(["launch", "--name", "web", &plan]).run()?.exits(125)?;
    ensure!(taken.err().contains("a VM named web exists"), "{}", taken.err());

    let launches = events(&sandbox, "launch")?;
    ensure_eq!(launches.len(), 4);
    let digest = sandbox.json(["plan", "show", "--json", &plan])?["digest"].clone();
    let mut nonces: Vec<&Value> = launches.iter().map(|launch| &launch["nonce"]).collect();
    nonces.dedup();
    ensure_eq!(nonces.len(), 4);
    ensure!(launches.iter().all(|launch| launch["plan"] == digest), "{launches:?}");
    ensure_eq!(events(&sandbox, "sign")?.len(), 1);

    // What run would do, without doing it.
    let only = sandbox.mvmctl(["run", "--plan-only", &image, "true"]).run()?.ok()?;
    let output = sandbox.mvmctl(["launch", "--rm", "-"]).input(only.stdout).run()?.ok()?;
    ensure_eq!(output.out(), "");
    Ok(())
}

fn single_use() -> Outcome {
    let (sandbox, image, plan) = prepare()?;
    sandbox.mvmctl(["plan", "create", "--single-use", "-o", &plan, &image, "true"]).run()?.ok()?;
    // What is refused for another reason doesn't use it up.
    sandbox.mvmctl(["launch", "--policy", "production", &plan]).run()?.exits(125)?;
    sandbox.mvmctl(["launch", "--rm", &plan]).run()?.ok()?;
    for _ in 0..2 {
        let refused = sandbox.mvmctl(["launch", "--rm", &plan]).run()?.exits(125)?;
        ensure!(refused.err().contains("is for one launch, and was launched before"), "{}", refused.err());
    }
    let rules: Vec<Value> =
        events(&sandbox, "refuse")?.into_iter().map(|event| event["rules"].clone()).collect();
    ensure_eq!(rules[1..], [serde_json::json!(["single-use"]), serde_json::json!(["single-use"])]);
    ensure_eq!(sandbox.vms()?, Vec::<String>::new());

    // Of several at once one is launched, and a supervisor that is killed has used the plan up.
    sandbox.mvmctl(["plan", "create", "--single-use", "-o", &plan, &image, "sleep", "1000"]).run()?.ok()?;
    let name = sandbox.mvmctl(["launch", "-d", &plan]).run()?.ok()?.out();
    let state = sandbox.store().join("vms").join(name.trim()).join("state.json");
    let state: Value = serde_json::from_slice(&fs::read(state)?)?;
    let pid = state["supervisor"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    let pid = pid.and_then(rustix::process::Pid::from_raw).ok_or("no supervisor")?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    sandbox.mvmctl(["launch", &plan]).run()?.exits(125)?;
    Ok(())
}

fn signatures() -> Outcome {
    let (sandbox, image, plan) = prepare()?;
    sandbox.mvmctl(["plan", "create", "-o", &plan, "--name", "web", &image, "true"]).run()?.ok()?;
    let twice = sandbox.mvmctl(["plan", "sign", &plan]).run()?;
    ensure!(twice.code() == 2 && twice.err().contains("signs the same envelope twice"), "{}", twice.err());

    let shown = sandbox.mvmctl(["plan", "show", &plan]).run()?.ok()?.out();
    for words in ["process.argv ", "[\"true\"]", "workload ", "signature, unchecked "] {
        ensure!(shown.contains(words), "no {words:?} in\n{shown}");
    }
    let report = sandbox.json(["plan", "verify", "--json", &plan])?;
    ensure_eq!(report["admitted"], Value::Bool(true));
    ensure_eq!(report["signers"].as_array().map(Vec::len), Some(1));

    let policy = sandbox.path().join("two.toml").display().to_string();
    fs::write(&policy, "threshold = 2\n")?;
    sandbox.mvmctl(["key", "generate", "second"]).run()?.ok()?;
    sandbox.mvmctl(["plan", "verify", "--policy", &policy, &plan]).run()?.exits(5)?;
    sandbox.mvmctl(["plan", "sign", "--key", "second", &plan]).run()?.ok()?;
    sandbox.mvmctl(["plan", "verify", "--policy", &policy, &plan]).run()?.ok()?;
    sandbox.mvmctl(["launch", "--rm", "--policy", &policy, &plan]).run()?.ok()?;

    let other = sandbox.path().join("other.plan").display().to_string();
    let create =
        ["plan", "create", "-o", &other, "--name", "web", "--cpus", "2", "--valid-for", "1h", &image, "true"];
    sandbox.mvmctl(create).run()?.ok()?;
    sandbox.mvmctl(["plan", "diff", &plan, &plan]).run()?.ok()?;
    let differs = sandbox.mvmctl(["plan", "diff", "--json", &plan, &other]).run()?.exits(1)?;
    let differs: Value = serde_json::from_str(&differs.out())?;
    let parts: Vec<&str> =
        differs.as_array().into_iter().flatten().filter_map(|one| one["part"].as_str()).collect();
    ensure!(parts.starts_with(&["resources.cpus", "validity.not_after"]), "{parts:?}");

    // A store that doesn't know the key, and neither image nor kernel.
    let stranger = Sandbox::new()?;
    let refused = stranger.mvmctl(["plan", "verify", "--json", &plan]).run()?.exits(5)?;
    let report: Value = serde_json::from_str(&refused.out())?;
    let failed: Vec<&str> = report["rules"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|rule| rule["passed"] == false)
        .filter_map(|rule| rule["rule"].as_str())
        .collect();
    ensure_eq!(failed, ["trusted-signer", "kernel-digest", "initramfs-digest", "root-image"]);
    Ok(())
}

/// What a plan can't hold is told in the words of the command line.
fn options() -> Outcome {
    let (sandbox, image, _) = prepare()?;
    let table: [(&[&str], &str); 6] = [
        (&["--memory", "1"], "--memory in MiB is 1; expected 16 to"),
        (&["--scratch", "0"], "--scratch in MiB is 0; expected 1 to"),
        (&["--user", "a:b:c"], "--user \"a:b:c\" is not of the form USER or USER:GROUP"),
        (&["--env", "A=1", "--valid-for", "9999w", "--valid-for", "9999w"], "cannot be used multiple times"),
        (&["--valid-for", "5y"], "is not a length of time"),
        (&["--isolation", "none"], "invalid value"),
    ];
    for (arguments, words) in table {
        let output = sandbox.mvmctl(["run"]).args(arguments).args([&image, "true"]).run()?.exits(125)?;
        ensure!(output.err().contains(words), "{arguments:?}: {}", output.err());
    }
    Ok(())
}

/// A machine that has the signer's public key and nothing else.
fn stranger(signer: &Sandbox) -> Result<Sandbox, Failed> {
    let stranger = Sandbox::new()?;
    let key = stranger.path().join("signer.pub");
    fs::write(&key, signer.mvmctl(["key", "export", "local"]).run()?.ok()?.stdout)?;
    stranger.mvmctl(["key", "trust", "--name", "signer", "--development"]).arg(&key).run()?.ok()?;
    Ok(stranger)
}

fn bundles() -> Outcome {
    let (sandbox, image, plan) = prepare()?;
    sandbox.mvmctl(["plan", "create", "-o", &plan, &image, "echo", "carried"]).run()?.ok()?;
    let bundle = sandbox.path().join("web.bundle").display().to_string();
    sandbox.mvmctl(["plan", "bundle", "-o", &bundle, &plan]).run()?.ok()?;
    let bytes = fs::read(&bundle)?;
    sandbox.mvmctl(["plan", "bundle", "-o", &bundle, &plan]).run()?.ok()?;
    ensure!(fs::read(&bundle)? == bytes, "the same plan made another bundle");

    let other = stranger(&sandbox)?;
    let output = other.mvmctl(["launch", "--rm", "--bundle", &bundle]).run()?.ok()?;
    ensure_eq!(output.out(), "carried\n");
    // What was taken in stays, and the plan alone is enough from then on.
    other.mvmctl(["gc"]).run()?.ok()?;
    let output = other.mvmctl(["launch", "--rm", &plan]).run()?.ok()?;
    ensure_eq!(output.out(), "carried\n");
    other.mvmctl(["plan", "verify", &plan]).run()?.ok()?;
    other.mvmctl(["audit", "verify"]).run()?.ok()?;

    // Nobody's plan, or one for another scope.
    let unknown = Sandbox::new()?;
    let output = unknown.mvmctl(["plan", "import", &bundle]).run()?.exits(5)?;
    ensure!(output.err().contains("no trusted key made a valid signature"), "{}", output.err());
    ensure_eq!(events(&unknown, "refuse")?.len(), 1);
    let output = other.mvmctl(["--scope", "elsewhere", "plan", "import", &bundle]).run()?.exits(5)?;
    ensure!(output.err().contains("the plan is for scope default"), "{}", output.err());
    Ok(())
}

/// The members of an archive, by name.
fn members(archive: &[u8]) -> Result<Vec<(String, Vec<u8>)>, Failed> {
    let mut members = Vec::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes)?;
        members.push((entry.path()?.display().to_string(), bytes));
    }
    Ok(members)
}

fn archive(members: &[(String, Vec<u8>)]) -> Result<Vec<u8>, Failed> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes.as_slice())?;
    }
    Ok(archive.into_inner()?)
}

fn digest(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn tampered_bundles() -> Outcome {
    let (sandbox, image, plan) = prepare()?;
    sandbox.mvmctl(["plan", "create", "-o", &plan, &image, "true"]).run()?.ok()?;
    let bundle = sandbox.path().join("web.bundle").display().to_string();
    sandbox.mvmctl(["plan", "bundle", "-o", &bundle, &plan]).run()?.ok()?;
    let whole = members(&fs::read(&bundle)?)?;
    let other = stranger(&sandbox)?;
    let refused = |members: &[(String, Vec<u8>)], what: &str| -> Result<String, Failed> {
        fs::write(&bundle, archive(members)?)?;
        let output = other.mvmctl(["plan", "import", &bundle]).run()?;
        ensure!(
            [3, 4, 5, 2].contains(&output.code()),
            "{what}: exit code {}: {}",
            output.code(),
            output.err()
        );
        ensure!(output.out().is_empty(), "{what} was taken in");
        Ok(output.err())
    };
    // A byte of each member, and each member away.
    for index in 0..whole.len() {
        let (name, mut changed) = (whole[index].0.clone(), whole.clone());
        let middle = changed[index].1.len() / 2;
        changed[index].1[middle] ^= 1;
        refused(&changed, &name)?;
        changed.remove(index);
        refused(&changed, &format!("without {name}"))?;
    }
    // Each part changed, and the archive true to itself.
    let position = |members: &[(String, Vec<u8>)], digest: &str| {
        members.iter().position(|(name, _)| *name == format!("blobs/sha256/{digest}")).ok_or("no blob")
    };
    let hex = |value: &Value| value.as_str().unwrap_or_default().trim_start_matches("sha256:").to_owned();
    let index: Value = serde_json::from_slice(&whole[1].1)?;
    let manifest_at = position(&whole, &hex(&index["manifests"][0]["digest"]))?;
    let manifest: Value = serde_json::from_slice(&whole[manifest_at].1)?;
    let words =
        ["", "is damaged", "kernel", "record of the kernel", "initramfs", "image manifest", "image config"];
    for (number, words) in words.iter().enumerate() {
        let mut changed = whole.clone();
        let at = position(&changed, &hex(&manifest["layers"][number]["digest"]))?;
        let middle = changed[at].1.len() / 2;
        changed[at].1[middle] ^= 1;
        let mut manifest = manifest.clone();
        let name = digest(&changed[at].1);
        changed[at].0 = format!("blobs/sha256/{name}");
        manifest["layers"][number]["digest"] = format!("sha256:{name}").into();
        let bytes = serde_json::to_vec(&manifest)?;
        let mut index = index.clone();
        index["manifests"][0]["digest"] = format!("sha256:{}", digest(&bytes)).into();
        index["manifests"][0]["size"] = bytes.len().into();
        changed[manifest_at] = (format!("blobs/sha256/{}", digest(&bytes)), bytes);
        changed[1].1 = serde_json::to_vec(&index)?;
        let before = events(&other, "refuse")?.len();
        let said = refused(&changed, words)?;
        ensure!(said.contains(words), "{words}: {said}");
        ensure_eq!(events(&other, "refuse")?.len(), before + 1);
    }
    ensure_eq!(other.json(["image", "ls", "--json"])?, serde_json::json!([]));
    ensure_eq!(other.json(["kernel", "ls", "--json"])?, serde_json::json!([]));
    Ok(())
}

/// The image is fetched by the digest in the plan, whatever its tag means by then.
fn from_a_registry() -> Outcome {
    let (sandbox, _, plan) = prepare()?;
    let layout = sandbox.path().join("layout");
    Program::new("cp").args(["-r"]).arg(fixtures::busybox()?).arg(&layout).run()?.ok()?;
    let local = format!("{}:latest", layout.display());
    let registry = Registry::start()?;
    let push = |value: &str| -> Result<String, Failed> {
        let variable = format!("WHICH={value}");
        Program::new("umoci").args(["config", "--image", &local, "--config.env", &variable]).run()?.ok()?;
        Ok(registry.push(&layout, "team/app:latest", &[])?)
    };
    let image = push("signed")?;
    sandbox.mvmctl(["plan", "create", "-o", &plan, &image, "sh", "-c", "echo $WHICH"]).run()?.ok()?;
    push("moved")?;

    let other = stranger(&sandbox)?;
    let refused = other.mvmctl(["launch", "--rm", &plan]).run()?.exits(125)?;
    ensure!(refused.err().contains("no kernel"), "{}", refused.err());
    other.import_kernel()?;
    let refused = other.mvmctl(["launch", "--rm", "--pull", "never", &plan]).run()?.exits(125)?;
    ensure!(refused.err().contains("is in the store"), "{}", refused.err());
    // Nothing is fetched for a plan that the policy refuses anyway.
    other.mvmctl(["launch", "--rm", "--policy", "production", &plan]).run()?.exits(125)?;
    ensure_eq!(other.json(["image", "ls", "--json"])?, serde_json::json!([]));
    let output = other.mvmctl(["launch", "--rm", &plan]).run()?.ok()?;
    ensure_eq!(output.out(), "signed\n");
    Ok(())
}
