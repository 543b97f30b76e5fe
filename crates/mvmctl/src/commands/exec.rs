//! `mvmctl exec`.

use crate::context::Context;
use crate::terminal;
use mvm_engine::{DetachKeys, ExecRequest};
use mvm_ref::VmName;
use std::path::PathBuf;
use std::process::ExitCode;

/// Run a further command in a running VM
#[derive(clap::Args)]
pub struct Args {
    /// Set an environment variable; NAME alone passes on the caller's
    #[arg(long = "env", short, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read environment variables from a file of NAME=VALUE lines
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Directory to run the command in [default: the main command's]
    #[arg(long, short, value_name = "DIR")]
    workdir: Option<String>,
    /// User, or user:group, by name or number [default: the main command's]
    #[arg(long, short, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Pass stdin to the command
    #[arg(long, short)]
    interactive: bool,
    /// Give the command a terminal
    #[arg(long, short)]
    tty: bool,
    /// The VM
    name: VmName,
    /// Command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Runs the verb.
pub fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let request = ExecRequest {
        command: args.command,
        env: super::run::environment(&args.env_file, &args.env)?,
        working_dir: args.workdir,
        user: args.user,
        terminal: args.tty,
    };
    if args.tty && args.interactive {
        terminal::require()?;
    }
    let (connection, process) = context.engine_of_existing()?.exec(&args.name, request)?;
    let streams =
        terminal::Streams { stdin: args.interactive, terminal: args.tty, keys: DetachKeys::default() };
    let target = mvm_engine::Target::Exec(Box::new(process));
    let status = terminal::attach(connection, target, streams, &context.signals, context.printer)?;
    Ok(ExitCode::from(status))
}
