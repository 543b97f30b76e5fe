//! `mvmctl completions`.

use crate::cli::Cli;
use crate::context::Context;
use clap::CommandFactory as _;
use clap_complete::Shell;
use std::process::ExitCode;

/// Print the completion script of a shell
#[derive(clap::Args)]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Runs the verb.
pub fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "mvmctl", &mut script);
    context.printer.data(script)?;
    Ok(ExitCode::SUCCESS)
}
