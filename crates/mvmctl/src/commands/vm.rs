//! `mvmctl vm …`.

mod inspect;

use crate::context::Context;
use crate::printer::span;
use clap::Subcommand;
use mvm_engine::{Phase, VmListing};
use mvm_ref::VmName;
use std::process::ExitCode;
use std::time::Duration;

/// List, inspect, stop and remove VMs
#[derive(Subcommand)]
pub enum Command {
    /// List VMs
    Ls {
        /// Also those that have ended
        #[arg(long, short)]
        all: bool,
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show all that is known of a VM, and how its hypervisor is confined
    Inspect {
        /// Print it as JSON
        #[arg(long)]
        json: bool,
        /// The VM
        name: VmName,
    },
    /// Stop VMs: the stop signal, a time of grace, then the end
    Stop {
        /// Seconds between the stop signal and the end
        #[arg(long, short, default_value_t = 10, value_name = "SECONDS")]
        time: u64,
        /// The VMs
        #[arg(required = true)]
        name: Vec<VmName>,
    },
    /// Remove VMs that have ended
    Rm {
        /// End running ones first, at once
        #[arg(long, short)]
        force: bool,
        /// The VMs
        #[arg(required = true)]
        name: Vec<VmName>,
    },
}

/// Runs the verb.
pub fn run(context: &Context, command: Command) -> anyhow::Result<ExitCode> {
    let engine = context.engine()?;
    match command {
        Command::Ls { all, json } => list(context, all, json)?,
        Command::Inspect { json, name } => inspect::run(context, &name, json)?,
        Command::Stop { time, name } => {
            for name in name {
                engine.stop(&name, Duration::from_secs(time))?;
                context.printer.line(name)?;
            }
        }
        Command::Rm { force, name } => {
            for name in name {
                engine.remove_vm(&name, force)?;
                context.printer.line(name)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(context: &Context, all: bool, json: bool) -> anyhow::Result<()> {
    let mut vms = context.engine()?.vms()?;
    vms.retain(|vm| all || !matches!(vm.phase, Phase::Exited | Phase::Failed));
    if json {
        return context.printer.json(&vms);
    }
    let now = mvm_engine::unix_seconds();
    let rows: Vec<Vec<String>> = vms
        .iter()
        .map(|vm| {
            vec![
                vm.name.to_string(),
                vm.image.clone(),
                vm.root_hash.short(),
                status(vm, now),
                vm.isolation.clone().unwrap_or_else(|| "-".to_owned()),
                vm.command.join(" ").chars().take(40).collect(),
            ]
        })
        .collect();
    Ok(context.printer.table(&["NAME", "IMAGE", "ROOT HASH", "STATUS", "ISOLATION", "COMMAND"], &rows)?)
}

fn status(vm: &VmListing, now: i64) -> String {
    let since = |at: Option<i64>| span(now - at.unwrap_or(vm.created_at));
    match (vm.phase, vm.exit_code) {
        (Phase::Running, _) => format!("running {}", since(vm.started_at)),
        (Phase::Exited, Some(code)) => format!("exited ({code}) {} ago", since(vm.finished_at)),
        (Phase::Exited, None) => format!("stopped {} ago", since(vm.finished_at)),
        (Phase::Failed, _) => format!("failed {} ago", since(vm.finished_at)),
        (phase, _) => phase.to_string(),
    }
}
