//! `mvmctl vm stop|kill|wait|pause|resume|rm`: acts on one VM after the other.

use crate::context::Context;
use mvm_engine::{EngineError, Signal};
use mvm_ref::VmName;
use std::process::ExitCode;
use std::time::Duration;

/// Stop VMs: the stop signal, a time of grace, then the end
#[derive(clap::Args)]
pub struct Stop {
    /// Seconds between the stop signal and the end; a guest that doesn't answer is ended 5 seconds later
    #[arg(long, short, default_value_t = 10, value_name = "SECONDS")]
    time: u64,
    /// The VMs
    #[arg(required = true)]
    name: Vec<VmName>,
}

/// Send a signal to the main process of VMs
///
/// SIGKILL ends all processes and the VM, its disks synced if the guest still can; any other signal is the main process's
/// own business.
#[derive(clap::Args)]
pub struct Kill {
    /// The signal, by name or number
    #[arg(long, short, default_value = "SIGKILL")]
    signal: Signal,
    /// The VMs
    #[arg(required = true)]
    name: Vec<VmName>,
}

/// Wait until VMs end, and print the exit codes of their main processes
#[derive(clap::Args)]
pub struct Wait {
    /// The VMs
    #[arg(required = true)]
    name: Vec<VmName>,
}

/// Stop VMs where they are: nothing in them goes on, their memory stays
#[derive(clap::Args)]
pub struct Pause {
    /// The VMs
    #[arg(required = true)]
    name: Vec<VmName>,
}

/// Let paused VMs go on; their clocks are set to the host's
#[derive(clap::Args)]
pub struct Resume {
    /// The VMs
    #[arg(required = true)]
    name: Vec<VmName>,
}

/// Remove VMs that have ended
#[derive(clap::Args)]
pub struct Rm {
    /// End running ones first, at once
    #[arg(long, short)]
    force: bool,
    /// The VMs
    #[arg(required = true)]
    name: Vec<VmName>,
}

/// Runs `stop`.
pub fn stop(context: &Context, args: &Stop) -> anyhow::Result<ExitCode> {
    let engine = context.engine_of_existing()?;
    each(context, &args.name, |name| engine.stop(name, Duration::from_secs(args.time)))
}

/// Runs `kill`.
pub fn kill(context: &Context, args: &Kill) -> anyhow::Result<ExitCode> {
    let engine = context.engine_of_existing()?;
    each(context, &args.name, |name| engine.kill_vm(name, args.signal))
}

/// Runs `pause`.
pub fn pause(context: &Context, args: &Pause) -> anyhow::Result<ExitCode> {
    let engine = context.engine_of_existing()?;
    each(context, &args.name, |name| engine.pause_vm(name))
}

/// Runs `resume`.
pub fn resume(context: &Context, args: &Resume) -> anyhow::Result<ExitCode> {
    let engine = context.engine_of_existing()?;
    each(context, &args.name, |name| engine.resume_vm(name))
}

/// Runs `rm`.
pub fn rm(context: &Context, args: &Rm) -> anyhow::Result<ExitCode> {
    let engine = context.engine_of_existing()?;
    each(context, &args.name, |name| engine.remove_vm(name, args.force))
}

/// Runs `wait`.
pub fn wait(context: &Context, args: &Wait) -> anyhow::Result<ExitCode> {
    let engine = context.engine_of_existing()?;
    for name in &args.name {
        match engine.wait_vm(name, context.signals.cancel())? {
            Some(code) => context.printer.line(code)?,
            None => context.printer.line("-")?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Does something to each of several VMs and prints the names of those that it was done to.
///
/// One that it can't be done to keeps nothing from the others; the first failure is returned, others are told before.
pub fn each(
    context: &Context,
    names: &[VmName],
    act: impl Fn(&VmName) -> Result<(), EngineError>,
) -> anyhow::Result<ExitCode> {
    let mut failure: Option<EngineError> = None;
    for name in names {
        match act(name) {
            Ok(()) => context.printer.line(name)?,
            Err(error @ EngineError::Interrupted) => return Err(error.into()),
            Err(error) => match &failure {
                None => failure = Some(error),
                Some(_) => context.printer.always(format_args!("mvmctl: {}", mvm_engine::chain(&error))),
            },
        }
    }
    match failure {
        Some(error) => Err(error.into()),
        None => Ok(ExitCode::SUCCESS),
    }
}
