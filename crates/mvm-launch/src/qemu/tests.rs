use super::arguments::Hardware;
use super::*;
use crate::confinement::Host;
use crate::document::tests::{admitted, plan};
use crate::kernel::{BootMachine, KernelFormat, KernelSchema};

fn open_to_all(path: &Path) {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
}

fn info(machine: BootMachine) -> KernelInfo {
    KernelInfo {
        schema: KernelSchema::V1,
        version: "6.1.0".to_owned(),
        format: KernelFormat::Elf,
        machine,
        load_end: 62 << 20,
        modules: vec![],
    }
}

fn arguments(cpus: u32, machine: BootMachine, accelerator: Accelerator, tsc_khz: Option<u32>) -> Vec<String> {
    arguments_sharing(cpus, machine, (accelerator, tsc_khz), &[])
}

fn arguments_sharing(
    cpus: u32,
    machine: BootMachine,
    (accelerator, tsc_khz): (Accelerator, Option<u32>),
    directories: &[AttachedDirectory<'_>],
) -> Vec<String> {
    let disks = [
        AttachedDisk { serial: "root", read_only: true, durable: false, descriptor: 10 },
        AttachedDisk { serial: "scratch", read_only: false, durable: false, descriptor: 11 },
    ];
    let hardware = Hardware {
        name: "web",
        cpus,
        memory_mib: 512,
        kernel: Path::new("/k,1/kernel"),
        kernel_info: &info(machine),
        initrd: Path::new("/v/initrd"),
        disks: &disks,
        directories,
        agent: Some(12),
        console: Console::Socket(13),
        network: None,
        accelerator,
        tsc_khz,
        parameters: &[],
    };
    hardware.arguments().into_iter().map(|argument| argument.into_string().unwrap()).collect()
}

#[test]
fn the_argument_vector_under_emulation() {
    let got = arguments(1, BootMachine::Microvm, Accelerator::Tcg, Some(2_596_138));
    let root = r#"{"cache":{"direct":false,"no-flush":false},"discard":"unmap","driver":"raw","file":{"cache":{"direct":false,"no-flush":false},"discard":"unmap","driver":"file","filename":"/dev/fdset/0","read-only":true},"node-name":"disk0","read-only":true}"#;
    let scratch = r#"{"cache":{"direct":false,"no-flush":true},"discard":"unmap","driver":"raw","file":{"cache":{"direct":false,"no-flush":true},"discard":"unmap","driver":"file","filename":"/dev/fdset/1","read-only":false},"node-name":"disk1","read-only":false}"#;
    let append = "console=ttyS0 quiet panic=-1 reboot=t random.trust_cpu=on cryptomgr.notests \
                  initcall_blacklist=sha256_ssse3_mod_init tsc_early_khz=2596138 tsc=reliable";
    let expected = [
        "-no-user-config",
        "-nodefaults",
        "-display",
        "none",
        "-nic",
        "none",
        "-no-reboot",
        "-name",
        "web",
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-machine",
        "microvm,acpi=off,isa-serial=on",
        "-accel",
        "tcg,thread=multi",
        "-cpu",
        "qemu64,+cx16,+lahf_lm,+popcnt,+rdrand,+sse4.1,+sse4.2,+ssse3",
        "-smp",
        "1",
        "-m",
        "512M",
        "-append",
        append,
        "-chardev",
        "socket,id=console,fd=13",
        "-serial",
        "chardev:console",
        "-device",
        "virtio-serial-device,max_ports=2",
        "-chardev",
        "socket,id=agent,fd=12",
        "-device",
        "virtserialport,chardev=agent,name=mvm.agent",
        "-add-fd",
        "fd=10,set=0",
        "-blockdev",
        root,
        "-device",
        "virtio-blk-device,drive=disk0,serial=root,werror=report,rerror=report",
        "-add-fd",
        "fd=11,set=1",
        "-blockdev",
        scratch,
        "-device",
        "virtio-blk-device,drive=disk1,serial=scratch,werror=report,rerror=report",
        "-kernel",
        "/k,1/kernel",
        "-initrd",
        "/v/initrd",
    ];
    assert_eq!(got, expected);
}

#[test]
fn what_the_machine_and_the_accelerator_change() {
    let base = arguments(1, BootMachine::Microvm, Accelerator::Tcg, Some(1));
    let change = |cpus, machine, accelerator, khz| -> Vec<String> {
        let got = arguments(cpus, machine, accelerator, khz);
        assert_eq!(got.len(), base.len());
        got.into_iter().zip(&base).filter(|(got, base)| got != *base).map(|(got, _)| got).collect()
    };
    let two = change(2, BootMachine::Microvm, Accelerator::Tcg, Some(1));
    assert_eq!(two, ["microvm,acpi=on,isa-serial=on", "2"]);
    assert_eq!(
        change(1, BootMachine::MicrovmAcpi, Accelerator::Tcg, Some(1)),
        ["microvm,acpi=on,isa-serial=on"]
    );
    assert_eq!(
        change(1, BootMachine::Q35, Accelerator::Tcg, Some(1)),
        [
            "q35,sata=off,smbus=off,vmport=off",
            "virtio-serial-pci,max_ports=2",
            "virtio-blk-pci,drive=disk0,serial=root,werror=report,rerror=report",
            "virtio-blk-pci,drive=disk1,serial=scratch,werror=report,rerror=report",
        ]
    );
    assert_eq!(
        change(1, BootMachine::Microvm, Accelerator::Kvm, None),
        ["kvm", "host", "console=ttyS0 quiet panic=-1 reboot=t random.trust_cpu=on cryptomgr.notests",]
    );
}

#[test]
fn directories_of_the_host_take_memory_that_is_shared() {
    let directories = [("a", 14), ("b", 15)].map(|(tag, descriptor)| AttachedDirectory { tag, descriptor });
    for (machine, expected, device) in [
        (
            BootMachine::Microvm,
            "microvm,acpi=off,isa-serial=on,memory-backend=memory",
            "vhost-user-fs-device",
        ),
        (BootMachine::Q35, "q35,sata=off,smbus=off,vmport=off,memory-backend=memory", "vhost-user-fs-pci"),
    ] {
        let plain = arguments(1, machine, Accelerator::Tcg, None);
        let got = arguments_sharing(1, machine, (Accelerator::Tcg, None), &directories);
        let added: Vec<&str> = got.iter().filter(|word| !plain.contains(word)).map(String::as_str).collect();
        assert_eq!(
            added,
            [
                expected,
                "-object",
                "memory-backend-memfd,id=memory,share=on,size=512M",
                "socket,id=directory0,fd=14",
                &format!("{device},chardev=directory0,tag=a"),
                "socket,id=directory1,fd=15",
                &format!("{device},chardev=directory1,tag=b"),
            ]
        );
    }
}

#[test]
fn memory_that_cannot_boot_is_refused() {
    let kernel = info(BootMachine::Microvm);
    assert_eq!(needed_memory(&kernel, 3 << 20), 92);
    check_memory(&kernel, 3 << 20, 92).unwrap();
    let error = check_memory(&kernel, 3 << 20, 64).unwrap_err();
    let expected = "64 MiB of memory are too little for kernel 6.1.0; it needs at least 92 MiB";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn what_does_not_fit_the_plan_is_refused_before_anything_starts() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("initrd"), b"").unwrap();
    std::fs::write(path("kernel"), b"").unwrap();
    std::fs::write(path("root"), vec![0; 20_480]).unwrap();
    std::fs::write(path("short"), vec![0; 4096]).unwrap();
    let plan = admitted(plan());
    let kernel_info = info(BootMachine::Microvm);
    let qemu = Qemu { program: PathBuf::from("/no/such/qemu") };
    let launch = |disks: &[(&str, &str)], accelerator| {
        let disks: Vec<Disk> = disks
            .iter()
            .map(|(file, serial)| Disk {
                path: path(file),
                serial: (*serial).to_owned(),
                read_only: true,
                durable: false,
                held: None,
            })
            .collect();
        let config = MachineConfig {
            plan: &plan,
            kernel: &path("kernel"),
            kernel_info: &kernel_info,
            initrd: &path("initrd"),
            disks: &disks,
            network: None,
            shared: None,
            accelerator,
        };
        let confinement = Host::look(Path::new("/dev/kvm")).reserve().unwrap();
        qemu.launch(&config, confinement).unwrap_err().to_string()
    };
    let place = directory.path().display();
    let cases = [
        (vec![], Accelerator::Kvm, "plan is admitted for isolation emulated, but kvm gives kvm".to_owned()),
        (
            vec![("root", "a,b")],
            Accelerator::Tcg,
            "disk serial \"a,b\" is not 1 to 20 letters, digits, '-', '_' or '.'".to_owned(),
        ),
        (
            vec![("root", "root"), ("root", "root")],
            Accelerator::Tcg,
            "two disks have the serial \"root\"".to_owned(),
        ),
        (
            vec![("short", "root")],
            Accelerator::Tcg,
            format!("root image {place}/short has 4096 bytes; the plan says 20480"),
        ),
        (vec![("none", "scratch")], Accelerator::Tcg, format!("cannot open {place}/none")),
        (vec![("root", "root")], Accelerator::Tcg, "cannot start /no/such/qemu".to_owned()),
    ];
    for (disks, accelerator, message) in cases {
        assert_eq!(launch(&disks, accelerator), message);
    }
}

