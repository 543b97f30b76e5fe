//! The guest document of a plan.

use crate::network::{GATEWAY, GUEST, MTU, PREFIX_LENGTH, RESOLVER};
use mvm_plan::plan::{self, FileSystem, Network, Scratch};
use mvm_plan::{AdmittedPlan, Plan};
use mvm_wire::document::mounts::{Address, Interface, Mount, MountSource};
use mvm_wire::document::services::{Group, HealthCheck, Limits, Restart, Service, User};
use mvm_wire::document::{HashAlgorithm, Schema};
use mvm_wire::{Filesystem, GuestDocument, Hex, Overlay, Process, Root, Verity};

/// The serial of the disk that holds the root image.
pub const ROOT_SERIAL: &str = "root";

/// The serial of the disk that takes what the guest writes over its root.
pub const SCRATCH_SERIAL: &str = "scratch";

/// The name of the document's main process.
pub const MAIN_PROCESS: &str = "main";

/// The name of the document's one root, which its process runs in.
pub const ROOT: &str = "root";

/// The block size of images, in bytes.
const BLOCK: u32 = 4096;

/// Returns what the guest is to mount and run: a pure function of the plan and of `salt`, the dm-verity salt that the
/// plan's image generation fixes.
pub fn guest_document(plan: &AdmittedPlan, salt: &[u8]) -> GuestDocument {
    document(plan.plan(), salt)
}

fn document(plan: &Plan, salt: &[u8]) -> GuestDocument {
    let overlay = match plan.resources.scratch {
        Scratch::Disk => Overlay::Disk { serial: SCRATCH_SERIAL.to_owned() },
        Scratch::Tmpfs => {
            Overlay::Tmpfs { size_mib: u32::try_from(plan.resources.scratch_mib).unwrap_or(u32::MAX) }
        }
        Scratch::None => Overlay::None {},
    };
    let root = Root {
        name: ROOT.to_owned(),
        disk: ROOT_SERIAL.to_owned(),
        filesystem: filesystem(plan.root.fs),
        verity: verity(&plan.root, salt),
        overlay,
    };
    GuestDocument {
        schema: Schema::V1,
        hostname: plan.hostname.clone(),
        roots: vec![root],
        processes: plan.process.iter().map(|main| process(MAIN_PROCESS, main)).collect(),
        services: plan.services.iter().map(service).collect(),
        health_checks: plan.health_checks.iter().map(health_check).collect(),
        users: plan.users.iter().map(user).collect(),
        service_group: service_group(plan),
        writable_store: plan.writable_store.as_ref().map(|package| format!("{package}/bin/nix-store")),
        mounts: plan
            .mounts
            .iter()
            .enumerate()
            .map(|(index, described)| mount(index, described, (plan.is_overlay(described), salt)))
            .collect(),
        secrets: plan.secrets.iter().map(ToString::to_string).collect(),
        interface: interface(&plan.network),
    }
}

/// Returns the guest's end of its link, which is the same for every guest.
fn interface(network: &Network) -> Option<Interface> {
    match network {
        Network::None => None,
        Network::User { .. } => Some(Interface {
            name: "eth0".to_owned(),
            addresses: vec![Address { address: GUEST.into(), prefix: PREFIX_LENGTH }],
            gateways: vec![GATEWAY.into()],
            resolvers: vec![RESOLVER.into()],
            hosts: Vec::new(),
            mtu: Some(MTU.into()),
        }),
    }
}

/// Returns the serial of the disk that holds the volume of a plan's mount, by the mount's index.
pub fn volume_serial(mount: usize) -> String {
    format!("volume-{mount}")
}

/// Returns the serial of the disk that holds the image of a plan's mount, by the mount's index.
pub fn image_serial(mount: usize) -> String {
    format!("image-{mount}")
}

/// Returns the tag of the device that shares the directory of a plan's mount, by the mount's index.
pub fn directory_tag(mount: usize) -> String {
    format!("directory-{mount}")
}

fn process(name: &str, process: &plan::Process) -> Process {
    Process {
        name: name.to_owned(),
        root: ROOT.to_owned(),
        argv: process.argv.clone(),
        env: process.env.clone(),
        working_dir: process.working_dir.clone(),
        user: process.user.clone(),
        stop_signal: process.stop_signal.number(),
        terminal: process.tty,
    }
}

fn service(service: &plan::Service) -> Service {
    let plan::ServiceLimits { memory_mib, pids, cpu_percent } = service.limits;
    Service {
        process: process(service.name.as_str(), &service.process),
        pre_start: service.pre_start.clone(),
        after: service.after.iter().map(ToString::to_string).collect(),
        restart: match service.restart {
            plan::Restart::Always => Restart::Always,
            plan::Restart::OnFailure => Restart::OnFailure,
            plan::Restart::Never => Restart::Never,
        },
        log_file: service.log_file.clone(),
        stop_grace_ms: milliseconds(service.stop_grace_secs),
        limits: Limits { memory_mib, pids, cpu_percent },
    }
}

fn health_check(check: &plan::HealthCheck) -> HealthCheck {
    HealthCheck {
        process: process(check.name.as_str(), &check.process),
        service: check.service.as_ref().map(ToString::to_string),
        interval_ms: milliseconds(check.interval_secs),
        timeout_ms: milliseconds(check.timeout_secs),
        start_period_ms: milliseconds(check.start_period_secs),
        retries: check.retries,
    }
}

fn user(user: &plan::User) -> User {
    User { name: user.name.to_string(), uid: user.uid, group: group(&user.group), home: user.home.clone() }
}

fn group(group: &plan::Group) -> Group {
    Group { name: group.name.to_string(), gid: group.gid }
}

/// Returns the group of services and secrets, where there are any.
fn service_group(plan: &Plan) -> Option<Group> {
    let wanted = plan.service_group.is_some() || !plan.services.is_empty() || !plan.secrets.is_empty();
    wanted.then(|| plan.service_group.as_ref().map_or_else(|| group(&plan::Group::service()), group))
}

fn filesystem(fs: FileSystem) -> Filesystem {
    match fs {
        FileSystem::Erofs => Filesystem::Erofs,
    }
}

fn verity(root: &plan::Root, salt: &[u8]) -> Verity {
    Verity {
        root_hash: Hex::new(*root.root_hash.as_bytes()),
        salt: Hex::new(salt),
        data_blocks: root.data_blocks,
        hash_start_block: root.hash_start / u64::from(BLOCK),
        algorithm: HashAlgorithm::Sha256,
        block_size: BLOCK,
    }
}

fn mount(index: usize, mount: &plan::Mount, (is_overlay, salt): (bool, &[u8])) -> Mount {
    Mount {
        target: mount.target.clone(),
        source: match &mount.source {
            plan::MountSource::Volume { .. } if is_overlay => {
                MountSource::Overlay { serial: volume_serial(index) }
            }
            plan::MountSource::Volume { .. } => MountSource::Volume { serial: volume_serial(index) },
            plan::MountSource::HostDirectory { .. } => {
                MountSource::HostDirectory { tag: directory_tag(index) }
            }
            plan::MountSource::Tmpfs { size_mib } => MountSource::Tmpfs { size_mib: *size_mib },
            plan::MountSource::Image { root } => MountSource::Image {
                serial: image_serial(index),
                filesystem: filesystem(root.fs),
                verity: verity(root, salt),
            },
        },
        read_only: mount.read_only,
    }
}

fn milliseconds(seconds: u32) -> u64 {
    u64::from(seconds) * 1000
}

#[cfg(test)]
pub(crate) mod tests;
