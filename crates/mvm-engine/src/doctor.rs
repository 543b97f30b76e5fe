//! What this machine has and lacks, why that matters, and the command that mends it.

mod confinement;

use crate::error::chain;
use crate::kernels::known_probe;
use crate::settings::Settings;
use mvm_launch::exec::find_program;
use mvm_launch::{Probe, Virtiofsd};
use mvm_store::{Kernel, KernelError, Store, StoreError};
use rustix::fs::{Access, access};
use serde::Serialize;
use std::fs::Metadata;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
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
        Check {
            required: false,
            ..program(
                settings,
                "slirp4netns",
                "guests have no network without it; --network none and forwarded ports work",
                "apt-get install --no-install-recommends slirp4netns",
            )
        },
        virtiofsd(settings),
    ];
    let store = Store::open_to_look(&settings.root);
    let kernel = match &store {
        Ok(Some(store)) => store.default_kernel(),
        _ => Ok(None),
    };
    let probe =
        kernel.as_ref().ok().and_then(Option::as_ref).and_then(|kernel| known_probe(settings, kernel));
    checks.push(kvm(&settings.kvm, probe));
    checks.push(store_check(&settings.root, store.as_ref()));
    if store.is_ok() {
        checks.push(kernel_check(&kernel));
    }
    checks.push(name_server(Path::new("/etc/resolv.conf")));
    checks.extend(confinement::checks(&settings.kvm));
    checks
}

/// Says whom guests ask for names: the first IPv4 server of a resolv.conf(5), on the loopback or elsewhere.
fn name_server(file: &Path) -> Check {
    let text = std::fs::read_to_string(file);
    let server = text.as_ref().ok().and_then(|text| {
        let servers =
            text.lines().filter_map(|line| line.strip_prefix("nameserver")?.split_whitespace().next());
        servers.filter_map(|server| server.parse::<Ipv4Addr>().ok()).next()
    });
    Check {
        name: "name server",
        ok: server.is_some(),
        required: false,
        found: match (server, text) {
            (Some(server), _) => server.to_string(),
            (None, Ok(_)) => format!("{} names no IPv4 server", file.display()),
            (None, Err(error)) => format!("read {}: {error}", file.display()),
        },
        why: "guests find no names without it, but those that --egress lists",
        remedy: "run a resolver on 127.0.0.1, or name an IPv4 one, in /etc/resolv.conf".to_owned(),
    }
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

fn virtiofsd(settings: &Settings) -> Check {
    let found = Virtiofsd::find(&settings.program_path);
    Check {
        name: "virtiofsd",
        ok: found.is_ok(),
        required: false,
        found: match found {
            Ok(found) => found.program().display().to_string(),
            Err(error) => chain(&error),
        },
        why: "directories of the host are not shared without it; volumes and mvmctl cp work",
        remedy: "apt-get install virtiofsd (Debian 13), or cargo install virtiofsd".to_owned(),
    }
}

/// Says what a probe found, or if there was none only whether the device can be opened: guests are first tried at launch.
fn kvm(device: &Path, probe: Option<Probe>) -> Check {
    const DRIVER: &str = "enable virtualisation in the firmware, or nested virtualisation in the hypervisor, and load kvm_intel or kvm_amd";
    let shown = device.display();
    let (ok, found, remedy) = match device.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            (false, format!("{shown} does not exist"), DRIVER)
        }
        Err(error) => (false, format!("inspect {shown}: {error}"), DRIVER),
        Ok(meta) if !meta.file_type().is_char_device() => {
            (false, format!("{shown} is not a character device"), DRIVER)
        }
        // Started by root, a hypervisor runs as a user of its own.
        Ok(meta) if rustix::process::geteuid().is_root() && !for_others(&meta) => (
            false,
            format!("{shown} can be opened by root only, and hypervisors don't run as root"),
            "chgrp kvm /dev/kvm && chmod 660 /dev/kvm",
        ),
        Ok(_) => match (probe, access(device, Access::READ_OK | Access::WRITE_OK)) {
            (_, Err(error)) => (
                false,
                format!("{shown} exists, but this user may not open it: {error}"),
                "usermod -aG kvm \"$USER\", then log in again",
            ),
            (Some(Probe { usable: true, .. }), Ok(())) => (true, format!("{shown} runs guests"), ""),
            (Some(Probe { usable: false, reason }), Ok(())) => {
                (false, format!("{shown} does not run guests: {reason}"), DRIVER)
            }
            (None, Ok(())) => (
                true,
                format!("{shown} can be opened; whether it runs guests is tried at the first launch"),
                "",
            ),
        },
    };
    Check {
        name: "KVM",
        ok,
        required: false,
        found,
        why: "without it VMs are emulated: slower, and no security boundary",
        remedy: remedy.to_owned(),
    }
}

/// Says whether a device may be read and written by everyone, or by a group that is not root's.
fn for_others(meta: &Metadata) -> bool {
    let mode = meta.mode();
    mode & 0o006 == 0o006 || (mode & 0o060 == 0o060 && meta.gid() != 0)
}

fn store_check(root: &Path, store: Result<&Option<Store>, &StoreError>) -> Check {
    let shown = root.display();
    let (ok, found) = match store {
        Ok(Some(_)) => (true, shown.to_string()),
        Ok(None) => match parent_that_exists(root) {
            Some(parent) if access(parent, Access::WRITE_OK | Access::EXEC_OK).is_err() => {
                (false, format!("{shown} can't be created: this user may not write to {}", parent.display()))
            }
            Some(parent) if !parent.is_dir() => {
                (false, format!("{shown} can't be created: {} is not a directory", parent.display()))
            }
            _ => (true, format!("{shown} would be created")),
        },
        Err(error) => (false, crate::error::chain(error)),
    };
    Check {
        name: "store",
        ok,
        required: true,
        found,
        why: "images, kernels, keys and the audit log live there",
        remedy: format!("make {shown} a directory that this user owns, or choose another one with --root"),
    }
}

/// Returns a path itself if there is something, else what it would be made in.
fn parent_that_exists(path: &Path) -> Option<&Path> {
    path.ancestors().find(|path| path.symlink_metadata().is_ok())
}

fn kernel_check(kernel: &Result<Option<Kernel>, KernelError>) -> Check {
    let found = match kernel {
        Ok(Some(kernel)) => kernel.digest().to_string(),
        Ok(None) => "none imported".to_owned(),
        Err(error) => crate::error::chain(error),
    };
    Check {
        name: "kernel",
        ok: matches!(kernel, Ok(Some(_))),
        required: true,
        found,
        why: "VMs boot it",
        remedy: "mvmctl kernel build, or mvmctl kernel import on an unpacked kernel package".to_owned(),
    }
}

#[cfg(test)]
mod tests;
