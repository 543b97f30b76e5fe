//! `mvmctl down`.

use crate::commands::project::{ProjectFile, of_flake};
use crate::context::Context;
use mvm_engine::VmDefinition;
use mvm_ref::{FlakeReference, VmName};
use std::process::ExitCode;
use std::time::Duration;

/// Stop and remove the VMs of an mvm.toml
///
/// Those that started last go first. Volumes stay, unless they are asked to go.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: ProjectFile,
    /// The VMs that `up --flake` started, or of one package the one, in place of those of a file
    #[arg(long, value_name = "REF", conflicts_with = "file")]
    flake: Option<FlakeReference>,
    /// Remove the project's volumes too, with all that is in them; not those that are external
    #[arg(long, short)]
    volumes: bool,
    /// Seconds between the stop signal and the end [default: each VM's stop-grace]
    #[arg(long, short, value_name = "SECONDS")]
    timeout: Option<u64>,
}

/// How long a VM gets that the file says nothing of.
const GRACE: u64 = 10;

/// Runs the verb.
pub fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let project = match &args.flake {
        Some(flake) => of_flake(flake, &[])?,
        None => args.file.read()?,
    };
    let engine = context.engine_of_existing()?;
    let _lock = engine.lock_project(&project.name)?;
    let there = engine.project_vms(&project.name)?;
    let known = |name: &VmName| project.vms.iter().find(|vm| vm.name == *name);
    // What the file has no more is nobody's ground; other packages of a flake are no such thing.
    let one = args.flake.as_ref().is_some_and(|flake| flake.attribute().is_some());
    let orphans = there.iter().filter(|name| known(name).is_none() && !one);
    let ours = project.vms.iter().rev().map(|vm| &vm.name).filter(|name| there.contains(name));
    for name in orphans.chain(ours) {
        let own = known(name).map_or(GRACE, |vm: &VmDefinition| vm.stop_grace_secs.into());
        engine.stop(name, Duration::from_secs(args.timeout.unwrap_or(own)))?;
        engine.remove_vm(name, true)?;
        context.printer.words(format_args!("{name}: removed"));
    }
    if args.volumes {
        for volume in project.volumes.iter().filter(|volume| !volume.external) {
            if engine.drop_volume(volume)? {
                context.printer.words(format_args!("volume {}: removed", volume.name));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
