//! QEMU's argument vector for a machine.

use crate::backend::Accelerator;
use crate::kernel::{BootMachine, KernelInfo};
use crate::network::GUEST_MAC;
use serde_json::json;
use std::ffi::OsString;
use std::path::Path;

/// The name of the virtio-serial port that the agent serves.
const AGENT_PORT: &str = "mvm.agent";

/// How many virtio devices the machine has room for without ACPI; with it there are 24.
const PLAIN_SLOTS: usize = 8;

/// The emulated processor. The plainest model runs fastest under emulation; what is added to it is what programs
/// built for x86-64-v2 need, and an instruction for random numbers, without which the guest waits for entropy.
const TCG_CPU: &str = "qemu64,+cx16,+lahf_lm,+popcnt,+rdrand,+sse4.1,+sse4.2,+ssse3";

/// Everything that decides the argument vector.
pub(super) struct Hardware<'a> {
    /// What lists of processes show: letters, digits and `-_.`.
    pub name: &'a str,
    pub cpus: u32,
    pub memory_mib: u32,
    pub kernel: &'a Path,
    pub kernel_info: &'a KernelInfo,
    pub initrd: &'a Path,
    pub disks: &'a [AttachedDisk<'a>],
    pub directories: &'a [AttachedDirectory<'a>],
    /// The descriptor of the agent's pipe, if the machine has an agent.
    pub agent: Option<i32>,
    /// Where the console goes.
    pub console: Console,
    /// The descriptor of the network's link, if the machine has a network.
    pub network: Option<i32>,
    pub accelerator: Accelerator,
    /// The frequency of the guest's time stamp counter, if it is known.
    pub tsc_khz: Option<u32>,
    /// Further words for the kernel's command line.
    pub parameters: &'a [&'a str],
}

/// Where a machine's console goes.
pub(super) enum Console {
    /// To a connected socket, by its descriptor.
    Socket(i32),
    /// To QEMU's standard output.
    Stdout,
}

/// A disk whose file is open.
pub(super) struct AttachedDisk<'a> {
    pub serial: &'a str,
    pub read_only: bool,
    /// Whether what the guest flushes reaches the host's disk.
    pub durable: bool,
    pub descriptor: i32,
}

/// A directory of the host, and the socket by which it is served.
pub(super) struct AttachedDirectory<'a> {
    pub tag: &'a str,
    pub descriptor: i32,
}

