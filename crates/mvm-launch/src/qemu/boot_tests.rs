//! Machines that really run: Debian's cloud kernel with busybox as the guest.

use super::*;
use crate::confinement::Host;
use crate::cpio::Archive;
use crate::document::tests::{admitted, plan};
use crate::initramfs;
use crate::kernel::{BootMachine, ImportedKernel, KernelFormat, import_package};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::io::{BufRead, BufReader, Read, Write};
use std::time::Duration;

/// What `/init` does: loads modules, tells what it sees, answers a line on the agent's port, ends as it is told.
const GUEST: &str = "#!/bin/busybox sh
b=/bin/busybox
$b mkdir -p /proc /sys
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
if $b grep -q mvm.probe /proc/cmdline; then
    echo mvm-probe-ok
    $b reboot -f
fi
while read module; do $b insmod $module || echo \"insmod $module failed\"; done </lib/modules/mvm.order
until [ -e /dev/vport0p1 ]; do :; done
exec 3<>/dev/vport0p1
echo \"name $($b cat /sys/class/virtio-ports/vport0p1/name)\" >&3
for disk in /sys/block/vd*; do echo \"disk $($b cat $disk/serial) $($b cat $disk/ro) $($b cat $disk/size)\" >&3; done
echo \"cpus $($b nproc)\" >&3
echo console is up
while read word <&3; do
    case $word in
    write)
        $b mkdir -p /scratch
        $b mount -t ext4 /dev/vdb /scratch && echo written by the guest >/scratch/note && $b umount /scratch
        echo \"ended $?\" >&3 ;;
    damage) echo x 2>/dev/null >/dev/vda || echo refused >&3 ;;
    flood) $b yes 0123456789abcdef | $b head -c 300000; echo flooded >&3 ;;
    pour) $b dd if=/dev/zero bs=65536 count=64 2>/dev/null >&3 ;;
    esac
done
$b sync
$b reboot -f
";

struct Guest {
    qemu: Qemu,
    kernel: ImportedKernel,
    initramfs: Vec<u8>,
    directory: tempfile::TempDir,
}

fn guest(test: &str) -> Option<Guest> {
    guest_with(test, |package| import_package(package, None).unwrap())
}

/// Prepares a guest, or says what is missing.
fn guest_with(test: &str, import: impl Fn(&Path) -> ImportedKernel) -> Option<Guest> {
    let skip = |what: String| {
        eprintln!("SKIP {test}: {what}");
        None
    };
    let qemu = match Qemu::find(OsStr::new("")) {
        Ok(qemu) => qemu,
        Err(error) => return skip(error.to_string()),
    };
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/packages/linux-image-cloud-amd64");
    if !package.exists() {
        return skip("Debian's cloud kernel is not in .cache (setup/setup test)".to_owned());
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|path| std::fs::read(path).ok());
    let Some(busybox) = busybox else {
        return skip("busybox is not installed (apt-get install busybox-static)".to_owned());
    };
    let kernel = import(&package.canonicalize().unwrap());
    let mut programs = Archive::new();
    programs.directory("bin", 0o755).unwrap();
    programs.file("bin/busybox", 0o755, &busybox).unwrap();
    let archives =
        [initramfs::base(GUEST.as_bytes()), initramfs::modules(&kernel.modules), programs.finish()];
    let initramfs = archives.concat();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("kernel"), &kernel.image).unwrap();
    std::fs::write(directory.path().join("initrd"), &initramfs).unwrap();
    std::fs::write(directory.path().join("root"), vec![b'r'; 20_480]).unwrap();
    if let Err(error) = crate::make_blank(OsStr::new(""), &directory.path().join("scratch"), 64) {
        return skip(error.to_string());
    }
    Some(Guest { qemu, kernel, initramfs, directory })
}

