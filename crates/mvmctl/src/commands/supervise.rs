//! `mvmctl supervise`: the process that owns one VM. `run` starts it; it isn't for people.

use crate::context::Context;
use std::path::PathBuf;
use std::process::ExitCode;

/// Own one VM until it ends
#[derive(clap::Args)]
pub struct Args {
    /// The VM's directory
    directory: PathBuf,
    /// Start the main process at once, with its output in the VM's directory
    #[arg(long)]
    detached: bool,
}

/// Runs the verb.
pub fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    context.engine()?.supervise(&args.directory, args.detached)?;
    Ok(ExitCode::SUCCESS)
}
