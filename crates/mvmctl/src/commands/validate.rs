//! `mvmctl validate`.

use crate::commands::project::ProjectFile;
use crate::context::Context;
use mvm_engine::{EngineError, Project, VmDefinition};
use serde::Serialize;
use std::process::ExitCode;

/// Check an mvm.toml and show what it would make
///
/// Every mistake is shown with its line and column. Nothing is asked of a registry, and no store is needed.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: ProjectFile,
    /// Print what it says, or its mistakes, as JSON
    #[arg(long)]
    json: bool,
}

/// What is printed of a file with mistakes.
#[derive(Serialize)]
struct Mistakes<'a> {
    mistakes: &'a [mvm_engine::Mistake],
}

/// Runs the verb.
pub fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let project = match args.file.read() {
        Err(error) if args.json => {
            if let Some(EngineError::Project(mistakes)) = error.downcast_ref() {
                context.printer.json(&Mistakes { mistakes: mistakes.mistakes() })?;
            }
            return Err(error);
        }
        project => project?,
    };
    if args.json {
        context.printer.json(&project)?;
    } else {
        show(context, &project)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(context: &Context, project: &Project) -> anyhow::Result<()> {
    let rows: Vec<Vec<String>> = project.vms.iter().map(row).collect();
    let heading = ["VM", "IMAGE", "CPUS", "MEMORY", "RUNS", "CHECKS", "PORTS", "AFTER"];
    context.printer.table(&heading, &rows)?;
    for volume in &project.volumes {
        let kind = if volume.external { "external volume" } else { "volume" };
        context.printer.words(format_args!("{kind} {}", volume.name));
    }
    Ok(())
}

fn row(vm: &VmDefinition) -> Vec<String> {
    let services = vm.services.iter().map(|service| service.name.to_string());
    let runs = vm.main.then(|| "main".to_owned()).into_iter().chain(services);
    let ports = vm.ports.iter().map(|port| {
        let host = if port.host == 0 { "any".to_owned() } else { port.host.to_string() };
        format!("{}:{host}->{}/{}", port.address, port.guest, port.protocol)
    });
    let checks = vm.health_checks.iter().map(|check| check.name.to_string());
    let after = vm.after.iter().map(|after| format!("{} {}", after.vm, after.until));
    vec![
        vm.name.to_string(),
        vm.image.to_string(),
        vm.cpus.to_string(),
        format!("{} MiB", vm.memory_mib),
        list(runs),
        list(checks),
        list(ports),
        list(after),
    ]
}

fn list(words: impl Iterator<Item = String>) -> String {
    let words: Vec<String> = words.collect();
    if words.is_empty() { "-".to_owned() } else { words.join(", ") }
}
