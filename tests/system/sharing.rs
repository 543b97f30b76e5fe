//! Images that have layers in common: what is fetched, what is kept, and how often.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mvm_tests::fixtures::oci::{Compression, Layout};
use mvm_tests::fixtures::rng::Rng;
use mvm_tests::need::Need;
use mvm_tests::process::Program;
use mvm_tests::registry::Registry;
use mvm_tests::sandbox::Sandbox;

use crate::{Case, Outcome, SKOPEO, ensure, ensure_eq};

pub const CASES: &[Case] = &[
    Case {
        name: "sharing::a_base_is_fetched_once",
        needs: &[Need::Mvmctl, Need::Registry, SKOPEO],
        run: fetched_once,
    },
    Case { name: "sharing::a_base_is_kept_once_on_btrfs", needs: BTRFS, run: || kept_once("btrfs") },
    Case { name: "sharing::a_base_is_kept_once_on_xfs", needs: XFS, run: || kept_once("xfs") },
];

const BTRFS: &[Need] = &[
    Need::Mvmctl,
    Need::Root,
    Need::Mount("btrfs"),
    Need::Program("mkfs.btrfs", "btrfs-progs"),
    Need::Program("filefrag", "e2fsprogs"),
];
const XFS: &[Need] = &[
    Need::Mvmctl,
    Need::Root,
    Need::Mount("xfs"),
    Need::Program("mkfs.xfs", "xfsprogs"),
    Need::Program("filefrag", "e2fsprogs"),
];

/// Bytes of file data in the base, and in what each image has of its own.
const BASE: usize = 16 << 20;
const OWN: usize = 1 << 20;

/// Writes a layout of these layers, each a seed, a length and how it is compressed, and returns its blobs' digests in hex.
fn layout(at: &Path, layers: &[(u64, usize, Compression)]) -> io::Result<Vec<String>> {
    let mut layout = Layout::create(at)?;
    for &(seed, length, compression) in layers {
        layout.layer(compression, |out| {
            let mut tar = tar::Builder::new(out);
            let mut rng = Rng::new(seed);
            // Several files, with tails, and one that needs no block.
            for (number, length) in [length / 2, length / 4, length / 4 + 77, 100].into_iter().enumerate() {
                let mut header = tar::Header::new_gnu();
                header.set_mode(0o644);
                header.set_size(length as u64);
                tar.append_data(&mut header, format!("{seed}-{number}"), rng.bytes(length).as_slice())?;
            }
            tar.into_inner()?.flush()
        })?;
    }
    layout.finish()?;
    let index: serde_json::Value = serde_json::from_slice(&fs::read(at.join("index.json"))?)?;
    let blob = |digest: &serde_json::Value| {
        digest.as_str().unwrap_or_default().trim_start_matches("sha256:").to_owned()
    };
    let manifest = at.join("blobs/sha256").join(blob(&index["manifests"][0]["digest"]));
    let manifest: serde_json::Value = serde_json::from_slice(&fs::read(manifest)?)?;
    Ok(manifest["layers"].as_array().into_iter().flatten().map(|layer| blob(&layer["digest"])).collect())
}

/// Returns the audit log's entries from a line on.
fn events(sandbox: &Sandbox, from: usize) -> Result<Vec<serde_json::Value>, libtest_mimic::Failed> {
    let log = sandbox.mvmctl(["audit", "tail", "-n", "1000"]).run()?.ok()?.out();
    Ok(log.lines().skip(from).map(serde_json::from_str).collect::<Result<_, _>>()?)
}

fn fetched_once() -> Outcome {
    let sandbox = Sandbox::new()?;
    let registry = Registry::start()?;
    let place = |name: &str| sandbox.path().join(name);
    let one = layout(&place("one"), &[(1, BASE, Compression::Gzip), (2, OWN, Compression::Gzip)])?;
    let two = layout(&place("two"), &[(1, BASE, Compression::Gzip), (3, OWN, Compression::Gzip)])?;
    // The same archive under another digest, because it is compressed otherwise.
    let three = layout(&place("three"), &[(1, BASE, Compression::Zstd), (2, OWN, Compression::Zstd)])?;
    ensure!(one[0] == two[0] && one[1] != two[1] && three[0] != one[0], "{one:?} {two:?} {three:?}");
    let push = |name: &str| registry.push(&place(name), &format!("test/{name}:latest"), &[]);
    let images = [push("one")?, push("two")?, push("three")?];
    let requests = |blobs: &[String]| {
        blobs.iter().map(|blob| registry.blob_requests(blob)).collect::<io::Result<Vec<usize>>>()
    };
    sandbox.mvmctl(["pull", &images[0]]).run()?.ok()?;
    ensure_eq!(requests(&one)?, [1, 1]);
    let before = events(&sandbox, 0)?.len();
    sandbox.mvmctl(["pull", &images[1]]).run()?.ok()?;
    // Fetched, inflated, verified: only what is new.
    ensure_eq!(requests(&two)?, [1, 1]);
    let second = events(&sandbox, before)?;
    let of = |kind: &str| second.iter().filter(|entry| entry["event"]["kind"] == kind).count();
    let kinds = [of("cache-hit"), of("fetch"), of("verify"), of("materialize")];
    ensure!(kinds == [1, 1, 1, 1], "{kinds:?} in {second:#?}");
    let before = events(&sandbox, 0)?.len();
    sandbox.mvmctl(["pull", &images[2]]).run()?.ok()?;
    ensure_eq!(requests(&three)?, [0, 0]);
    let third = events(&sandbox, before)?;
    ensure!(third.iter().all(|entry| entry["event"]["kind"] != "fetch"), "{third:#?}");
    ensure_eq!(sandbox.image_files()?.len(), 2);
    sandbox.mvmctl(["image", "verify", "--all"]).run()?.ok()?;
    // Each of them is what it would be alone.
    let alone = Sandbox::new()?;
    alone.mvmctl(["pull", &images[1]]).run()?.ok()?;
    let name = alone.image_file()?.file_name().map(PathBuf::from);
    ensure!(
        sandbox.image_files()?.iter().any(|file| file.file_name().map(PathBuf::from) == name),
        "{name:?}"
    );
    Ok(())
}

