//! `mvmctl vm inspect`.

use crate::context::Context;
use crate::printer::span;
use mvm_engine::{GuestNetwork, MountSource, SecretSource, VmDetails};
use mvm_ref::VmName;
use std::fmt::Write as _;

/// Shows all that is known of a VM.
pub fn run(context: &Context, name: &VmName, json: bool) -> anyhow::Result<()> {
    let details = context.engine_of_existing()?.inspect_vm(name)?;
    if json {
        return context.printer.json(&details);
    }
    Ok(context.printer.data(text(&details, mvm_engine::unix_seconds())?)?)
}

/// Says which plan it is, and which there were before.
fn generations(vm: &VmDetails) -> String {
    let before: Vec<String> = vm
        .generations
        .iter()
        .map(|before| format!("{} (root hash {})", before.generation, before.root_hash.short()))
        .collect();
    format!("{}, before it {}", vm.generation, before.join(", "))
}

fn text(vm: &VmDetails, now: i64) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let ago = |at: Option<i64>| at.map(|at| format!("{} ago", span(now - at)));
    let resources = vm.resources;
    let rows = [
        ("name", Some(vm.name.to_string())),
        ("state", Some(vm.phase.to_string())),
        ("message", vm.message.clone()),
        ("exit code", vm.exit_code.map(|code| code.to_string())),
        ("created", ago(Some(vm.created_at))),
        ("started", ago(vm.started_at)),
        ("ended", ago(vm.finished_at)),
        ("scope", Some(vm.scope.to_string())),
        ("image", Some(vm.image.clone())),
        ("root hash", Some(vm.root_hash.to_string())),
        ("plan", Some(vm.plan.to_string())),
        ("policies", (!vm.policy.is_empty()).then(|| vm.policy.join(" + "))),
        ("admitted by", vm.admitted_under.clone()),
        ("generation", (vm.generation > 1).then(|| generations(vm))),
        ("command", Some(vm.command.join(" "))),
        (
            "resources",
            Some(format!(
                "{} CPUs, {} MiB of memory, {} MiB for writes",
                resources.cpus, resources.memory_mib, resources.scratch_mib
            )),
        ),
        ("kernel", Some(vm.kernel.to_string())),
        ("isolation", vm.isolation.clone()),
        ("supervisor", vm.supervisor_pid.map(|pid| format!("process {pid}"))),
        ("hypervisor", vm.hypervisor_pid.map(|pid| format!("process {pid}"))),
    ];
    for (name, value) in rows {
        if let Some(value) = value {
            writeln!(text, "{:<13}{}", format!("{name}:"), printable(&value))?;
        }
    }
    for (index, port) in vm.ports.iter().enumerate() {
        let heading = if index == 0 { "ports:" } else { "" };
        writeln!(text, "{heading:<13}{port}")?;
    }
    network(&mut text, &vm.network)?;
    if let Some(helper) = &vm.network_helper {
        writeln!(text, "{:<13}slirp4netns: {}", "helper:", printable(helper))?;
    }
    for (index, mount) in vm.mounts.iter().enumerate() {
        let heading = if index == 0 { "mounts:" } else { "" };
        let source = match &mount.source {
            MountSource::Volume { name } => format!("volume {name}"),
            MountSource::HostDirectory { path } => format!("directory {path}"),
            MountSource::Tmpfs { size_mib } => format!("{size_mib} MiB of memory"),
            MountSource::Image { root } => format!("image {}", root.root_hash),
        };
        let how = if mount.read_only { ", read-only" } else { "" };
        writeln!(text, "{heading:<13}{}: {source}{how}", printable(&mount.target))?;
    }
    for (index, secret) in vm.secrets.iter().enumerate() {
        let heading = if index == 0 { "secrets:" } else { "" };
        let from = match &secret.source {
            SecretSource::File { path } => printable(&path.display().to_string()),
            SecretSource::Environment { variable } => format!("variable {}", printable(variable)),
            SecretSource::Stdin => "standard input".to_owned(),
        };
        writeln!(text, "{heading:<13}{} from {from}", secret.name)?;
    }
    for (index, held) in vm.confinement.iter().enumerate() {
        let heading = if index == 0 { "confinement:" } else { "" };
        let state = if held.active { "yes" } else { "no" };
        let rank = if held.mandatory { "mandatory" } else { "best effort" };
        writeln!(
            text,
            "{heading:<13}{:<21}{state:<4}{rank:<12}{}",
            held.measure.to_string(),
            printable(&held.detail)
        )?;
    }
    Ok(text)
}

/// Tells what the guest may reach.
fn network(text: &mut String, network: &GuestNetwork) -> std::fmt::Result {
    let (egress, host) = match network {
        GuestNetwork::None => return writeln!(text, "{:<13}none", "network:"),
        GuestNetwork::User { egress, host } => (egress, host),
    };
    let all = if egress.is_none() { "user: all but this machine" } else { "user: only what is listed" };
    writeln!(text, "{:<13}{all}", "network:")?;
    for rule in egress.iter().flatten().chain(host) {
        let port = rule.port.map_or_else(|| "all ports".to_owned(), |port| format!("port {port}"));
        let addresses: Vec<String> = rule.addresses.iter().map(ToString::to_string).collect();
        writeln!(text, "{:<13}{} ({}), {port}", "", printable(&rule.host), addresses.join(", "))?;
    }
    Ok(())
}

/// Takes the meaning from what would move a terminal's cursor: commands and names of images come from outside.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
