//! Images that leave the store: saved for other tools, pushed to a registry, and back again.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use libtest_mimic::Failed;
use mvm_tests::fixtures;
use mvm_tests::need::Need;
use mvm_tests::process::Program;
use mvm_tests::registry::Registry;
use mvm_tests::sandbox::Sandbox;
use mvm_tests::tree;
use rustix::process::Signal;
use serde_json::Value;

use crate::{BUSYBOX, Case, GCC, MMDEBSTRAP, Outcome, SKOPEO, UMOCI, ensure, ensure_eq};

pub const CASES: &[Case] = &[
    Case {
        name: "export::other_tools_read_what_is_saved",
        needs: &[Need::Mvmctl, Need::Root, UMOCI, SKOPEO, GCC],
        run: other_tools,
    },
    Case {
        name: "export::saved_images_load_as_what_they_were",
        needs: &[Need::Mvmctl, UMOCI, BUSYBOX],
        run: round_trip,
    },
    Case { name: "export::a_pushed_image_is_the_same_image", needs: crate::PULL, run: push },
    Case {
        name: "export::a_damaged_layer_is_not_saved",
        needs: &[Need::Mvmctl, UMOCI, BUSYBOX],
        run: damaged,
    },
    Case {
        name: "export::an_interrupted_save_leaves_no_file",
        needs: &[Need::Mvmctl, UMOCI, MMDEBSTRAP],
        run: interrupted,
    },
];

fn pulled(layout: &Path) -> Result<(Sandbox, String), Failed> {
    let sandbox = Sandbox::new()?;
    let name = format!("oci:{}:latest", layout.display());
    sandbox.mvmctl(["pull", &name]).run()?.ok()?;
    Ok((sandbox, name))
}

/// Root hash and config digest, by which an image is known whatever its layers are wrapped in.
fn identity(sandbox: &Sandbox, name: &str) -> Result<(Value, Value), Failed> {
    let details = sandbox.json(["image", "inspect", name])?;
    Ok((details["root"]["root_hash"].clone(), details["config_digest"].clone()))
}

fn save(sandbox: &Sandbox, name: &str, file: &str, options: &[&str]) -> Result<PathBuf, Failed> {
    let path = sandbox.path().join(file);
    sandbox.mvmctl(["image", "save", name, "--output"]).arg(&path).args(options).run()?.ok()?;
    Ok(path)
}

fn other_tools() -> Outcome {
    let layout = fixtures::sixty_layers()?;
    let (sandbox, name) = pulled(&layout)?;
    let expected = tree::read(&crate::images::unpack(&layout, sandbox.path())?)?;
    let table: [(&str, &str, &[&str]); 4] = [
        ("plain.tar", "oci-archive", &[]),
        ("packed.tar", "oci-archive", &["--compression", "gzip"]),
        ("docker.tar", "docker-archive", &["--format", "docker-archive"]),
        // As Docker before 25 reads the same file.
        ("plain.tar", "docker-archive", &[]),
    ];
    for (file, transport, options) in table {
        let archive = save(&sandbox, &name, file, options)?;
        let again = save(&sandbox, &name, "again.tar", options)?;
        ensure!(fs::read(&archive)? == fs::read(&again)?, "{file} is another one each time");
        let work = tempfile::tempdir()?;
        let copy = work.path().join("layout");
        Program::new("skopeo")
            .args(["--insecure-policy", "copy", "--quiet"])
            .arg(format!("{transport}:{}", archive.display()))
            .arg(format!("oci:{}:latest", copy.display()))
            .run()?
            .ok()?;
        let made = tree::read(&crate::images::unpack(&copy, work.path())?)?;
        let differences = tree::compare(&made, &expected);
        ensure!(differences.is_empty(), "{file} as {transport}: {differences}");
    }
    Ok(())
}

fn round_trip() -> Outcome {
    let (sandbox, name) = pulled(&fixtures::busybox()?)?;
    let expected = identity(&sandbox, &name)?;
    for (file, options) in
        [("oci.tar", &["--compression", "zstd"][..]), ("docker.tar", &["--format", "docker-archive"])]
    {
        let archive = save(&sandbox, &name, file, options)?;
        let other = Sandbox::new()?;
        other.mvmctl(["image", "load", "--input"]).arg(&archive).run()?.ok()?;
        let manifest = other.json(["image", "ls", "--json"])?[0]["manifest"].clone();
        let manifest = manifest.as_str().unwrap_or_default();
        ensure!(identity(&other, manifest)? == expected, "{file} is loaded as another image");
    }
    // To standard output it is the same.
    let streamed = sandbox.mvmctl(["image", "save", &name, "--compression", "zstd"]).run()?.ok()?.stdout;
    ensure!(streamed == fs::read(sandbox.path().join("oci.tar"))?, "the stream is another archive");
    Ok(())
}