/// A file system in a file, mounted; both go when this is dropped.
struct FileSystem {
    at: PathBuf,
}

impl FileSystem {
    fn new(kind: &str, directory: &Path, at: &Path) -> Result<Self, libtest_mimic::Failed> {
        let file = directory.join("disk");
        fs::File::create(&file)?.set_len(600 << 20)?;
        Program::new(format!("mkfs.{kind}")).arg("-q").arg(&file).run()?.ok()?;
        fs::create_dir(at)?;
        Program::new("mount").args(["-o", "loop"]).arg(&file).arg(at).run()?.ok()?;
        fs::set_permissions(at, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        Ok(Self { at: at.to_owned() })
    }

    /// Returns the bytes in use, once all that was written is on the disk.
    fn used(&self) -> Result<u64, libtest_mimic::Failed> {
        Program::new("sync").arg("-f").arg(&self.at).run()?.ok()?;
        let stat = rustix::fs::statvfs(&self.at)?;
        Ok((stat.f_blocks - stat.f_bfree) * stat.f_frsize)
    }
}

impl Drop for FileSystem {
    fn drop(&mut self) {
        if !Program::new("umount").arg(&self.at).run().is_ok_and(|output| output.status.success()) {
            eprintln!("warning: cannot unmount {}", self.at.display());
        }
    }
}

fn kept_once(kind: &str) -> Outcome {
    let sandbox = Sandbox::new()?;
    let disk = FileSystem::new(kind, sandbox.path(), &sandbox.store())?;
    let place = |name: &str| sandbox.path().join(name);
    for (name, own) in [("one", 2), ("two", 3), ("three", 4)] {
        layout(&place(name), &[(1, BASE, Compression::Gzip), (own, OWN, Compression::Gzip)])?;
    }
    let pull = |name: &str| sandbox.mvmctl(["pull", &format!("oci:{}:latest", place(name).display())]).run();
    pull("one")?.ok()?;
    let mut used = disk.used()?;
    let mut known = sandbox.image_files()?;
    for name in ["two", "three"] {
        pull(name)?.ok()?;
        let image =
            sandbox.image_files()?.into_iter().find(|file| !known.contains(file)).ok_or("no image")?;
        // The own layer is there as a segment, and its blocks are shared with the image; the rest is metadata.
        let now = disk.used()?;
        let more = now.saturating_sub(used);
        ensure!(more < (OWN * 2) as u64, "{name} takes {more} bytes more");
        ensure!(more >= OWN as u64, "{name} takes only {more} bytes more");
        let shared = shared_bytes(&image)?;
        ensure!(shared >= BASE as u64, "{name} shares {shared} bytes only");
        used = now;
        known.push(image);
    }
    sandbox.mvmctl(["image", "verify", "--all"]).run()?.ok()?;
    // What the others share goes with the last of them.
    for name in ["one", "two"] {
        let image = format!("oci:{}:latest", place(name).display());
        sandbox.mvmctl(["image", "rm", &image]).run()?.ok()?;
    }
    sandbox.mvmctl(["gc"]).run()?.ok()?;
    sandbox.mvmctl(["image", "verify", "--all"]).run()?.ok()?;
    ensure_eq!(sandbox.image_files()?.len(), 1);
    drop(disk);
    Ok(())
}

/// Returns how many bytes of a file share their blocks with other files, as the file system tells.
fn shared_bytes(file: &Path) -> Result<u64, libtest_mimic::Failed> {
    let text = Program::new("filefrag").args(["-v", "-b4096"]).arg(file).run()?.ok()?.out();
    // ext: logical_offset: physical_offset: length: expected: flags:
    let shared = text.lines().filter(|line| line.contains("shared")).filter_map(|line| {
        let fields: Vec<&str> = line.split(':').map(str::trim).collect();
        fields.get(3)?.parse::<u64>().ok()
    });
    Ok(shared.sum::<u64>() * 4096)
}
