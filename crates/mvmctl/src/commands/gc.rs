//! `mvmctl gc`.

use crate::context::Context;
use crate::printer::bytes;
use std::process::ExitCode;

/// Remove what no image name, VM or running command needs
#[derive(clap::Args)]
pub struct Args {
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Print what was removed as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let report = context.engine()?.collect_garbage(args.dry_run)?;
    if args.json {
        context.printer.json(&report)?;
        return Ok(ExitCode::SUCCESS);
    }
    for item in &report.removed {
        context.printer.line(format!(
            "{} {} {}",
            mvm_engine::kind_name(item.kind),
            item.path.display(),
            bytes(item.bytes)
        ))?;
    }
    let verb = if args.dry_run { "would free" } else { "freed" };
    context.printer.words(format_args!("{verb} {}", bytes(report.freed)));
    Ok(ExitCode::SUCCESS)
}