impl Guest {
    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn launch(&self) -> Launched {
        let disk = |name: &str, read_only| Disk {
            path: self.file(name),
            serial: name.to_owned(),
            read_only,
            durable: false,
            held: None,
        };
        let mut two = plan();
        two.resources.cpus = 2;
        let config = MachineConfig {
            plan: &admitted(two),
            kernel: &self.file("kernel"),
            kernel_info: &self.kernel.info,
            initrd: &self.file("initrd"),
            disks: &[disk("root", true), disk("scratch", false)],
            network: None,
            shared: None,
            accelerator: Accelerator::Tcg,
        };
        let confinement = Host::look(Path::new("/dev/kvm")).reserve().unwrap();
        let launched = self.qemu.launch(&config, confinement).unwrap();
        launched.agent.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        launched
    }
}

/// Reads lines from the agent's pipe; a guest that does not boot fails the test with its console.
fn lines(reader: &mut impl BufRead, count: usize, launched: &mut (Machine, OwnedFd)) -> Vec<String> {
    let mut lines = Vec::new();
    for _ in 0..count {
        let mut line = String::new();
        if !matches!(reader.read_line(&mut line), Ok(1..)) {
            let (machine, console) = launched;
            panic!("the guest did not answer: {} {}", machine.stderr(), read_all(console));
        }
        lines.push(line.trim_end().to_owned());
    }
    lines
}

