//! Each way round the door to a machine is refused, with words that say why and an entry in the audit log.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mvm_tests::fixtures;
use mvm_tests::need::Need;
use mvm_tests::process::Program;
use mvm_tests::sandbox::Sandbox;
use serde_json::Value;

use crate::signatures::Stage;
use crate::{BUSYBOX, Case, Outcome, SKOPEO, UMOCI, ensure, ensure_eq};

const NEEDS: &[Need] = &[Need::Mvmctl, Need::Guest, UMOCI, BUSYBOX, Need::Program("openssl", "openssl")];

pub const CASES: &[Case] = &[
    Case { name: "door::ways_round_are_refused", needs: NEEDS, run: ways_round },
    Case { name: "door::a_changed_image_does_not_run", needs: NEEDS, run: changed_image },
    Case { name: "door::a_tag_that_moved_changes_nothing", needs: NEEDS, run: moved_tag },
    Case {
        name: "door::a_signature_by_a_wrong_key_opens_nothing",
        needs: &[
            Need::Mvmctl,
            Need::Guest,
            Need::Registry,
            UMOCI,
            SKOPEO,
            BUSYBOX,
            Need::Program("openssl", "openssl"),
        ],
        run: wrong_key,
    },
];

type Failed = libtest_mimic::Failed;

/// A store with a kernel and an image, and a plan that it launches.
struct Scene {
    sandbox: Sandbox,
    plan: PathBuf,
}

impl Scene {
    fn new(options: &[&str]) -> Result<Self, Failed> {
        let sandbox = Sandbox::with_kernel()?;
        let image = format!("oci:{}:latest", fixtures::busybox()?.display());
        let plan = sandbox.path().join("web.plan");
        let create = sandbox.mvmctl(["plan", "create", "--name", "web", "-o"]).arg(&plan).args(options);
        create.args([&image, "true"]).run()?.ok()?;
        Ok(Self { sandbox, plan })
    }

    fn store(&self) -> PathBuf {
        self.sandbox.store()
    }

    fn envelope(&self) -> Result<Value, Failed> {
        Ok(serde_json::from_slice(&fs::read(&self.plan)?)?)
    }

    /// Returns the text of the plan in its envelope.
    fn payload(&self) -> Result<String, Failed> {
        let payload = self.envelope()?["payload"].as_str().unwrap_or_default().to_owned();
        Ok(String::from_utf8(openssl(&["base64", "-d", "-A"], payload.as_bytes())?)?)
    }

    /// Writes a plan of this text, under the signature of the text that was there.
    fn put_payload(&self, payload: &str) -> Result<(), Failed> {
        let mut envelope = self.envelope()?;
        envelope["payload"] = base64(payload.as_bytes())?.into();
        Ok(fs::write(&self.plan, envelope.to_string())?)
    }

    /// Writes a plan of this text, signed with a key in PEM.
    fn sign(&self, payload: &str, key: &Path) -> Result<(), Failed> {
        let kind = "application/vnd.mvm.plan.v1+json";
        let message = self.sandbox.path().join("message");
        fs::write(&message, format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len()))?;
        let key = key.display().to_string();
        let message = message.display().to_string();
        let signature = openssl(&["pkeyutl", "-sign", "-rawin", "-inkey", &key, "-in", &message], b"")?;
        let envelope = serde_json::json!({
            "payload": base64(payload.as_bytes())?,
            "payloadType": kind,
            "signatures": [{"keyid": "", "sig": base64(&signature)?}],
        });
        Ok(fs::write(&self.plan, envelope.to_string())?)
    }

    /// Writes the plan with a text in it replaced, signed with the key that is trusted.
    fn resign(&self, from: &str, to: &str) -> Result<(), Failed> {
        let payload = self.payload()?;
        let changed = payload.replacen(from, to, 1);
        ensure!(changed != payload, "{from} is not in {payload}");
        self.sign(&changed, &self.store().join("keys/local.pem"))
    }

    fn kernel(&self) -> Result<PathBuf, Failed> {
        let mut kernels = fs::read_dir(self.store().join("kernels"))?.filter_map(Result::ok);
        let kernel = kernels.find(|entry| entry.path().is_dir()).ok_or("no kernel")?;
        Ok(kernel.path())
    }

    fn last_events(&self, count: usize) -> Result<String, Failed> {
        let log = self.sandbox.mvmctl(["audit", "tail", "--json", "-n", "100"]).run()?.ok()?.out();
        // But for the log's own signatures.
        let lines: Vec<&str> = log.lines().filter(|line| !line.contains(r#""kind":"checkpoint""#)).collect();
        Ok(lines[lines.len().saturating_sub(count)..].join("\n"))
    }
}

fn openssl(arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, Failed> {
    Ok(Program::new("openssl").args(arguments).input(input).run()?.ok()?.stdout)
}

fn base64(bytes: &[u8]) -> Result<String, Failed> {
    Ok(String::from_utf8(openssl(&["base64", "-A"], bytes)?)?)
}

/// Changes a file that may be read-only, or part of an image.
fn overwrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Result<(), Failed> {
    let mut bytes = fs::read(path)?;
    change(&mut bytes);
    fs::remove_file(path)?;
    Ok(fs::write(path, bytes)?)
}

/// A way round: options of the plan, what is done to the store or the plan, options of the launch, what is said, the rule.
struct Way {
    what: &'static str,
    plan: &'static [&'static str],
    attempt: fn(&Scene) -> Result<(), Failed>,
    launch: &'static [&'static str],
    words: &'static str,
    rule: &'static str,
}

