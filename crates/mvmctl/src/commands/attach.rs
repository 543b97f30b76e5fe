//! `mvmctl attach`.

use crate::context::Context;
use crate::terminal::{self, Leaving};
use mvm_ref::VmName;
use std::process::ExitCode;

/// Join the main command of a running VM: its output from now on, and its input if it has one
///
/// Signals go to the command, and its exit code is returned. Where the command has a terminal, ctrl-p ctrl-q leaves it
/// running, as it does in `run -it`. Several may be attached at once.
#[derive(clap::Args)]
pub struct Args {
    /// Leave the command's input alone
    #[arg(long)]
    no_stdin: bool,
    #[command(flatten)]
    leaving: Leaving,
    /// The VM
    name: VmName,
}

/// Runs the verb.
pub fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let attached = context.engine_of_existing()?.attach_vm(&args.name)?;
    let stdin = attached.stdin && !args.no_stdin;
    if attached.terminal && stdin {
        terminal::require()?;
    }
    let streams = terminal::Streams { stdin, terminal: attached.terminal, keys: args.leaving.detach_keys };
    let target = mvm_engine::Target::Running;
    let status = terminal::attach(attached.connection, target, streams, &context.signals, context.printer)?;
    Ok(ExitCode::from(status))
}
