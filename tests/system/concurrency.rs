//! Several commands at once, and commands killed half-way.

use std::thread;
use std::time::Duration;

use mvm_tests::fixtures;
use mvm_tests::need::Need;
use mvm_tests::registry::Registry;
use mvm_tests::sandbox::Sandbox;
use rustix::process::Signal;

use crate::{Case, GCC, MMDEBSTRAP, Outcome, SKOPEO, UMOCI, ensure, ensure_eq};

pub const CASES: &[Case] = &[
    Case {
        name: "concurrency::two_pulls_fetch_once",
        needs: &[Need::Mvmctl, Need::Registry, UMOCI, SKOPEO, MMDEBSTRAP],
        run: two_pulls,
    },
    Case {
        name: "concurrency::killed_pulls_leave_a_store_that_opens",
        needs: &[Need::Mvmctl, Need::Registry, UMOCI, SKOPEO, GCC],
        run: killed_pulls,
    },
];

fn two_pulls() -> Outcome {
    let registry = Registry::start()?;
    let image = registry.push(&fixtures::debian_python()?, "test/debian:latest", &[])?;
    let sandbox = Sandbox::new()?;
    let pull = || sandbox.mvmctl(["pull", &image]).run().and_then(mvm_tests::process::Output::ok);
    let (first, second) = thread::scope(|scope| {
        let other = scope.spawn(pull);
        (pull(), other.join())
    });
    first?;
    second.map_err(|_| "the other thread panicked")??;
    sandbox.mvmctl(["image", "verify", "--all"]).run()?.ok()?;
    ensure_eq!(sandbox.image_files()?.len(), 1);
    let requests: Vec<usize> =
        largest_blobs(&registry)?.iter().map(|hex| registry.blob_requests(hex)).collect::<Result<_, _>>()?;
    ensure!(requests.first() == Some(&1), "the layer was fetched {requests:?} times");
    Ok(())
}

/// Returns the digests of the registry's blobs, the largest first.
fn largest_blobs(registry: &Registry) -> std::io::Result<Vec<String>> {
    let mut blobs = Vec::new();
    for prefix in std::fs::read_dir(registry.blobs())? {
        for blob in std::fs::read_dir(prefix?.path())? {
            let blob = blob?;
            let length = std::fs::metadata(blob.path().join("data"))?.len();
            blobs.push((std::cmp::Reverse(length), blob.file_name().to_string_lossy().into_owned()));
        }
    }
    blobs.sort();
    Ok(blobs.into_iter().map(|(_, hex)| hex).collect())
}

fn killed_pulls() -> Outcome {
    let registry = Registry::start()?;
    let image = registry.push(&fixtures::sixty_layers()?, "test/layers:latest", &[])?;
    let sandbox = Sandbox::new()?;
    for milliseconds in [5, 20, 40, 60, 80, 100, 130, 160, 200, 250, 300, 400] {
        let killed = sandbox
            .mvmctl(["pull", &image])
            .signal_after(Duration::from_millis(milliseconds), Signal::KILL)
            .run()?;
        ensure!(matches!(killed.code(), 0 | 137), "exit code {}: {}", killed.code(), killed.err());
        let listed = sandbox.json(["image", "ls", "--json"])?;
        let count = listed.as_array().map_or(0, Vec::len);
        ensure_eq!(count, usize::from(killed.code() == 0 || count == 1));
        sandbox.mvmctl(["image", "verify", "--all"]).run()?.ok()?;
        if count == 1 {
            sandbox.mvmctl(["image", "rm", &image]).run()?.ok()?;
        }
        sandbox.mvmctl(["gc"]).run()?.ok()?;
    }
    sandbox.mvmctl(["pull", &image]).run()?.ok()?;
    sandbox.mvmctl(["image", "verify", &image]).run()?.ok()?;
    Ok(())
}
