//! `mvmctl vm ls`.

use crate::context::Context;
use crate::printer::{shown, span};
use mvm_engine::{Phase, VmListing};
use std::process::ExitCode;

/// List VMs
#[derive(clap::Args)]
pub struct Args {
    /// Also those that have ended
    #[arg(long, short)]
    all: bool,
    /// Print them as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let (mut vms, unreadable) = context.engine_of_existing()?.vms()?;
    for error in unreadable {
        context.printer.always(format_args!("warning: {}", mvm_engine::chain(&error)));
    }
    vms.retain(|vm| args.all || !matches!(vm.phase, Phase::Exited | Phase::Failed));
    if args.json {
        context.printer.json(&vms)?;
        return Ok(ExitCode::SUCCESS);
    }
    let now = mvm_engine::unix_seconds();
    let rows: Vec<Vec<String>> = vms.iter().map(|vm| row(vm, now)).collect();
    context.printer.table(&HEADING, &rows)?;
    Ok(ExitCode::SUCCESS)
}

const HEADING: [&str; 7] = ["NAME", "IMAGE", "STATUS", "HEALTH", "PORTS", "ISOLATION", "COMMAND"];

fn row(vm: &VmListing, now: i64) -> Vec<String> {
    let command: String = vm.command.join(" ").chars().take(40).collect();
    let dash = || "-".to_owned();
    vec![
        vm.name.to_string(),
        shown(vm.image.as_bytes()),
        status(vm, now),
        vm.health.map_or_else(dash, |health| health.to_string()),
        if vm.ports.is_empty() { dash() } else { vm.ports.join(", ") },
        vm.isolation.clone().unwrap_or_else(dash),
        shown(command.as_bytes()),
    ]
}

/// Says how far a VM has come, and since when.
pub fn status(vm: &VmListing, now: i64) -> String {
    let since = |at: Option<i64>| span(now - at.unwrap_or(vm.created_at));
    match (vm.phase, vm.exit_code) {
        (Phase::Running, _) => format!("running {}", since(vm.started_at)),
        (Phase::Paused, _) => "paused".to_owned(),
        (Phase::Restarting, Some(code)) => format!("restarting ({code})"),
        (Phase::Exited, Some(code)) => format!("exited ({code}) {} ago", since(vm.finished_at)),
        (Phase::Exited, None) => format!("stopped {} ago", since(vm.finished_at)),
        (Phase::Failed, _) => format!("failed {} ago", since(vm.finished_at)),
        (phase, _) => phase.to_string(),
    }
}

#[cfg(test)]
mod tests;
