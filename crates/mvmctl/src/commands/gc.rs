//! `mvmctl gc`.

use crate::context::Context;
use crate::printer::bytes;
use mvm_engine::{Collected, GcReport, Reason, Size};
use serde::Serialize;
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

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    report: GcReport,
    /// What was left on this host by any store's VMs.
    host: Vec<Collected>,
}

/// Runs the verb.
pub fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let engine = if args.dry_run { context.engine_to_look()? } else { context.engine_of_existing()? };
    let report = engine.collect_garbage(args.dry_run, args.budget.map(Size::bytes))?;
    let host = engine.collect_of_host(args.dry_run)?;
    if args.json {
        context.printer.json(&Report { report, host })?;
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
    for Collected { kind, reason, path, .. } in &host {
        context.printer.words(format_args!(
            "{} {} of this host ({reason})",
            mvm_engine::kind_name(*kind),
            path.display()
        ));
    }
    if report.busy > 0 {
        context.printer.words(format_args!("{} in use right now stay", report.busy));
    }
    let verb = if args.dry_run { "would free" } else { "freed" };
    context.printer.words(format_args!("{verb} {}", bytes(report.freed)));
    Ok(ExitCode::SUCCESS)
}
