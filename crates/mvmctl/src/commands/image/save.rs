//! `mvmctl image save`.

use crate::commands::network::Network;
use crate::context::Context;
use crate::error::Misuse;
use anyhow::ensure;
use mvm_engine::{Compression, SaveFormat, SaveRequest, SaveTarget};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Write images into an archive that docker, podman, skopeo and `mvmctl pull` read
///
/// The same images make the same bytes. Config and layers are the ones that were pulled; layers are checked while they
/// are written, and a file appears when all of it is right. A layer that is no longer in the store is fetched again.
#[derive(clap::Args)]
pub struct Args {
    /// File to write, or directory with --format oci [default: standard output, unless that is a terminal]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// oci-archive (which docker load reads too), docker-archive, or oci for a directory
    #[arg(long, value_name = "FORMAT", default_value = "oci-archive")]
    format: SaveFormat,
    /// How layers are stored: none, gzip or zstd. Docker archives have plain layers
    #[arg(long, value_name = "HOW", default_value = "none")]
    compression: Compression,
    #[command(flatten)]
    network: Network,
    /// A name as it was pulled, or a manifest digest or root hash, or its beginning
    #[arg(required = true)]
    image: Vec<String>,
}

/// Runs the verb.
pub fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let request = SaveRequest { images: args.image, format: args.format, compression: args.compression };
    let mut stream = None;
    let target = match args.output.as_ref().filter(|path| path.as_path() != Path::new("-")) {
        Some(path) => SaveTarget::Path(path),
        None => {
            let misuse = |words: &str| Misuse(words.to_owned());
            ensure!(
                request.format != SaveFormat::OciDirectory,
                misuse("a directory needs a name: --output DIR")
            );
            ensure!(
                !context.printer.shows_data(),
                misuse("an archive is nothing for a terminal; use --output FILE, or redirect")
            );
            SaveTarget::Stream(stream.insert(context.printer.raw()?))
        }
    };
    let (engine, progress) = (context.engine_over_existing(args.network)?, context.progress());
    let saved = engine.save_images(&request, target, &progress, context.signals.cancel());
    progress.finish();
    saved?;
    Ok(ExitCode::SUCCESS)
}
