//! `mvmctl image inspect`.

use crate::context::Context;
use std::process::ExitCode;

/// Show all that is known of an image, as JSON
#[derive(clap::Args)]
pub struct Args {
    /// A name as it was pulled, or a manifest digest or root hash, or its beginning
    image: String,
}

/// Runs the verb.
pub fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    context.printer.json(&context.engine_to_look()?.inspect_image(&args.image)?)?;
    Ok(ExitCode::SUCCESS)
}
