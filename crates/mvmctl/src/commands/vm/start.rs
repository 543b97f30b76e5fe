//! `mvmctl vm start|restart|rename`.

use super::acts::each;
use crate::commands::run::attend;
use crate::context::Context;
use crate::environment::{notify_socket, passed_to_guest};
use crate::error::Misuse;
use crate::terminal::Leaving;
use mvm_ref::VmName;
use std::process::ExitCode;
use std::time::Duration;

/// Start VMs that have ended
///
/// A VM is started by the plan that it has. One that has expired is renewed if the local key signed it, with the same
/// content. What the VM wrote over its root is gone: that disk is a new one at each start, volumes stay.
#[derive(clap::Args)]
pub struct Start {
    /// Stay with the main command: its output, its input if it has one, and its exit code
    #[arg(long, short)]
    attach: bool,
    #[command(flatten)]
    leaving: Leaving,
    /// Be the VM's supervisor until it ends, as a service manager wants it; with $NOTIFY_SOCKET it is told when the VM is up
    #[arg(long, conflicts_with = "attach")]
    foreground: bool,
    /// The VMs
    #[arg(required = true)]
    name: Vec<VmName>,
}

/// Stop VMs, if they run, and start them again
#[derive(clap::Args)]
pub struct Restart {
    /// Seconds between the stop signal and the end
    #[arg(long, short, default_value_t = 10, value_name = "SECONDS")]
    time: u64,
    /// The VMs
    #[arg(required = true)]
    name: Vec<VmName>,
}

/// Give a VM another name, running or not; its hostname stays
#[derive(clap::Args)]
pub struct Rename {
    /// The VM
    name: VmName,
    /// Its new name
    to: VmName,
}

/// Runs `start`.
pub fn start(context: &Context, args: Start) -> anyhow::Result<ExitCode> {
    let engine = context.engine_of_existing()?;
    let (progress, cancel) = (context.progress(), context.signals.cancel());
    let start = |detached| mvm_engine::Start { detached, variable: &passed_to_guest };
    if (args.attach || args.foreground) && args.name.len() > 1 {
        return Err(Misuse("--attach and --foreground stay with one VM, not with several".to_owned()).into());
    }
    if args.foreground {
        let notify = notify_socket();
        let (exit_code, failed) = engine.run_vm(&args.name[0], notify.as_deref(), &passed_to_guest)?;
        return Ok(ExitCode::from(exit_code.unwrap_or(u8::from(failed))));
    }
    if args.attach {
        let launched = engine.start_vm(&args.name[0], start(false), &progress, cancel);
        progress.finish();
        return attend(context, launched?, Some(args.leaving));
    }
    let code =
        each(context, &args.name, |name| engine.start_vm(name, start(true), &progress, cancel).map(drop));
    progress.finish();
    code
}

/// Runs `restart`.
pub fn restart(context: &Context, args: &Restart) -> anyhow::Result<ExitCode> {
    let engine = context.engine_of_existing()?;
    let (progress, cancel) = (context.progress(), context.signals.cancel());
    let grace = Duration::from_secs(args.time);
    let code = each(context, &args.name, |name| {
        engine.restart_vm(name, grace, &passed_to_guest, &progress, cancel).map(drop)
    });
    progress.finish();
    code
}

/// Runs `rename`.
pub fn rename(context: &Context, args: &Rename) -> anyhow::Result<ExitCode> {
    context.engine_of_existing()?.rename_vm(&args.name, &args.to)?;
    context.printer.line(&args.to)?;
    Ok(ExitCode::SUCCESS)
}
