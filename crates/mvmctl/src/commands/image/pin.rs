//! `mvmctl image pin` and `mvmctl image unpin`.

use crate::context::Context;
use std::process::ExitCode;

/// Keep images, whatever becomes of their names
#[derive(clap::Args)]
pub struct PinArgs {
    /// A name as it was pulled, or a manifest digest or root hash, or its beginning
    #[arg(required = true)]
    image: Vec<String>,
}

/// Take back the pins of images
#[derive(clap::Args)]
pub struct UnpinArgs {
    /// A name as it was pulled, or a manifest digest or root hash, or its beginning
    #[arg(required = true)]
    image: Vec<String>,
}

/// Runs the verb `pin`.
pub fn pin(context: &Context, args: PinArgs) -> anyhow::Result<ExitCode> {
    let engine = context.engine_of_existing()?;
    for name in args.image {
        context.printer.line(format!("pinned {}", engine.pin_image(&name)?))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs the verb `unpin`.
pub fn unpin(context: &Context, args: UnpinArgs) -> anyhow::Result<ExitCode> {
    let engine = context.engine_of_existing()?;
    for name in args.image {
        context.printer.line(format!("unpinned {}", engine.unpin_image(&name)?))?;
    }
    Ok(ExitCode::SUCCESS)
}
