//! `mvmctl vm …`.

pub mod acts;
mod inspect;
pub mod ls;
pub mod start;
pub mod stats;
mod status;
mod update;

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
    Status(status::Args),
    Stats(stats::Args),
    Logs(super::logs::Args),
    Events(super::events::Args),
    Attach(super::attach::Args),
    Start(start::Start),
    Stop(acts::Stop),
    Restart(start::Restart),
    Kill(acts::Kill),
    Wait(acts::Wait),
    Pause(acts::Pause),
    #[command(visible_alias = "unpause")]
    Resume(acts::Resume),
    Rename(start::Rename),
    Update(Box<update::Update>),
    Rollback(update::Rollback),
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
        Command::Status(args) => status::run(context, &args),
        Command::Stats(args) => stats::run(context, &args),
        Command::Logs(args) => super::logs::run(context, args),
        Command::Events(args) => super::events::run(context, &args),
        Command::Attach(args) => super::attach::run(context, args),
        Command::Start(args) => start::start(context, args),
        Command::Restart(args) => start::restart(context, &args),
        Command::Update(args) => update::update(context, *args),
        Command::Rollback(args) => update::rollback(context, &args),
        Command::Rename(args) => start::rename(context, &args),
        Command::Stop(args) => acts::stop(context, &args),
        Command::Kill(args) => acts::kill(context, &args),
        Command::Wait(args) => acts::wait(context, &args),
        Command::Pause(args) => acts::pause(context, &args),
        Command::Resume(args) => acts::resume(context, &args),
        Command::Rm(args) => acts::rm(context, &args),
    }
}
