//! `mvmctl vm …`.

pub mod acts;
mod inspect;
pub mod ls;

use crate::context::Context;
use clap::Subcommand;
use mvm_ref::VmName;
use std::process::ExitCode;

/// List, inspect, stop and remove VMs
#[derive(Subcommand)]
pub enum Command {
    Ls(ls::Args),
    /// Show all that is known of a VM, and how its hypervisor is confined
    Inspect {
        /// Print it as JSON
        #[arg(long)]
        json: bool,
        /// The VM
        name: VmName,
    },
    Logs(super::logs::Args),
    Events(super::events::Args),
    Attach(super::attach::Args),
    Stop(acts::Stop),
    Kill(acts::Kill),
    Wait(acts::Wait),
    Pause(acts::Pause),
    #[command(visible_alias = "unpause")]
    Resume(acts::Resume),
    Rm(acts::Rm),
}

/// Runs the verb.
pub fn run(context: &Context, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Ls(args) => ls::run(context, &args),
        Command::Inspect { json, name } => {
            inspect::run(context, &name, json)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Logs(args) => super::logs::run(context, args),
        Command::Events(args) => super::events::run(context, &args),
        Command::Attach(args) => super::attach::run(context, &args),
        Command::Stop(args) => acts::stop(context, &args),
        Command::Kill(args) => acts::kill(context, &args),
        Command::Wait(args) => acts::wait(context, &args),
        Command::Pause(args) => acts::pause(context, &args),
        Command::Resume(args) => acts::resume(context, &args),
        Command::Rm(args) => acts::rm(context, &args),
    }
}
