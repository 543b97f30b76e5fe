//! `mvmctl image tag`.

use crate::context::Context;
use mvm_ref::Reference;
use std::process::ExitCode;

/// Give an image of the store a further name, which no registry is asked about
#[derive(clap::Args)]
pub struct Args {
    /// A name as it was pulled, or a manifest digest or root hash, or its beginning
    image: String,
    /// The further name, which may mean another image until now
    name: Reference,
}

/// Runs the verb.
pub fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    context.engine_of_existing()?.tag_image(&args.image, &args.name)?;
    Ok(ExitCode::SUCCESS)
}
