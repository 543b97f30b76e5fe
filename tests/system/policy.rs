//! The policy that holds for every launch: the administrator's file, the built-in ones, files that are asked for.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use mvm_tests::fixtures;
use mvm_tests::need::Need;
use mvm_tests::process::Program;
use mvm_tests::sandbox::Sandbox;
use mvm_tests::workspace;

use crate::{BUSYBOX, Case, GUEST, Outcome, UMOCI, ensure, ensure_eq};

pub const CASES: &[Case] = &[
    Case {
        name: "policy::of_the_system_holds",
        needs: &[
            Need::Mvmctl,
            Need::Guest,
            UMOCI,
            BUSYBOX,
            Need::Root,
            Need::Program("unshare", "util-linux"),
        ],
        run: system,
    },
    Case { name: "policy::files_only_restrict", needs: GUEST, run: files },
];

type Failed = libtest_mimic::Failed;

/// A directory that stands in for `/etc`, and a store.
struct Host {
    sandbox: Sandbox,
    etc: PathBuf,
    image: String,
}

impl Host {
    fn new() -> Result<Self, Failed> {
        let sandbox = Sandbox::with_kernel()?;
        let etc = sandbox.path().join("etc");
        Program::new("cp").args(["-a", "/etc"]).arg(&etc).run()?.ok()?;
        fs::create_dir_all(etc.join("mvm"))?;
        let image = format!("oci:{}:latest", fixtures::busybox()?.display());
        Ok(Self { sandbox, etc, image })
    }

    fn file(&self) -> PathBuf {
        self.etc.join("mvm/policy.toml")
    }

    /// Runs the program where the directory is `/etc`.
    fn mvmctl(&self, arguments: &[&str]) -> Program {
        Program::new("unshare")
            .clean_env()
            .env("HOME", self.sandbox.path())
            .args(["--mount", "--propagation", "private", "sh", "-c"])
            .arg("mount --bind \"$0\" /etc && exec \"$@\"")
            .arg(&self.etc)
            .arg(workspace::mvmctl())
            .arg("--root")
            .arg(self.sandbox.store())
            .args(arguments)
    }

    fn clear(&self) -> Result<(), Failed> {
        let directory = self.etc.join("mvm");
        if directory.is_dir() { fs::remove_dir_all(&directory) } else { fs::remove_file(&directory) }?;
        fs::create_dir(&directory)?;
        fs::set_permissions(&directory, PermissionsExt::from_mode(0o755))?;
        Ok(())
    }

