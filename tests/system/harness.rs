//! The judges themselves: the fixtures hold what they promise, the comparison sees what it should.

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use mvm_tests::fixtures;
use mvm_tests::need::Need;
use mvm_tests::process::Program;
use mvm_tests::registry::Registry;
use mvm_tests::tree::{self, Content};

use crate::{BUILDAH, BUSYBOX, Case, GCC, MMDEBSTRAP, Outcome, SKOPEO, UMOCI, ensure, ensure_eq};

pub const CASES: &[Case] = &[
    Case { name: "harness::sixty_layers_are_rich", needs: &[Need::Root, UMOCI, GCC], run: rich },
    Case { name: "harness::the_comparison_sees_every_change", needs: &[Need::Root], run: comparison },
    Case {
        name: "harness::images_of_other_tools",
        needs: &[Need::Root, UMOCI, BUSYBOX, BUILDAH, MMDEBSTRAP],
        run: other_tools,
    },
    Case { name: "harness::conversions", needs: &[Need::Registry, UMOCI, SKOPEO, GCC], run: conversions },
];

fn rich() -> Outcome {
    let layout = fixtures::sixty_layers()?;
    let work = tempfile::tempdir()?;
    let root = crate::images::unpack(&layout, work.path())?;
    let entries = tree::read(&root)?;
    let count =
        |wanted: &dyn Fn(&tree::Entry) -> bool| entries.values().filter(|entry| wanted(entry)).count();
    ensure!(entries.len() > 500, "only {} entries", entries.len());
    ensure!(count(&|entry| entry.links.1 > 2) > 5, "few hard links");
    ensure!(count(&|entry| !entry.attributes.is_empty()) > 20, "few attributes");
    ensure!(count(&|entry| entry.mtime.1 != 0) > 20, "few nanoseconds");
    ensure!(count(&|entry| matches!(entry.content, Content::Symlink(_))) > 5, "few links");
    ensure!(count(&|entry| matches!(entry.content, Content::Device(..))) > 5, "few devices");
    ensure!(count(&|entry| entry.owner.0 > 65_535) > 20, "few large owners");
    ensure!(
        count(&|entry| matches!(entry.content, Content::File(length, _) if length > 1 << 20)) > 5,
        "few large files"
    );

    // Read again from a copy, which has other inodes.
    let copy = work.path().join("copy");
    Program::new("cp").arg("-a").arg(&root).arg(&copy).run()?.ok()?;
    let differences = tree::compare(&tree::read(&copy)?, &entries);
    ensure!(differences.is_empty(), "{differences}");
    Ok(())
}

fn comparison() -> Outcome {
    let (one, other) = (tempfile::tempdir()?, tempfile::tempdir()?);
    for root in [one.path(), other.path()] {
        std::fs::create_dir(root.join("d"))?;
        std::fs::write(root.join("d/f"), "content")?;
        std::fs::hard_link(root.join("d/f"), root.join("link"))?;
        symlink("f", root.join("d/s"))?;
        Program::new("touch")
            .args(["-h", "-d", "@1700000000.5"])
            .args(["d/f", "d/s", "d", "."])
            .directory(root)
            .run()?
            .ok()?;
    }
    let expected = tree::read(other.path())?;
    let differs = || -> Result<bool, libtest_mimic::Failed> {
        Ok(!tree::compare(&tree::read(one.path())?, &expected).is_empty())
    };
    ensure!(!differs()?, "equal trees differ");
    let reset = |path: &Path| {
        Program::new("touch")
            .args(["-h", "-d", "@1700000000.5"])
            .args(["d/f", "d/s", "d", "."])
            .directory(path)
            .run()
    };
    let (file, folder) = (one.path().join("d/f"), one.path().join("d"));
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600))?;
    ensure!(differs()?, "a mode");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644))?;
    ensure!(!differs()?, "the mode is back");
    std::fs::write(&file, "CONTENT")?;
    reset(one.path())?.ok()?;
    ensure!(differs()?, "content of the same length");
    std::fs::write(&file, "content")?;
    ensure!(differs()?, "a time");
    reset(one.path())?.ok()?;
    ensure!(!differs()?, "content and time are back");
    std::os::unix::fs::chown(&folder, Some(7), None)?;
    ensure!(differs()?, "an owner");
    std::os::unix::fs::chown(&folder, Some(0), None)?;
    std::fs::remove_file(one.path().join("link"))?;
    std::fs::copy(&file, one.path().join("link"))?;
    Program::new("touch")
        .args(["-d", "@1700000000.5"])
        .args(["link", "."])
        .directory(one.path())
        .run()?
        .ok()?;
    ensure!(differs()?, "a copy in place of a link");
    Ok(())
}

fn other_tools() -> Outcome {
    let table = [
        (fixtures::busybox()?, "bin/sh"),
        (fixtures::buildah()?, "etc/built"),
        (fixtures::debian_python()?, "usr/bin/python3"),
    ];
    for (layout, expected) in table {
        let work = tempfile::tempdir()?;
        let root = crate::images::unpack(&layout, work.path())?;
        ensure!(root.join(expected).symlink_metadata().is_ok(), "{} has no {expected}", layout.display());
    }
    Ok(())
}

fn conversions() -> Outcome {
    let layout = fixtures::sixty_layers()?;
    let media_types = |image: &str| -> Result<BTreeSet<String>, libtest_mimic::Failed> {
        let raw = Program::new("skopeo")
            .args(["--insecure-policy", "inspect", "--raw", "--tls-verify=false", image])
            .run()?
            .ok()?;
        let manifest: serde_json::Value = serde_json::from_slice(&raw.stdout)?;
        let layers = manifest["layers"].as_array().cloned().unwrap_or_default();
        Ok(layers.iter().filter_map(|layer| layer["mediaType"].as_str().map(str::to_owned)).collect())
    };
    let one = |text: &str| BTreeSet::from([text.to_owned()]);
    let oci = |path: &Path| format!("oci:{}:latest", path.display());
    ensure_eq!(media_types(&oci(&layout))?, one("application/vnd.oci.image.layer.v1.tar+gzip"));
    let zstd = fixtures::zstd(&layout)?;
    ensure_eq!(media_types(&oci(&zstd))?, one("application/vnd.oci.image.layer.v1.tar+zstd"));
    let registry = Registry::start()?;
    let image = registry.push(&layout, "test/docker:latest", &["--format", "v2s2"])?;
    ensure_eq!(
        media_types(&format!("docker://{image}"))?,
        one("application/vnd.docker.image.rootfs.diff.tar.gzip")
    );
    Ok(())
}