/// Reads what is in the console's pipe.
fn read_all(console: &OwnedFd) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 65536];
    while let Ok(count @ 1..) = rustix::io::read(console, &mut buffer) {
        text.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn a_machine_boots_talks_and_ends() {
    let Some(guest) = guest("a_machine_boots_talks_and_ends") else { return };
    assert_eq!(guest.kernel.info.format, KernelFormat::Elf);
    assert_eq!(guest.kernel.info.machine, BootMachine::MicrovmAcpi);
    let Launched { machine, agent, console, .. } = guest.launch();
    let mut rest = (machine, console);
    let mut answers = BufReader::new(agent.try_clone().unwrap());
    let say = |word: &str| (&agent).write_all(word.as_bytes()).unwrap();
    // Said before the guest has opened its end, so nothing may be lost.
    say("write\n");
    let seen = lines(&mut answers, 5, &mut rest);
    // The disks' order is the machine's business.
    assert_eq!(seen[0], "name mvm.agent");
    assert!(seen[1..3].contains(&"disk root 1 40".to_owned()), "{seen:?}");
    assert!(seen[1..3].contains(&"disk scratch 0 131072".to_owned()), "{seen:?}");
    assert_eq!(seen[3..], ["cpus 2", "ended 0"]);
    say("damage\n");
    assert_eq!(lines(&mut answers, 1, &mut rest), ["refused"]);
    let printed = read_all(&rest.1);
    assert!(printed.contains("console is up"), "{printed}");
    assert!(!printed.contains("insmod"), "{printed}");

    // The guest reads an end of file when this side hangs up, and reboots.
    drop((agent, answers));
    let (mut machine, _console) = rest;
    assert_eq!(machine.wait().unwrap().code(), Some(0));
    assert_eq!(machine.stderr(), "");
    assert_eq!(std::fs::read(guest.file("root")).unwrap(), vec![b'r'; 20_480]);
    let debugfs = find_program("debugfs", OsStr::new("")).unwrap();
    let limits = crate::exec::Limits { time: Duration::from_secs(60), output: 4096 };
    let note =
        Invocation::new(debugfs).args(["-R", "cat /note"]).arg(guest.file("scratch")).run(limits).unwrap();
    assert_eq!(String::from_utf8_lossy(&note.stdout), "written by the guest\n");
}

#[test]
fn a_pipe_that_is_read_late_loses_nothing() {
    let Some(guest) = guest("a_pipe_that_is_read_late_loses_nothing") else { return };
    let Launched { machine, agent, console, .. } = guest.launch();
    let mut rest = (machine, console);
    let mut answers = BufReader::new(agent.try_clone().unwrap());
    (&agent).write_all(b"pour\nflood\n").unwrap();
    lines(&mut answers, 4, &mut rest);
    // 4 MiB, far more than fits between the guest and this side.
    let mut received = 0;
    let mut buffer = vec![0; 100_000];
    while received < 4 << 20 {
        let wanted = buffer.len().min((4 << 20) - received);
        answers.read_exact(&mut buffer[..wanted]).unwrap();
        assert!(buffer[..wanted].iter().all(|byte| *byte == 0));
        received += wanted;
    }
    // 300 kB, more than the console's pipe holds: the guest waits until it is read.
    let mut printed = String::new();
    while printed.matches("0123456789abcdef\r\n").count() < 300_000 / 17 {
        let mut readable = [PollFd::new(&rest.1, PollFlags::IN)];
        rustix::event::poll(&mut readable, Some(&Timespec { tv_sec: 60, tv_nsec: 0 })).unwrap();
        let more = read_all(&rest.1);
        assert!(!more.is_empty(), "the console stalled: {}", rest.0.stderr());
        printed.push_str(&more);
    }
    assert_eq!(lines(&mut answers, 1, &mut rest), ["flooded"]);
    let (mut machine, _console) = rest;
    machine.kill().unwrap();
    assert!(!machine.wait().unwrap().success());
}

#[test]
fn a_kernel_without_virtio_mmio_boots_with_pci() {
    // The same package, with a configuration that denies the faster bus.
    let without_mmio = |package: &Path| {
        let copy = tempfile::tempdir().unwrap();
        std::fs::create_dir(copy.path().join("boot")).unwrap();
        std::os::unix::fs::symlink(package.join("lib"), copy.path().join("lib")).unwrap();
        for entry in std::fs::read_dir(package.join("boot")).unwrap() {
            let (from, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
            let to = copy.path().join("boot").join(&name);
            if name.to_string_lossy().starts_with("config-") {
                let text = std::fs::read_to_string(from).unwrap();
                std::fs::write(to, text.replace("CONFIG_VIRTIO_MMIO=m", "")).unwrap();
            } else {
                std::os::unix::fs::symlink(from, to).unwrap();
            }
        }
        import_package(copy.path(), None).unwrap()
    };
    let Some(guest) = guest_with("a_kernel_without_virtio_mmio_boots_with_pci", without_mmio) else { return };
    assert_eq!(guest.kernel.info.machine, BootMachine::Q35);
    let Launched { machine, agent, console, .. } = guest.launch();
    let mut rest = (machine, console);
    let seen = lines(&mut BufReader::new(agent), 3, &mut rest);
    assert_eq!(seen, ["name mvm.agent", "disk root 1 40", "disk scratch 0 131072"]);
}

#[test]
fn what_qemu_says_before_it_fails_is_kept() {
    let Some(guest) = guest("what_qemu_says_before_it_fails_is_kept") else { return };
    std::fs::write(guest.file("kernel"), b"no kernel").unwrap();
    let Launched { mut machine, mut agent, .. } = guest.launch();
    assert!(!machine.wait().unwrap().success());
    assert!(machine.stderr().contains("kernel"), "{}", machine.stderr());
    assert!(matches!(agent.read(&mut [0; 1]), Ok(0) | Err(_)), "the pipe has ended");
}

/// The probe's guest, emulated: whether KVM works differs between hosts.
#[test]
fn the_probes_guest_answers() {
    let Some(guest) = guest("the_probes_guest_answers") else { return };
    let limit = Duration::from_secs(120);
    let kernel = guest.file("kernel");
    let run = |initramfs: &[u8]| {
        let (qemu, info, device) = (&guest.qemu, &guest.kernel.info, Path::new("/dev/kvm"));
        probe::run(qemu, Accelerator::Tcg, device, &kernel, info, initramfs, limit).unwrap()
    };
    assert_eq!(run(&guest.initramfs), Probe { usable: true, reason: "a guest ran".to_owned() });
    // Without an /init the kernel gives up, and says other things.
    let reason = "a guest ended before it could speak".to_owned();
    assert_eq!(run(b""), Probe { usable: false, reason });
}