const WAY: Way = Way { what: "", plan: &[], attempt: |_| Ok(()), launch: &[], words: "", rule: "" };

const WAYS: &[Way] = &[
    Way {
        what: "another command under the same signature",
        attempt: |scene| scene.put_payload(&scene.payload()?.replace("\"true\"", "\"id\"")),
        words: "no trusted key made a valid signature",
        rule: "trusted-signer",
        ..WAY
    },
    Way {
        what: "the same plan in other words",
        attempt: |scene| scene.put_payload(&scene.payload()?.replace(",\"", ", \"")),
        words: "is not in canonical form",
        rule: "plan-format",
        ..WAY
    },
    Way {
        what: "a part that nobody knows",
        attempt: |scene| scene.put_payload(&scene.payload()?.replacen('{', "{\"admitted\":true,", 1)),
        words: "unknown field `admitted`",
        rule: "plan-format",
        ..WAY
    },
    Way {
        what: "no signature",
        attempt: |scene| {
            let mut envelope = scene.envelope()?;
            envelope["signatures"] = Value::Array(vec![]);
            Ok(fs::write(&scene.plan, envelope.to_string())?)
        },
        words: "envelope has 0 signatures",
        rule: "plan-format",
        ..WAY
    },
    Way {
        what: "a key that nobody trusts",
        attempt: |scene| {
            let key = scene.sandbox.path().join("own.pem");
            openssl(&["genpkey", "-algorithm", "ed25519", "-out", &key.display().to_string()], b"")?;
            scene.sign(&scene.payload()?, &key)
        },
        words: "no trusted key made a valid signature",
        rule: "trusted-signer",
        ..WAY
    },
    Way {
        what: "a key that was revoked after it signed",
        attempt: |scene| {
            scene.sandbox.mvmctl(["key", "revoke", "local"]).run()?.ok()?;
            Ok(())
        },
        words: "signed only by \"local\", which was revoked at",
        rule: "trusted-signer",
        ..WAY
    },
    Way {
        what: "an expired plan",
        plan: &["--valid-for", "1s"],
        attempt: |_| {
            std::thread::sleep(Duration::from_millis(2100));
            Ok(())
        },
        words: "the plan was valid until",
        rule: "not-after",
        ..WAY
    },
    Way {
        what: "a plan for longer than the policy allows",
        plan: &["--valid-for", "91d"],
        words: "more than 7776000",
        rule: "validity-length",
        ..WAY
    },
    Way {
        what: "another scope",
        launch: &["--scope", "other"],
        words: "the plan is for scope default, not for scope other",
        rule: "plan-scope",
        ..WAY
    },
    Way {
        what: "a generation of long ago",
        attempt: |scene| {
            let generation = serde_json::from_str::<Value>(&scene.payload()?)?["root"]["generation"].clone();
            scene.resign(&format!("\"generation\":{generation}"), "\"generation\":1000")
        },
        words: "the image has format generation 1000",
        rule: "known-generation",
        ..WAY
    },
    Way {
        what: "another shape of the image",
        attempt: |scene| {
            let size = serde_json::from_str::<Value>(&scene.payload()?)?["root"]["size"].clone();
            let larger = size.as_u64().unwrap_or_default() + 4096;
            scene.resign(&format!("\"size\":{size}"), &format!("\"size\":{larger}"))
        },
        words: "what is not so",
        rule: "root-image",
        ..WAY
    },
    Way {
        what: "another kernel under the same name",
        attempt: |scene| overwrite(&scene.kernel()?.join("kernel"), |kernel| kernel.push(0)),
        words: "has digest",
        rule: "kernel-digest",
        ..WAY
    },
    Way {
        what: "another record of the kernel",
        attempt: |scene| overwrite(&scene.kernel()?.join("info.json"), |info| info.push(b'\n')),
        words: "the record of the kernel has changed",
        rule: "kernel-digest",
        ..WAY
    },
    Way {
        what: "no kernel",
        attempt: |scene| Ok(fs::remove_dir_all(scene.kernel()?)?),
        words: "no kernel",
        rule: "kernel-digest",
        ..WAY
    },
    Way {
        what: "something more in the initramfs",
        attempt: |scene| {
            let modules = scene.kernel()?.join("modules.cpio");
            let mut bytes = fs::read(&modules).unwrap_or_default();
            bytes.extend_from_slice(&[0; 4]);
            Ok(fs::write(&modules, bytes)?)
        },
        words: "the initramfs has changed",
        rule: "initramfs-digest",
        ..WAY
    },
    Way {
        what: "no image",
        attempt: |scene| Ok(fs::remove_file(scene.sandbox.image_file()?)?),
        words: "is in the store",
        rule: "root-image",
        ..WAY
    },
    Way {
        what: "a policy that others can change",
        attempt: |scene| {
            let policy = scene.sandbox.path().join("policy.toml");
            fs::write(&policy, "")?;
            Ok(fs::set_permissions(&policy, PermissionsExt::from_mode(0o666))?)
        },
        launch: &["--policy", "policy.toml"],
        words: "has mode 0666",
        rule: "readable-policy",
        ..WAY
    },
    Way {
        what: "a policy that is not there",
        launch: &["--policy", "./policy.toml"],
        words: "No such file",
        rule: "readable-policy",
        ..WAY
    },
    Way {
        what: "one signature where two are asked for",
        attempt: |scene| Ok(fs::write(scene.sandbox.path().join("policy.toml"), "threshold = 2\n")?),
        launch: &["--policy", "policy.toml"],
        words: "1 of 2 keys that count signed",
        rule: "signer-threshold",
        ..WAY
    },
    Way {
        what: "an image that nobody signed",
        attempt: |scene| {
            let directory = scene.sandbox.path();
            let key = directory.join("key.pem").display().to_string();
            openssl(
                &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", &key],
                b"",
            )?;
            let public = directory.join("key.pub").display().to_string();
            openssl(&["pkey", "-in", &key, "-pubout", "-out", &public], b"")?;
            let policy = "image-signature = [{ key = \"key.pub\" }]\n";
            Ok(fs::write(directory.join("policy.toml"), policy)?)
        },
        launch: &["--policy", "policy.toml"],
        words: "no signature of the image was verified",
        rule: "image-signature",
        ..WAY
    },
    Way {
        what: "production, whatever the environment says",
        launch: &["--policy", "production"],
        words: "signed with development keys only",
        rule: "release-key",
        ..WAY
    },
];

