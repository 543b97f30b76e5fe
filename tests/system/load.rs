//! Archives of other tools, loaded; and names that no registry knows.

use std::path::{Path, PathBuf};

use mvm_tests::fixtures;
use mvm_tests::need::Need;
use mvm_tests::process::Program;
use mvm_tests::sandbox::Sandbox;
use serde_json::Value;

use crate::{BUSYBOX, Case, GUEST, Outcome, SKOPEO, UMOCI, ensure, ensure_eq};

const LOAD: &[Need] = &[Need::Mvmctl, UMOCI, SKOPEO, BUSYBOX];

pub const CASES: &[Case] = &[
    Case { name: "load::docker_archive_of_skopeo", needs: LOAD, run: docker_archive },
    Case { name: "load::oci_archive_of_skopeo", needs: LOAD, run: oci_archive },
    Case { name: "load::compressed_and_piped", needs: LOAD, run: piped },
    Case { name: "load::names_come_and_go", needs: LOAD, run: names },
    Case { name: "load::what_is_no_image_is_refused", needs: &[Need::Mvmctl], run: refused },
    Case {
        name: "load::runs_without_asking_a_registry",
        needs: &[GUEST[0], GUEST[1], GUEST[2], GUEST[3], SKOPEO],
        run: runs,
    },
];

/// A name whose registry nobody can ask: nothing listens on port 1.
const UNREACHABLE: &str = "127.0.0.1:1/team/app:1";

/// Converts the busybox image with skopeo.
fn archive(directory: &Path, transport: &str, name: &str) -> Result<PathBuf, libtest_mimic::Failed> {
    let path = directory.join(format!("{transport}.tar"));
    Program::new("skopeo")
        .args(["--insecure-policy", "copy", "--quiet"])
        .arg(format!("oci:{}:latest", fixtures::busybox()?.display()))
        .arg(format!("{transport}:{}:{name}", path.display()))
        .run()?
        .ok()?;
    Ok(path)
}

/// Pulls the busybox image from its layout and returns what mvmctl says of it.
fn pulled(sandbox: &Sandbox) -> Result<Value, libtest_mimic::Failed> {
    Ok(sandbox.json(["pull", "--json", &format!("oci:{}:latest", fixtures::busybox()?.display())])?)
}

fn docker_archive() -> Outcome {
    let sandbox = Sandbox::new()?;
    let archive = archive(sandbox.path(), "docker-archive", UNREACHABLE)?;
    let load = sandbox.mvmctl(["image", "load", "--input"]).arg(&archive).run()?.ok()?;
    ensure_eq!(load.out(), format!("Loaded image: {UNREACHABLE}\n"));
    let loaded = sandbox.json(["image", "inspect", UNREACHABLE])?;
    ensure_eq!(loaded["references"].as_array().map(Vec::len), Some(1));
    // The same config and the same files as from the layout.
    let other = Sandbox::new()?;
    let expected = pulled(&other)?;
    ensure_eq!(loaded["config_digest"], expected["config"]);
    ensure_eq!(loaded["root"]["root_hash"], expected["root_hash"]);
    for source in ["", ":@0", &format!(":{UNREACHABLE}")] {
        let source = format!("docker-archive:{}{source}", archive.display());
        ensure_eq!(other.json(["pull", "--json", &source])?["manifest"], loaded["manifest"]);
    }
    let wrong = format!("docker-archive:{}:other:1", archive.display());
    other.mvmctl(["pull", &wrong]).run()?.exits(3)?;
    Ok(())
}

fn oci_archive() -> Outcome {
    let sandbox = Sandbox::new()?;
    let archive_file = archive(sandbox.path(), "oci-archive", "r.example/team/app:2")?;
    let loaded = sandbox.json(["image", "load", "--json", "-i", &archive_file.display().to_string()])?;
    ensure_eq!(loaded[0]["names"], serde_json::json!(["r.example/team/app:2"]));
    let expected = pulled(&Sandbox::new()?)?;
    ensure_eq!(loaded[0]["manifest"], expected["manifest"]);
    ensure_eq!(loaded[0]["root_hash"], expected["root_hash"]);
    // A tag alone is no name: the image is there by its digest only.
    let other = Sandbox::new()?;
    let archive = archive(other.path(), "oci-archive", "latest")?;
    let load = other.mvmctl(["image", "load", "-i"]).arg(&archive).run()?.ok()?;
    let config = expected["config"].as_str().unwrap_or_default();
    ensure_eq!(load.out(), format!("Loaded image ID: {config}\n"));
    ensure_eq!(other.json(["image", "ls", "--json"])?[0]["reference"], Value::Null);
    other.mvmctl(["image", "tag", config, "app:9"]).run()?.ok()?;
    ensure_eq!(other.json(["image", "ls", "--json"])?[0]["reference"], "docker.io/library/app:9");
    Ok(())
}

