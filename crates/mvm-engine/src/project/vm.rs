//! One VM of a project, `[vm.NAME]`.

use super::mistakes::Span;
use super::model::{After, NetworkChoice, Until, VmDefinition, VolumeDefinition};
use super::mounts::{absolute, joined, mounts, secrets};
use super::reader::{Reading, Table, Value};
use super::services::{self, name_of};
use crate::network::{Destination, PortMapping};
use crate::run::PullPolicy;
use mvm_plan::plan::{Mount, Port, RequiredIsolation};
use mvm_ref::{FlakeReference, ImageSource, VmName};
use std::path::Path;

/// Memory of a VM where nothing else is said, in MiB.
const MEMORY_MIB: u32 = 512;
/// Space for writes where nothing else is said, in MiB.
const SCRATCH_MIB: u32 = 16 << 10;
/// Seconds between stop signal and end where nothing else is said.
const STOP_GRACE_SECS: u32 = 10;
const DAY: u32 = 24 * 60 * 60;

/// A VM with the places of what has to be compared with other VMs.
pub(super) struct Read<'a> {
    pub definition: VmDefinition,
    pub after: Vec<(Span, &'a str)>,
    pub ports: Vec<(Span, Port)>,
    pub mounts: Vec<(Span, Mount)>,
}

/// What a VM is read in.
pub(super) struct Around<'s> {
    pub project: Option<&'s VmName>,
    pub volumes: &'s [(Span, VolumeDefinition)],
    pub directory: &'s Path,
}

/// What a VM's main process is.
struct Main {
    main: bool,
    entrypoint: Option<Vec<String>>,
    command: Vec<String>,
}

pub(super) fn read<'a>(
    span: Span,
    key: &'a str,
    value: Value<'a>,
    around: &Around<'_>,
    reading: &mut Reading<'a>,
) -> Option<Read<'a>> {
    let name = name_of::<VmName>(span, key, reading);
    let full = around.project.and_then(|project| match &name {
        Some(name) => joined::<VmName>(span, project.as_str(), name.as_str(), "VM", reading),
        None => None,
    });
    let mut table = reading.table(value, format!("[vm.{}]", key.escape_debug()))?.at(span);
    let image = image(&mut table, around.directory, reading);
    let has_services = table.get("services").is_some();
    let Main { main, entrypoint, command } = main_process(&mut table, has_services, reading);
    let after = afters(table.get("after"), reading);
    let platform = table.get("platform").and_then(|value| reading.parsed(value));
    let pulls =
        [("always", PullPolicy::Always), ("missing", PullPolicy::Missing), ("never", PullPolicy::Never)];
    let pull = table.get("pull").and_then(|value| reading.choice(value, &pulls));
    let isolations = [("kvm", RequiredIsolation::Kvm), ("any", RequiredIsolation::Any)];
    let isolation = table.get("isolation").and_then(|value| reading.choice(value, &isolations));
    let kernel = table.get("kernel").and_then(|value| reading.word(value)).map(str::to_owned);
    let cpus = table.get("cpus").and_then(|value| reading.number(value, 1..=255));
    let memory = table.get("memory").and_then(|value| reading.mebibytes(value, 1));
    let scratch = table.get("scratch").and_then(|value| reading.mebibytes(value, 1));
    let read_only = table.get("read-only").and_then(|value| reading.boolean(value)).unwrap_or(false);
    let env_files = table.get("env-file").map_or_else(Vec::new, |value| reading.texts(value));
    let env = table.get("env").map_or_else(Vec::new, |value| reading.environment(value));
    let user = table.get("user").and_then(|value| reading.word(value)).map(str::to_owned);
    let working_dir = table.get("workdir").and_then(|value| reading.path(value));
    let stop_grace = table.get("stop-grace").and_then(|value| reading.seconds(value, 0..=DAY));
    let restart = table.get("restart").and_then(|value| reading.parsed(value));
    let networks = [("user", NetworkChoice::User), ("none", NetworkChoice::None)];
    let network = table.get("network").and_then(|value| reading.choice(value, &networks));
    let network = network.unwrap_or(NetworkChoice::User);
    let egress = table.get("egress").map(|value| destinations("egress", value, network, reading));
    let allow_host = table.get("allow-host").map(|value| destinations("allow-host", value, network, reading));
    let ports = ports(table.get("ports"), reading);
    let mounts = mounts(table.get("mounts"), around.volumes, around.directory, reading);
    let secrets = secrets(&mut table, key, around.directory, reading);
    let inside = services::read(&mut table, key, main, reading);
    table.finish(reading);
    let until = |(_, vm, until): &(Span, &str, Until)| Some(After { vm: vm.parse().ok()?, until: *until });
    let definition = VmDefinition {
        key: name?,
        name: full?,
        after: after.iter().filter_map(until).collect(),
        image: image?,
        platform,
        pull: pull.unwrap_or(PullPolicy::Missing),
        isolation: isolation.unwrap_or(RequiredIsolation::Any),
        kernel,
        cpus: cpus.unwrap_or(1),
        memory_mib: memory.unwrap_or(MEMORY_MIB),
        scratch_mib: scratch.unwrap_or(SCRATCH_MIB),
        read_only,
        main,
        entrypoint,
        command,
        env_files: env_files.iter().map(|path| absolute(around.directory, path)).collect(),
        env,
        user,
        working_dir,
        stop_grace_secs: stop_grace.unwrap_or(STOP_GRACE_SECS),
        restart: restart.unwrap_or_default(),
        network,
        egress,
        allow_host: allow_host.unwrap_or_default(),
        ports: ports.iter().map(|(_, port)| *port).collect(),
        mounts: mounts.iter().map(|(_, mount)| mount.clone()).collect(),
        secrets,
        services: inside.services,
        health_checks: inside.health_checks,
        users: inside.users,
        service_group: inside.service_group,
    };
    let after = after.into_iter().map(|(span, vm, _)| (span, vm)).collect();
    Some(Read { definition, after, ports, mounts })
}

