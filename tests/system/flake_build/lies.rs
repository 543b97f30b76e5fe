//! Builders that lie: what they say of their store does not agree with itself, or what they send with what they say.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mvm_tests::fixtures::lies::nix_that_lies;
use mvm_tests::nar;
use mvm_tests::process::{Output, Program};
use mvm_tests::sandbox::Sandbox;
use serde_json::json;

use super::{Outcome, Value, ensure, ensure_eq, words};
use crate::crash::Mounted;

const GUEST: &str = "/nix/store/dddddddddddddddddddddddddddddddd-mvm-guest-d.json";
const BUSYBOX: &str = "/nix/store/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-busybox";
const LIBC: &str = "/nix/store/ccccccccccccccccccccccccccccccc0-libc";
const OTHER: &str = "/nix/store/ffffffffffffffffffffffffffffffff-other";
const PIPES: &str = "/nix/store/pppppppppppppppppppppppppppppppp-pipes";

/// What is said of the closure, made worse.
type Change = fn(&mut Vec<Value>);

/// What is said, the exit code, and what the message has.
const LIES: [(&str, Change, i32, &[&str]); 8] = [
    ("hash", |said| said[2]["narHash"] = json!(nar::hash(b"x")), 4, &["ccccccc0-libc has hash sha256-"]),
    ("short", |said| grow(said, -8), 4, &["the NAR of /nix/store/ccccccc", "is longer than the"]),
    ("long", |said| grow(said, 8), 4, &["ccccccc0-libc has", "its description says"]),
    ("open", |said| drop(said.remove(2)), 4, &["is not closed", BUSYBOX, LIBC]),
    (
        "surplus",
        |said| said.push(described(OTHER, &nar::file(b"other"), &[])),
        4,
        &["holds /nix/store/fffff"],
    ),
    (
        "named",
        |said| said[2]["ca"] = json!(format!("fixed:sha256:{}", "0".repeat(52))),
        4,
        &["ccccccc0-libc is said to be content-addressed"],
    ),
    ("absent", |said| refer(said, &format!("{OTHER}-not")), 1, &["ffffffff-other-not: No such file"]),
    ("pipe", |said| refer(said, PIPES), 4, &["pppppppp-pipes"]),
];

/// Says that the library is longer or shorter than it is.
fn grow(said: &mut [Value], bytes: i64) {
    let size = said[2]["narSize"].as_i64().unwrap_or(0);
    said[2]["narSize"] = json!(size + bytes);
}

/// Adds a path to the closure that the guest refers to.
fn refer(said: &mut Vec<Value>, path: &str) {
    said[0]["references"] = json!([BUSYBOX, path]);
    said.push(described(path, &nar::file(b""), &[]));
}

fn described(path: &str, node: &[u8], references: &[&str]) -> Value {
    let archive = nar::archive(node);
    json!({"path": path, "narHash": nar::hash(&archive), "narSize": archive.len(), "references": references})
}

/// Returns what an honest builder says.
fn honest() -> Vec<Value> {
    let sh = nar::directory(&[(b"bin", nar::directory(&[(b"sh", nar::program(SHELL))]))]);
    vec![
        described(GUEST, &nar::file(guest().as_bytes()), &[BUSYBOX]),
        described(BUSYBOX, &sh, &[LIBC]),
        described(LIBC, &nar::file(&library()), &[]),
    ]
}

const SHELL: &[u8] = b"#!/bin/true\n";

/// Some megabytes that do not compress and are on no disk as a hole.
fn library() -> Vec<u8> {
    let mut state = 1_u32;
    let byte = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..6 << 20).map(byte).collect()
}

fn guest() -> String {
    json!({
        "schema": "mvm.guest.v1", "name": "d", "hostname": "d", "system": "x86_64-linux", "rootfsType": "erofs",
        "packages": [BUSYBOX], "serviceGroup": "mvm", "users": {}, "services": {}, "healthChecks": {},
        "shell": format!("{BUSYBOX}/bin/sh"), "env": null, "caBundle": null, "command": null, "variables": {},
    })
    .to_string()
}

/// Writes a builder's image in which `nix` tells all of it.
fn image(sandbox: &Sandbox) -> Result<String, super::Failed> {
    let work = sandbox.path().join("liar");
    fs::create_dir(&work)?;
    let fill = |root: &Path| -> io::Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let at = |path: &str| root.join(path.trim_start_matches('/'));
        fs::write(at(GUEST), guest())?;
        fs::create_dir_all(at(BUSYBOX).join("bin"))?;
        fs::write(at(BUSYBOX).join("bin/sh"), SHELL)?;
        fs::set_permissions(at(BUSYBOX).join("bin/sh"), fs::Permissions::from_mode(0o555))?;
        fs::write(at(LIBC), library())?;
        fs::write(at(OTHER), "other")?;
        fs::create_dir(at(PIPES))?;
        let made = Program::new("mkfifo").arg(at(PIPES).join("pipe")).run();
        made.and_then(Output::ok).map_err(io::Error::other)?;
        let built = json!([{"drvPath": format!("{GUEST}.drv"), "outputs": {"out": GUEST}}]);
        fs::write(root.join("answers/build"), built.to_string())?;
        fs::write(root.join("answers/truth"), Value::from(honest()).to_string())?;
        for (name, change, ..) in LIES {
            let mut said = honest();
            change(&mut said);
            fs::write(root.join("answers").join(name), Value::from(said).to_string())?;
        }
        Ok(())
    };
    Ok(format!("oci:{}:latest", nix_that_lies(&work, fill)?.display()))
}

