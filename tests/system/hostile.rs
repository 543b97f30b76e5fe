//! Content that is not what its digest says, before and after it has become an image.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use mvm_tests::fixtures;
use mvm_tests::fixtures::rng::Rng;
use mvm_tests::need::Need;
use mvm_tests::process::Program;
use mvm_tests::registry::Registry;
use mvm_tests::sandbox::Sandbox;

use crate::{Case, GCC, GUEST, Outcome, PULL, SKOPEO, UMOCI, ensure, ensure_eq};

pub const CASES: &[Case] = &[
    Case { name: "hostile::flipped_bits_are_found", needs: &[Need::Mvmctl, UMOCI, GCC], run: flipped_bits },
    Case { name: "hostile::a_changed_image_does_not_boot", needs: GUEST, run: changed_image },
    Case { name: "hostile::changed_blobs_are_refused", needs: PULL, run: changed_blobs },
    Case {
        name: "hostile::changed_layout_is_refused",
        needs: &[Need::Mvmctl, UMOCI, SKOPEO, GCC],
        run: changed_layout,
    },
];

/// Flips the lowest bit of one byte.
fn flip(path: &Path, offset: u64) -> std::io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset)?;
    file.write_all_at(&[byte[0] ^ 1], offset)
}

fn flipped_bits() -> Outcome {
    let sandbox = Sandbox::new()?;
    let image = format!("oci:{}:latest", fixtures::single_static()?.display());
    sandbox.mvmctl(["pull", &image]).run()?.ok()?;
    let file = sandbox.image_file()?;
    let length = fs::metadata(&file)?.len();
    sandbox.mvmctl(["image", "verify", "--all"]).run()?.ok()?;
    let mut rng = Rng::new(1);
    // The first and last byte of every block, and some others.
    let edges = (0..length).step_by(4096).flat_map(|block| [block, (block + 4095).min(length - 1)]);
    let others: Vec<u64> = (0..100).map(|_| rng.next_u64() % length).collect();
    let all: Vec<u64> = edges.chain(others).collect();
    let step = (all.len() / 300).max(1);
    let last = length - 1;
    for offset in all.into_iter().step_by(step).chain([0, 1024, last]) {
        flip(&file, offset)?;
        let output = sandbox.mvmctl(["image", "verify", "--all"]).run()?;
        ensure!(
            output.code() == 4,
            "byte {offset} of {length}: exit code {}: {}",
            output.code(),
            output.err()
        );
        flip(&file, offset)?;
    }
    sandbox.mvmctl(["image", "verify", "--all"]).run()?.ok()?;
    Ok(())
}

fn changed_image() -> Outcome {
    let sandbox = Sandbox::with_kernel()?;
    let image = format!("oci:{}:latest", fixtures::busybox()?.display());
    sandbox.mvmctl(["run", "--rm", &image, "true"]).run()?.ok()?;
    let file = sandbox.image_file()?;
    let bytes = fs::read(&file)?;
    // The superblock, and the beginning of the program that is to run.
    let program = bytes.windows(4).position(|window| window == b"\x7fELF").map(|at| at as u64);
    for offset in [Some(1024 + 16), program].into_iter().flatten() {
        flip(&file, offset)?;
        let output = sandbox.mvmctl(["run", "--rm", &image, "echo", "ran"]).run()?;
        ensure!(output.code() != 0 && output.out().is_empty(), "byte {offset}: it ran: {}", output.out());
        ensure!(!output.err().is_empty(), "byte {offset}: no words");
        flip(&file, offset)?;
    }
    sandbox.mvmctl(["run", "--rm", &image, "echo", "ran"]).run()?.ok()?;
    Ok(())
}

/// Returns the digests of a manifest's config and layers, in hex.
fn digests(image: &str) -> Result<Vec<String>, libtest_mimic::Failed> {
    let inspected = Program::new("skopeo")
        .args(["--insecure-policy", "inspect", "--raw", "--tls-verify=false"])
        .arg(image)
        .run()?
        .ok()?;
    let manifest: serde_json::Value = serde_json::from_slice(&inspected.stdout)?;
    let layers = manifest["layers"].as_array().cloned().unwrap_or_default();
    let all = std::iter::once(&manifest["config"]).chain(&layers);
    Ok(all.filter_map(|d| d["digest"].as_str()?.strip_prefix("sha256:").map(str::to_owned)).collect())
}

fn changed_blobs() -> Outcome {
    let layout = fixtures::busybox()?;
    // A bit flipped, an end cut off, bytes added: for the config and for the layer.
    for change in 0..3 {
        for blob in 0..2 {
            let registry = Registry::start()?;
            let image = registry.push(&layout, "test/changed:latest", &[])?;
            let hex = &digests(&format!("docker://{image}"))?[blob];
            let path = registry.blob(hex);
            let length = fs::metadata(&path)?.len();
            match change {
                0 => flip(&path, length / 2)?,
                1 => OpenOptions::new().write(true).open(&path)?.set_len(length - 10)?,
                _ => OpenOptions::new().write(true).open(&path)?.write_all_at(b"more", length)?,
            }
            let sandbox = Sandbox::new()?;
            let output = sandbox.mvmctl(["pull", &image]).run()?;
            // The registry itself notices some of these and answers an error.
            ensure!(
                matches!(output.code(), 4 | 6),
                "change {change} of blob {blob}: exit code {}",
                output.code()
            );
            ensure!(one_line(&output.err()), "not one line: {}", output.err());
            ensure_eq!(sandbox.image_files().unwrap_or_default().len(), 0);
            ensure_eq!(sandbox.json(["image", "ls", "--json"])?.as_array().map(Vec::len), Some(0));
        }
    }
    Ok(())
}

fn changed_layout() -> Outcome {
    let layout = fixtures::single_static()?;
    let hexes = digests(&format!("oci:{}:latest", layout.display()))?;
    for hex in hexes {
        let sandbox = Sandbox::new()?;
        let copy = sandbox.path().join("layout");
        Program::new("cp").arg("-r").arg(&layout).arg(&copy).run()?.ok()?;
        let blob = copy.join("blobs/sha256").join(hex);
        flip(&blob, fs::metadata(&blob)?.len() / 2)?;
        let output =
            sandbox.mvmctl(["pull"]).arg(format!("oci:{}:latest", copy.display())).run()?.exits(4)?;
        ensure!(one_line(&output.err()), "not one line: {}", output.err());
        ensure_eq!(sandbox.image_files().unwrap_or_default().len(), 0);
    }
    Ok(())
}

/// Tells whether the error is one line, with at most a hint after it.
fn one_line(words: &str) -> bool {
    let errors = words.lines().filter(|line| line.starts_with("mvmctl: ")).count();
    errors == 1 && !words.contains("panicked")
}
