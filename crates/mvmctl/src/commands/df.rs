//! `mvmctl df`.

use crate::context::Context;
use crate::printer::bytes;
use mvm_engine::KindUsage;
use std::process::ExitCode;

/// Show what the store holds on the disk, and what gc would free
#[derive(clap::Args)]
pub struct Args {
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let usage = context.engine_to_look()?.disk_usage()?;
    if args.json {
        context.printer.json(&usage)?;
        return Ok(ExitCode::SUCCESS);
    }
    let row = |kind: &KindUsage| {
        let numbers = [kind.size, kind.shared, kind.reclaimable].map(bytes);
        [kind.kind.to_owned(), kind.count.to_string()].into_iter().chain(numbers).collect()
    };
    let mut rows: Vec<Vec<String>> = usage.kinds.iter().map(row).collect();
    let count = usage.kinds.iter().map(|kind| kind.count).sum::<u64>();
    let shared = usage.kinds.iter().map(|kind| kind.size).sum::<u64>().saturating_sub(usage.total);
    rows.push(vec![
        "total".to_owned(),
        count.to_string(),
        bytes(usage.total),
        bytes(shared),
        bytes(usage.reclaimable),
    ]);
    context.printer.table(&["KIND", "COUNT", "SIZE", "SHARED", "RECLAIMABLE"], &rows)?;
    if usage.other_scopes > 0 {
        context.printer.words(format_args!(
            "images and layers are those of scope {}; mvmctl scope ls has the sizes of {} more",
            usage.scope, usage.other_scopes
        ));
    }
    Ok(ExitCode::SUCCESS)
}