impl Hardware<'_> {
    /// Returns the arguments after the program's name.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
        // Nothing that a distribution or a user has configured, and nothing that was not asked for.
        add(&["-no-user-config", "-nodefaults", "-display", "none", "-nic", "none", "-no-reboot"]);
        add(&["-name", self.name]);
        add(&["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]);
        add(&["-machine", &self.machine()]);
        let (accelerator, cpu) = match self.accelerator {
            Accelerator::Kvm => ("kvm", "host"),
            Accelerator::Tcg => ("tcg,thread=multi", TCG_CPU),
        };
        add(&["-accel", accelerator, "-cpu", cpu]);
        add(&["-smp", &self.cpus.to_string(), "-m", &format!("{}M", self.memory_mib)]);
        if !self.directories.is_empty() {
            add(&["-object", &format!("memory-backend-memfd,id=memory,share=on,size={}M", self.memory_mib)]);
        }
        add(&["-append", &self.command_line()]);
        let console = match self.console {
            Console::Socket(descriptor) => format!("socket,id=console,fd={descriptor}"),
            Console::Stdout => "stdio,id=console,signal=off".to_owned(),
        };
        add(&["-chardev", &console, "-serial", "chardev:console"]);
        let bus = if self.kernel_info.machine == BootMachine::Q35 { "pci" } else { "device" };
        if let Some(agent) = self.agent {
            // Port 0 is a console's; the agent's is the first after it.
            add(&["-device", &format!("virtio-serial-{bus},max_ports=2")]);
            add(&["-chardev", &format!("socket,id=agent,fd={agent}")]);
            add(&["-device", &format!("virtserialport,chardev=agent,name={AGENT_PORT}")]);
        }
        if let Some(network) = self.network {
            add(&["-netdev", &format!("dgram,id=net,local.type=fd,local.str={network}")]);
            // On PCI it would bring a program to boot from the network.
            let boot = if bus == "pci" { ",romfile=" } else { "" };
            let mac = GUEST_MAC.map(|byte| format!("{byte:02x}")).join(":");
            add(&["-device", &format!("virtio-net-{bus},netdev=net,mac={mac}{boot}")]);
        }
        for (index, disk) in self.disks.iter().enumerate() {
            add(&["-add-fd", &format!("fd={},set={index}", disk.descriptor)]);
            add(&["-blockdev", &disk.node(index)]);
            // The guest is told of errors: QEMU would rather pause it, unseen, when the host's disk is full.
            let on_error = "werror=report,rerror=report";
            let serial = disk.serial;
            add(&["-device", &format!("virtio-blk-{bus},drive=disk{index},serial={serial},{on_error}")]);
        }
        for (index, directory) in self.directories.iter().enumerate() {
            add(&["-chardev", &format!("socket,id=directory{index},fd={}", directory.descriptor)]);
            let tag = directory.tag;
            add(&["-device", &format!("vhost-user-fs-{bus},chardev=directory{index},tag={tag}")]);
        }
        for (option, path) in [("-kernel", self.kernel), ("-initrd", self.initrd)] {
            arguments.extend([OsString::from(option), path.as_os_str().to_owned()]);
        }
        arguments
    }

    fn machine(&self) -> String {
        let machine = match self.kernel_info.machine {
            // Handing over ACPI tables takes the firmware a quarter of a second under emulation, but a second processor
            // is found by nothing else, and neither are more than a few devices.
            BootMachine::Microvm if self.cpus == 1 && self.devices() <= PLAIN_SLOTS => {
                "microvm,acpi=off,isa-serial=on"
            }
            BootMachine::Microvm | BootMachine::MicrovmAcpi => "microvm,acpi=on,isa-serial=on",
            BootMachine::Q35 => "q35,sata=off,smbus=off,vmport=off",
        };
        let memory = if self.directories.is_empty() { "" } else { ",memory-backend=memory" };
        format!("{machine}{memory}")
    }

    /// Returns how many virtio devices there are at most.
    fn devices(&self) -> usize {
        // The agent's port and the network interface.
        self.disks.len() + self.directories.len() + 2
    }

    fn command_line(&self) -> String {
        // A guest ends its machine by resetting the processor, which needs neither ACPI nor a keyboard controller.
        // Testing every cipher at each boot would cost a third of it under emulation.
        let mut words = vec![
            "console=ttyS0".to_owned(),
            "quiet".to_owned(),
            "panic=-1".to_owned(),
            "reboot=t".to_owned(),
            "random.trust_cpu=on".to_owned(),
            "cryptomgr.notests".to_owned(),
        ];
        if self.accelerator == Accelerator::Tcg {
            // Emulated vector instructions make this implementation slower than the plain one.
            words.push("initcall_blacklist=sha256_ssse3_mod_init".to_owned());
        }
        if let Some(khz) = self.tsc_khz {
            // Without these the kernel may wait for ever for a timer to calibrate against.
            words.extend([format!("tsc_early_khz={khz}"), "tsc=reliable".to_owned()]);
        }
        words.extend(self.parameters.iter().map(|word| (*word).to_owned()));
        words.join(" ")
    }
}

impl AttachedDisk<'_> {
    /// Returns the block node's description. The format is named, so that a guest cannot make QEMU guess another one
    /// from what it writes to the disk's start.
    fn node(&self, index: usize) -> String {
        // A writable disk that ends with its machine has nothing that has to survive a power cut.
        let cache = json!({ "direct": false, "no-flush": !self.read_only && !self.durable });
        json!({
            "driver": "raw",
            "node-name": format!("disk{index}"),
            "read-only": self.read_only,
            "discard": "unmap",
            "cache": cache,
            "file": {
                "driver": "file",
                "filename": format!("/dev/fdset/{index}"),
                "read-only": self.read_only,
                "discard": "unmap",
                "cache": cache,
            },
        })
        .to_string()
    }
}