fn ways_round() -> Outcome {
    let failures: Vec<String> = WAYS
        .iter()
        .filter_map(|way| {
            go(way).err().map(|failed| format!("{}: {}", way.what, failed.message().unwrap_or("?")))
        })
        .collect();
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

/// Goes a way, and looks at what came of it.
fn go(way: &Way) -> Outcome {
    let scene = Scene::new(way.plan)?;
    (way.attempt)(&scene)?;
    let mut launch = scene.sandbox.mvmctl(["launch", "--rm"]).args(way.launch).arg(&scene.plan);
    // None of these exists; one day somebody may think that one should.
    for variable in ["MVM_POLICY", "MVM_INSECURE", "MVM_SKIP_VERIFY", "MVM_DEVELOPMENT", "MVM_TRUST"] {
        launch = launch.env(variable, "1");
    }
    let output = launch.directory(scene.sandbox.path()).run()?.exits(125)?;
    ensure!(output.err().contains(way.words), "expected {:?}: {}", way.words, output.err());
    let told = scene.last_events(1)?;
    ensure!(told.contains("\"refuse\"") && told.contains(way.rule), "the last entry is {told}");
    scene.sandbox.mvmctl(["audit", "verify"]).run()?.ok()?;
    ensure_eq!(scene.sandbox.vms()?, Vec::<String>::new());
    Ok(())
}

/// The host looks at the shape of the image only; its bytes are for the guest to check, one block at a time as it is read.
fn changed_image() -> Outcome {
    let scene = Scene::new(&[])?;
    let image = scene.sandbox.image_file()?;
    fs::set_permissions(&image, PermissionsExt::from_mode(0o600))?;
    let file = fs::File::options().read(true).write(true).open(&image)?;
    let mut byte = [0];
    // In the superblock of the file system, which every mount reads.
    file.read_exact_at(&mut byte, 1024)?;
    file.write_all_at(&[byte[0] ^ 1], 1024)?;
    drop(file);
    let output = scene.sandbox.mvmctl(["launch", "--rm"]).arg(&scene.plan).run()?;
    ensure!(output.code() == 125, "exit code {}: {}", output.code(), output.err());
    let told = scene.last_events(1)?;
    ensure!(told.contains("\"stop\"") && told.contains("\"failed\""), "the last entry is {told}");
    let output = scene.sandbox.mvmctl(["plan", "verify"]).arg(&scene.plan).run()?.exits(5)?;
    ensure!(output.out().contains("is damaged"), "{}", output.out());

    // A link in place of the image, even to the same bytes, is nothing that the store has made.
    let scene = Scene::new(&[])?;
    let image = scene.sandbox.image_file()?;
    let elsewhere = scene.sandbox.path().join("elsewhere.img");
    fs::rename(&image, &elsewhere)?;
    symlink(&elsewhere, &image)?;
    let output = scene.sandbox.mvmctl(["launch", "--rm"]).arg(&scene.plan).run()?.exits(125)?;
    let words = format!("{} is a symbolic link", image.display());
    ensure!(output.err().contains(&words), "expected {words:?}: {}", output.err());
    let told = scene.last_events(1)?;
    ensure!(told.contains("\"fail\"") && told.contains("is a symbolic link"), "the last entry is {told}");
    ensure_eq!(scene.sandbox.vms()?, Vec::<String>::new());
    Ok(())
}

/// A registry has a signature of the very image, by another key than the policy asks for.
fn wrong_key() -> Outcome {
    let stage = Stage::new()?;
    let (sandbox, path) = (&stage.sandbox, stage.sandbox.path());
    sandbox.import_kernel()?;
    fs::write(path.join("policy.toml"), "image-signature = [{ key = \"cosign.pub\" }]\n")?;
    sandbox.mvmctl(["plan", "create", "-o", "web.plan", &stage.image, "true"]).directory(path).run()?.ok()?;
    let launch = ["launch", "--rm", "--policy", "policy.toml", "web.plan"];
    stage.attach(&[(stage.payload("team/app", &stage.digest), "other")])?;
    let output = sandbox.mvmctl(launch).directory(path).run()?.exits(125)?;
    let words = "no signature of the image was verified with a key that counts";
    ensure!(output.err().contains(words), "{}", output.err());
    let told = sandbox.mvmctl(["audit", "tail", "--json", "-n", "1"]).run()?.ok()?.out();
    ensure!(
        told.contains("\"refuse\"") && told.contains("[\"image-signature\"]"),
        "the last entry is {told}"
    );
    ensure_eq!(sandbox.vms()?, Vec::<String>::new());
    stage.attach(&[(stage.payload("team/app", &stage.digest), "cosign")])?;
    sandbox.mvmctl(launch).directory(path).run()?.ok()?;
    Ok(())
}

fn moved_tag() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let layout = sandbox.path().join("layout");
    Program::new("cp").args(["-r"]).arg(fixtures::busybox()?).arg(&layout).run()?.ok()?;
    let image = format!("{}:latest", layout.display());
    let tag = |value: &str| {
        let variable = format!("WHICH={value}");
        Program::new("umoci").args(["config", "--image", &image, "--config.env", &variable]).run()?.ok()
    };
    let (plan, source) = (sandbox.path().join("plan"), format!("oci:{image}"));
    tag("signed")?;
    let create = sandbox.mvmctl(["plan", "create", "-o"]).arg(&plan);
    create.args([&source, "sh", "-c", "echo $WHICH"]).run()?.ok()?;
    tag("moved")?;
    let now = sandbox.mvmctl(["run", "--rm", &source, "sh", "-c", "echo $WHICH"]).run()?.ok()?;
    ensure_eq!(now.out(), "moved\n");
    let output = sandbox.mvmctl(["launch", "--rm"]).arg(&plan).run()?.ok()?;
    ensure_eq!(output.out(), "signed\n");
    let output = sandbox.mvmctl(["launch", "--rm", "--policy", "production"]).arg(&plan).run()?.exits(125)?;
    ensure!(output.err().contains("asked for by the mutable tag"), "{}", output.err());
    Ok(())
}
