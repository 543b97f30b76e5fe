//! `mvmctl image ls`.

use crate::context::Context;
use crate::printer::{bytes, span};
use std::process::ExitCode;

/// List images
#[derive(clap::Args)]
pub struct Args {
    /// Print them as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let images = context.engine()?.images()?;
    if args.json {
        context.printer.json(&images)?;
        return Ok(ExitCode::SUCCESS);
    }
    let now = mvm_engine::unix_seconds();
    let rows: Vec<Vec<String>> = images
        .iter()
        .map(|image| {
            vec![
                image.reference.clone().unwrap_or_else(|| "<none>".to_owned()),
                image.manifest.short(),
                image.root_hash.short(),
                image.platform.to_string(),
                format!("{} ago", span(now - image.pulled_at)),
                bytes(image.size),
            ]
        })
        .collect();
    context.printer.table(&["IMAGE", "MANIFEST", "ROOT HASH", "PLATFORM", "PULLED", "SIZE"], &rows)?;
    Ok(ExitCode::SUCCESS)
}
