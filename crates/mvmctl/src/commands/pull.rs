//! `mvmctl pull`.

use crate::commands::network::Network;
use crate::commands::unpack::Unpack;
use crate::commands::verify_key::VerifyKey;
use crate::context::Context;
use mvm_ref::{ImageSource, Platform};
use std::process::ExitCode;

/// Fetch an image, verify it and make its root file system
#[derive(clap::Args)]
pub struct Args {
    /// Platform to choose from a multi-platform image
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// Print what was pulled as JSON
    #[arg(long)]
    json: bool,
    /// Image: a name, oci:DIR[:TAG], oci-archive:FILE[:TAG] or docker-archive:FILE[:NAME]
    image: ImageSource,
    #[command(flatten)]
    verify_key: VerifyKey,
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    unpack: Unpack,
}

/// Runs the verb.
pub fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let platform = args.platform.unwrap_or_else(Platform::host);
    let progress = context.progress();
    let engine = context.engine_unpacking(Some(args.network), args.unpack)?;
    let keys = args.verify_key.read(engine)?;
    let pulled = engine.pull_signed(&args.image, &platform, &keys, &progress, context.signals.cancel());
    progress.finish();
    let pulled = pulled?;
    if args.json {
        context.printer.json(&pulled)?;
    } else {
        context.printer.line(pulled.manifest)?;
    }
    Ok(ExitCode::SUCCESS)
}
