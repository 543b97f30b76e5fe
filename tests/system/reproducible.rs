//! The same content gives the same root hash: whatever the source, compression, format, number of CPUs and order.

use std::collections::BTreeSet;
use std::path::PathBuf;

use mvm_tests::fixtures;
use mvm_tests::need::Need;
use mvm_tests::process::Program;
use mvm_tests::registry::Registry;
use mvm_tests::sandbox::Sandbox;
use mvm_tests::workspace;

use crate::{Case, GCC, Outcome, SKOPEO, UMOCI, ensure, ensure_eq};

pub const CASES: &[Case] = &[Case {
    name: "reproducible::equal_root_hashes",
    needs: &[Need::Mvmctl, Need::Registry, UMOCI, SKOPEO, GCC, Need::Program("taskset", "util-linux")],
    run: equal_root_hashes,
}];

fn equal_root_hashes() -> Outcome {
    let layout = fixtures::sixty_layers()?;
    let zstd = fixtures::zstd(&layout)?;
    let registry = Registry::start()?;
    let sources = [
        format!("oci:{}:latest", layout.display()),
        format!("oci-archive:{}", archive(&layout)?.display()),
        format!("oci:{}:latest", zstd.display()),
        registry.push(&layout, "test/gzip:latest", &[])?,
        registry.push(&layout, "test/docker:latest", &["--format", "v2s2"])?,
        registry.push(&zstd, "test/zstd:latest", &[])?,
    ];
    let mut hashes = BTreeSet::new();
    for source in &sources {
        let sandbox = Sandbox::new()?;
        sandbox.mvmctl(["pull", source]).run()?.ok()?;
        let name = sandbox.image_file()?;
        hashes.insert(name.file_name().map(ToOwned::to_owned));
        // The name is a promise; the bytes must keep it.
        sandbox.mvmctl(["image", "verify", "--all"]).run()?.ok()?;
    }
    // On one CPU only.
    let sandbox = Sandbox::new()?;
    Program::new("taskset")
        .args(["-c", "0"])
        .arg(workspace::mvmctl())
        .arg("--root")
        .arg(sandbox.store())
        .args(["pull", &sources[0]])
        .run()?
        .ok()?;
    hashes.insert(sandbox.image_file()?.file_name().map(ToOwned::to_owned));
    // Some layers are there already, from another image that shares them.
    let sandbox = Sandbox::new()?;
    sandbox.mvmctl(["pull", &sources[3]]).run()?.ok()?;
    let bytes = std::fs::read(sandbox.image_file()?)?;
    sandbox.mvmctl(["image", "rm", &sources[3]]).run()?.ok()?;
    sandbox.mvmctl(["pull", &sources[5]]).run()?.ok()?;
    hashes.insert(sandbox.image_file()?.file_name().map(ToOwned::to_owned));
    ensure!(bytes == std::fs::read(sandbox.image_file()?)?, "the bytes differ under one root hash");
    ensure_eq!(hashes.len(), 1);
    Ok(())
}

/// Packs a layout into an archive beside it.
fn archive(layout: &std::path::Path) -> Result<PathBuf, libtest_mimic::Failed> {
    let file = layout.with_extension("tar");
    Program::new("tar").arg("-C").arg(layout).arg("-cf").arg(&file).arg(".").run()?.ok()?;
    ensure!(file.is_file(), "no archive");
    Ok(file)
}