/// Reads the image or the flake; the path of a layout, an archive or a flake is taken from the file's directory.
fn image<'a>(table: &mut Table<'a>, directory: &Path, reading: &mut Reading<'a>) -> Option<ImageSource> {
    let from_here = |flake: FlakeReference| {
        let path = flake.path().to_str().map(|path| absolute(directory, path)).unwrap_or_default();
        flake.at(path)
    };
    if let Some(value) = table.get("flake") {
        if let Some(image) = table.get("image") {
            reading.mistake(image.span, "a VM has `image` or `flake`, not both");
        }
        let flake = from_here(reading.parsed(value)?);
        return match flake {
            Ok(flake) => Some(ImageSource::Flake(flake)),
            Err(error) => {
                reading.mistake(value.span, error.to_string());
                None
            }
        };
    }
    let value = table.require("image", reading)?;
    let beside = |path: &Path| path.to_str().map(|path| absolute(directory, path)).unwrap_or_default();
    Some(match reading.parsed(value)? {
        ImageSource::OciLayout { path, selector } => ImageSource::OciLayout { path: beside(&path), selector },
        ImageSource::OciArchive { path, selector } => {
            ImageSource::OciArchive { path: beside(&path), selector }
        }
        ImageSource::DockerArchive { path, selector } => {
            ImageSource::DockerArchive { path: beside(&path), selector }
        }
        ImageSource::Flake(flake) => match from_here(flake) {
            Ok(flake) => ImageSource::Flake(flake),
            Err(error) => {
                reading.mistake(value.span, error.to_string());
                return None;
            }
        },
        registry @ ImageSource::Registry(_) => registry,
    })
}

fn main_process<'a>(table: &mut Table<'a>, has_services: bool, reading: &mut Reading<'a>) -> Main {
    let entrypoint_value = table.get("entrypoint");
    let command_value = table.get("command");
    let asked = table.get("main").and_then(|value| Some((value.span, reading.boolean(value)?)));
    let mut entrypoint = entrypoint_value.map(|value| {
        let mut words = reading.texts(value);
        // One empty text is how a command line says it.
        words.retain(|word| value.is_text() && !word.is_empty() || !value.is_text());
        words
    });
    let mut command = Vec::new();
    if let Some(value) = command_value {
        match value.is_text() {
            true if entrypoint_value
                .is_some_and(|_| entrypoint.as_ref().is_some_and(|words| !words.is_empty())) =>
            {
                let message = "a text is run by /bin/sh, so that it goes with no entry point; write a list";
                reading.mistake(value.span, message);
            }
            true => {
                entrypoint = Some(Vec::new());
                command = reading.command(value).unwrap_or_default();
            }
            false => command = reading.texts(value),
        }
    }
    let named = entrypoint_value.or(command_value);
    if let (Some((span, false)), Some(_)) = (asked, named) {
        reading.mistake(span, "`main` is false, but there is a `command` or an `entrypoint`");
    }
    if let (Some((span, false)), false) = (asked, has_services) {
        reading.mistake(span, "`main` is false and there are no services, so that nothing would run");
    }
    let main = asked.map_or(!has_services || named.is_some(), |(_, main)| main);
    Main { main, entrypoint, command }
}

/// Reads what a VM starts after: a list of VMs, or a table that says how far each must be.
fn afters<'a>(value: Option<Value<'a>>, reading: &mut Reading<'a>) -> Vec<(Span, &'a str, Until)> {
    let Some(value) = value else { return Vec::new() };
    if !value.is_table() {
        let items = reading.list(value).into_iter();
        return items.filter_map(|item| Some((item.span, reading.text(item)?, Until::Started))).collect();
    }
    let Some(table) = reading.table(value, "`after`".to_owned()) else { return Vec::new() };
    let states = [("started", Until::Started), ("healthy", Until::Healthy)];
    let entry = |(span, value): (Span, Value<'a>)| Some((span, value.key, reading.choice(value, &states)?));
    table.items().filter_map(entry).collect()
}

fn destinations<'a>(
    key: &str,
    value: Value<'a>,
    network: NetworkChoice,
    reading: &mut Reading<'a>,
) -> Vec<Destination> {
    if network == NetworkChoice::None {
        reading.mistake(value.span, format!("`{key}` needs a network, and `network` is \"none\""));
    }
    let items = reading.list(value).into_iter();
    items.filter_map(|item| reading.parsed(item)).collect()
}

fn ports<'a>(value: Option<Value<'a>>, reading: &mut Reading<'a>) -> Vec<(Span, Port)> {
    let mut ports = Vec::new();
    for item in value.map_or_else(Vec::new, |value| reading.list(value)) {
        let mapping: Option<PortMapping> = match item.is_integer() {
            true => reading.number(item, 1..=65_535).and_then(|port| port.to_string().parse().ok()),
            false => reading.parsed(item),
        };
        ports.extend(mapping.iter().flat_map(PortMapping::ports).map(|port| (item.span, *port)));
    }
    ports
}
