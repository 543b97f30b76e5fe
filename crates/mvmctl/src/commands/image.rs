//! `mvmctl image …`.

use crate::context::Context;
use crate::printer::{bytes, span};
use clap::Subcommand;
use mvm_engine::OnDamage;
use std::process::ExitCode;

/// List, inspect, verify and remove images
#[derive(Subcommand)]
pub enum Command {
    /// List images
    Ls {
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show all that is known of an image, as JSON
    Inspect {
        /// A name as it was pulled, or a manifest digest or root hash, or its beginning
        image: String,
    },
    /// Compare every block of an image with its root hash
    Verify {
        /// All images
        #[arg(long, conflicts_with = "image", required_unless_present = "image")]
        all: bool,
        /// Discard a damaged image and the layers it was made from, so that the next pull or run fetches it anew
        #[arg(long)]
        discard: bool,
        /// A name as it was pulled, or a manifest digest or root hash, or its beginning
        image: Vec<String>,
    },
    /// Remove names of images, and images that have no name left
    Rm {
        /// A name as it was pulled, or a manifest digest or root hash, or its beginning
        #[arg(required = true)]
        image: Vec<String>,
    },
}

/// Runs the verb.
pub fn run(context: &Context, command: Command) -> anyhow::Result<ExitCode> {
    let engine = context.engine()?;
    match command {
        Command::Ls { json } => list(context, json),
        Command::Inspect { image } => {
            context.printer.json(&engine.inspect_image(&image)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Verify { all, discard, image } => {
            let on_damage = if discard { OnDamage::Discard } else { OnDamage::Report };
            let names = if all { engine.image_names()? } else { image };
            for name in names {
                let verified = engine.verify_image(&name, on_damage)?;
                context.printer.line(format!("{name}: ok, {} blocks", verified.blocks))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Rm { image } => {
            for name in image {
                for removed in engine.remove_image(&name)? {
                    context.printer.line(removed)?;
                }
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn list(context: &Context, json: bool) -> anyhow::Result<ExitCode> {
    let images = context.engine()?.images()?;
    if json {
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
