//! Images of other tools, as a kernel shows them: equal to umoci's unpack, entry for entry.

use std::path::{Path, PathBuf};

use mvm_tests::fixtures::{self, FixtureError};
use mvm_tests::need::Need;
use mvm_tests::process::Program;
use mvm_tests::registry::Registry;
use mvm_tests::sandbox::Sandbox;
use mvm_tests::tree::{self, Mount};

use crate::{BUILDAH, BUSYBOX, Case, GCC, MMDEBSTRAP, Outcome, SKOPEO, UMOCI, ensure, ensure_eq};

const MOUNT: [Need; 3] = [Need::Mvmctl, Need::Root, Need::ErofsMount];

pub const CASES: &[Case] = &[
    Case {
        name: "images::static_equals_umoci",
        needs: &[MOUNT[0], MOUNT[1], MOUNT[2], Need::Registry, UMOCI, SKOPEO, GCC],
        run: || equals_umoci(fixtures::single_static, &[]),
    },
    Case {
        name: "images::busybox_equals_umoci",
        needs: &[MOUNT[0], MOUNT[1], MOUNT[2], Need::Registry, UMOCI, SKOPEO, BUSYBOX],
        run: || equals_umoci(fixtures::busybox, &[]),
    },
    Case {
        name: "images::sixty_layers_equal_umoci",
        needs: &[MOUNT[0], MOUNT[1], MOUNT[2], Need::Registry, UMOCI, SKOPEO, GCC],
        run: || equals_umoci(fixtures::sixty_layers, &[]),
    },
    Case {
        name: "images::long_names_equal_umoci",
        needs: &[MOUNT[0], MOUNT[1], MOUNT[2], Need::Registry, UMOCI, SKOPEO],
        run: || equals_umoci(fixtures::long_names, &[]),
    },
    Case {
        name: "images::debian_equals_umoci",
        needs: &[MOUNT[0], MOUNT[1], MOUNT[2], Need::Registry, UMOCI, SKOPEO, MMDEBSTRAP],
        run: || equals_umoci(fixtures::debian_python, &[]),
    },
    Case {
        name: "images::buildah_equals_umoci",
        needs: &[MOUNT[0], MOUNT[1], MOUNT[2], Need::Registry, UMOCI, SKOPEO, BUILDAH, BUSYBOX],
        run: || equals_umoci(fixtures::buildah, &[]),
    },
    Case {
        name: "images::docker_manifest_equals_umoci",
        needs: &[MOUNT[0], MOUNT[1], MOUNT[2], Need::Registry, UMOCI, SKOPEO, GCC],
        run: || equals_umoci(fixtures::sixty_layers, &["--format", "v2s2"]),
    },
    Case {
        name: "images::zstd_equals_umoci",
        needs: &[MOUNT[0], MOUNT[1], MOUNT[2], Need::Registry, UMOCI, SKOPEO, MMDEBSTRAP],
        run: zstd_equals_umoci,
    },
    Case {
        name: "images::umoci_repack_equals_umoci",
        needs: &[MOUNT[0], MOUNT[1], MOUNT[2], Need::Registry, UMOCI, SKOPEO, BUSYBOX],
        run: || equals_umoci(fixtures::umoci_repacked, &[]),
    },
    Case {
        name: "images::hundred_twenty_eight_layers_equal_umoci",
        needs: &[MOUNT[0], MOUNT[1], MOUNT[2], Need::Registry, UMOCI, SKOPEO],
        run: || equals_umoci(fixtures::many_layers, &[]),
    },
    Case {
        name: "images::hundred_thousand_files_equal_umoci",
        needs: &[MOUNT[0], MOUNT[1], MOUNT[2], Need::Registry, UMOCI, SKOPEO],
        run: || equals_umoci(fixtures::many_files, &[]),
    },
    Case {
        name: "images::fsck_and_veritysetup_agree",
        needs: &[
            Need::Mvmctl,
            UMOCI,
            GCC,
            Need::Program("fsck.erofs", "erofs-utils"),
            Need::Program("veritysetup", "cryptsetup-bin"),
        ],
        run: fsck_and_veritysetup_agree,
    },
    Case { name: "images::listing_names_what_was_pulled", needs: crate::PULL, run: listing },
];

/// Pulls a fixture from a registry, mounts the image and compares it with what umoci unpacks.
fn equals_umoci(fixture: fn() -> Result<PathBuf, FixtureError>, push: &[&str]) -> Outcome {
    let layout = fixture()?;
    same_tree(&layout, push, &layout)
}

/// The same with layers converted to Zstandard, which this umoci may not read: it unpacks the original.
fn zstd_equals_umoci() -> Outcome {
    let layout = fixtures::debian_python()?;
    same_tree(&fixtures::zstd(&layout)?, &[], &layout)
}