/// Counts requests that upload something.
fn uploads(registry: &Registry) -> Result<usize, Failed> {
    let log = registry.log()?;
    let is_upload = |line: &&str| {
        ["POST", "PATCH", "PUT"].iter().any(|method| line.contains(&format!("\"{method} /v2/")))
            && line.contains("/blobs/uploads/")
    };
    Ok(log.lines().filter(is_upload).count())
}

fn push() -> Outcome {
    let registry = Registry::start()?;
    let (sandbox, name) = pulled(&fixtures::busybox()?)?;
    let expected = identity(&sandbox, &name)?;
    let there = format!("{}/team/tool:1", registry.address());
    let digest = sandbox.mvmctl(["image", "push", &name, &there]).run()?.ok()?.out();
    let first = uploads(&registry)?;
    ensure!(first > 0, "nothing was uploaded");
    let again = sandbox.mvmctl(["image", "push", &name, &there]).run()?.ok()?.out();
    ensure_eq!(again, digest);
    ensure_eq!(uploads(&registry)?, first);

    let other = Sandbox::new()?;
    ensure_eq!(other.mvmctl(["--quiet", "pull", &there]).run()?.ok()?.out(), digest);
    ensure!(identity(&other, &there)? == expected, "the registry has another image");

    // What came from the registry goes to another of its repositories as it is.
    let mounted = format!("{}/other/tool:2", registry.address());
    ensure_eq!(other.mvmctl(["image", "push", &there, &mounted]).run()?.ok()?.out(), digest);
    let pinned = format!("{}/other/tool@{}", registry.address(), digest.trim());
    other.mvmctl(["image", "push", &there, &pinned]).run()?.ok()?;
    let zeros = format!("{}/other/tool@sha256:{}", registry.address(), "0".repeat(64));
    let refused = other.mvmctl(["image", "push", &there, &zeros]).run()?.exits(7)?.err();
    ensure!(refused.contains(digest.trim()), "{refused}");
    let log = sandbox.mvmctl(["audit", "tail"]).run()?.ok()?.out();
    ensure!(log.contains("\"kind\":\"push\"") && log.contains(&there), "{log}");
    sandbox.mvmctl(["audit", "verify"]).run()?.ok()?;
    let nobody = sandbox.mvmctl(["image", "push", &name]).run()?.exits(2)?.err();
    ensure!(nobody.contains("has no name in a registry"), "{nobody}");
    Ok(())
}

fn damaged() -> Outcome {
    let (sandbox, name) = pulled(&fixtures::busybox()?)?;
    let archive = sandbox.path().join("saved.tar");
    let damage = || -> Outcome {
        for entry in fs::read_dir(sandbox.store().join("scopes/default/segments"))? {
            let data = entry?.path().join("data");
            let mut bytes = fs::read(&data)?;
            bytes[4096] ^= 1;
            fs::write(&data, bytes)?;
        }
        Ok(())
    };
    for options in [&[][..], &["--compression", "gzip"], &["--format", "docker-archive"]] {
        damage()?;
        let again = || sandbox.mvmctl(["image", "save", &name, "--output"]).arg(&archive).args(options);
        let refused = again().run()?.exits(4)?;
        ensure!(refused.err().contains("is damaged: it comes out as"), "{}", refused.err());
        ensure!(!archive.exists(), "{options:?} left an archive");
        // It was discarded, and comes anew from where it came from.
        again().run()?.ok()?;
        fs::remove_file(&archive)?;
    }
    let whole = fs::read(save(&sandbox, &name, "whole.tar", &[])?)?;
    damage()?;
    let stream = sandbox.mvmctl(["image", "save", &name]).run()?.exits(4)?;
    ensure!(stream.stdout.len() < whole.len(), "a damaged archive is as long as a whole one");
    Ok(())
}

fn interrupted() -> Outcome {
    let (sandbox, name) = pulled(&fixtures::debian_python()?)?;
    let directory = sandbox.path().join("out");
    fs::create_dir(&directory)?;
    for (signal, code, left) in [(Signal::INT, 130, 0), (Signal::KILL, 137, 1)] {
        sandbox
            .mvmctl(["image", "save", &name, "--compression", "gzip", "--output"])
            .arg(directory.join("saved.tar"))
            .signal_after(Duration::from_millis(300), signal)
            .run()?
            .exits(code)?;
        ensure!(!directory.join("saved.tar").exists(), "a part of an archive has its name");
        // A program that is killed can't clean up: what stays is hidden and tells what it is.
        ensure_eq!(fs::read_dir(&directory)?.count(), left);
    }
    Ok(())
}
