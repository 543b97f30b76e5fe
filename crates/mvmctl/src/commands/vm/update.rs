//! `mvmctl vm update|rollback`.

use crate::commands::network::Network;
use crate::commands::unpack::Unpack;
use crate::commands::verify_key::VerifyKey;
use crate::context::Context;
use crate::environment::passed_to_guest;
use mvm_engine::UpdateRequest;
use mvm_ref::VmName;
use std::process::ExitCode;
use std::time::Duration;

/// Resolve the image of a VM anew, and have the VM go over to it
///
/// The VM is stopped and started by a plan that differs in what came from the image. If it isn't up in time (healthy, if its
/// plan has health checks, else still running after 5 s) it goes back by itself. Volumes stay as they are. A policy that asks
/// for signatures holds here as for `run`.
#[derive(clap::Args)]
pub struct Update {
    #[command(flatten)]
    switch: Switch,
    #[command(flatten)]
    verify_key: VerifyKey,
    #[command(flatten)]
    network: Network,
    /// The VM
    name: VmName,
}

/// Have a VM go back to its generation before, which `vm inspect` lists
#[derive(clap::Args)]
pub struct Rollback {
    #[command(flatten)]
    switch: Switch,
    /// The VM
    name: VmName,
}

#[derive(clap::Args)]
struct Switch {
    /// Seconds between the stop signal and the end
    #[arg(long, short, default_value_t = 10, value_name = "SECONDS")]
    time: u64,
    /// Seconds until it has to be up
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    wait: u64,
}

impl Switch {
    fn request(&self) -> UpdateRequest<'static> {
        UpdateRequest {
            image_keys: Vec::new(),
            grace: Duration::from_secs(self.time),
            patience: Duration::from_secs(self.wait),
            variable: &passed_to_guest,
        }
    }
}

/// Runs `update`.
pub fn update(context: &Context, args: Update) -> anyhow::Result<ExitCode> {
    let engine = context.engine_unpacking(Some(args.network), Unpack::default())?;
    let request = UpdateRequest { image_keys: args.verify_key.read(engine)?, ..args.switch.request() };
    let progress = context.progress();
    let updated = engine.update_vm(&args.name, &request, &progress, context.signals.cancel());
    progress.finish();
    match updated? {
        Some(generation) => context.printer.line(format!("{}: generation {generation}", args.name))?,
        None => context.printer.line(format!("{}: nothing new", args.name))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs `rollback`.
pub fn rollback(context: &Context, args: &Rollback) -> anyhow::Result<ExitCode> {
    let progress = context.progress();
    let request = args.switch.request();
    let generation = context.engine()?.rollback_vm(&args.name, &request, &progress, context.signals.cancel());
    progress.finish();
    context.printer.line(format!("{}: generation {}", args.name, generation?))?;
    Ok(ExitCode::SUCCESS)
}