/// A store with such a builder, and a flake for it.
struct Liar {
    sandbox: Sandbox,
    flake: String,
}

impl Liar {
    fn new(sandbox: Sandbox) -> Result<Self, super::Failed> {
        sandbox.import_kernel()?;
        let image = image(&sandbox)?;
        sandbox.mvmctl(["builder", "init", "--image", &image]).limit(super::LIMIT).run()?.ok()?;
        let flake = sandbox.path().join("flake");
        fs::create_dir(&flake)?;
        fs::write(flake.join("flake.nix"), "{ outputs = { self }: { }; }")?;
        Ok(Self { flake: flake.to_string_lossy().into_owned(), sandbox })
    }

    /// Builds a package, which is what the builder says.
    fn build(&self, name: &str) -> Result<Output, super::Failed> {
        let flake = format!("{}#{name}", self.flake);
        Ok(self.sandbox.mvmctl(["build", "--offline", "--flake", &flake]).limit(super::LIMIT).run()?)
    }

    /// Checks that all is as it was before.
    fn unchanged(&self, images: &[PathBuf]) -> Outcome {
        ensure_eq!(self.sandbox.image_files()?, images);
        let scope = self.sandbox.store().join("scopes/default");
        ensure_eq!(fs::read_dir(scope.join("staging"))?.count(), 0);
        ensure_eq!(self.sandbox.vms()?, Vec::<String>::new());
        Ok(())
    }
}

/// Nothing that is said wrongly becomes an image or stays in the store, and the audit log tells of it; the truth does.
pub fn refused() -> Outcome {
    let liar = Liar::new(Sandbox::new()?)?;
    let sandbox = &liar.sandbox;
    let mut before = sandbox.image_files()?;
    for (name, _, code, expected) in LIES {
        let output = liar.build(name)?;
        ensure!(!output.err().contains("panicked"), "{name}: {}", output.err());
        words(output, code, expected).map_err(|failed| told(name, &failed))?;
        if name == LIES[0].0 {
            // The flake's files are an image too, which all of these builds have.
            before = sandbox.image_files()?;
        }
        liar.unchanged(&before).map_err(|failed| told(name, &failed))?;
    }
    let log = sandbox.mvmctl(["audit", "tail", "-n", "1000"]).run()?.ok()?.out();
    let failed = log.lines().filter(|line| line.contains("\"passed\":false") && line.contains(LIBC)).count();
    ensure!(failed >= 3, "{failed} failed checks of {LIBC} in:\n{log}");
    liar.build("truth")?.ok()?;
    sandbox.mvmctl(["image", "verify", "--all"]).run()?.ok()?;
    sandbox.mvmctl(["audit", "verify"]).run()?.ok()?;
    Ok(())
}

fn told(name: &str, failed: &super::Failed) -> super::Failed {
    format!("{name}: {}", failed.message().unwrap_or_default()).into()
}

/// A host whose disk fills up while paths come in has nothing half of them, and goes on when there is room.
pub fn full_disk() -> Outcome {
    let sandbox = Sandbox::new()?;
    let disk = Mounted::new(sandbox.store(), "120m")?;
    let liar = Liar::new(sandbox)?;
    let sandbox = &liar.sandbox;
    // Room for a VM, and not for the six megabytes that it sends.
    let ballast = sandbox.store().join("ballast");
    let free = rustix::fs::statvfs(sandbox.store())?;
    let fill = (free.f_bavail * free.f_frsize).saturating_sub(4 << 20);
    fs::write(&ballast, vec![1; usize::try_from(fill)?])?;
    let full = liar.build("truth")?;
    ensure!(!full.err().contains("panicked"), "{}", full.err());
    words(full, 1, &["mvmctl: ", "ccccccc0-libc", "o space left on device"])?;
    ensure_eq!(fs::read_dir(sandbox.store().join("scopes/default/staging"))?.count(), 0);
    ensure_eq!(sandbox.vms()?, Vec::<String>::new());
    fs::remove_file(&ballast)?;
    liar.build("truth")?.ok()?;
    sandbox.mvmctl(["image", "verify", "--all"]).run()?.ok()?;
    sandbox.mvmctl(["audit", "verify"]).run()?.ok()?;
    drop(disk);
    Ok(())
}
