//! `mvmctl gc`.

use crate::context::Context;
use crate::printer::bytes;
use mvm_engine::{Reason, Size};
use std::process::ExitCode;

/// Remove what no image name, pin, VM or running command needs
#[derive(clap::Args)]
pub struct Args {
    /// Only say what would be removed, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// How much disk layers may hold as a cache; beyond, those unused longest go [default: the store's setting, or 20GiB]
    #[arg(long, value_name = "SIZE")]
    budget: Option<Size>,
    /// Print what was removed as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let engine = if args.dry_run { context.engine_to_look()? } else { context.engine_of_existing()? };
    let report = engine.collect_garbage(args.dry_run, args.budget.map(Size::bytes))?;
    if args.json {
        context.printer.json(&report)?;
        return Ok(ExitCode::SUCCESS);
    }
    for item in &report.removed {
        let why = match item.reason {
            Reason::Unreferenced => String::new(),
            reason => format!(" ({reason})"),
        };
        let (kind, path) = (mvm_engine::kind_name(item.kind), item.path.display());
        context.printer.line(format!("{kind} {path} {}{why}", bytes(item.bytes)))?;
    }
    if report.busy > 0 {
        context.printer.words(format_args!("{} in use right now stay", report.busy));
    }
    let verb = if args.dry_run { "would free" } else { "freed" };
    context.printer.words(format_args!("{verb} {}", bytes(report.freed)));
    Ok(ExitCode::SUCCESS)
}