#[test]
fn a_frequency_is_plausible() {
    if let Some(khz) = tsc::frequency_khz() {
        assert!((100_000..20_000_000).contains(&khz), "{khz}");
    }
}

#[test]
fn without_a_device_or_a_working_one_kvm_is_not_usable() {
    let directory = tempfile::tempdir().unwrap();
    // A hypervisor that has a user of its own must reach its program.
    open_to_all(directory.path());
    let qemu = Qemu { program: PathBuf::from("/bin/false") };
    let probe = |device: &Path| {
        let kernel = info(BootMachine::Microvm);
        let limit = std::time::Duration::from_secs(5);
        probe_kvm(&qemu, device, Path::new("/dev/null"), &kernel, b"", limit).unwrap()
    };
    let absent = directory.path().join("kvm");
    let refused = |reason: String| Probe { usable: false, reason };
    let reason = format!("cannot open {}: No such file or directory (os error 2)", absent.display());
    assert_eq!(probe(&absent), refused(reason));
    std::fs::write(&absent, b"").unwrap();
    open_to_all(&absent);
    assert_eq!(probe(&absent), refused("QEMU ended with exit status: 1".to_owned()));
    let cases = [
        ("", 60, "a guest ended before it could speak"),
        ("echo booting; echo mvm-probe-ok", 60, "a guest ran"),
        ("kill -STOP $$", 1, "a guest did not run within 1 s"),
        ("echo mvm-probe-ok; kill -STOP $$", 5, "a guest spoke, but could not end within 5 s"),
        ("echo KVM internal error >&2; exit 1", 60, "QEMU ended with exit status: 1: KVM internal error"),
        ("while :; do echo 0123456789abcdef; done", 60, "a guest flooded its console"),
    ];
    for (script, seconds, reason) in cases {
        let (text, program) = (directory.path().join("text"), directory.path().join("qemu"));
        std::fs::write(&text, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&text, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        // Another process writes it: a program that is open for writing here, or in a child just forked by another
        // test, cannot be started.
        let limits = crate::exec::Limits { time: std::time::Duration::from_secs(60), output: 0 };
        Invocation::new("/bin/cp").arg(&text).arg(&program).run(limits).unwrap().success().unwrap();
        let kernel = info(BootMachine::Microvm);
        let limit = std::time::Duration::from_secs(seconds);
        let zero = Path::new("/dev/null");
        let answer = probe_kvm(&Qemu { program }, &absent, zero, &kernel, b"", limit).unwrap();
        assert_eq!(answer, Probe { usable: reason == "a guest ran", reason: reason.to_owned() });
    }
}

#[test]
fn a_probes_key_follows_what_it_depends_on() {
    let directory = tempfile::tempdir().unwrap();
    let device = directory.path().join("kvm");
    let kernel = |byte| mvm_ref::Digest::from_sha256([byte; 32]);
    let qemu = Qemu { program: PathBuf::from("/bin/true") };
    let key = |qemu: &Qemu, byte| probe_key(qemu, &device, kernel(byte)).unwrap();
    let first = key(&qemu, 1);
    assert_eq!(first, key(&qemu, 1));
    assert_ne!(first, key(&qemu, 2));
    assert_ne!(first, key(&Qemu { program: PathBuf::from("/bin/false") }, 1));
    std::fs::write(&device, b"").unwrap();
    assert_ne!(first, key(&qemu, 1));
}
