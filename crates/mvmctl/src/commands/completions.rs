//! `mvmctl completions`.

use crate::context::Context;
use clap_complete::Shell;
use clap_complete::env::Shells;
use std::process::ExitCode;

/// Print the completion script of a shell
///
/// The script asks mvmctl for verbs, options, and names of VMs, images and volumes.
#[derive(clap::Args)]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Runs the verb.
pub fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let name = args.shell.to_string();
    let shells = Shells::builtins();
    let shell = shells.completer(&name).ok_or_else(|| anyhow::anyhow!("{name} is not supported"))?;
    let mut script = Vec::new();
    shell.write_registration("COMPLETE", "mvmctl", "mvmctl", "mvmctl", &mut script)?;
    context.printer.data(script)?;
    Ok(ExitCode::SUCCESS)
}