fn piped() -> Outcome {
    let sandbox = Sandbox::new()?;
    let archive = archive(sandbox.path(), "docker-archive", "team/app:1")?;
    let plain = std::fs::read(&archive)?;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &plain)?;
    let gzip = gzip.finish()?;
    let zstd = zstd::encode_all(&plain[..], 1)?;
    let expected = sandbox.json(["image", "load", "--json", "-i", &archive.display().to_string()])?;
    for bytes in [plain, gzip, zstd] {
        let load = sandbox.mvmctl(["image", "load", "--json"]).input(bytes.clone()).run()?.ok()?;
        ensure_eq!(serde_json::from_str::<Value>(&load.out())?, expected);
        std::fs::write(&archive, &bytes)?;
        let source = format!("docker-archive:{}", archive.display());
        ensure_eq!(sandbox.json(["pull", "--json", &source])?["manifest"], expected[0]["manifest"]);
    }
    let staging = sandbox.store().join("scopes/default/staging");
    ensure_eq!(std::fs::read_dir(staging)?.count(), 0);
    Ok(())
}

fn names() -> Outcome {
    let sandbox = Sandbox::new()?;
    let archive = archive(sandbox.path(), "docker-archive", "team/app:1")?;
    sandbox.mvmctl(["image", "load", "-i"]).arg(&archive).run()?.ok()?;
    sandbox.mvmctl(["image", "tag", "team/app:1", UNREACHABLE]).run()?.ok()?;
    let names = || -> Result<Vec<String>, libtest_mimic::Failed> {
        let list = sandbox.json(["image", "ls", "--json"])?;
        let names = list.as_array().into_iter().flatten().filter_map(|row| row["reference"].as_str());
        Ok(names.map(str::to_owned).collect())
    };
    let app = "docker.io/team/app:1".to_owned();
    ensure_eq!(names()?, [UNREACHABLE.to_owned(), app.clone()]);
    // The log tells a name that was given from one that a registry was asked about.
    let log = sandbox.mvmctl(["audit", "tail", "-n", "100"]).run()?.ok()?.out();
    let tags: Vec<&str> = log.lines().filter(|line| line.contains(r#""kind":"tag""#)).collect();
    ensure!(tags.len() == 2 && tags[1].contains(UNREACHABLE), "{log}");
    sandbox.mvmctl(["audit", "verify"]).run()?.ok()?;
    let removed = sandbox.mvmctl(["image", "rm", "team/app:1"]).run()?.ok()?.out();
    ensure_eq!(removed, format!("untagged {app}\n"));
    ensure_eq!(names()?, [UNREACHABLE.to_owned()]);
    ensure_eq!(sandbox.image_files()?.len(), 1);
    // A pull asks the registry all the same.
    sandbox.mvmctl(["pull", "--retries", "0", UNREACHABLE]).run()?.exits(6)?;
    sandbox.mvmctl(["image", "rm", UNREACHABLE]).run()?.ok()?;
    ensure_eq!(sandbox.image_files()?.len(), 0);
    sandbox.mvmctl(["image", "tag", "team/app:1", "x"]).run()?.exits(3)?;
    let pinned = format!("x@sha256:{}", "0".repeat(64));
    sandbox.mvmctl(["image", "load", "-i"]).arg(&archive).run()?.ok()?;
    sandbox.mvmctl(["image", "tag", "team/app:1", &pinned]).run()?.exits(2)?;
    Ok(())
}

fn refused() -> Outcome {
    let sandbox = Sandbox::new()?;
    let file = sandbox.path().join("file");
    let cases: [(&[u8], i32, &str); 4] = [
        (b"", 3, "neither manifest.json nor oci-layout"),
        (&[0; 1024], 3, "neither manifest.json nor oci-layout"),
        (b"no archive at all", 4, "not a readable tar file"),
        (b"BZh91AY&SY", 2, "compressed with bzip2"),
    ];
    for (bytes, code, words) in cases {
        std::fs::write(&file, bytes)?;
        let load = sandbox.mvmctl(["image", "load", "--input"]).arg(&file).run()?.exits(code)?;
        ensure!(load.err().contains(words), "{}", load.err());
        let load = sandbox.mvmctl(["image", "load"]).input(bytes).run()?.exits(code)?;
        ensure!(load.err().contains(words), "{}", load.err());
    }
    sandbox.mvmctl(["image", "load", "-i", "/nonexistent"]).run()?.exits(3)?;
    Ok(())
}

fn runs() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let archive = archive(sandbox.path(), "docker-archive", UNREACHABLE)?;
    sandbox.mvmctl(["image", "load", "--input"]).arg(&archive).run()?.ok()?;
    let output = sandbox.mvmctl(["run", "--rm", UNREACHABLE, "echo", "loaded"]).run()?.ok()?;
    ensure_eq!(output.out(), "loaded\n");
    Ok(())
}
