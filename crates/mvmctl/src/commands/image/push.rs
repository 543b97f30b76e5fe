//! `mvmctl image push`.

use crate::commands::network::Network;
use crate::context::Context;
use mvm_engine::{Compression, PushRequest};
use mvm_ref::Reference;
use std::process::ExitCode;

/// Give an image to a registry, and print the digest that it has there
///
/// Config and layers are the ones that were pulled. Where the registry has every layer, in this repository or in
/// one it can be taken over from, the manifest and its digest are too; else layers are compressed anew.
#[derive(clap::Args)]
pub struct Args {
    /// How layers are stored that the registry doesn't have: none, gzip or zstd
    #[arg(long, value_name = "HOW", default_value = "gzip")]
    compression: Compression,
    /// Print what was pushed as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    network: Network,
    /// A name as it was pulled, or a manifest digest or root hash, or its beginning
    image: String,
    /// The name that it gets [default: the one that it has]
    #[arg(value_parser = destination)]
    destination: Option<Reference>,
}

/// Runs the verb.
pub fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let Args { compression, json, network, image, destination } = args;
    let request = PushRequest { image, destination, compression };
    let progress = context.progress();
    let pushed =
        context.engine_over_existing(network)?.push_image(&request, &progress, context.signals.cancel());
    progress.finish();
    let pushed = pushed?;
    context.printer.words(format_args!("pushed {} for {}", pushed.reference, pushed.platform));
    if !pushed.unchanged {
        context
            .printer
            .words("note: the registry lacked layers as they were pulled, so the manifest is a new one");
    }
    if json {
        context.printer.json(&pushed)?;
    } else {
        context.printer.line(pushed.manifest)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn destination(text: &str) -> Result<Reference, mvm_ref::ReferenceError> {
    text.strip_prefix("docker://").unwrap_or(text).parse()
}
