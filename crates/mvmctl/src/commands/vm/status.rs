//! `mvmctl vm status`.

use super::ls;
use crate::context::Context;
use crate::printer::{aligned, bytes, shown, span};
use mvm_engine::{ExitStatus, HealthOutcome, HealthStatus, Phase, ServiceStatus, VmStatus};
use mvm_ref::VmName;
use std::process::ExitCode;

/// Show how a VM fares: what the host sees of it, and what its guest says of itself
///
/// A VM that was killed with its supervisor, or that a reboot of the host ended, is told as ended, with the reason.
#[derive(clap::Args)]
pub struct Args {
    /// Print it as JSON
    #[arg(long)]
    json: bool,
    /// The VM
    name: VmName,
}

/// Runs the verb.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let status = context.engine_of_existing()?.vm_status(&args.name)?;
    if args.json {
        context.printer.json(&status)?;
    } else {
        context.printer.data(text(&status, mvm_engine::unix_seconds()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn text(vm: &VmStatus, now: i64) -> String {
    let listing = &vm.listing;
    let mib = u64::from(vm.resources.memory_mib) << 20;
    let running = matches!(listing.phase, Phase::Running | Phase::Paused);
    let restarts = match (vm.restart.as_str(), vm.restarts) {
        ("no", 0) => None,
        (policy, count) => Some(format!("{count} so far, policy {policy}")),
    };
    let guest = match (vm.guest, listing.phase) {
        (Some(guest), _) => Some(format!(
            "{} of {} in use, up {}, {} {} of the agent's",
            bytes(guest.total_kib.saturating_sub(guest.available_kib) << 10),
            bytes(guest.total_kib << 10),
            span(i64::try_from(guest.uptime_ms / 1000).unwrap_or(i64::MAX)),
            guest.processes,
            if guest.processes == 1 { "process" } else { "processes" },
        )),
        (None, Phase::Running) => Some("nothing: it does not answer".to_owned()),
        (None, _) => None,
    };
    let rows = [
        ("name", Some(listing.name.to_string())),
        ("state", Some(ls::status(listing, now))),
        ("reason", listing.message.clone()),
        ("health", listing.health.map(|health| format!("{health}, as the guest says"))),
        ("image", Some(listing.image.clone())),
        ("isolation", listing.isolation.clone()),
        ("ports", (!listing.ports.is_empty()).then(|| listing.ports.join(", "))),
        ("restarts", restarts),
        ("cpu", vm.usage.map(|usage| format!("{} used, {} CPUs", seconds(usage.cpu_ms), vm.resources.cpus))),
        ("memory", vm.usage.map(|usage| format!("{} held, {} given", bytes(usage.memory_bytes), bytes(mib)))),
        ("guest says", guest),
    ];
    let mut text = String::new();
    for (name, value) in rows {
        if let Some(value) = value {
            text.push_str(&format!("{:<12}{}\n", format!("{name}:"), shown(value.as_bytes())));
        }
    }
    if !vm.services.is_empty() {
        text.push('\n');
        let heading = ["SERVICE", "STATE", "PID", "RESTARTS", "LAST EXIT", "CPU", "MEMORY", "REASON"];
        let rows: Vec<Vec<String>> =
            vm.services.iter().map(|service| row_of_service(service, running)).collect();
        text.push_str(&aligned(&heading, &rows));
    }
    if !vm.health_checks.is_empty() {
        text.push('\n');
        let heading = ["HEALTH CHECK", "SERVICE", "HEALTH", "FAILING", "LAST RESULT"];
        let rows: Vec<Vec<String>> = vm.health_checks.iter().map(row_of_check).collect();
        text.push_str(&aligned(&heading, &rows));
    }
    text
}

fn row_of_service(service: &ServiceStatus, running: bool) -> Vec<String> {
    let dash = || "-".to_owned();
    vec![
        shown(service.name.as_bytes()),
        if running { service.state.to_string() } else { dash() },
        service.pid.filter(|_| running).map_or_else(dash, |pid| pid.to_string()),
        service.restarts.to_string(),
        service.last_exit.map_or_else(dash, exit),
        service.cpu_ms.map_or_else(dash, seconds),
        service.memory_kib.map_or_else(dash, |kib| bytes(kib.saturating_mul(1024))),
        shown(service.reason.as_deref().unwrap_or("-").as_bytes()),
    ]
}

fn row_of_check(check: &HealthStatus) -> Vec<String> {
    let last = check.results.last().map(|result| {
        let output = result.output.lines().next().unwrap_or_default();
        let outcome = match &result.outcome {
            HealthOutcome::Ended(status) => exit(*status),
            HealthOutcome::TimedOut => "timed out".to_owned(),
            HealthOutcome::NotStarted(reason) => format!("not started: {reason}"),
        };
        let text: String = format!("{outcome} {output}").chars().take(60).collect();
        shown(text.trim_end().as_bytes())
    });
    vec![
        shown(check.name.as_bytes()),
        shown(check.service.as_deref().unwrap_or("-").as_bytes()),
        check.health.to_string(),
        check.failing.to_string(),
        last.unwrap_or_else(|| "-".to_owned()),
    ]
}

fn exit(status: ExitStatus) -> String {
    match status {
        ExitStatus::Code(code) => code.to_string(),
        ExitStatus::Signal(signal) => format!("signal {signal}"),
    }
}

/// Formats milliseconds as seconds: `12.3s`.
pub fn seconds(ms: u64) -> String {
    format!("{}.{}s", ms / 1000, ms % 1000 / 100)
}

#[cfg(test)]
mod tests;
