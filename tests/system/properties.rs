//! What holds for any image: random ones become the tree that umoci unpacks.

use std::fs;
use std::path::Path;

use mvm_tests::corpus::image::Image;
use mvm_tests::need::Need;
use mvm_tests::process::Program;
use mvm_tests::random_layers;
use mvm_tests::sandbox::Sandbox;
use mvm_tests::tree::{self, Mount};

use crate::{Case, Outcome, UMOCI, ensure};

/// Images of one run.
const IMAGES: u64 = 100;

pub const CASES: &[Case] = &[Case {
    name: "properties::random_images_equal_umoci",
    needs: &[Need::Mvmctl, Need::Root, Need::ErofsMount, UMOCI, Need::Program("fsck.erofs", "erofs-utils")],
    run: random_images_equal_umoci,
}];

/// `MVM_SEED` starts from another seed than the usual, to look further.
fn random_images_equal_umoci() -> Outcome {
    let first: u64 = match std::env::var("MVM_SEED") {
        Ok(seed) => seed.parse()?,
        Err(_) => 1,
    };
    for seed in first..first + IMAGES {
        equals_umoci(seed).map_err(|error| {
            let words = error.message().unwrap_or("no reason");
            format!("MVM_SEED={seed}: {words}")
        })?;
    }
    Ok(())
}

fn equals_umoci(seed: u64) -> Outcome {
    let sandbox = Sandbox::new()?;
    let layout = sandbox.path().join("layout");
    let mut image = Image::create(&layout)?;
    for (number, tar) in random_layers::generate(seed).into_iter().enumerate() {
        if number % 2 == 0 { image.gzip(tar)? } else { image.layer(tar)? }
    }
    image.finish()?;
    sandbox.mvmctl(["pull"]).arg(format!("oci:{}:latest", layout.display())).run()?.ok()?;
    let file = sandbox.image_file()?;
    let bundle = crate::images::unpack(&layout, sandbox.path())?;
    let mount = Mount::new(&file, "erofs")?;
    let differences = tree::compare(&tree::read(mount.path())?, &tree::read(&bundle)?);
    drop(mount);
    ensure!(differences.is_empty(), "{differences}{}", listing(&layout)?);
    Program::new("fsck.erofs").arg(&file).run()?.ok()?;
    Ok(())
}

/// Says what the layers hold, for people who look into a difference.
fn listing(layout: &Path) -> Result<String, libtest_mimic::Failed> {
    let mut words = String::new();
    for blob in fs::read_dir(layout.join("blobs/sha256"))? {
        let listed = Program::new("tar").args(["-tvf"]).arg(blob?.path()).run()?;
        if listed.code() == 0 {
            words += &format!("\n{}", listed.out());
        }
    }
    Ok(words)
}