/// Pulls `layout` from a registry, mounts the image and compares it with what umoci makes of `original`.
fn same_tree(layout: &Path, push: &[&str], original: &Path) -> Outcome {
    let registry = Registry::start()?;
    let image = registry.push(layout, "test/image:latest", push)?;
    let sandbox = Sandbox::new()?;
    sandbox.mvmctl(["pull", &image]).run()?.ok()?;
    let bundle = unpack(original, sandbox.path())?;
    let mount = Mount::new(&sandbox.image_file()?, "erofs")?;
    let (mut made, mut expected) = (tree::read(mount.path())?, tree::read(&bundle)?);
    ensure!(expected.len() > 1, "umoci unpacked nothing");
    if !has_root_entry(original)? {
        // No layer says anything of the root directory: both tools make one up.
        made.remove(Path::new(""));
        expected.remove(Path::new(""));
    }
    let differences = tree::compare(&made, &expected);
    ensure!(differences.is_empty(), "{differences}");
    sandbox.mvmctl(["image", "verify", &image]).run()?.ok()?;
    Ok(())
}

/// Unpacks a layout with umoci and returns the root of the tree.
pub fn unpack(layout: &Path, work: &Path) -> Result<PathBuf, libtest_mimic::Failed> {
    let bundle = work.join("bundle");
    Program::new("umoci")
        .args(["unpack", "--image"])
        .arg(format!("{}:latest", layout.display()))
        .arg(&bundle)
        .run()?
        .ok()?;
    Ok(bundle.join("rootfs"))
}

/// Tells whether a layer of the image has an entry for the root directory.
fn has_root_entry(layout: &Path) -> Result<bool, libtest_mimic::Failed> {
    let inspected = Program::new("skopeo")
        .args(["--insecure-policy", "inspect", "--raw"])
        .arg(format!("oci:{}:latest", layout.display()))
        .run()?
        .ok()?;
    let manifest: serde_json::Value = serde_json::from_slice(&inspected.stdout)?;
    for layer in manifest["layers"].as_array().into_iter().flatten() {
        let digest = layer["digest"].as_str().unwrap_or_default().trim_start_matches("sha256:");
        let blob = layout.join("blobs/sha256").join(digest);
        let names = Program::new("tar").arg("-tf").arg(blob).run()?.ok()?;
        if names.out().lines().any(|name| matches!(name, "." | "./" | "/")) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn fsck_and_veritysetup_agree() -> Outcome {
    let layout = fixtures::sixty_layers()?;
    let sandbox = Sandbox::new()?;
    sandbox.mvmctl(["pull"]).arg(format!("oci:{}:latest", layout.display())).run()?.ok()?;
    let image = sandbox.image_file()?;
    Program::new("fsck.erofs").arg(&image).run()?.ok()?;
    let root_hash = image.file_stem().unwrap_or_default().to_owned();
    let hash_offset = verity_offset(&std::fs::read(&image)?)?;
    let dump = Program::new("veritysetup")
        .args(["verify", "--hash-offset"])
        .arg(hash_offset.to_string())
        .arg(&image)
        .arg(&image)
        .arg(&root_hash);
    dump.run()?.ok()?;
    Ok(())
}

/// Finds the superblock of veritysetup, which begins a block.
fn verity_offset(image: &[u8]) -> Result<usize, libtest_mimic::Failed> {
    let found: Vec<usize> =
        (0..image.len()).step_by(4096).filter(|offset| image[*offset..].starts_with(b"verity\0\0")).collect();
    ensure_eq!(found.len(), 1);
    Ok(found[0])
}

fn listing() -> Outcome {
    let registry = Registry::start()?;
    let image = registry.push(&fixtures::busybox()?, "team/busybox:1", &[])?;
    let sandbox = Sandbox::new()?;
    sandbox.mvmctl(["pull", &image]).run()?.ok()?;
    let list = sandbox.json(["image", "ls", "--json"])?;
    ensure_eq!(list.as_array().map(Vec::len), Some(1));
    ensure!(list[0]["reference"].as_str() == Some(&image), "{list:#}");
    let root_hash = sandbox.image_file()?.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let inspected = sandbox.mvmctl(["image", "inspect", &image]).run()?.ok()?.out();
    ensure!(inspected.contains(&root_hash), "inspect does not name the root hash {root_hash}:\n{inspected}");
    sandbox.mvmctl(["image", "rm", &image]).run()?.ok()?;
    ensure_eq!(sandbox.json(["image", "ls", "--json"])?.as_array().map(Vec::len), Some(0));
    sandbox.mvmctl(["image", "inspect", &image]).run()?.exits(3)?;
    sandbox.mvmctl(["gc"]).run()?.ok()?;
    ensure_eq!(sandbox.image_files()?.len(), 0);
    Ok(())
}
