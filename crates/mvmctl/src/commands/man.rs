//! `mvmctl man`.

use crate::cli::Cli;
use crate::context::Context;
use anyhow::Context as _;
use clap::CommandFactory as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Write the manual pages, one file a verb
#[derive(clap::Args)]
pub struct Args {
    /// Directory to write to, for example ~/.local/share/man/man1
    directory: PathBuf,
}

/// Runs the verb.
pub fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let directory = &args.directory;
    std::fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    clap_mangen::generate_to(Cli::command(), directory)
        .with_context(|| format!("write manual pages to {}", directory.display()))?;
    context.printer.words(format_args!("wrote the manual pages to {}", directory.display()));
    Ok(ExitCode::SUCCESS)
}
