use super::*;
use crate::engine::tests::{Fixture, fixture};
use crate::error::ErrorKind;
use mvm_plan::plan::{
    FileSystem, Initramfs, Network, Plan, Posture, Process, RequiredIsolation, Resources, Root, Schema,
    Scratch, Source, Validity,
};

#[test]
fn the_newest_source_is_found_by_its_version() {
    let table: [(&[&str], &str); 6] = [
        (&["linux-source-6.1.tar.xz"], "linux-source-6.1.tar.xz"),
        (&["linux-source-6.9.tar.xz", "linux-source-6.12.tar.xz"], "linux-source-6.12.tar.xz"),
        (&["linux-source-5.10.tar.xz", "linux-source-6.1.tar.xz"], "linux-source-6.1.tar.xz"),
        (&["linux-source-6.1.tar.xz", "linux-source-6.1.90.tar.xz"], "linux-source-6.1.90.tar.xz"),
        (&["linux-source-6.1.9.tar.xz", "linux-source-6.1.10.tar.xz"], "linux-source-6.1.10.tar.xz"),
        (
            &[
                "linux-source-6.1.tar.xz",
                "linux-source-9.tar.bz2",
                "linux-9.tar.xz",
                "linux-source-7",
                "linux-config-8.xz",
            ],
            "linux-source-6.1.tar.xz",
        ),
    ];
    for (names, newest) in table {
        let directory = tempfile::tempdir().unwrap();
        for name in names {
            fs::write(directory.path().join(name), b"").unwrap();
        }
        assert_eq!(newest_source(directory.path()).unwrap(), directory.path().join(newest), "{names:?}");
    }
    let directory = tempfile::tempdir().unwrap();
    for place in [directory.path().to_owned(), directory.path().join("absent")] {
        let error = newest_source(&place).unwrap_err();
        assert_eq!(error.to_string(), format!("no linux-source-*.tar.xz is in {}", place.display()));
        assert_eq!(error.kind(), ErrorKind::Missing);
    }
}

#[test]
fn a_configuration_is_looked_for_beside_the_kernel() {
    let directory = tempfile::tempdir().unwrap();
    let kernel = directory.path().join("vmlinux");
    assert_eq!(config_beside(&kernel), directory.path().join("config"));
    fs::write(directory.path().join(".config"), b"").unwrap();
    assert_eq!(config_beside(&kernel), directory.path().join(".config"));
    fs::write(directory.path().join("config"), b"").unwrap();
    assert_eq!(config_beside(&kernel), directory.path().join("config"));
    assert_eq!(config_beside(Path::new("vmlinux")), Path::new("config"));
}

#[test]
fn a_kernel_is_chosen_by_its_digest_or_by_default() {
    let fixture = fixture();
    assert!(matches!(fixture.engine.choose_kernel(None), Err(EngineError::NoKernel)));
    let old = fixture.kernel("6.1.0");
    let new = fixture.kernel("6.12.0");
    let chosen = |asked: Option<&str>| fixture.engine.choose_kernel(asked).unwrap().digest();
    assert_eq!(chosen(None), new);
    assert_eq!(chosen(Some(&old.hex()[..8])), old);
    assert_eq!(chosen(Some(&old.to_string())), old);
    assert_eq!(fixture.engine.set_default_kernel(&old.hex()).unwrap(), old);
    assert_eq!(chosen(None), old);
    let listings = fixture.engine.kernels().unwrap();
    let mut listed: Vec<_> = listings
        .iter()
        .map(|kernel| (kernel.version.as_str(), kernel.machine.as_str(), kernel.default))
        .collect();
    listed.sort_unstable();
    assert_eq!(listed, [("6.1.0", "microvm", true), ("6.12.0", "microvm", false)]);

    for asked in ["ffffffff", "", "nosuch"] {
        let error = fixture.engine.choose_kernel(Some(asked)).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Usage), "{asked}: {error:?}");
    }
    let error = fixture.engine.remove_kernel(&old.hex()[..8]).unwrap_err();
    assert!(matches!(error, EngineError::DefaultKernel(digest) if digest == old), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    // One that is not the default, then the only one.
    assert_eq!(fixture.engine.remove_kernel(&new.hex()[..8]).unwrap(), new);
    assert_eq!(fixture.engine.remove_kernel(&old.hex()[..8]).unwrap(), old);
    assert_eq!(fixture.engine.remove_kernel(&old.hex()).unwrap_err().kind(), ErrorKind::NotFound);
    let deleted = |digest| Event::Delete { subject: Subject::Kernel { digest } };
    let chosen = Event::Set {
        subject: Subject::Kernel { digest: old },
        setting: "default".to_owned(),
        value: "true".to_owned(),
    };
    assert_eq!(fixture.events(), [chosen, deleted(new), deleted(old)]);
}

#[test]
fn what_is_no_kernel_is_not_imported() {
    let fixture = fixture();
    let path = fixture.path("vmlinux");
    let import = |path: &Path| fixture.engine.import_kernel(path, None, false).unwrap_err();
    let read = |path: &Path| format!("read {}", path.display());
    assert_eq!(import(&path).to_string(), read(&path));
    fs::write(&path, b"#!/bin/sh\n").unwrap();
    assert_eq!(import(&path).to_string(), read(&fixture.path("config")));
    fs::write(fixture.path("config"), b"CONFIG_X86_64=y\n").unwrap();
    assert_eq!(import(&path).to_string(), format!("import the kernel {}", path.display()));
    let empty = fixture.path("empty");
    fs::create_dir(&empty).unwrap();
    assert_eq!(import(&empty).to_string(), format!("import the kernel {}", empty.display()));
    assert!(fixture.engine.kernels().unwrap().is_empty());
}

