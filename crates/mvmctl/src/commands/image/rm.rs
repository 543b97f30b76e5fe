//! `mvmctl image rm`.

use crate::context::Context;
use std::process::ExitCode;

/// Remove names of images, and images that have no name left
#[derive(clap::Args)]
pub struct Args {
    /// A name as it was pulled, or a manifest digest or root hash, or its beginning
    #[arg(required = true)]
    image: Vec<String>,
}

/// Runs the verb.
pub fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let engine = context.engine_of_existing()?;
    for name in args.image {
        for removed in engine.remove_image(&name)? {
            context.printer.line(removed)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
