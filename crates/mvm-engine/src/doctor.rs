//! What this machine has and lacks, why that matters, and the command that mends it.

use crate::settings::Settings;
use mvm_launch::exec::find_program;
use mvm_store::Store;
use rustix::fs::{Access, access};
use serde::Serialize;
use std::path::Path;

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// Whether it is as it should be.
    pub ok: bool,
    /// Whether `run` can't do without it.
    pub required: bool,
    /// What was found.
    pub found: String,
    /// Why it matters.
    pub why: &'static str,
    /// The command that mends it.
    pub remedy: String,
}

/// Looks at everything, whatever fails.
pub fn doctor(settings: &Settings) -> Vec<Check> {
    let mut checks = vec![
        program(
            settings,
            "qemu-system-x86_64",
            "every VM runs in it",
            "apt-get install --no-install-recommends qemu-system-x86",
        ),
        program(
            settings,
            "mke2fs",
            "the disk that takes a VM's writes is formatted with it",
            "apt-get install e2fsprogs",
        ),
        kvm(&settings.kvm),
    ];
    checks.extend(store(settings));
    checks
}

fn program(settings: &Settings, name: &'static str, why: &'static str, remedy: &str) -> Check {
    let found = find_program(name, &settings.program_path);
    Check {
        name,
        ok: found.is_ok(),
        required: true,
        found: found.map_or_else(|error| error.to_string(), |path| path.display().to_string()),
        why,
        remedy: remedy.to_owned(),
    }
}

/// Says only whether the device can be opened; whether it runs guests is probed with the kernel at first launch.
fn kvm(device: &Path) -> Check {
    let exists = device.exists();
    let opens = access(device, Access::READ_OK | Access::WRITE_OK).is_ok();
    let (found, remedy) = match (exists, opens) {
        (true, true) => (format!("{} can be opened; it is probed at the first launch", device.display()), ""),
        (true, false) => (
            format!("{} exists, but this user may not open it", device.display()),
            "usermod -aG kvm \"$USER\", then log in again",
        ),
        (false, _) => (
            format!("{} does not exist", device.display()),
            "enable virtualisation in the firmware, or nested virtualisation in the hypervisor, and load kvm_intel or kvm_amd",
        ),
    };
    Check {
        name: "KVM",
        ok: opens,
        required: false,
        found,
        why: "without it VMs are emulated: slower, and no security boundary",
        remedy: remedy.to_owned(),
    }
}

fn store(settings: &Settings) -> Vec<Check> {
    let opened = Store::open(&settings.root);
    let root = settings.root.display();
    let mut checks = vec![Check {
        name: "store",
        ok: opened.is_ok(),
        required: true,
        found: opened.as_ref().map_or_else(|error| crate::error::chain(error), |_| root.to_string()),
        why: "images, kernels, keys and the audit log live there",
        remedy: format!("make {root} a directory that this user owns, or choose another one with --root"),
    }];
    let Ok(store) = opened else { return checks };
    let kernel = store.default_kernel();
    let found = match &kernel {
        Ok(Some(kernel)) => kernel.digest().to_string(),
        Ok(None) => "none imported".to_owned(),
        Err(error) => error.to_string(),
    };
    checks.push(Check {
        name: "kernel",
        ok: matches!(kernel, Ok(Some(_))),
        required: true,
        found,
        why: "VMs boot it",
        remedy: "mvmctl kernel build, or mvmctl kernel import on an unpacked kernel package".to_owned(),
    });
    checks
}