#[test]
fn an_initramfs_is_the_same_bytes_each_time() {
    let fixture = fixture();
    fixture.kernel("6.1.0");
    let kernel = fixture.engine.choose_kernel(None).unwrap();
    let archive = fixture.engine.base_initramfs(&kernel).unwrap();
    assert!(archive.windows(19).any(|bytes| bytes == fixture.engine.settings.guest));
    assert_eq!(fixture.engine.base_initramfs(&kernel).unwrap(), archive);
}

#[test]
fn what_a_probe_of_kvm_found_is_remembered_and_said_once() {
    let fixture = fixture();
    fixture.program("qemu-system-x86_64", "exit 1");
    fixture.kernel("6.1.0");
    let kernel = fixture.engine.choose_kernel(None).unwrap();
    let info = fixture.engine.kernel_info(&kernel).unwrap();
    let qemu = Qemu::find(&fixture.engine.settings.program_path).unwrap();
    let ask = || fixture.engine.accelerator(&qemu, &kernel, &info, b"").unwrap();
    let (accelerator, notice) = ask();
    assert_eq!(accelerator, Accelerator::Tcg);
    let device = fixture.engine.settings.kvm.display();
    let expected = format!(
        "no usable KVM (cannot open {device}: No such file or directory (os error 2)); emulating, which is slower and \
         no security boundary"
    );
    assert_eq!(notice, Some(expected));
    assert_eq!(ask(), (Accelerator::Tcg, None));

    // A record that was cut short is made anew.
    let cache = fixture.engine.settings.root.join("cache");
    for entry in fs::read_dir(&cache).unwrap() {
        fs::write(entry.unwrap().path(), b"{").unwrap();
    }
    assert!(ask().1.is_some());
    assert_eq!(ask(), (Accelerator::Tcg, None));
}

#[test]
fn a_blank_that_is_none_is_made_anew() {
    let fixture = fixture();
    if !crate::engine::tests::has("mke2fs", "e2fsprogs") {
        return;
    }
    let cache = fixture.engine.settings.root.join("cache");
    let blank = cache.join("blank-16.img");
    let copies = ["fresh", "cached", "damaged", "pipe"].map(|name| fixture.path(name));
    let make = |path: &Path| fixture.engine.make_scratch(path, 16).unwrap();
    make(&copies[0]);
    make(&copies[1]);
    fs::write(&blank, b"no disk").unwrap();
    make(&copies[2]);
    fs::remove_file(&blank).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &blank, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    make(&copies[3]);
    let fresh = fs::read(&copies[0]).unwrap();
    for copy in &copies[1..] {
        assert!(fs::read(copy).unwrap() == fresh, "{}", copy.display());
    }
}

/// Makes the directory of a VM whose plan names a kernel; this process counts as its supervisor.
fn vm_with(fixture: &Fixture, kernel: Digest) -> vm::VmDirectory {
    let engine = &fixture.engine;
    let digest = Digest::of(b"any");
    let now = crate::clock::unix_seconds();
    let plan = Plan {
        schema: Schema::V1,
        workload: "web".parse().unwrap(),
        scope: engine.settings.scope.clone(),
        posture: Posture::Compatible,
        source: Source::Oci {
            requested: "debian:12".parse().unwrap(),
            manifest: digest,
            config: digest,
            platform: mvm_ref::Platform::host(),
            mutable_tag: true,
        },
        root: Root {
            root_hash: digest,
            generation: 1,
            data_blocks: 2,
            hash_start: 8192,
            size: 16384,
            fs: FileSystem::Erofs,
        },
        kernel: mvm_plan::plan::Kernel { digest: kernel, version: "6.1.0".to_owned(), record: None },
        initramfs: Initramfs { digest },
        process: Some(Process {
            argv: vec!["/hello".to_owned()],
            env: vec![],
            working_dir: "/".to_owned(),
            user: String::new(),
            stop_signal: "SIGTERM".parse().unwrap(),
            tty: false,
            stdin: false,
        }),
        services: Vec::new(),
        health_checks: Vec::new(),
        users: Vec::new(),
        service_group: None,
        writable_store: None,
        mounts: Vec::new(),
        secrets: Vec::new(),
        hostname: "web".to_owned(),
        resources: Resources { cpus: 1, memory_mib: 256, scratch_mib: 64, scratch: Scratch::Disk },
        network: Network::None,
        ports: Vec::new(),
        isolation: RequiredIsolation::Any,
        validity: Validity { not_before: now - 60, not_after: now + 600 },
        single_use: false,
    };
    let local = engine.key_store().local().unwrap();
    let signed = mvm_plan::sign(plan, &[&local]).unwrap();
    let record = vm::Record {
        name: "web".parse().unwrap(),
        scope: engine.settings.scope.clone(),
        image: "debian:12".to_owned(),
        root_hash: digest,
        plan: signed.digest(),
        policy: vec![],
        command: vec![],
        created_at: now,
        remove_at_end: false,
        secrets: Vec::new(),
        restart: crate::vm::RestartPolicy::No,
        project: None,
        generation: 1,
    };
    let directory = engine.vms.create(&record).unwrap();
    fs::write(directory.file(vm::PLAN), signed.as_bytes()).unwrap();
    directory
}

#[test]
fn a_kernel_that_a_vm_uses_is_not_removed() {
    let fixture = fixture();
    let kernel = fixture.kernel("6.1.0");
    let directory = vm_with(&fixture, kernel);
    let error = fixture.engine.remove_kernel(&kernel.hex()).unwrap_err();
    assert_eq!(error.to_string(), format!("kernel {kernel} is used by web"));
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let mut state = directory.state().unwrap();
    state.phase = Phase::Exited;
    directory.write_state(&state).unwrap();
    assert_eq!(fixture.engine.remove_kernel(&kernel.hex()).unwrap(), kernel);
}
