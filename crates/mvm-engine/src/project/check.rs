//! What the VMs of a project must not do to each other.

use super::mistakes::Span;
use super::model::{Until, VmDefinition};
use super::reader::{Reading, suggestion};
use super::services::circle;
use super::vm::Read;
use mvm_plan::plan::{MountSource, Port};
use mvm_ref::{VmName, VolumeName};

/// Compares the VMs with each other and puts them into the order in which they start. `known` are the names of all VMs,
/// also of those that could not be read.
pub(super) fn order_and_compare(
    vms: Vec<Read<'_>>,
    known: &[&str],
    reading: &mut Reading<'_>,
) -> Vec<VmDefinition> {
    compare_ports(&vms, reading);
    compare_volumes(&vms, reading);
    for vm in &vms {
        for (span, other) in &vm.after {
            if !known.contains(other) {
                let message = format!("there is no VM `{}` in this file", other.escape_debug());
                reading.mistake_with(*span, message, suggestion(other, known));
            }
        }
        healthy_without_checks(vm, &vms, reading);
    }
    let names: Vec<&str> = vms.iter().map(|vm| vm.definition.key.as_str()).collect();
    let edges: Vec<(&str, &str)> = vms
        .iter()
        .flat_map(|vm| vm.after.iter().map(|(_, other)| (vm.definition.key.as_str(), *other)))
        .collect();
    if let Some(circle) = circle(&names, &edges) {
        let after = vms.iter().find(|vm| vm.definition.key.as_str() == circle[0]);
        let after = after.and_then(|vm| vm.after.iter().find(|(_, other)| *other == circle[1]));
        let span = after.map_or_else(Span::default, |(span, _)| *span);
        reading.mistake(span, format!("VMs start after each other in a circle: {}", circle.join(" → ")));
        return Vec::new();
    }
    in_order(vms.into_iter().map(|vm| vm.definition).collect())
}

/// Refuses to wait for the health of a VM that can't have any but by its image.
fn healthy_without_checks(vm: &Read<'_>, vms: &[Read<'_>], reading: &mut Reading<'_>) {
    for (after, (span, _)) in vm.definition.after.iter().zip(&vm.after) {
        let other = vms.iter().find(|other| other.definition.key == after.vm);
        // A VM that runs its image's own command may have the health check of its image.
        let none = |other: &&Read<'_>| other.definition.health_checks.is_empty() && !other.definition.main;
        if after.until == Until::Healthy && other.is_some_and(|other| none(&other)) {
            let message = format!("VM `{}` has no health check to wait for", after.vm);
            reading.mistake_with(*span, message, Some(format!("write [vm.{}.health.NAME]", after.vm)));
        }
    }
}

fn compare_ports(vms: &[Read<'_>], reading: &mut Reading<'_>) {
    let mut taken: Vec<(&VmName, Port)> = Vec::new();
    for vm in vms {
        for (span, port) in &vm.ports {
            let clash = taken.iter().find(|(_, other)| clash(port, other));
            if let Some((other, _)) = clash {
                let message =
                    format!("the host's port {}/{} is taken by VM `{other}`", port.host, port.protocol);
                reading.mistake(*span, message);
            }
            taken.push((&vm.definition.key, *port));
        }
    }
}

fn clash(one: &Port, other: &Port) -> bool {
    let any = one.address.is_unspecified() || other.address.is_unspecified();
    let address = one.address == other.address || any;
    one.host != 0 && one.host == other.host && one.protocol == other.protocol && address
}

fn compare_volumes(vms: &[Read<'_>], reading: &mut Reading<'_>) {
    let mut taken: Vec<(&VmName, &VolumeName)> = Vec::new();
    for vm in vms {
        for (span, mount) in &vm.mounts {
            let MountSource::Volume { name } = &mount.source else { continue };
            let key = &vm.definition.key;
            if let Some((other, _)) = taken.iter().find(|(other, taken)| *taken == name && *other != key) {
                let message = format!("the volume is VM `{other}`'s; one VM at a time can have a volume");
                reading.mistake(*span, message);
            }
            taken.push((key, name));
        }
    }
}

/// Puts each VM behind those that it starts after, and otherwise keeps the order.
fn in_order(mut vms: Vec<VmDefinition>) -> Vec<VmDefinition> {
    let mut ordered: Vec<VmDefinition> = Vec::new();
    while !vms.is_empty() {
        let placed = |key: &VmName| !vms.iter().any(|left| left.key == *key);
        let next = vms.iter().position(|vm| vm.after.iter().all(|after| placed(&after.vm)));
        // Without a circle there is always one.
        ordered.push(vms.remove(next.unwrap_or(0)));
    }
    ordered
}
