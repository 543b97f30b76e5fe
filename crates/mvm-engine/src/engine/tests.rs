//! A store in a directory of its own, and images and a kernel for it that are made here.

use super::*;
use crate::progress::{Cancel, Silent};
use crate::pull::Pulled;
use mvm_launch::exec::{Invocation, Limits};
use mvm_launch::kernel::{BootMachine, KernelFormat, KernelInfo, KernelSchema};
use mvm_plan::audit::{Entry, Event};
use mvm_ref::{Digest, ImageSource, Platform, ScopeName};
use mvm_store::NewKernel;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) struct Fixture {
    pub engine: Engine,
    pub directory: tempfile::TempDir,
}

/// Opens a new store. There is no KVM, no program but those of the system, and no credentials.
pub(crate) fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings {
        root: directory.path().join("store"),
        scope: ScopeName::default(),
        guest: b"the guest's program",
        flake_library: crate::flake::FlakeLibrary::new(&[
            ("flake.nix", b"{ outputs = { self }: { }; }"),
            ("templates/static/flake.nix", b"{ }"),
        ]),
        program: PathBuf::from("/bin/false"),
        program_path: directory.path().join("bin").into_os_string(),
        auth_files: Vec::new(),
        login_file: None,
        helper_environment: Default::default(),
        network: mvm_fetch::FetchConfig::default(),
        unpack: None,
        kvm: directory.path().join("kvm"),
    };
    Fixture { engine: Engine::open(settings).unwrap(), directory }
}

impl Fixture {
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes an OCI layout of one image, whose one layer holds the file `hello` with `text`.
    pub fn layout(&self, name: &str, text: &str, config: &Value) -> ImageSource {
        self.layout_for(name, text, config, "amd64")
    }

    pub fn layout_for(&self, name: &str, text: &str, config: &Value, architecture: &str) -> ImageSource {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, "hello", text.as_bytes()).unwrap();
        self.layout_of(name, &[archive.into_inner().unwrap()], config, architecture)
    }

    /// Writes an OCI layout of one image with these layers, lowest first, which are archives.
    pub fn layout_of(
        &self,
        name: &str,
        layers: &[Vec<u8>],
        config: &Value,
        architecture: &str,
    ) -> ImageSource {
        let layout = self.path(name);
        fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
        let blob = |media: &str, bytes: &[u8]| {
            let digest = Digest::of(bytes);
            fs::write(layout.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
            json!({"mediaType": format!("application/vnd.oci.image.{media}"), "digest": digest, "size": bytes.len()})
        };
        let image = json!({
            "architecture": architecture,
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|layer| Digest::of(layer)).collect::<Vec<_>>()},
        });
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": blob("config.v1+json", image.to_string().as_bytes()),
            "layers": layers.iter().map(|layer| blob("layer.v1.tar", layer)).collect::<Vec<_>>(),
        });
        let manifest = blob("manifest.v1+json", manifest.to_string().as_bytes());
        fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let index = json!({"schemaVersion": 2, "manifests": [manifest]});
        fs::write(layout.join("index.json"), index.to_string()).unwrap();
        format!("oci:{}", layout.display()).parse().unwrap()
    }

    pub fn pull(&self, source: &ImageSource) -> Pulled {
        self.engine.pull(source, &Platform::host(), &Silent, &Cancel::default()).unwrap()
    }

    /// Stores a kernel that no machine boots, of the size of a small one.
    pub fn kernel(&self, version: &str) -> Digest {
        let info = KernelInfo {
            schema: KernelSchema::V1,
            version: version.to_owned(),
            format: KernelFormat::Elf,
            machine: BootMachine::Microvm,
            load_end: 62 << 20,
            modules: vec![],
        };
        let image = format!("kernel {version}").into_bytes();
        let digest = Digest::of(&image);
        let info = serde_json::to_vec(&info).unwrap();
        let new = NewKernel { digest, image: &image, modules: None, info: &info };
        self.engine.store.put_kernel(&new).unwrap();
        self.engine.store.set_default_kernel(&digest).unwrap();
        digest
    }

    /// What the audit log tells of, in its order, but for its own checkpoints.
    pub fn events(&self) -> Vec<Event> {
        let log = self.engine.audit_tail(usize::MAX).unwrap();
        let lines = log.split_inclusive(|&byte| byte == b'\n');
        let events = lines.map(|line| Entry::parse(line).unwrap().event);
        events.filter(|event| !matches!(event, Event::Checkpoint { .. })).collect()
    }

    /// Makes a program of the directory that is searched first.
    pub fn program(&self, name: &str, script: &str) -> PathBuf {
        let bin = self.path("bin");
        fs::create_dir_all(&bin).unwrap();
        let (text, program) = (self.path("text"), bin.join(name));
        fs::write(&text, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&text, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        // Another process writes it: a program that is open for writing here, or in a child just forked by another
        // test, cannot be started.
        let limits = Limits { time: Duration::from_secs(60), output: 0 };
        Invocation::new("/bin/cp").arg(text).arg(&program).run(limits).unwrap().success().unwrap();
        // A hypervisor that has a user of its own must reach its program.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(self.directory.path(), open).unwrap();
        program
    }
}

/// Returns whether the system has a program, and says so if it hasn't.
pub(crate) fn has(program: &str, package: &str) -> bool {
    let found = mvm_launch::exec::find_program(program, std::ffi::OsStr::new("")).is_ok();
    if !found {
        eprintln!("skipped: {program} is missing; apt-get install {package}");
    }
    found
}

#[test]
fn a_new_store_is_empty() {
    let Fixture { engine, directory } = fixture();
    assert!(engine.images().unwrap().is_empty());
    assert!(engine.vms().unwrap().0.is_empty());
    assert!(engine.kernels().unwrap().is_empty());
    assert_eq!(engine.audit_tail(10).unwrap(), b"");
    assert_eq!(engine.audit_verify().unwrap().entries, 0);
    let report = engine.collect_garbage(false, None).unwrap();
    assert!(report.removed.is_empty(), "{report:?}");
    assert!(!directory.path().join("store/keys/local.pem").exists(), "nothing needed a key");
}

#[test]
fn a_place_that_is_no_store_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("thesis.txt"), "a year's work").unwrap();
    let settings = Settings { root: directory.path().to_owned(), ..fixture().engine.settings };
    let error = Engine::open(settings).unwrap_err();
    assert!(error.to_string().contains("is not a store and not empty"), "{error}");
    assert_eq!(names(directory.path()), ["thesis.txt"]);
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
