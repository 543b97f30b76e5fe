//! `mvmctl image verify`.

use crate::context::Context;
use mvm_engine::OnDamage;
use std::process::ExitCode;

/// Compare every block of an image with its root hash
#[derive(clap::Args)]
pub struct Args {
    /// All images
    #[arg(long, conflicts_with = "image", required_unless_present = "image")]
    all: bool,
    /// Discard a damaged image and the layers it was made from, so that the next pull or run fetches it anew
    #[arg(long)]
    discard: bool,
    /// A name as it was pulled, or a manifest digest or root hash, or its beginning
    image: Vec<String>,
}

/// Runs the verb.
pub fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let engine = context.engine()?;
    let on_damage = if args.discard { OnDamage::Discard } else { OnDamage::Report };
    let names = if args.all { engine.image_names()? } else { args.image };
    for name in names {
        let verified = engine.verify_image(&name, on_damage)?;
        context.printer.line(format!("{name}: ok, {} blocks", verified.blocks))?;
    }
    Ok(ExitCode::SUCCESS)
}
