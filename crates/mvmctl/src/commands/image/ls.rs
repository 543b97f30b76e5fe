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
    let images = context.engine_to_look()?.images()?;
    if args.json {
        context.printer.json(&images)?;
        return Ok(ExitCode::SUCCESS);
    }
    let now = mvm_engine::unix_seconds();
    // A column that is empty as a rule is left out then.
    let has_pins = images.iter().any(|image| image.pinned);
    let rows: Vec<Vec<String>> = images
        .iter()
        .map(|image| {
            let mut row = vec![
                image.reference.clone().unwrap_or_else(|| "<none>".to_owned()),
                image.manifest.short(),
                image.root_hash.short(),
                image.platform.to_string(),
                format!("{} ago", span(now - image.pulled_at)),
                bytes(image.size),
            ];
            row.extend(has_pins.then(|| if image.pinned { "yes" } else { "" }.to_owned()));
            row
        })
        .collect();
    let heading = ["IMAGE", "MANIFEST", "ROOT HASH", "PLATFORM", "PULLED", "SIZE", "PINNED"];
    context.printer.table(&heading[..if has_pins { 7 } else { 6 }], &rows)?;
    Ok(ExitCode::SUCCESS)
}