    fn last_refusal(&self) -> Result<Option<String>, Failed> {
        let log = self.sandbox.mvmctl(["audit", "tail", "-n", "5"]).run()?.ok()?.out();
        // A checkpoint may follow what it covers.
        let last = log.lines().rfind(|line| !line.contains("\"checkpoint\"")).unwrap_or_default();
        Ok(last.contains("\"refuse\"").then(|| last.to_owned()))
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failed> {
    fs::write(path, text)?;
    fs::set_permissions(path, PermissionsExt::from_mode(0o644))?;
    Ok(())
}

/// How a file is spoilt, what is said of it, and the rule in the audit log.
type Spoilt = (fn(&Host) -> Result<(), Failed>, &'static str, &'static str);

const SPOILT: &[Spoilt] = &[
    (
        |host| write(&host.file(), "max-cpus = 4\nmax-gpus = 1\n"),
        "policy /etc/mvm/policy.toml: line 2, column 1: unknown field `max-gpus`",
        "readable-policy",
    ),
    (
        |host| {
            write(&host.file(), "")?;
            Ok(fs::set_permissions(host.file(), PermissionsExt::from_mode(0o664))?)
        },
        "policy /etc/mvm/policy.toml has mode 0664",
        "readable-policy",
    ),
    (
        |host| {
            write(&host.file(), "")?;
            Ok(chown(host.file(), Some(1000), None)?)
        },
        "policy /etc/mvm/policy.toml belongs to user 1000, not to root",
        "readable-policy",
    ),
    (
        |host| {
            write(&host.etc.join("mvm/other"), "")?;
            Ok(symlink("other", host.file())?)
        },
        "policy /etc/mvm/policy.toml is a symbolic link",
        "readable-policy",
    ),
    (
        |host| Ok(symlink("nowhere", host.file())?),
        "policy /etc/mvm/policy.toml is a symbolic link",
        "readable-policy",
    ),
    (|host| Ok(fs::create_dir(host.file())?), "is a directory, not a file", "readable-policy"),
    (
        |host| {
            write(&host.file(), "")?;
            Ok(fs::set_permissions(host.etc.join("mvm"), PermissionsExt::from_mode(0o777))?)
        },
        "policy /etc/mvm has mode 0777",
        "readable-policy",
    ),
    (
        |host| {
            fs::remove_dir(host.etc.join("mvm"))?;
            Ok(fs::write(host.etc.join("mvm"), "")?)
        },
        "policy /etc/mvm is a file, not a directory",
        "readable-policy",
    ),
    (
        |host| write(&host.file(), "registries = [\"registry.example.com\"]\n"),
        "comes from no registry",
        "allowed-registry",
    ),
    (|host| write(&host.file(), "root-user = false\n"), "run as root", "non-root-user"),
    (|host| write(&host.file(), "networks = []\n"), "the guest's network is user", "allowed-network"),
    (
        |host| write(&host.file(), "required-confinement = [\"no-such\"]\n"),
        "would not be confined by no-such",
        "required-confinement",
    ),
];

fn system() -> Outcome {
    let host = Host::new()?;
    write(&host.file(), "max-cpus = 1\nmax-validity = \"1h\"\n")?;
    host.mvmctl(&["run", "--name", "web", &host.image, "true"]).run()?.ok()?;
    let inspected = host.sandbox.json(["vm", "inspect", "--json", "web"])?;
    let admitted = inspected["admitted_under"].as_str().unwrap_or_default();
    ensure!(admitted.starts_with("/etc/mvm/policy.toml@"), "{inspected:#}");
    ensure_eq!(inspected["policy"], serde_json::json!([]));
    let text = host.sandbox.mvmctl(["vm", "inspect", "web"]).run()?.ok()?.out();
    ensure!(text.contains(&format!("admitted by: {admitted}\n")), "{text}");
    host.sandbox.mvmctl(["vm", "rm", "web"]).run()?.ok()?;
    let log = host.sandbox.mvmctl(["audit", "tail", "-n", "8"]).run()?.ok()?.out();
    ensure!(log.contains("/etc/mvm/policy.toml@"), "the log does not name the policy:\n{log}");

    let shown = host.mvmctl(&["policy", "show", "--policy", "production"]).run()?.ok()?.out();
    for row in [
        "max-cpus           1 ",
        "max-validity       1h ",
        "max-validity       30d ",
        "isolation          kvm ",
    ] {
        ensure!(shown.contains(row), "no {row:?} in\n{shown}");
    }

    for (spoil, words, rule) in SPOILT {
        host.clear()?;
        spoil(&host)?;
        // Neither a policy that asks for less nor a variable changes anything.
        let run = ["run", "--rm", "--policy", "development", &host.image, "true"];
        let run = host.mvmctl(&run).env("MVM_POLICY", "development").env("MVM_SKIP_POLICY", "1");
        let output = run.run()?.exits(125)?;
        ensure!(output.err().contains(words), "expected {words:?}: {}", output.err());
        let refusal = host.last_refusal()?;
        ensure!(refusal.as_ref().is_some_and(|line| line.contains(rule)), "{words}: {refusal:?}");
        if *rule == "readable-policy" {
            let output = host.mvmctl(&["policy", "show"]).run()?.exits(5)?;
            ensure!(output.err().contains(words), "expected {words:?}: {}", output.err());
        }
    }
    host.clear()?;
    write(&host.file(), "registries = [\"registry.example.com\"]\n")?;
    let output = host.mvmctl(&["plan", "create", "127.0.0.1:1/team/app:1"]).run()?.exits(5)?;
    ensure!(output.err().contains("comes from the registry 127.0.0.1:1"), "{}", output.err());
    ensure!(
        host.last_refusal()?.is_some_and(|line| line.contains("allowed-registry")),
        "it is not on record"
    );
    ensure_eq!(host.sandbox.vms()?, Vec::<String>::new());
    Ok(())
}

fn files() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let image = format!("oci:{}:latest", fixtures::busybox()?.display());
    let (one, other) = (sandbox.path().join("one.toml"), sandbox.path().join("other.toml"));
    write(&one, "max-cpus = 2\n")?;
    write(&other, "max-cpus = 1\nroot-user = false\n")?;
    let (one, other) = (one.display().to_string(), other.display().to_string());
    let run = |policies: &[&str], options: &[&str]| {
        let policies = policies.iter().flat_map(|policy| ["--policy", policy]);
        sandbox.mvmctl(["run"]).args(policies).args(options).args([&image, "true"])
    };
    run(&[&one], &["--cpus", "2", "--name", "web"]).run()?.ok()?;
    let plan = sandbox.store().join("vms/web/plan.dsse.json").display().to_string();

    // The same whatever the order, and whatever is added.
    for policies in [[&one, &other], [&other, &one]] {
        let output = run(&policies.map(String::as_str), &["--cpus", "2"]).run()?.exits(125)?;
        for words in ["2 processors, more than 1", "would run as root", "--cpus 1", "--user 1000:1000"] {
            ensure!(output.err().contains(words), "no {words:?} in {}", output.err());
        }
        let check = ["policy", "check", "--policy", policies[0], "--policy", policies[1], "--json", &plan];
        let output = sandbox.mvmctl(check).run()?.exits(5)?;
        let report: serde_json::Value = serde_json::from_str(&output.out())?;
        let failed: Vec<&str> = report["rules"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|rule| rule["passed"] == false)
            .filter_map(|rule| rule["rule"].as_str())
            .collect();
        ensure_eq!(failed, ["max-cpus", "non-root-user"]);
    }
    let output = sandbox.mvmctl(["policy", "check", "--policy", &one, &plan]).run()?.ok()?;
    ensure!(output.out().lines().all(|line| !line.contains("FAIL")), "{}", output.out());
    let output = sandbox.mvmctl(["policy", "check", "--policy", "production", &plan]).run()?.exits(5)?;
    for words in ["release-key", "FAIL", "to satisfy it: ask for it by digest"] {
        ensure!(output.out().contains(words), "no {words:?} in {}", output.out());
    }

    // Nothing is asked for where images may not come from: nobody listens there.
    let strict = sandbox.path().join("strict.toml");
    write(&strict, "registries = [\"registry.example.com\"]\npinned-images = true\n")?;
    let elsewhere = ["run", "--policy", "strict.toml", "127.0.0.1:1/team/app:1", "true"];
    let output = sandbox.mvmctl(elsewhere).directory(sandbox.path()).run()?.exits(125)?;
    for words in
        ["refuses the image 127.0.0.1:1/team/app:1: pinned-image", "comes from the registry 127.0.0.1:1"]
    {
        ensure!(output.err().contains(words), "no {words:?} in {}", output.err());
    }
    let last = sandbox.mvmctl(["audit", "tail", "--json", "-n", "1"]).run()?.ok()?.out();
    for words in ["\"refuse\"", "[\"pinned-image\",\"allowed-registry\"]", "127.0.0.1:1/team/app:1"] {
        ensure!(last.contains(words), "no {words:?} in {last}");
    }
    // An image that is here is judged at the door, with all the rest.
    let here = ["run", "--policy", "strict.toml", "--cpus", "1", &image, "true"];
    let output = sandbox.mvmctl(here).directory(sandbox.path()).run()?.exits(125)?;
    ensure!(output.err().contains("refuses the plan for"), "{}", output.err());

    fs::set_permissions(&other, PermissionsExt::from_mode(0o622))?;
    let output = run(&[&other], &[]).run()?.exits(125)?;
    ensure!(output.err().contains("has mode 0622"), "{}", output.err());
    Ok(())
}
